"""Two versions of the kernel in turn: what a change costs or saves, on a machine whose speed drifts.

    python bench/versions.py OLD [NEW] [--rounds 6] [--simd avx512 avx2 baseline]

OLD and NEW are revisions of this repository (NEW: the files as they are now). Each is built in a folder of its own;
processes of the two take turns, each fits the same file forty times, and what counts is the least time of a curve. A
ratio below 1 says that NEW is faster; two columns that differ by less than 0.02 say nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from materials import MATERIALS

from fvproc import simulate

ROOT = Path(__file__).resolve().parent.parent
# name -> (samples a branch, material, sections of the recipe)
CASES: dict[str, tuple[int, str, dict[str, dict[str, str]]]] = {
    "ml": (512, "1.5 GPa", {}),
    "ml, 45 MPa": (512, "45 MPa", {}),
    "ml, 2 × 128 samples": (128, "1.5 GPa", {}),
    "ml, 2 × 2048 samples": (2048, "1.5 GPa", {}),
    "ml, modulus and adhesion": (512, "1.5 GPa", {"maps": {"quantities": "modulus, adhesion"}}),
    "qnm, threshold": (512, "1.5 GPa", {"fit": {"method": "qnm"}, "contact": {"method": "threshold"}}),
}
_BYTES = 2 << 20  # of the curves that are fitted: they stay in the processor's cache
_PASSES = 40

# runs with either version; what it imports must be in both
_TIMED = """
import json, sys, time
import fvproc as fv
from fvproc import _core, engine, job
from fvproc.volume import Tile
out = {}
for name, (path, recipe) in json.loads(sys.argv[1]).items():
    volume = fv.open(path)
    completed = job.agree(volume, fv.Recipe.from_dict(recipe))
    raw = engine.read_tile(volume, Tile(0, volume.grid.curves))
    settings = _core.kernel_settings(volume, completed)
    best = 1e9
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        _core.fit_tile(raw, settings)
        best = min(best, time.perf_counter() - start)
    out[name] = best / volume.grid.curves
print(json.dumps(out))
"""


def built(revision: str | None, folder: Path) -> Path:
    """Return a folder with this revision (None: the files as they are now), its kernel built."""
    folder.mkdir()
    if revision is None:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
    else:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as content:
            content.extractall(folder, filter="data")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def simulated(folder: Path) -> dict[str, tuple[str, dict[str, dict[str, str]]]]:
    """Write the curves of every case; return (file, recipe) by its name."""
    materials = {material.name: material for material in MATERIALS}
    files = {}
    for number, (name, (samples, material, recipe)) in enumerate(CASES.items()):
        made = materials[material]
        path = folder / f"curves{number}.h5"
        simulate.write_map(
            path,
            ny=max(1, _BYTES // (4 * samples) // 64),
            nx=64,
            samples=samples,
            modulus=made.modulus,
            adhesion=made.adhesion,
            peak_force=made.peak_force,
            probe=simulate.Probe(made.spring_constant, made.tip_radius),
            travel=made.travel,
            seed=1,
        )
        files[name] = (str(path), recipe)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--simd", nargs="+", default=["avx512", "avx2", "baseline"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trees = [built(arguments.old, folder / "old"), built(arguments.new, folder / "new")]
        files = json.dumps(simulated(folder))
        print(
            f"| instructions | case | {arguments.old}, µs a curve | {arguments.new or 'now'} | ratio |\n"
            + "|---" * 5
            + "|"
        )
        for simd in arguments.simd:
            least: list[dict[str, float]] = [{}, {}]
            for number in range(2 * arguments.rounds):
                which = number % 2
                done = subprocess.run(
                    [sys.executable, "-c", _TIMED, files, str(_PASSES)],
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(trees[which]), "FVPROC_SIMD": simd},
                    check=True,
                    capture_output=True,
                    text=True,
                )
                for case, seconds in json.loads(done.stdout).items():
                    least[which][case] = min(seconds, least[which].get(case, seconds))
            for case in CASES:
                old, new = (1e6 * times[case] for times in least)
                print(f"| {simd} | {case} | {old:.2f} | {new:.2f} | {new / old:.3f} |", flush=True)


if __name__ == "__main__":
    main()
