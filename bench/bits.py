"""A digest of the records of simulated curves: equal digests, equal bits.

    python bench/bits.py
    rm -r build; CFLAGS="-mavx2 -mfma" pip install --force-reinstall --no-deps . && python bench/bits.py
    rm -r build; CC=clang pip install --force-reinstall --no-deps . && python bench/bits.py

The folder build/ keeps objects of earlier flags, hence its removal.
"""

from __future__ import annotations

import hashlib

import numpy as np
from truth import MATERIALS, described

from fvproc import simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Channel


def main() -> None:
    digest, curves, samples = hashlib.sha256(), 200, 256
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
    print(f"{len(MATERIALS) * 4 * curves} curves: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
