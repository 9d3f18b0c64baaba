"""Maps of a real file by the vendor's recipe against the maps of the instrument's own software in that file.

python bench/vendor.py FILE.spm
"""

from __future__ import annotations

import sys

import numpy as np

import fvproc as fv


def main() -> None:
    volume = fv.open(sys.argv[1])
    maps = fv.process(volume, fv.Recipe.vendor(volume))
    print("| quantity | median ratio | within 2 % | curves with a value |\n|---|---|---|---|")
    for name, vendor in maps.vendor_maps.items():
        if name in ("modulus", "stiffness", "adhesion"):
            ratio = maps[name] / vendor.values
            near = np.mean(np.abs(ratio - 1.0) < 0.02)
            print(f"| {name} | {np.nanmedian(ratio):.4f} | {near:.1%} | {np.isfinite(ratio).sum()} of {ratio.size} |")


if __name__ == "__main__":
    main()
