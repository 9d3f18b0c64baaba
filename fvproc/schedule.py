"""Tiles on the threads of this process or on the workers of a cluster; the only file that knows Dask."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fvproc import engine
from fvproc.errors import FileFormatError, FvprocError
from fvproc.maps import ParameterMaps, not_computed
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, Tile

# Large enough that starting a tile costs nothing beside it, small enough to balance the load and to stay in cache.
TILE_BYTES = 4 << 20
# Tiles in flight for each thread of a cluster: one runs, one waits at the worker, one is on its way.
WINDOW = 3
# Tiles handed to Dask's threads at a time; its graph of tasks is held in memory.
BATCH = 2048
_POLL = 0.01
# How long a cluster may take to bring its first worker, in seconds.
FIRST_WORKER = 60
# Machines that share a file may round its time differently, by up to 2 s (FAT).
_TIME_TOLERANCE_NS = 2_000_000_000


class Progress(Protocol):
    """Told how a run goes on; called from one thread at a time."""

    def start(self, tiles: int, curves: int, workers: int) -> None:
        """Work begins."""

    def advance(self, tile: Tile, failed: bool) -> None:
        """A tile is in its place."""

    def finish(self) -> None:
        """No more tiles will come."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A tile whose curves could not be computed, and why."""

    tile: Tile
    flag: Flag
    reason: str


def cut(volume: ForceVolume, tile_bytes: int = TILE_BYTES) -> list[Tile]:
    """Partition the grid into tiles of about `tile_bytes`, aligned to the file's layout.

    Parameters
    ----------
    volume : ForceVolume
        What to cut.
    tile_bytes : int
        Bytes of raw curves in a tile; a tile holds at least `volume.tile_alignment` curves.
    """
    step = volume.tile_alignment
    curves = max(1, tile_bytes // max(volume.curve_bytes, 1) // step) * step
    total = volume.grid.curves
    return [Tile(start, min(start + curves, total)) for start in range(0, total, curves)]


def run(
    volume: ForceVolume,
    recipe: Recipe,
    maps: ParameterMaps,
    *,
    client: Any = None,
    threads: int | None = None,
    tile_bytes: int = TILE_BYTES,
    progress: Progress | None = None,
) -> list[Failure]:
    """Fit every curve of a volume and place the records.

    Parameters
    ----------
    volume, recipe : ForceVolume, Recipe
        Complete calibration, completed recipe.
    maps : ParameterMaps
        Filled in place.
    client : distributed.Client or str, optional
        A client of a cluster, or a scheduler's address. By default the tiles run on threads of this process; no port
        is opened.
    threads : int, optional
        Number of threads of this process; by default one for each core.
    tile_bytes : int
        See `cut`.
    progress : Progress, optional
        Told of each tile.

    Returns
    -------
    list of Failure
        Tiles that could not be computed: their curves carry the flag, the others are done.

    Raises
    ------
    FvprocError
        If a worker lacks fvproc, or another version of it, or cannot see the input; or if the scheduler is lost.
    RuntimeError
        If a tile fails in a way that no file or cluster explains: a bug, with the tile it happened in.
    """
    tiles = cut(volume, tile_bytes)
    if client is None:
        results = _on_threads(volume, recipe, tiles, threads, progress)
    elif isinstance(client, str):
        with connect(client) as own:
            return run(volume, recipe, maps, client=own, tile_bytes=tile_bytes, progress=progress)
    else:
        results = _on_cluster(volume, recipe, tiles, client, progress)
    failures = []
    try:
        # closed here and not when an exception that goes up is forgotten: until then threads would wait to hand over
        with closing(results):
            for tile, outcome in results:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    outcome = not_computed(len(tile), outcome.flag)
                maps.place(tile, outcome)
                if progress is not None:
                    progress.advance(tile, bool(failures) and failures[-1].tile == tile)
    finally:
        if progress is not None:
            progress.finish()
    return sorted(failures, key=lambda failure: failure.tile)


def connect(address: str | None = None, scheduler_file: str | None = None) -> Any:
    """Return a client of the cluster at an address, or at the one in a scheduler file; the caller closes it.

    Raises
    ------
    FvprocError
        If the address or the file is none, or no scheduler answers.
    """
    from distributed import Client
    from distributed.comm import resolve_address

    address = address or "" if scheduler_file is None else _address_in(scheduler_file)
    place = scheduler_file or repr(address)
    try:
        # a client that fails over its address hangs when Python ends, one without a file waits for it for ever
        resolve_address(address)
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FvprocError(f"no scheduler answers at {place}: {error}") from None


def _address_in(scheduler_file: str) -> str:
    """Return the address that `dask scheduler --scheduler-file` wrote."""
    try:
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FvprocError(
            f"{scheduler_file}: no scheduler's address can be read from it ({error});"
            " start `dask scheduler --scheduler-file` first"
        ) from None


Result = tuple[Tile, "np.ndarray | Failure"]


def _attempt(volume: ForceVolume, recipe: Recipe, tile: Tile) -> np.ndarray | Failure:
    """Run a tile; what the file is to blame for becomes a Failure, what we are to blame for goes up."""
    try:
        return engine.run_tile(volume, recipe, tile)
    except (OSError, FileFormatError) as error:
        return Failure(tile, Flag.READ_ERROR, str(error))
    except FvprocError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"{volume.path}: curves {tile.start} to {tile.stop - 1} ended in {type(error).__name__}: {error}."
            " This is a bug in fvproc; please report it with the file."
        ) from error


# ---- threads of this process


def _on_threads(
    volume: ForceVolume, recipe: Recipe, tiles: list[Tile], threads: int | None, progress: Progress | None
) -> Generator[Result, None, None]:
    """Yield (tile, records) in any order; Dask's threads work while the caller places."""
    import queue

    import dask
    import dask.threaded

    if threads is None:
        threads = dask.config.get("num_workers", None) or _cores()
    if progress is not None:
        progress.start(len(tiles), volume.grid.curves, threads)
    # Dask's own switch for debugging: everything in the calling thread
    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        for tile in tiles:
            yield tile, _attempt(volume, recipe, tile)
        return

    finished: queue.Queue[Result | BaseException | None] = queue.Queue(maxsize=4 * threads)
    stop = threading.Event()

    def task(tile: Tile) -> None:
        if not stop.is_set():
            finished.put((tile, _attempt(volume, recipe, tile)))

    def work() -> None:
        todo = iter(tiles)
        try:
            while batch := list(islice(todo, BATCH)):
                graph = {("tile", tile.start): (task, tile) for tile in batch}
                dask.threaded.get(graph, list(graph), num_workers=threads)
            finished.put(None)
        except BaseException as error:
            finished.put(error)

    worker = threading.Thread(target=work, name="fvproc-schedule", daemon=True)
    worker.start()
    try:
        while (item := finished.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        # the caller gives up (Ctrl-C, an error): let the threads run dry, so that none writes into a dead run
        stop.set()
        while worker.is_alive():
            _drain(finished)
            worker.join(0.05)


def _drain(finished: Any) -> None:
    """Empty a queue, so that nobody waits to put something into it."""
    import queue

    while True:
        try:
            finished.get_nowait()
        except queue.Empty:
            return


def _cores() -> int:
    """Cores that this process may use: of a batch job or container, not of the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


# ---- a cluster


@dataclass(frozen=True, slots=True)
class _Job:
    """What every task needs, sent once: as a task of its own, so that a lost worker does not lose it."""

    volume: ForceVolume
    recipe: Recipe


def _make_job(volume: ForceVolume, recipe: Recipe) -> _Job:
    return _Job(volume, recipe)


def _cluster_task(job: _Job, start: int, stop: int) -> np.ndarray | Failure:
    """One tile on a worker: the job is there already, the task is two integers."""
    return _attempt(job.volume, job.recipe, Tile(start, stop))


def _on_cluster(
    volume: ForceVolume, recipe: Recipe, tiles: list[Tile], client: Any, progress: Progress | None
) -> Generator[Result, None, None]:
    """Yield (tile, records) in any order; a bounded window of tasks is in flight."""
    from distributed import as_completed

    threads = _preflight(volume, client)
    if progress is not None:
        progress.start(len(tiles), volume.grid.curves, threads)
    job = client.submit(_make_job, volume, recipe, pure=False)
    todo = iter(tiles)
    flying: dict[str, Tile] = {}

    def require_scheduler() -> None:
        if client.status != "running":
            raise FvprocError(
                f"{volume.path}: the scheduler is lost (the connection is {client.status}) with"
                f" {len(flying)} tiles in flight; outputs are as they were; start the run again"
            )

    def submit(tile: Tile) -> Any:
        require_scheduler()
        future = client.submit(_cluster_task, job, tile.start, tile.stop, pure=False, retries=1)
        flying[future.key] = tile
        return future

    landed = as_completed(
        [submit(tile) for tile in islice(todo, WINDOW * threads)],
        loop=client.loop,
        with_results=True,
        raise_errors=False,
    )
    try:
        while flying:
            batch = landed.next_batch(block=False)
            if not batch:
                require_scheduler()  # a plain wait hangs for ever when the scheduler dies
                time.sleep(_POLL)
                continue
            for future, result in batch:
                tile = flying.pop(future.key)
                yield tile, _landed(volume, tile, future, result)
                following = next(todo, None)
                if following is not None:
                    landed.add(submit(following))
    finally:
        if client.status == "running":
            client.cancel([job], force=True)


def _landed(volume: ForceVolume, tile: Tile, future: Any, result: Any) -> np.ndarray | Failure:
    """Judge by the result, not by the future's status: a result may arrive while that says 'lost'."""
    from distributed import KilledWorker

    if isinstance(result, (np.ndarray, Failure)):
        return result
    error = result[1] if isinstance(result, tuple) else result
    if isinstance(error, KilledWorker):
        return Failure(tile, Flag.WORKER_LOST, f"the workers that tried it died: {error}")
    if isinstance(error, (FvprocError, RuntimeError)):
        raise error
    raise FvprocError(
        f"{volume.path}: curves {tile.start} to {tile.stop - 1} came back as {future.status}: {error!r};"
        " the scheduler may have been lost"
    )


def _preflight(volume: ForceVolume, client: Any) -> int:
    """Check scheduler and workers before work starts; return the number of threads of the cluster.

    Without this a module that is missing on the workers only leaves the tasks pending for ever.
    """
    import asyncio

    if not client.nthreads():
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            raise FvprocError(f"the cluster has no worker, not even after {FIRST_WORKER} s; start some") from None
    # the scheduler unpickles each task; it does not read the input
    _agree("the scheduler", client.run_on_scheduler(_inspection(None)), volume)
    path = None if volume.format == "arrays" else volume.path  # arrays that can be sent at all need no file
    for address, seen in client.run(_inspection(path)).items():
        _agree(f"worker {address}", seen, volume)
    return max(1, sum(client.nthreads().values()))


def _agree(who: str, seen: Any, volume: ForceVolume) -> None:
    """Raise FvprocError unless what a part of the cluster saw is what this process sees."""
    if isinstance(seen, str):
        raise FvprocError(f"{who}: {seen}")
    version, size, modified_ns = seen
    if version != engine.KERNEL_VERSION:
        raise FvprocError(
            f"{who}: its fvproc has kernel version {version}, this one {engine.KERNEL_VERSION};"
            " install the same fvproc on all machines"
        )
    if size is None:
        return
    if size != volume.file_size:
        raise FvprocError(
            f"{who}: sees {volume.path} with {size} bytes, this machine with {volume.file_size};"
            " workers must read the same file"
        )
    if abs(modified_ns - volume.modified_ns) > _TIME_TOLERANCE_NS:
        raise FvprocError(
            f"{who}: sees {volume.path} as changed {(modified_ns - volume.modified_ns) / 1e9:+.1f} s away from when"
            " this machine saw it changed; workers must read the same file, and a copy must keep its time"
        )


def _inspection(path: str | None) -> Callable[[], Any]:
    """Return a function that travels by value: it must run where fvproc is not installed, too."""

    def inspect() -> Any:
        import os

        try:
            from fvproc.engine import KERNEL_VERSION
        except ImportError as error:
            return f"fvproc cannot be imported there ({error}); install it on all machines of the cluster"
        if path is None:
            return KERNEL_VERSION, None, None
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            return f"cannot see {path} ({error.strerror}); workers need the same path to the input"
        return KERNEL_VERSION, status.st_size, status.st_mtime_ns

    return inspect


# ---- for those who compose their own graphs


def lazy(volume: ForceVolume, recipe: Recipe, tile_bytes: int = TILE_BYTES) -> Any:
    """Return a Dask array of records (ny, nx), in blocks of whole rows; see `fvproc.lazy`."""
    import dask.array as da

    from fvproc.quantities import RECORD

    def block(rows: tuple[int, int]) -> np.ndarray:
        nx = volume.grid.nx
        tile = Tile(rows[0] * nx, rows[1] * nx)
        outcome = _attempt(volume, recipe, tile)
        if isinstance(outcome, Failure):
            outcome = not_computed(len(tile), outcome.flag)
        return outcome.reshape(-1, nx)

    return _by_rows(da, volume, block, (volume.grid.nx,), RECORD, tile_bytes)


def to_dask(volume: ForceVolume, branch: str, tile_bytes: int = TILE_BYTES) -> Any:
    """Return a Dask array of deflection (ny, nx, samples) in metres, float64; see `fvproc.to_dask`."""
    import dask.array as da

    if branch not in ("approach", "retract"):
        raise FvprocError(f"branch = {branch!r}: choose from approach, retract")
    scale, offset = volume.deflection_scale(branch)
    description = getattr(volume, branch)
    invalid = description.deflection.invalid

    def block(rows: tuple[int, int]) -> np.ndarray:
        nx = volume.grid.nx
        part = getattr(engine.read_tile(volume, Tile(rows[0] * nx, rows[1] * nx)), branch)
        values = part.deflection.astype(np.float64) * scale + offset
        if invalid is not None:
            values[part.deflection == invalid] = np.nan
        if part.valid_length is not None:
            values[np.arange(values.shape[1]) >= part.valid_length[:, None]] = np.nan
        return values.reshape(-1, nx, values.shape[1])

    return _by_rows(da, volume, block, (volume.grid.nx, description.samples), np.dtype(np.float64), tile_bytes)


def _by_rows(
    da: Any,
    volume: ForceVolume,
    block: Callable[[tuple[int, int]], np.ndarray],
    tail: tuple[int, ...],
    dtype: np.dtype,
    tile_bytes: int,
) -> Any:
    """Concatenate delayed blocks of whole rows."""
    from dask import delayed

    ny, nx = volume.shape
    step = max(1, tile_bytes // max(volume.curve_bytes * nx, 1))
    parts = []
    for first in range(0, ny, step):
        last = min(first + step, ny)
        parts.append(da.from_delayed(delayed(block)((first, last)), (last - first, *tail), dtype=dtype))
    return da.concatenate(parts, axis=0)
