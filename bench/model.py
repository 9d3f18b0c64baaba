"""Beyond this machine: an empty run of up to a million tiles, and a model of large runs with constants measured here.

    python bench/model.py [--tiles 10000 100000 1000000] [--skip-empty] [--bandwidth 1.2e9] [--storage 5e9]

1. Empty runs: the real loop (`fvproc.schedule.run`), the real job with its journal and maps, and a crew that has every
   tile ready at once. What is left is what the client does for a tile; memory apart from the records must not grow.
2. Constants: kernel and reading (a run on one thread), client per tile (from 1), the journal's bytes/s (from 1),
   what a task costs a Dask scheduler (empty tasks on a real cluster of this machine), the final writing.
3. Model against measurement: whole runs of some sizes on threads and on a cluster of two processes.
4. Prediction: 10⁸ and 10¹⁰ curves on 1 to 4096 workers: what saturates first, and where.

The model: seconds = start + max over stations of (work of the station / its rate) + writing at the end, where the
stations are the workers (seconds per curve / threads), the storage (bytes / bandwidth), the scheduler (seconds per
task), the client (seconds per task and per byte of records, journal and maps) and the client's network (bytes of
records / bandwidth). Tasks hold half a second of work (`cluster.TASK_SECONDS`). Where scheduler, client and workers
share the processors of one machine, as they do here, these are a station, too: the work of all over their number.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import psutil

import fvproc as fv
from fvproc import schedule, simulate
from fvproc.job import MapJob, agree
from fvproc.journal import MAPPED_BYTES
from fvproc.maps import not_computed
from fvproc.processors import cores
from fvproc.quantities import RECORD
from fvproc.schedule import Errand
from fvproc.schedule.cluster import TASK_SECONDS
from fvproc.schedule.work import Landed
from fvproc.volume import ForceVolume, Grid, Tile

SAMPLES = 512
SIZES = (128, 256, 512, 1024)  # of the maps that the model is held against
_WINDOW = 12


class ReadyCrew:
    """A crew for which every tile is computed already."""

    workers = 4

    def __init__(self, curves: int) -> None:
        self._curves = curves
        self._records = not_computed(curves)
        self._flying: list[tuple[int, Tile]] = []
        self.tiles = 0

    def room(self) -> int:
        return _WINDOW - len(self._flying)

    def curves(self, number: int, errand: Errand, left: int) -> int:
        return self._curves

    def submit(self, number: int, errand: Errand, tile: Tile) -> None:
        self._flying.append((number, tile))

    def landed(self) -> list[Landed]:
        flying, self._flying = self._flying, []
        self.tiles += len(flying)
        return [Landed(number, tile, self._records[: len(tile)], 0.5) for number, tile in flying]

    def idle(self) -> bool:
        return not self._flying

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


class Unfinished(MapJob):
    """A job whose outputs are not written: these are a matter of their own."""

    def finish(self) -> None:
        self.pause()


@dataclass(frozen=True, slots=True)
class Empty:
    """An empty run."""

    tiles: int
    curves: int
    seconds: float
    memory: float
    records: float


def peak_memory() -> float:
    """Return the largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def empty_run(volume: ForceVolume, tiles: int, curves: int, folder: Path) -> Empty:
    """Run so many tiles of so many curves that are computed already, in a process of its own."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_empty_run, (volume, tiles, curves, str(folder)))


def _empty_run(volume: ForceVolume, tiles: int, curves: int, folder: str) -> Empty:
    volume = replace(volume, grid=Grid(tiles, curves), tile_alignment=1)
    before = psutil.Process().memory_info().rss / 1e6
    job = Unfinished(volume, agree(volume), [Path(folder) / f"empty-{tiles}-{curves}.h5"], overwrite=True)
    crew = ReadyCrew(curves)
    start = time.perf_counter()
    schedule.run([job], crew)
    seconds = time.perf_counter() - start
    records = tiles * curves * RECORD.itemsize / 1e6
    held = records if records * 1e6 <= MAPPED_BYTES else 0.0  # else in the partial file: what of it is in memory counts
    return Empty(crew.tiles, tiles * curves, seconds, peak_memory() - before - held, records)


@dataclass(frozen=True, slots=True)
class Constants:
    """What the model is made of; seconds and bytes/s."""

    start: float
    start_cluster: float  # preflight, first tasks
    curve: float  # reading and fitting, one thread
    curve_bytes: float
    task_scheduler: float
    task_client: float
    record_client: float  # seconds a curve: place, journal
    write: float  # seconds a curve, at the end
    bandwidth: float
    storage: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of each station, and their sum as the model has it."""

    stations: dict[str, float]
    total: float

    @property
    def slowest(self) -> str:
        """The station that the others wait for."""
        return max(self.stations, key=lambda name: self.stations[name])


def predict(constants: Constants, curves: float, threads: int, cluster: bool, processors: int = 0) -> Prediction:
    """Return what the model says of a run; processors: those that all share, 0 where each has its own."""
    tile = 4e6 / constants.curve_bytes if not cluster else TASK_SECONDS / constants.curve
    tasks = max(1.0, curves / tile)
    stations = {
        "workers": curves * constants.curve / threads,
        "storage": curves * constants.curve_bytes / constants.storage,
        "client": tasks * constants.task_client + curves * constants.record_client,
    }
    if cluster:
        stations["scheduler"] = tasks * constants.task_scheduler
        stations["client's network"] = curves * RECORD.itemsize / constants.bandwidth
    if processors:
        busy = curves * constants.curve + stations["client"] + stations.get("scheduler", 0.0)
        stations["processors"] = busy / processors
    start = constants.start_cluster if cluster else constants.start
    return Prediction(stations, start + max(stations.values()) + curves * constants.write)


def scheduler_seconds(client: object, tasks: int = 2000) -> float:
    """Return what an empty task costs a Dask cluster, one after the other through a window."""
    from distributed import as_completed

    start = time.perf_counter()
    todo = iter(range(tasks))
    flying = as_completed([client.submit(int, next(todo), pure=False) for _ in range(6)], loop=client.loop)  # type: ignore[attr-defined]
    for _ in flying:
        number = next(todo, None)
        if number is not None:
            flying.add(client.submit(int, number, pure=False))  # type: ignore[attr-defined]
    return (time.perf_counter() - start) / tasks


def timed(path: Path, output: Path | None = None, **options: object) -> float:
    """Return the seconds of a run."""
    start = time.perf_counter()
    fv.process(path, output=output, overwrite=True, **options)
    return time.perf_counter() - start


def curves_text(curves: float) -> str:
    return f"10^{np.log10(curves):.0f}" if np.log10(curves) % 1 == 0 else f"{curves:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--curves", type=int, default=10, help="of an empty tile")
    parser.add_argument("--bandwidth", type=float, default=1.2e9, help="of the client's network, bytes/s (10 GbE)")
    parser.add_argument("--storage", type=float, default=5e9, help="of the file system all workers share, bytes/s")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        paths = {}
        for size in (64, *SIZES):
            paths[size] = folder / f"map{size}.h5"
            simulate.write_map(paths[size], ny=size, nx=size, samples=SAMPLES)
        volume = fv.open(paths[64])

        print(
            "| empty tiles | curves | seconds | tiles/s | records, MB | memory beside them, MB |\n"
            "|---|---|---|---|---|---|"
        )
        empty = [empty_run(volume, tiles, arguments.curves, folder) for tiles in arguments.tiles]
        for run in empty:
            print(
                f"| {run.tiles:,} | {run.curves:,} | {run.seconds:.1f} | {run.tiles / run.seconds:,.0f} |"
                f" {run.records:.0f} | {run.memory:.0f} |",
                flush=True,
            )
        # few large tiles: what a record costs; many small ones: what a tile costs
        large = empty_run(volume, 20, 200_000, folder)
        record = large.seconds / large.curves
        per_tile = max(empty[0].seconds / empty[0].tiles - arguments.curves * record, 1e-6)

        for path in paths.values():
            timed(path, threads=1)
        quick, slow = (median(timed(paths[size], threads=1) for _ in range(3)) for size in (64, 256))
        curve = (slow - quick) / (256**2 - 64**2)
        start = max(quick - 64**2 * curve, 0.0)
        maps = fv.process(paths[256])
        began = time.perf_counter()
        fv.save(maps, folder / "out.h5")
        write = (time.perf_counter() - began) / 256**2
        with schedule.local_processes(2) as client:
            task = scheduler_seconds(client)
            for _ in range(2):
                timed(paths[256], client=client)
            begun = median(timed(paths[64], client=client) for _ in range(5)) - 64**2 * curve
            constants = Constants(
                start,
                max(begun, 0.0),
                curve,
                volume.curve_bytes,
                task,
                per_tile,
                record,
                0.0,
                arguments.bandwidth,
                arguments.storage,
            )
            print(
                f"\nread and fit {curve * 1e6:.2f} µs a curve; a task {task * 1e3:.2f} ms of scheduler,"
                f" {per_tile * 1e6:.0f} µs of client; a record {record * 1e9:.0f} ns of client;"
                f" {write * 1e6:.2f} µs a curve to write the output; {start * 1e3:.0f} ms to start, on a cluster"
                f" {constants.start_cluster * 1e3:.0f} ms\n"
            )
            print("| run | curves | predicted, s | measured, s | measured/predicted |\n|---|---|---|---|---|")
            for label, threads, options in (
                ("1 thread", 1, {"threads": 1}),
                ("2 threads", 2, {"threads": 2}),
                ("cluster, 2 processes", 2, {"client": client}),
            ):
                for size in SIZES:
                    cluster = "client" in options
                    timed(paths[size], **options)
                    found = median(timed(paths[size], **options) for _ in range(3))
                    said = predict(constants, size**2, threads, cluster, cores()).total
                    print(f"| {label} | {size**2:,} | {said:.2f} | {found:.2f} | {found / said:.2f} |", flush=True)
        constants = replace(constants, write=write)
        print(
            f"\nPredicted for 2 × {SAMPLES} int16 samples, storage {arguments.storage / 1e9:g} GB/s, network of the"
            f" client {arguments.bandwidth / 1e9:g} GB/s:\n"
        )
        print(
            "| curves | workers | hours | curves/s | waits for | workers | storage | scheduler | client | its network |"
        )
        print("|---" * 10 + "|")
        for curves in (1e8, 1e10):
            for workers in (1, 4, 16, 64, 256, 1024, 4096):
                said = predict(constants, curves, workers, True)
                cells = " | ".join(
                    f"{said.stations[name] / 3600:.2g}"
                    for name in ("workers", "storage", "scheduler", "client", "client's network")
                )
                print(
                    f"| {curves_text(curves)} | {workers} | {said.total / 3600:.2g} | {curves / said.total:,.0f} |"
                    f" {said.slowest} | {cells} |"
                )
        print("\nSaturated at so many workers (their pace equals that of the station):\n")
        one = predict(constants, 1e8, 1, True).stations
        for name in ("storage", "scheduler", "client", "client's network"):
            print(f"- {name}: {one['workers'] / one[name]:,.0f}")
        print(f"- writing at the end, on {cores()} cores: {write * 1e8:.0f} s for 10^8 curves")


if __name__ == "__main__":
    main()
