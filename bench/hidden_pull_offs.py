"""Stiff contacts whose pull-off lies between two samples: the modulus and its stated error as the adhesion varies.

    python bench/hidden_pull_offs.py [--curves 4000]

Samples that lie far apart miss a pull-off; contact then ends somewhere between the last sample in contact and the first
one free, and any adhesion that fits in between is as likely as another. A curve does not tell which, so that errors can
be true on average over adhesions, not for each of them. `share`: of curves whose error holds the truth.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from bounds import noise
from materials import MATERIALS, Material
from truth import driven, tile

from fvproc import noise as noise_of_map
from fvproc._core import fit_tile, kernel_settings
from fvproc.recipe import Recipe

CASES = (("30 GPa", "sine", 64, 0.01), ("10.7 GPa", "linear", 128, 0.01), ("2.4 GPa", "sine", 64, 0.02))
MULTIPLES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)  # of the noise: adhesion


def fitted(material: Material, drive: str, samples: int, sigma: float, curves: int, model: str) -> np.ndarray:
    """Return the records of so many curves under white noise of sigma nm."""
    made = noise(np.random.default_rng(5), "white", curves, samples)
    raw, volume = tile(driven(material, drive, samples), made, sigma * 1e-9, 0.0, True)
    recipe = Recipe.from_dict({"fit": {"model": model}}).completed(volume)
    recipe = replace(recipe, noise=noise_of_map.measured_on(raw, volume, recipe))
    return fit_tile(raw, kernel_settings(volume, recipe))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=4000, help="of each row")
    options = parser.parse_args()
    print("| material | drive | samples | noise nm | adhesion ÷ noise | model | error | stated | 1σ share | 2σ share |")
    print("|---" * 10 + "|")
    for name, drive, samples, sigma in CASES:
        shares = []
        for multiple, model in [*((multiple, "dmt") for multiple in MULTIPLES), (0.0, "hertz")]:
            known = next(material for material in MATERIALS if material.name == name)
            material = replace(known, adhesion=multiple * sigma * 1e-9 * known.spring_constant)
            records = fitted(material, drive, samples, sigma, options.curves, model)
            valued = records[np.isfinite(records["modulus"])]
            error = valued["modulus"] / material.modulus - 1.0
            stated = valued["modulus_std"] / material.modulus
            within = [float(np.mean(np.abs(error) <= n * stated)) for n in (1, 2)]
            if model == "dmt":
                shares.append(within)
            print(
                f"| {name} | {drive} | {samples} | {sigma:g} | {multiple:g} | {model} | {np.median(error):+.1%}"
                f" | {np.median(stated):.1%} | {within[0]:.0%} | {within[1]:.0%} |"
            )
        one, two = np.mean(shares, axis=0)
        print(f"| {name} | {drive} | {samples} | {sigma:g} | all of these | dmt | | | {one:.0%} | {two:.0%} |")


if __name__ == "__main__":
    main()
