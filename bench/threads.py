"""One thread beside two on whole runs, from plain, compressed and zipped files: what scales, and what holds it up.

    python bench/threads.py [--size 256] [--samples 512] [--rounds 5] [--folder DIR]

`fvproc.process` of one file, maps in memory; 1 and 2 threads take turns in one process, after one run that warms file
and library. The gain is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import fvproc as fv
from fvproc import simulate


def seconds(path: Path, threads: int) -> float:
    """Return the wall time of a run."""
    volume = fv.open(path)
    start = time.perf_counter()
    fv.process(volume, threads=threads)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="pixels along an edge")
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        plain, packed = Path(folder) / "plain.h5", Path(folder) / "gzip.h5"
        simulate.write_map(plain, ny=arguments.size, nx=arguments.size, samples=arguments.samples)
        fv.convert(plain, packed, compress=True)
        curves = arguments.size**2
        print(f"{curves} curves of 2 × {arguments.samples} int16 samples, median of {arguments.rounds} pairs\n")
        print("| file | MB | 1 thread, curves/s | 2 threads, curves/s | gain |\n|---|---|---|---|---|")
        for path in (plain, packed):
            seconds(path, 2)
            pairs = [(seconds(path, 1), seconds(path, 2)) for _ in range(arguments.rounds)]
            one, two = (median(times) for times in zip(*pairs, strict=True))
            gain = median(a / b for a, b in pairs)
            size = path.stat().st_size / 1e6
            print(f"| {path.stem} | {size:.0f} | {curves / one:,.0f} | {curves / two:,.0f} | {gain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
