"""One thread and two over the same map in files of several layouts: how reading, fitting and a whole run scale.

    python bench/threads.py [--size 256] [--samples 512] [--rounds 7] [--layout contiguous gzip jpk] [--folder DIR]

From the page cache, in one process: `read` is every tile read and thrown away, `read and fit` each tile through
`engine.run_tile`, `whole run` is `fvproc.process(volume, recipe, threads=…)`. One thread and two take turns, so that
whatever else the machine does falls on both alike; speed-up is the median of the rounds' own ratios.

Where others use the processors too, that says little. So Linux is asked how long each thread ran, and how long it was
ready and had to wait for a processor; the rest of its time it waited for the other thread: *held up*. From the two
follows the speed-up on processors that nobody else uses, 2·(run, 1 thread)/(run + held up, 2 threads).
"""

from __future__ import annotations

import argparse
import math
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import jpk

import fvproc as fv
from fvproc import engine, readers, schedule, simulate

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


def run(volume: fv.ForceVolume, recipe: fv.Recipe, threads: int) -> tuple[float, float, float]:
    """Read and fit every curve; return wall seconds."""
    start = time.perf_counter()
    fv.process(volume, recipe, threads=threads)
    return time.perf_counter() - start, math.nan, math.nan


def tiles(volume: fv.ForceVolume, work: Callable[[fv.Tile], object], threads: int) -> tuple[float, float, float]:
    """Do something with every tile; return wall seconds, and those that all threads ran, and were held up."""
    todo = iter(schedule.cut(volume))
    lock = threading.Lock()
    times = []

    def loop() -> None:
        before, start = scheduled(), time.perf_counter()
        while True:
            with lock:
                tile = next(todo, None)
            if tile is None:
                break
            work(tile)
        ran, ready = (late - early for early, late in zip(before, scheduled(), strict=True))
        times.append((ran, max(time.perf_counter() - start - ran - ready, 0.0)))

    start = time.perf_counter()
    workers = [threading.Thread(target=loop) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ran, held_up = (sum(column) for column in zip(*times, strict=True))
    return time.perf_counter() - start, ran, held_up


def scheduled() -> tuple[float, float]:
    """Return the seconds that this thread ran, and waited for a processor; NaN where the system does not tell."""
    try:
        ran, ready, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except OSError:
        return math.nan, math.nan
    return int(ran) / 1e9, int(ready) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="pixels along an edge")
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--method", nargs="+", choices=("ml", "qnm"), default=("ml", "qnm"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"{arguments.size}² curves, 2 × {arguments.samples} samples, median of {arguments.rounds} rounds\n")
    columns = "layout, MB, what, 1 thread s, 2 threads s, curves/s, speed-up, held up, speed-up on free processors"
    print("| " + columns.replace(", ", " | ") + " |")
    print("|---" * 9 + "|")
    for layout in arguments.layout:
        path = arguments.folder / f"threads-{layout}-{arguments.size}{'.jpk-qi-data' if layout == 'jpk' else '.h5'}"
        if not path.exists():
            write(path, layout, arguments.size, arguments.samples)
        volume = fv.open(path)
        work = {"read": partial(tiles, volume, partial(readers.read_tile, volume))}
        for method in arguments.method:
            recipe = fv.Recipe.from_dict({"fit": {"method": method}, "tip": {"radius": 1e-8}}).completed(volume)
            work[f"read and fit: {method}"] = partial(tiles, volume, partial(engine.run_tile, volume, recipe))
            work[f"whole run: {method}"] = partial(run, volume, recipe)
        for name, function in work.items():
            function(2)
            rounds = [(function(1), function(2)) for _ in range(arguments.rounds)]
            one, two = (median(pair[number][0] for pair in rounds) for number in (0, 1))
            gain = median(first[0] / second[0] for first, second in rounds)
            held_up = median(second[2] / (second[1] + second[2]) for _, second in rounds)
            free = median(2 * first[1] / (second[1] + second[2]) for first, second in rounds)
            print(
                f"| {layout} | {path.stat().st_size / 1e6:.0f} | {name} | {one:.2f} | {two:.2f}"
                f" | {volume.grid.curves / two:,.0f} | {gain:.2f} | "
                + ("– | – |" if math.isnan(free) else f"{held_up:.1%} | {free:.2f} |"),
                flush=True,
            )


if __name__ == "__main__":
    main()
