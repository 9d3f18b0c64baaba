"""Curves per second of the kernel on one core, in units of copying the same bytes.

    python bench/kernel.py [--samples 512] [--curves 20000]

Times are medians of several rounds in one process, kernel and `numpy.copyto` in turn, so that a machine whose speed
drifts changes both.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
from materials import MATERIALS, described

from fvproc import simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Channel

RECIPES = {
    "ml": {},
    "ml, threshold": {"contact": {"method": "threshold"}},
    "qnm": {"fit": {"method": "qnm"}},
    "qnm, threshold": {"fit": {"method": "qnm"}, "contact": {"method": "threshold"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--curves", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    curves, samples = arguments.curves, arguments.samples
    print(f"2 × {samples} int16 samples a curve, {curves} curves, 1 thread, median of {arguments.rounds}\n")
    print("| material | recipe | µs a curve | curves/s | × copying the bytes |")
    print("|---|---|---|---|---|")
    for material in (m for m in MATERIALS if m.name in ("45 MPa", "1.5 GPa", "10.7 GPa")):
        probe = simulate.Probe(material.spring_constant, material.tip_radius)
        z = simulate.ramp(samples, material.travel, "sine")
        sample = simulate.Sample(
            *(np.full(curves, value) for value in (material.modulus, material.adhesion, material.peak_force))
        )
        channel = Channel("int16", "m", 1.5 * material.peak_force / material.spring_constant / 32767)
        raw = simulate.simulated_tile(z, sample, probe, channel, np.random.default_rng(0), sigma=2e-11, tilt=1e-3)
        volume = described(material, channel, curves, samples)
        spare = [np.empty_like(b.deflection) for b in (raw.approach, raw.retract)]
        for name, recipe in RECIPES.items():
            settings = kernel_settings(volume, Recipe.from_dict(recipe).completed(volume))
            times, copies = [], []
            for _ in range(arguments.rounds):
                start = time.perf_counter()
                for target, source in zip(spare, (raw.approach, raw.retract), strict=True):
                    np.copyto(target, source.deflection)
                middle = time.perf_counter()
                fit_tile(raw, settings)
                copies.append(middle - start)
                times.append(time.perf_counter() - middle)
            ratio = median(t / c for t, c in zip(times, copies, strict=True))
            each = median(times) / curves
            print(f"| {material.name} | {name} | {each * 1e6:.2f} | {1 / each:,.0f} | {ratio:.0f} |", flush=True)


if __name__ == "__main__":
    main()
