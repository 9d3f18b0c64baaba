"""The crew of a cluster: a bounded window of tasks on a dask.distributed cluster, and a watchdog for each wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.quantities import Flag
from fvproc.schedule import preflight
from fvproc.schedule.work import TILE_BYTES, Errand, Failure, Landed, Outcome, attempt, base_curves, split
from fvproc.volume import ForceVolume, Tile

# Tiles in flight for each thread of a cluster: one runs, one waits at the worker, one is on its way.
WINDOW = 3
# Work in a task: at 50 ms a scheduler costs a tenth or more of the time, above 2 s a lost worker costs too much.
TASK_SECONDS = 0.5
_LEAST_SECONDS = 0.1
# How long a cluster may be without any worker, in seconds.
FIRST_WORKER = 60.0
# Silence after which the scheduler is asked for a sign of life, and how long it and a worker may take to give one.
SILENCE = 10.0
ANSWER = 15.0
# A tile this late, or this many times later than the slowest so far, makes us look after the worker that has it.
LATE = 30.0
_LATE_TIMES = 20
_POLL = 0.01


@dataclass(slots=True)
class _Flight:
    """A task in flight."""

    number: int
    tile: Tile
    future: Any
    since: float
    patience: float = LATE
    twin: str | None = None


class ClusterCrew:
    """The workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster; stays open.
    first : ForceVolume
        The first input, which every worker must see before work starts.
    tile_bytes : int, optional
        Bytes of raw curves in a task; by default tasks begin small and grow to `TASK_SECONDS` of work.
    patience : float
        How long the cluster may be without any worker, s.

    Raises
    ------
    FvprocError
        If the cluster is not fit for the work; see `preflight.check`.
    """

    def __init__(
        self, client: Any, first: ForceVolume, tile_bytes: int | None = None, patience: float = FIRST_WORKER
    ) -> None:
        from distributed import as_completed

        self._client, self._tile_bytes, self._patience = client, tile_bytes, patience
        self._ask(lambda: preflight.check(first, client, patience), patience + ANSWER, "the cluster")
        self.workers = 1
        self._flying: dict[str, _Flight] = {}
        self._errands: dict[int, tuple[Errand, Any]] = {}
        self._pace: dict[int, float] = {}
        self._slowest = 0.0
        self._retried: set[tuple[int, int]] = set()
        self._landed = as_completed([], loop=client.loop, with_results=True, raise_errors=False)
        self._heard = self._counted = self._peopled = self._looked = time.monotonic()
        self._count()

    # ---- what the flow asks

    def room(self) -> int:
        """Return how many tasks may be submitted now; the window follows workers that join and leave."""
        if time.monotonic() - self._counted > 2.0:
            self._count()
        return WINDOW * self.workers - len(self._flying)

    def curves(self, number: int, errand: Errand, left: int) -> int:
        """Return the curves of a task of about `TASK_SECONDS`, less toward the end, when all must get their share."""
        base = base_curves(errand.volume, self._tile_bytes or TILE_BYTES)
        pace = self._pace.get(number)
        if self._tile_bytes is not None or pace is None:
            return base
        share = max(left / (2 * self.workers), _LEAST_SECONDS / pace)
        step = errand.volume.tile_alignment
        return max(step, int(min(TASK_SECONDS / pace, share)) // step * step)

    def submit(self, number: int, errand: Errand, tile: Tile) -> None:
        """Have a tile computed by a worker."""
        if number not in self._errands:
            # as a task of its own, so that a lost worker does not lose it
            self._errands[number] = errand, self._client.submit(_deliver, errand, pure=False)
        self._submit(number, tile)

    def landed(self) -> list[Landed]:
        """Return the tiles that came back; raise FvprocError if the scheduler or the last worker is lost."""
        batch = self._landed.next_batch(block=False)
        self._watch(bool(batch))
        if not batch:
            time.sleep(_POLL)
        results: list[Landed] = []
        for future, result in batch:
            flight = self._flying.pop(future.key, None)
            if flight is None:
                continue  # its twin was first
            twin = self._flying.pop(flight.twin, None) if flight.twin else None
            if twin is not None:
                twin.future.cancel()
            results += self._judged(flight, future, result)
        return results

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        return not self._flying

    def forget(self, number: int) -> None:
        """Let the workers drop an errand."""
        self._errands.pop(number, None)
        self._pace.pop(number, None)

    def close(self) -> None:
        """Cancel what is in flight."""
        flights, self._flying = list(self._flying.values()), {}
        if self._client.status == "running" and flights:
            futures = [flight.future for flight in flights]
            with suppress(FvprocError):  # what is wrong was told already
                self._ask(lambda: self._client.cancel(futures, force=True), ANSWER, "the scheduler")
        self._errands.clear()

    # ---- tasks

    def _submit(self, number: int, tile: Tile, **where: Any) -> _Flight:
        self._require_scheduler()
        errand, parcel = self._errands[number]
        step = base_curves(errand.volume, min(self._tile_bytes or TILE_BYTES, TILE_BYTES))
        future = self._client.submit(
            task, parcel, tile.start, tile.stop, step, engine.KERNEL_VERSION, pure=False, retries=1, **where
        )
        flight = _Flight(number, tile, future, time.monotonic())
        self._flying[future.key] = flight
        self._landed.add(future)
        return flight

    def _judged(self, flight: _Flight, future: Any, result: Any) -> list[Landed]:
        """Judge by the result, not by the future's status: a result may arrive while that says 'lost'."""
        number, tile = flight.number, flight.tile
        if number not in self._errands:
            return []
        volume = self._errands[number][0].volume
        if not isinstance(result, _Report):
            return [Landed(number, tile, _fate(volume, tile, future, result), 0.0)]
        if result.kernel_version != engine.KERNEL_VERSION:
            raise FvprocError(
                preflight.other_kernel(f"worker {result.worker}", result.kernel_version, engine.KERNEL_VERSION)
            )
        self._slowest = max(self._slowest, result.seconds)
        self._pace[number] = max(result.seconds / len(tile), 1e-9)
        landed = []
        for part, outcome in result.parts:
            if isinstance(outcome, Failure):
                if (number, part.start) not in self._retried:
                    # perhaps the file is fine and that worker's mount is not
                    self._retried.add((number, part.start))
                    others = [address for address in self._addresses() if address != result.worker]
                    self._submit(number, part, **_elsewhere(others))
                    continue
                outcome = Failure(part, outcome.flag, f"worker {result.worker}: {outcome.reason}")
            landed.append(Landed(number, part, outcome, result.seconds))
        return landed

    # ---- the watchdog

    def _watch(self, heard: bool) -> None:
        self._require_scheduler()
        now = time.monotonic()
        if heard:
            self._heard = now
        elif now - self._heard > SILENCE:
            self._count()
            self._heard = now
        if now - self._looked > 1.0:
            self._looked = now
            late = [
                flight
                for flight in self._flying.values()
                if flight.twin is None and now - flight.since > max(flight.patience, _LATE_TIMES * self._slowest)
            ]
            if late:
                self._look_after(late)

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise FvprocError(
                f"the scheduler is lost (the connection is {self._client.status}) with {len(self._flying)} tasks in"
                " flight; start it and the run again"
            )

    def _count(self) -> None:
        """Count threads; that is the sign of life, too."""
        threads = self._ask(self._client.nthreads, ANSWER, "the scheduler")
        self._counted = time.monotonic()
        self.workers = max(1, sum(threads.values()))
        if threads:
            self._peopled = self._counted
        elif self._counted - self._peopled > self._patience:
            raise FvprocError(f"the cluster has had no worker for {self._patience:g} s; start some and run again")

    def _addresses(self) -> list[str]:
        return list(self._ask(self._client.nthreads, ANSWER, "the scheduler"))

    def _look_after(self, late: list[_Flight]) -> None:
        """Ask the workers that hold late tiles for a sign of life; give the tiles of the silent ones to others."""
        processing = self._ask(self._client.processing, ANSWER, "the scheduler")
        holder = {key: worker for worker, keys in processing.items() for key in keys}
        silent: set[str] = set()
        for worker in {holder[flight.future.key] for flight in late if flight.future.key in holder}:
            try:
                self._ask(lambda worker=worker: self._client.run(_sign, workers=[worker]), ANSWER, f"worker {worker}")  # type: ignore[misc]
            except FvprocError:
                silent.add(worker)
        others = [worker for worker in self._addresses() if worker not in silent]
        for flight in late:
            worker = holder.get(flight.future.key)
            if worker not in silent:
                flight.patience *= 2  # it lives and computes
                flight.since = time.monotonic()
            elif others:
                twin = self._submit(flight.number, flight.tile, **_elsewhere(others))
                flight.twin, twin.twin = twin.future.key, flight.future.key
            else:
                raise FvprocError(
                    f"worker {worker}: has not answered for {time.monotonic() - flight.since:.0f} s and there is no"
                    " other; restart it and run again"
                )

    def _ask(self, question: Callable[[], Any], seconds: float, who: str) -> Any:
        """Return an answer of the cluster, which may be dead or cut off: no wait for ever."""
        answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put((True, question()))
            except BaseException as error:
                answers.put((False, error))

        # a daemon: one that waits for a dead peer must not keep Python from ending
        threading.Thread(target=ask, name="fvproc-watchdog", daemon=True).start()
        try:
            good, answer = answers.get(timeout=seconds)
        except queue.Empty:
            raise FvprocError(
                f"{who} has not answered for {seconds:g} s; see whether it runs, then run again"
            ) from None
        if good:
            return answer
        if isinstance(answer, OSError):
            raise FvprocError(f"{who} cannot be reached: {answer}; see whether it runs, then run again") from None
        raise answer


def _elsewhere(others: list[str]) -> dict[str, Any]:
    return {"workers": others, "allow_other_workers": True} if others else {}


def _fate(volume: ForceVolume, tile: Tile, future: Any, result: Any) -> Outcome:
    """Return what became of a task that brought no report: a lost worker, an error of ours, or a lost scheduler."""
    from distributed import KilledWorker

    error = result[1] if isinstance(result, tuple) else result
    if isinstance(error, KilledWorker):
        return Failure(tile, Flag.WORKER_LOST, f"the workers that tried it died: {error}")
    if isinstance(error, (FvprocError, RuntimeError)):
        return error
    return FvprocError(
        f"{volume.path}: curves {tile.start} to {tile.stop - 1} came back as {future.status}: {error!r};"
        " the scheduler may have been lost"
    )


# ---- what runs on the workers


@dataclass(frozen=True, slots=True)
class _Report:
    """What a task brings home: runs of curves with their records or the reason why there are none."""

    parts: list[tuple[Tile, np.ndarray | Failure]]
    seconds: float
    worker: str
    kernel_version: str


def _deliver(errand: Errand) -> Errand:
    return errand


def _sign() -> bool:
    return True


def task(errand: Errand, start: int, stop: int, step: int, kernel_version: str) -> _Report:
    """Compute curves [start, stop) on a worker, `step` at a time, so that its memory holds no more raw curves."""
    from distributed import get_worker

    try:
        address = get_worker().address
    except ValueError:
        address = "none"  # called outside of a cluster
    began = time.perf_counter()
    parts: list[tuple[Tile, np.ndarray | Failure]] = []
    # a worker that joined later was in no preflight
    if kernel_version == engine.KERNEL_VERSION:
        for tile in split(Tile(start, stop), step):
            outcome = attempt(errand, tile)
            before = parts[-1] if parts else None
            if before is not None and isinstance(outcome, np.ndarray) and isinstance(before[1], np.ndarray):
                parts[-1] = Tile(before[0].start, tile.stop), np.concatenate([before[1], outcome])
            else:
                parts.append((tile, outcome))
    return _Report(parts, time.perf_counter() - began, address, engine.KERNEL_VERSION)
