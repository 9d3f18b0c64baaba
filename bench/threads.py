"""One thread and two over the same map in files of several layouts: how reading, and a whole run, scale.

    python bench/threads.py [--size 256] [--samples 512] [--rounds 7] [--layout contiguous gzip jpk] [--folder DIR]

`reading` is every tile read and thrown away, the whole run is `fvproc.process(volume, recipe, threads=…)`, both from
the page cache and in one process. One thread and two take turns, so that whatever else the machine does falls on both
alike; speed-up is the median of the rounds' own ratios. On Linux, rounds in which others took more than `--others` of
the processors' time do not count and are repeated, for `--patience` seconds for each row; where none was left alone,
all are taken and the row says so.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import jpk

import fvproc as fv
from fvproc import readers, schedule, simulate

LAYOUTS = ("contiguous", "gzip", "jpk")


def write(path: Path, layout: str, size: int, samples: int) -> None:
    """Write a map of size × size simulated curves of 916 MPa; gzip and JPK's deflate compress them."""
    if layout == "jpk":
        jpk.write(path, size, samples, zipfile.ZIP_DEFLATED)
        return
    plain = path if layout == "contiguous" else path.with_suffix(".plain")
    simulate.write_map(plain, ny=size, nx=size, samples=samples, modulus=916e6, adhesion=4e-9)
    if layout == "gzip":
        fv.convert(plain, path, compress=True)
        plain.unlink()


def read(volume: fv.ForceVolume, threads: int) -> None:
    """Read every tile, as a run does, and keep none."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(readers.read_tile, volume, tile) for tile in schedule.cut(volume)]:
            done.result()


def run(volume: fv.ForceVolume, recipe: fv.Recipe, threads: int) -> None:
    """Read and fit every curve; write nothing."""
    fv.process(volume, recipe, threads=threads)


def busy() -> float:
    """Return the seconds that the processors have worked, for anybody, since some time; 0 where nobody tells."""
    try:
        fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def seconds(function: Callable[[int], object], threads: int) -> tuple[float, float]:
    """Return wall seconds of a call, and the part of the machine that others took meanwhile."""
    all_before, own_before, start = busy(), time.process_time(), time.perf_counter()
    function(threads)
    wall = time.perf_counter() - start
    others = busy() - all_before - (time.process_time() - own_before)
    return wall, max(others, 0.0) / (wall * (os.cpu_count() or 1))


def measured(
    function: Callable[[int], object], rounds: int, most: float, patience: float
) -> tuple[list[tuple[float, float]], str]:
    """Return (seconds on one thread, on two) of rounds that others left alone, else of all; and how many of which."""
    kept, every = [], []
    end = time.monotonic() + patience
    while len(kept) < rounds and (len(every) < rounds or time.monotonic() < end):
        (one, others), (two, others_too) = (seconds(function, threads) for threads in (1, 2))
        every.append((one, two))
        if max(others, others_too) <= most:
            kept.append((one, two))
    return (kept, f"{len(kept)}") if kept else (every, f"{len(every)}, all disturbed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="pixels along an edge")
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--method", nargs="+", choices=("ml", "qnm"), default=("ml", "qnm"))
    parser.add_argument("--others", type=float, default=0.1)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"{arguments.size}² curves, 2 × {arguments.samples} samples, median of {arguments.rounds} rounds\n")
    print("| layout | MB | what | 1 thread s | 2 threads s | curves/s | speed-up | rounds |")
    print("|---" * 8 + "|")
    for layout in arguments.layout:
        path = arguments.folder / f"threads-{layout}-{arguments.size}{'.jpk-qi-data' if layout == 'jpk' else '.h5'}"
        if not path.exists():
            write(path, layout, arguments.size, arguments.samples)
        volume = fv.open(path)
        work: dict[str, Callable[[int], object]] = {"reading": partial(read, volume)}
        for method in arguments.method:
            recipe = fv.Recipe.from_dict({"fit": {"method": method}, "tip": {"radius": 1e-8}})
            work[f"run, {method}"] = partial(run, volume, recipe)
        for name, function in work.items():
            function(2)
            times, rounds = measured(function, arguments.rounds, arguments.others, arguments.patience)
            one, two = (median(column) for column in zip(*times, strict=True))
            gain = median(first / second for first, second in times)
            print(
                f"| {layout} | {path.stat().st_size / 1e6:.0f} | {name} | {one:.2f} | {two:.2f}"
                f" | {volume.grid.curves / two:,.0f} | {gain:.2f} | {rounds} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
