"""One worker or two, 10⁵ curves or 10⁷: the time of a run on a cluster, and the memory of client and workers.

    python bench/scaling.py [--curves 100000 1000000] [--layout contiguous] [--rounds 3]

`dask worker` processes of one thread each; runs with one and with two workers alternate, medians are told. Large maps
are a small simulated file whose curves come again and again: a plug-in of this bench reads it, so that no disk is
filled. Peaks are of the largest process, seen every 50 ms: its own resident memory, without pages of mapped files.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import jpk
import psutil
from processes import CUSTOM, Client, Cluster

import fvproc as fv
from fvproc import simulate
from fvproc.quantities import RECORD

LAYOUTS = ("contiguous", "gzip", "jpk")
REPEATED = """
if os.environ.get("BENCH_ROWS"):
    import dataclasses
    import numpy as np
    from fvproc import readers
    from fvproc.volume import Tile
    honest_open, honest_read = readers.open_volume, readers.read_tile
    def open_volume(*arguments, **options):
        volume = honest_open(*arguments, **options)
        return dataclasses.replace(volume, grid=dataclasses.replace(volume.grid, ny=int(os.environ["BENCH_ROWS"])))
    def read(volume, tile):
        small = dataclasses.replace(volume, grid=dataclasses.replace(volume.grid, ny=int(os.environ["BENCH_SMALL"])))
        time.sleep(len(tile) * float(os.environ["BENCH_WAIT"]))
        start = tile.start % (small.grid.curves - len(tile)) // volume.tile_alignment * volume.tile_alignment
        return honest_read(small, Tile(start, start + len(tile)))
    readers.open_volume, readers.read_tile = open_volume, read
"""


def _own(process: psutil.Process) -> int:
    """Return the bytes of memory that are the process's own: pages of mapped files go when others need the room."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        lines = [line.split() for line in status.read_text().splitlines()]
        return next((int(line[1]) * 1024 for line in lines if line and line[0] == "RssAnon:"), 0)
    return int(process.memory_info().rss)


def write(folder: Path, layout: str, samples: int, flicker: float) -> Path:
    """Write the small file whose curves come again and again; flicker: nm of 1/f noise."""
    if layout == "jpk":
        path = folder / "map.jpk-qi-data"
        jpk.write(path, 150, samples, zipfile.ZIP_DEFLATED)
        return path
    path = folder / "map.h5"
    plain = path if layout == "contiguous" else folder / "plain.h5"
    simulate.write_map(
        plain, ny=40, nx=1000, samples=samples, seed=1, modulus=916e6, adhesion=4e-9, flicker=flicker * 1e-9
    )
    if layout == "gzip":
        fv.convert(plain, path, compress=True)
    return path


class Peaks(threading.Thread):
    """Watches the memory of some processes, and what they take of the processors."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        super().__init__(daemon=True)
        self.processes = {who: [psutil.Process(pid) for pid in group] for who, group in pids.items()}
        self.before = {who: self._now(who) for who in pids}
        self.peak = dict(self.before)
        self._began = {who: self._spent(who) for who in pids}
        self.over = threading.Event()

    def _now(self, who: str) -> float:
        sizes = [0.0]
        for process in self.processes[who]:
            with suppress(psutil.Error, OSError):
                sizes.append(_own(process) / 1e6)
        return max(sizes)

    def _spent(self, who: str) -> float:
        total = 0.0
        for process in self.processes[who]:
            with suppress(psutil.Error, OSError):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def seconds(self, who: str) -> float:
        """Return the processor time that they, which must still live, have taken since the beginning."""
        return self._spent(who) - self._began[who]

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.05):
            for who in self.peak:
                self.peak[who] = max(self.peak[who], self._now(who))


Measured = tuple[float, float, Peaks, dict[str, float]]


def measured(cluster: Cluster, curves: Path, out: Path, method: str) -> Measured:
    """Return the seconds from the first submission to the last tile, those of the process, the peaks, and the seconds
    of processors that workers and scheduler took."""
    out.unlink(missing_ok=True)
    command = [curves, "-o", out, "--scheduler-file", cluster.file, "--fit-method", method, "--tip-radius", "30nm"]
    client = Client(cluster, command)
    assert cluster.scheduler is not None
    peaks = Peaks(
        {"client": [client.process.pid], "worker": cluster.worker_processes(), "scheduler": [cluster.scheduler.pid]}
    )
    peaks.start()
    ended = client.wait(3000)
    peaks.over.set()
    if ended.status:
        sys.exit(ended.said)
    return ended.work, ended.seconds, peaks, {who: peaks.seconds(who) for who in ("worker", "scheduler")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="ml", choices=["ml", "qnm"])
    parser.add_argument("--wait", type=float, default=0.0, help="seconds that reading a curve takes: a slow share")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--flicker", type=float, default=0.0, help="nm of 1/f noise, as most instruments have")
    parser.add_argument("--layout", default="contiguous", choices=LAYOUTS, help="of the file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fvproc-scaling-"))
    curves = write(folder, options.layout, options.samples, options.flicker)
    small, width = fv.open(curves).shape
    size = fv.open(curves).curve_bytes
    print(
        f"2 × {options.samples} samples a curve ({size} bytes), {options.method}, {options.layout},"
        f" {options.wait:g} s wait a curve" + (f", {options.flicker:g} nm of 1/f noise" if options.flicker else "")
    )
    print(f"median of {options.rounds}, alternating\n")
    print(
        "| curves | workers | tiles s | run s | curves/s | × 1 worker | processor s: workers | scheduler | client MB"
        " | of them records | worker MB |"
    )
    print("|---" * 11 + "|")
    for number in options.curves:
        clusters = {}
        for workers in options.workers:
            settings = {"BENCH_ROWS": str(number // width), "BENCH_SMALL": str(small), "BENCH_WAIT": str(options.wait)}
            clusters[workers] = Cluster(folder / f"{workers}", workers=workers, settings=settings)
            (folder / f"{workers}" / "custom" / "sitecustomize.py").write_text(CUSTOM + REPEATED)
            clusters[workers].start()
        taken: dict[int, list[Measured]] = {workers: [] for workers in options.workers}
        try:
            for turn in range(options.rounds + 1):
                for workers, cluster in clusters.items():
                    result = measured(cluster, curves, folder / "out.h5", options.method)
                    if turn:  # the first one warms up
                        taken[workers].append(result)
        finally:
            for cluster in clusters.values():
                cluster.close()
        first = statistics.median(result[0] for result in taken[options.workers[0]])
        if not first:
            sys.exit("the client noted no tile: nothing is known of its pace")
        for workers, results in taken.items():
            work = statistics.median(result[0] for result in results)
            wall = statistics.median(result[1] for result in results)
            client = max(result[2].peak["client"] for result in results)
            worker = max(result[2].peak["worker"] for result in results)
            spent, scheduler = (
                statistics.median(result[3][who] for result in results) for who in ("worker", "scheduler")
            )
            records = number * RECORD.itemsize / 1e6
            print(
                f"| {number:,} | {workers} | {work:.2f} | {wall:.1f} | {number / work:,.0f} | {first / work:.2f}"
                f" | {spent:.2f} | {scheduler:.2f} | {client:.0f} | {records:.0f} | {worker:.0f} |",
                flush=True,
            )
        time.sleep(1.0)


if __name__ == "__main__":
    main()
