"""A digest of the records of simulated curves: equal digests, equal bits, whatever compiler made the kernel.

    python bench/bits.py
    CC=clang pip install --force-reinstall --no-deps . && python bench/bits.py

Each instruction set of the build that this CPU can run gives a line; exit status 1 if they differ. For many more
curves, bench/random_curves.py prints a digest too.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
from materials import MATERIALS, described

from fvproc import _core, simulate
from fvproc._core import fit_tile, instruction_sets, kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Channel

CURVES = 200  # of each material, noise and method


def digest_of_records() -> str:
    """Digest of the records of every material with the kernel in use."""
    digest, curves, samples = hashlib.sha256(), CURVES, 256
    for material in MATERIALS:
        probe = simulate.Probe(material.spring_constant, material.tip_radius)
        values = (material.modulus, material.adhesion, material.peak_force)
        sample = simulate.Sample(*(np.full(curves, value) for value in values))
        channel = Channel("int16", "m", 2.0 * material.peak_force / material.spring_constant / 32767)
        z = simulate.ramp(samples, material.travel, "sine")
        for sigma in (2e-11, 1e-10):
            raw = simulate.simulated_tile(z, sample, probe, channel, np.random.default_rng(0), sigma=sigma, tilt=1e-3)
            volume = described(material, channel, curves, samples)
            for method in ("ml", "qnm"):
                recipe = Recipe.from_dict({"fit": {"method": method}}).completed(volume)
                digest.update(fit_tile(raw, kernel_settings(volume, recipe)).tobytes())
    return digest.hexdigest()


def main() -> None:
    found = set()
    for name in _core.available_instruction_sets():
        _core._kernel = instruction_sets.load(name)  # in place of the one chosen at import
        found.add(digest := digest_of_records())
        print(f"{len(MATERIALS) * 4 * CURVES} curves, {name}: {digest}")
    sys.exit("the instruction sets differ" if len(found) > 1 else 0)


if __name__ == "__main__":
    main()
