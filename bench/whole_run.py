"""A whole run, file to maps to HDF5: curves/s, bytes/s, peak memory, and what reading the bytes alone takes.

    python bench/whole_run.py [--size 512] [--samples 512] [--threads 1 2] [--folder DIR]

Each run is a process of its own (`fvproc run`), timed from outside, so that start-up and writing are in it. The file
is read once before, so that runs are from the page cache; reading alone is `numpy.fromfile` of the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from fvproc import simulate

READ = """
import json, sys, time
import numpy as np
times = []
for _ in range(5):
    start = time.perf_counter()
    np.fromfile(sys.argv[1], np.uint8)
    times.append(time.perf_counter() - start)
print(json.dumps(times[1:]))
"""


def run(arguments: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak memory in MB of a process."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "fvproc", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tempfile.gettempdir())
    process.stdout.read()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"fvproc run failed: {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[128, 512], help="pixels along an edge")
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"916 MPa, 2 × {arguments.samples} int16 samples a curve, median of {arguments.rounds} processes\n")
    columns = "curves, MB, recipe, threads, seconds, of them fit and write, curves/s, MB/s, peak MB, reading alone s"
    print("| " + columns.replace(", ", " | ") + " |")
    print("|---" * 10 + "|")
    for size in arguments.size:
        path = arguments.folder / f"whole-run-{size}.h5"
        output = arguments.folder / "whole-run-out.h5"
        if not path.exists():
            simulate.write_map(path, ny=size, nx=size, samples=arguments.samples, modulus=916e6, adhesion=4e-9)
        megabytes = path.stat().st_size / 1e6
        # in a process of its own: Linux counts the memory of a parent into the peak of its children
        reading = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=True)
        readings = json.loads(reading.stdout)
        for method in ("ml", "qnm"):
            for threads in arguments.threads:
                walls, peaks, inner = [], [], []
                for _ in range(arguments.rounds):
                    common = ["run", str(path), "-o", str(output), "--overwrite", "--threads", str(threads)]
                    process = [*common, "--fit-method", method, "--json"]
                    time.perf_counter()
                    told = subprocess.run(
                        [sys.executable, "-m", "fvproc", *process],
                        capture_output=True,
                        check=True,
                        cwd=arguments.folder,
                    )
                    inner.append(json.loads(told.stdout)[0]["seconds"])
                    wall, peak = run([*common, "--fit-method", method, "--quiet"])
                    walls.append(wall)
                    peaks.append(peak)
                seconds = median(walls)
                print(
                    f"| {size * size:,} | {megabytes:,.0f} | {method} | {threads} | {seconds:.2f} | {median(inner):.2f}"
                    f" | {size * size / seconds:,.0f} | {megabytes / seconds:,.0f} | {median(peaks):,.0f}"
                    f" | {median(readings):.3f} |",
                    flush=True,
                )
        path.unlink()
        output.unlink()


if __name__ == "__main__":
    main()
