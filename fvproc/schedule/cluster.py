"""The crew of a cluster: a bounded window of tasks on a dask.distributed cluster, and a watchdog for each wait."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.maps import joined
from fvproc.quantities import Flag
from fvproc.schedule import preflight, vigil
from fvproc.schedule.work import TILE_BYTES, Errand, Failure, Landed, Outcome, attempt, base_curves, split
from fvproc.volume import ForceVolume, Tile

# Raw curves that a worker holds at a time: each piece of a task costs it a tenth of a millisecond of Python.
PIECE_BYTES = 4 * TILE_BYTES
# Tiles in flight for each thread of a cluster: one runs, one waits at the worker, one is on its way.
WINDOW = 3
# Work in a task: at 50 ms a scheduler costs a tenth or more of the time, above 2 s a lost worker costs too much.
TASK_SECONDS = 0.5
_LEAST_SECONDS = 0.1
# A tile this many times later than the slowest so far makes us look after it, however slow tiles are.
_LATE_TIMES = 20
# How often workers are counted, and late tiles looked after, s.
_COUNT = 2.0
_LOOK = 1.0
_POLL = 0.01


@dataclass(slots=True)
class _Flight:
    """A task in flight.

    `parcel` is the key of the errand it needs; `twins` are the keys of all tasks of the same tile, the latest last.
    """

    number: int
    tile: Tile
    future: Any
    since: float
    patience: float
    parcel: str
    twins: list[str]
    looked: bool = False


class ClusterCrew:
    """The workers of a cluster.

    How long it waits for signs of life are settings of Dask's configuration: `fvproc.patience`, `fvproc.late`,
    `fvproc.answer`; see `fvproc.schedule.vigil`.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster; stays open.
    first : ForceVolume
        The first input, which every worker must see before work starts.
    tile_bytes : int, optional
        Bytes of raw curves in a task; by default tasks begin small and grow to `TASK_SECONDS` of work.
    patience : float, optional
        How long the cluster may be without any worker that answers, s; by default the setting.

    Raises
    ------
    FvprocError
        If the cluster is not fit for the work; see `preflight.check`.
    """

    def __init__(
        self, client: Any, first: ForceVolume, tile_bytes: int | None = None, patience: float | None = None
    ) -> None:
        from distributed import as_completed

        self._client, self._tile_bytes = client, tile_bytes
        self._patience = patience or vigil.setting("patience", vigil.PATIENCE)
        self._late, self._answer = vigil.setting("late", vigil.LATE), vigil.setting("answer", vigil.ANSWER)
        self._first = first
        self._known = preflight.check(first, client, self._patience, self._answer)
        self._newcomers: list[tuple[vigil.Question, list[str]]] = []
        self.workers = 1
        self._vigil = vigil.Vigil(client, self._answer)
        self._present: list[str] = []
        self._flying: dict[str, _Flight] = {}
        self._errands: dict[int, tuple[Errand, Any]] = {}
        self._pace: dict[int, float] = {}
        self._slowest = 0.0
        self._retried: set[tuple[int, int]] = set()
        self._doom: FvprocError | None = None
        self._landed = as_completed([], loop=client.loop, with_results=True, raise_errors=False)
        self._counted = self._peopled = self._looked = time.monotonic()
        self._count()

    # ---- what the flow asks

    def room(self) -> int:
        """Return how many tasks may be submitted now; the window follows workers that join and leave."""
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
        if number not in self._errands or self._errands[number][1].status in ("error", "cancelled", "lost"):
            self._pack(number, errand)
        self._submit(number, tile, [])

    def landed(self) -> list[Landed]:
        """Return the tiles that came back; raise FvprocError if the scheduler or the last worker is lost."""
        if self._doom is not None:
            raise self._doom
        batch = self._landed.next_batch(block=False)
        if not batch:
            time.sleep(_POLL)
        results: list[Landed] = []
        steps: list[Callable[[], list[Landed]]] = [partial(self._taken, *pair) for pair in batch]
        for step in [*steps, self._watch]:
            try:
                results += step()
            except FvprocError as error:
                self._doom = error  # after those that came with it have been placed
        if self._doom is not None and not results:
            raise self._doom
        return results

    def _taken(self, future: Any, result: Any) -> list[Landed]:
        flight = self._flying.pop(future.key, None)
        if flight is None:
            return []  # its twin was first
        flight.twins.remove(future.key)
        if flight.twins and not isinstance(result, _Report):
            return []  # its twin may fare better
        for key in flight.twins:
            self._flying.pop(key).future.cancel()
        return self._judged(flight, future, result)

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
        if self._client.status == "running" and flights and self._doom is None:
            futures = [flight.future for flight in flights]
            with suppress(FvprocError):  # what is wrong was told already
                vigil.ask(lambda: self._client.cancel(futures, force=True), self._answer, "the scheduler")
        self._errands.clear()

    # ---- tasks

    def _pack(self, number: int, errand: Errand) -> None:
        """Have an errand held by the cluster, as a task of its own, so that a lost worker does not lose it."""
        parcel = self._client.submit(_deliver, errand, pure=False, retries=3, **self._where())
        self._errands[number] = errand, parcel

    def _submit(self, number: int, tile: Tile, twins: list[str], others: Sequence[str] = ()) -> None:
        self._require_scheduler()
        errand, parcel = self._errands[number]
        step = base_curves(errand.volume, min(self._tile_bytes or PIECE_BYTES, PIECE_BYTES))
        where = self._where(others)
        future = self._client.submit(
            task, parcel, tile.start, tile.stop, step, engine.KERNEL_VERSION, pure=False, retries=1, **where
        )
        twins.append(future.key)
        self._flying[future.key] = _Flight(number, tile, future, time.monotonic(), self._late, parcel.key, twins)
        self._landed.add(future)

    def _where(self, others: Sequence[str] = ()) -> dict[str, Any]:
        """Return where a task may go: anywhere unless some workers are silent, or `others` are better."""
        workers = list(others) or (self._answering() if self._vigil.silent else [])
        return {"workers": workers, "allow_other_workers": True} if workers else {}

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
                    self._submit(number, part, [], [each for each in self._answering() if each != result.worker])
                    continue
                outcome = Failure(part, outcome.flag, f"worker {result.worker}: {outcome.reason}")
            landed.append(Landed(number, part, outcome, result.seconds))
        return landed

    # ---- the watchdog

    def _watch(self) -> list[Landed]:
        self._require_scheduler()
        self._meet_newcomers()
        now = time.monotonic()
        if now - self._counted > _COUNT:
            self._count()
        if now - self._looked > _LOOK:
            self._looked = now
            late = [
                flight
                for key, flight in self._flying.items()
                if flight.twins[-1] == key and now - flight.since > max(flight.patience, _LATE_TIMES * self._slowest)
            ]
            if late:
                self._look_after(late)
        return []

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise FvprocError(
                f"the scheduler is lost (the connection is {self._client.status}) with {len(self._flying)} tasks in"
                " flight; start it and the run again"
            )

    def _count(self) -> None:
        """Count the threads of workers that answer; that is the sign of life of the scheduler, too."""
        threads = vigil.ask(self._client.nthreads, self._answer, "the scheduler")
        self._counted = time.monotonic()
        self._present = list(threads)
        if new := sorted(set(threads) - self._known):
            self._known.update(new)
            self._newcomers.append((preflight.introduction(self._first, self._client, new), new))
        self._vigil.review(threads)
        self.workers = max(1, sum(threads[worker] for worker in self._answering()))
        if self._answering():
            self._peopled = self._counted
        elif self._counted - self._peopled > self._patience:
            silent = ", ".join(sorted(self._vigil.silent))
            state = f"no worker that answers (silent: {silent})" if silent else "no worker"
            raise FvprocError(f"the cluster has had {state} for {self._patience:g} s; start some and run again")

    def _meet_newcomers(self) -> None:
        """Refuse workers that joined and are not fit for the work, as the preflight does."""
        for question, workers in list(self._newcomers):
            with suppress(queue.Empty):
                seen, error = question.answer(0.0)
                self._newcomers.remove((question, workers))
                # who gave no answer is gone, or was not ready for it: then asked again at the next count
                fit = preflight.agree_all(seen, self._first) if error is None else set()
                self._known -= set(workers) - fit

    def _answering(self) -> list[str]:
        return [worker for worker in self._present if worker not in self._vigil.silent]

    def _look_after(self, late: list[_Flight]) -> None:
        """Ask the workers that hold late tiles, or what these need, for a sign of life; twins for the silent ones'."""
        parcels = [parcel for _, parcel in self._errands.values()]
        held = vigil.holders(self._client, [*(flight.future for flight in late), *parcels], self._answer)
        alive = {
            worker: self._vigil.alive(worker) for worker in {each for workers in held.values() for each in workers}
        }
        for number, (errand, parcel) in list(self._errands.items()):
            at = held[parcel.key]
            # whoever fetches the errand from a silent one waits as well; or it waits itself for workers that are gone
            if self._answering() and (not at or any(alive[worker] is False for worker in at)):
                self._pack(number, errand)
        for flight in late:
            if flight.number not in self._errands:
                continue
            workers = held[flight.future.key]
            if any(alive[worker] is None for worker in workers):
                continue  # known within seconds
            silent = any(alive[worker] is False for worker in workers)
            # what waits for an errand that was packed anew may be computed where it waits
            waits = flight.parcel != self._errands[flight.number][1].key
            others = [worker for worker in self._answering() if waits or worker not in workers]
            # one that answers may sit in a read that never ends, and a task that was meant for workers that are all
            # gone is not given to those that come (distributed 2026.8): the second time its tile gets a twin as well
            if others and (silent or waits or flight.looked):
                self._submit(flight.number, flight.tile, flight.twins, others)
            elif not silent:
                flight.looked, flight.patience, flight.since = True, 2 * flight.patience, time.monotonic()


def _fate(volume: ForceVolume, tile: Tile, future: Any, result: Any) -> Outcome:
    """Return what became of a task that brought no report: a lost worker, or an error of ours.

    Raises
    ------
    FvprocError
        If it was a lost scheduler: no other task will fare better.
    """
    from distributed import KilledWorker

    error = result[1] if isinstance(result, tuple) else result
    if isinstance(error, KilledWorker):
        return Failure(tile, Flag.WORKER_LOST, f"the workers that tried it died: {error}")
    if isinstance(error, (FvprocError, RuntimeError)):
        return error
    raise FvprocError(
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
        outcomes = [(tile, attempt(errand, tile)) for tile in split(Tile(start, stop), step)]
        for failed, group in groupby(outcomes, lambda one: isinstance(one[1], Failure)):
            run = list(group)
            if failed:
                parts += run
            else:
                whole = Tile(run[0][0].start, run[-1][0].stop)
                parts.append((whole, joined([outcome for _, outcome in run if isinstance(outcome, np.ndarray)])))
    return _Report(parts, time.perf_counter() - began, address, engine.KERNEL_VERSION)
