"""Instructions that a curve costs in the kernel, counted by callgrind: a guard against slowness that knows no noise.

    python bench/instructions.py            prints the counts
    python bench/instructions.py --check    exit status 1 where one is over its bound (bench/instructions.json)
    python bench/instructions.py --store    makes today's counts, with a margin, the bounds

Two processes fit N and 3·N curves under `valgrind --tool=callgrind`; the difference over 2·N is the cost of a curve
without Python, imports and the making of the curves. valgrind knows no AVX-512, so that the other two instruction sets
are counted. Compilers differ by some per cent, which the margin covers. Without valgrind it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
BOUNDS = HERE / "instructions.json"
MARGIN = 1.15
CURVES = 200
SAMPLES = 512
RECIPES: dict[str, dict[str, dict[str, str]]] = {
    "ml": {},
    "ml, modulus and adhesion": {"maps": {"quantities": "modulus, adhesion"}},
    "ml, own z": {},
    "ml, slow noise": {},
    "ml, slow noise, own z": {},
    "qnm, threshold": {"fit": {"method": "qnm"}, "contact": {"method": "threshold"}},
}


def fit(recipe: str, count: int, folder: str) -> None:
    """Fit so many of the curves that `prepare` left; runs under callgrind."""
    import pickle

    import numpy as np

    from fvproc._core import fit_tile
    from fvproc.volume import RawBranch, RawTile

    with (Path(folder) / f"{recipe}.pickle").open("rb") as file:
        settings = pickle.load(file)
    branches = []
    for i in (0, 1):
        deflection, z = (np.load(Path(folder) / f"{name}{i}.npy") for name in (kind_of(recipe), "z"))
        if recipe.endswith("own z"):
            z = np.broadcast_to(z, deflection.shape).copy()  # of all curves: its cost is no part of the difference
        branches.append(RawBranch(deflection[:count], z if z.ndim == 1 else z[:count]))
    fit_tile(RawTile(*branches), settings)


def kind_of(recipe: str) -> str:
    """Return the kind of noise that the curves of a recipe have, in the name of its files."""
    return "1 per f" if "slow noise" in recipe else "white"


def prepare(folder: str) -> None:
    """Write the curves (1.5 GPa, sine, 0.02 nm) and the kernel's settings."""
    import pickle

    import numpy as np
    from bounds import noise
    from materials import MATERIALS
    from truth import driven, tile

    from fvproc import noise as noise_of_map
    from fvproc._core import kernel_settings
    from fvproc.recipe import Recipe

    material = next(m for m in MATERIALS if m.name == "1.5 GPa")
    for kind in ("white", "1/f"):
        made = noise(np.random.default_rng(0), kind, 3 * CURVES, SAMPLES)
        raw, volume = tile(driven(material, "sine", SAMPLES), made, 2e-11, 0.0, True)
        for i, branch in enumerate((raw.approach, raw.retract)):
            np.save(Path(folder) / f"{kind.replace('/', ' per ')}{i}.npy", branch.deflection)
            np.save(Path(folder) / f"z{i}.npy", branch.z)
        for name, changes in RECIPES.items():
            if kind_of(name) == kind.replace("/", " per "):
                recipe = Recipe.from_dict(changes).completed(volume)
                recipe = replace(recipe, noise=noise_of_map.measured_on(raw, volume, recipe))
                with (Path(folder) / f"{name}.pickle").open("wb") as file:
                    pickle.dump(kernel_settings(volume, recipe), file)


def counted(recipe: str, instruction_set: str, count: int, folder: str) -> int:
    """Return the instructions of a whole process that fits so many curves."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += [__file__, "--fit", recipe, str(count), folder]
    environment = {**os.environ, "FVPROC_SIMD": instruction_set, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"callgrind failed: {done.stderr[-2000:]}")
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        recipe, count, folder = arguments.fit
        fit(recipe, int(count), folder)
        return 0
    if shutil.which("valgrind") is None:
        print("no valgrind: instructions are not counted")
        return 0
    from fvproc._core import available_instruction_sets

    bounds = json.loads(BOUNDS.read_text(encoding="utf-8")) if BOUNDS.exists() else {}
    found, status = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        cases = list(itertools.product([n for n in available_instruction_sets() if n != "avx512"], RECIPES))
        # a processor each: what else the machine does changes no count
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            counts = {
                (*case, n): pool.submit(counted, case[1], case[0], n, folder)
                for case in cases
                for n in (CURVES, 3 * CURVES)
            }
            for instruction_set, recipe in cases:
                few, many = (counts[instruction_set, recipe, n].result() for n in (CURVES, 3 * CURVES))
                each, key = round((many - few) / (2 * CURVES)), f"{instruction_set}, {recipe}"
                bound = bounds.get(key)
                over = bound is not None and each > bound
                found[key] = each
                told = "" if bound is None else f" (bound {bound:,}{', OVER' if over else ''})"
                print(f"{key}: {each:,} instructions a curve, {each / (2 * SAMPLES):.1f} a sample{told}", flush=True)
                status |= over
    if arguments.store:
        kept = {key: round(each * MARGIN) for key, each in found.items()}
        BOUNDS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(status) if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
