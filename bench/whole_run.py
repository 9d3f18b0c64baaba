"""Whole runs, file to maps to HDF5, from 10⁴ to 10⁷ curves: where the seconds go, memory, and what reading alone takes.

    python bench/whole_run.py [--curves 10000 …] [--samples 128] [--flicker 0.02] [--quantities modulus,adhesion]
                              [--folder DIR] [--plot bench/plots/whole_run.svg]

Each run is a process of its own (`fvproc run`), timed from outside: threads of one process, or workers of a cluster
that the run starts (`--processes`). Its log tells when the file was open, the first tile begun and the last one done;
reading is what `numpy.fromfile` takes of the same file, from the page cache (`cat FILE > /dev/null` beside it), the
kernel what one thread takes for as many curves in memory, both shared out to the threads or workers. What is left of
the time of the tiles is overhead. Larger maps repeat the curves of the 10⁵ that are simulated. Memory is the peak of
the process, with pages of the records that it maps (`ru_maxrss`), and without them where Linux tells (`own`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np

import fvproc as fv
from fvproc import noise, readers, simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.volume import Tile

WIDTH = 1000
STAGES = ("start", "reading", "kernel", "overhead of tiles", "writing", "end")
READ = """
import sys, time
import numpy as np
times = []
for _ in range(3):
    start = time.perf_counter()
    np.fromfile(sys.argv[1], np.uint8)
    times.append(time.perf_counter() - start)
print(min(times))
"""


def write(path: Path, curves: int, samples: int, flicker: float) -> Path:
    """Write a contiguous curves file of so many curves; those beyond 10⁵ are repetitions. flicker: nm of 1/f noise."""
    rows = max(1, curves // WIDTH)
    simulated = min(rows, 100)
    block = path.with_name("block.h5")
    made = {"modulus": 916e6, "adhesion": 4e-9, "flicker": flicker * 1e-9}
    simulate.write_map(block, ny=simulated, nx=WIDTH, samples=samples, seed=1, **made)
    if rows == simulated:
        return block.replace(path)
    with h5py.File(block) as source, h5py.File(path, "w") as file:
        file.attrs.update(source.attrs)
        for name in ("calibration", "scan"):
            source.copy(name, file)
        for name in ("approach/deflection", "retract/deflection", "approach/z", "retract/z"):
            values, attributes = source[name][...], dict(source[name].attrs)
            shape = (rows, *values.shape[1:]) if values.ndim == 3 else values.shape
            target = file.create_dataset(name, shape, values.dtype)
            for start in range(0, shape[0], len(values)):
                target[start : start + len(values)] = values[: shape[0] - start]
            target.attrs.update(attributes)
        for name in ("height",):
            if name in file["scan"]:
                del file["scan"][name]
    block.unlink()
    return path


def kernel_seconds(path: Path, method: str, quantities: str) -> float:
    """Return what the kernel takes for a curve, one thread, curves in memory: the least of some passes."""
    volume = fv.open(path)
    asked = {"fit": {"method": method}, "maps": {"quantities": quantities}}
    recipe = fv.Recipe.from_dict(asked).completed(volume)
    settings = kernel_settings(volume, replace(recipe, noise=noise.measured(volume, recipe)))
    count = min(4000, volume.grid.curves)
    raw = readers.read_tile(volume, Tile(0, count))
    least = math.inf
    for _ in range(10):
        begun = time.perf_counter()
        fit_tile(raw, settings)
        least = min(least, time.perf_counter() - begun)
    return least / count


def run(arguments: list[str], log: Path) -> tuple[dict[str, float], float, float]:
    """Return the moments of a run in seconds from its start, and its peak memory in MB: all, and its own."""
    log.unlink(missing_ok=True)
    begun = time.time()
    command = [sys.executable, "-m", "fvproc", "run", *arguments, "--quiet", "--log", str(log)]
    process = subprocess.Popen(command, cwd=tempfile.gettempdir())
    own = 0.0
    status = Path(f"/proc/{process.pid}/status")
    while True:
        done, code, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(code)
            break
        with suppress(OSError, ValueError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            own = max(own, float(lines.get("RssAnon", "0 kB").split()[0]) / 1024)
        time.sleep(0.01)
    ended = time.time()
    moments = {"ended": ended - begun}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        moments[entry["event"]] = datetime.fromisoformat(entry["time"]).timestamp() - begun
    if "file_done" not in moments:
        sys.exit(f"{' '.join(command)} failed")
    return moments, usage.ru_maxrss / 1024, own


def stages(moments: dict[str, float], reading: float, kernel: float) -> dict[str, float]:
    """Return the seconds of each stage of a run."""
    tiles = moments["writing"] - moments["run_started"]
    return {
        "start": moments["run_started"],
        "reading": reading,
        "kernel": kernel,
        "overhead of tiles": tiles - reading - kernel,
        "writing": moments["file_done"] - moments["writing"],
        "end": moments["ended"] - moments["file_done"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--samples", type=int, default=128, help="per branch")
    parser.add_argument("--method", default="ml", choices=["ml", "qnm"])
    parser.add_argument("--flicker", type=float, default=0.0, help="nm of 1/f noise, as most instruments have")
    parser.add_argument("--quantities", default="all", help="that the recipe asks for")
    parser.add_argument("--rounds", type=int, default=3, help="one for the largest")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    slow = f", {options.flicker:g} nm of 1/f noise" if options.flicker else ""
    print(f"916 MPa, 2 × {options.samples} int16 samples a curve{slow}, {options.method}, {options.quantities}")
    print(f"median of {options.rounds} runs\n")
    columns = ["curves", "MB", "with", "seconds", *STAGES, "curves/s", "peak MB", "own MB", "cat s"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    rows = []
    for curves in options.curves:
        path = write(options.folder / "whole-run.h5", curves, options.samples, options.flicker)
        output, log = options.folder / "whole-run-out.h5", options.folder / "whole-run.log"
        reading = float(subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=True).stdout)
        begun = time.perf_counter()
        with Path(os.devnull).open("wb") as nowhere:
            subprocess.run(["cat", str(path)], stdout=nowhere, check=True)
        cat = time.perf_counter() - begun
        each = kernel_seconds(path, options.method, options.quantities)
        for crew, option, share in (
            ("1 thread", ["--threads", "1"], 1),
            ("2 threads", ["--threads", "2"], 2),
            ("1 worker", ["--processes", "1"], 1),
            ("2 workers", ["--processes", "2"], 2),
        ):
            taken = []
            for _ in range(1 if curves == max(options.curves) > 1_000_000 else options.rounds):
                common = [str(path), "-o", str(output), "--overwrite", "--fit-method", options.method]
                moments, peak, own = run([*common, "--maps-quantities", options.quantities, *option], log)
                taken.append((moments["ended"], stages(moments, reading / share, each * curves / share), peak, own))
            taken.sort(key=lambda one: one[0])
            seconds, parts, peak, own = taken[len(taken) // 2]
            rows.append((curves, crew, parts))
            told = " | ".join(f"{parts[stage]:.2f}" for stage in STAGES)
            print(
                f"| {curves:,} | {path.stat().st_size / 1e6:,.0f} | {crew} | {seconds:.2f} | {told}"
                f" | {curves / seconds:,.0f} | {peak:,.0f} | {own:,.0f} | {cat:.2f} |",
                flush=True,
            )
        output.unlink()
        path.unlink()
    if len(options.curves) > 1:
        tell_growth(rows, options.curves[-2:])
    if options.plot:
        draw(rows, options.plot)


def tell_growth(rows: list[tuple[int, str, dict[str, float]]], sizes: list[int]) -> None:
    """Print how the time of a run grows from one number of curves to another."""
    few, many = ({crew: sum(parts.values()) for n, crew, parts in rows if n == size} for size in sizes)
    for crew in few:
        slope = np.log(many[crew] / few[crew]) / np.log(sizes[1] / sizes[0])
        print(f"\n{crew}: from {sizes[0]:,} to {sizes[1]:,} curves time grows as n^{slope:.2f}")


def draw(rows: list[tuple[int, str, dict[str, float]]], path: Path) -> None:
    """Draw microseconds a curve as stacked bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "fvproc"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    sums = np.zeros(len(rows))
    for stage in STAGES:
        values = np.array([max(parts[stage], 0.0) / curves * 1e6 for curves, _, parts in rows])
        axes.bar(range(len(rows)), values, bottom=sums, label=stage)
        sums += values
    names = [f"{crew}\n10$^{{{math.log10(curves):.0f}}}$" for curves, crew, _ in rows]
    axes.set_xticks(range(len(rows)), names, fontsize=7)
    axes.set(ylabel="µs a curve", ylim=(0, 1.05 * float(np.sort(sums)[-5])) if len(rows) > 4 else (0, None))
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
