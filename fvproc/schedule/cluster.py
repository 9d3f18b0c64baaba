"""The crew of a cluster: a bounded window of tasks on a dask.distributed cluster, and a watchdog for each wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.events import event
from fvproc.quantities import Flag
from fvproc.schedule import preflight, settings, vigil
from fvproc.schedule.sight import Sight
from fvproc.schedule.tasks import Report, deliver, task
from fvproc.schedule.work import TILE_BYTES, Errand, Failure, Landed, Outcome, base_curves
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
# How often curves that cannot be read are tried by workers that turn out not to see the file.
_TRIES = 3


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
        self._patience = patience or settings.duration("patience", vigil.PATIENCE)
        self._late, self._answer = settings.duration("late", vigil.LATE), settings.duration("answer", vigil.ANSWER)
        self._sight = Sight(client, preflight.check(first, client, self._patience, self._answer), self._answer)
        self._news: list[str] = []
        self.workers = 1
        self._vigil = vigil.Vigil(client, self._answer)
        self._staff: dict[str, vigil.Worker] = {}
        self._flying: dict[str, _Flight] = {}
        self._errands: dict[int, tuple[Errand, Any]] = {}
        self._pace: dict[int, float] = {}
        self._slowest = 0.0
        self._tries: dict[tuple[int, int], int] = {}
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
        if flight.twins and not isinstance(result, Report):
            return []  # its twin may fare better
        for key in flight.twins:
            self._flying.pop(key).future.cancel()
        return self._judged(flight, future, result)

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        return not self._flying

    def forget(self, number: int) -> None:
        """Let the workers drop an errand; its tiles in flight still land, since others may wait until nothing flies."""
        self._errands.pop(number, None)
        self._pace.pop(number, None)

    def news(self) -> list[str]:
        """Return what people should know of the workers, each once."""
        news, self._news = self._news + self._sight.news(), []
        return news

    def close(self, seconds: float) -> None:
        """Cancel what is in flight."""
        flights, self._flying = list(self._flying.values()), {}
        if self._client.status == "running" and flights and self._doom is None:
            futures = [flight.future for flight in flights]
            with suppress(FvprocError):  # what is wrong was told already
                vigil.ask(lambda: self._client.cancel(futures, force=True), min(self._answer, seconds), "the scheduler")
        self._errands.clear()

    # ---- tasks

    def _pack(self, number: int, errand: Errand) -> None:
        """Have an errand held by the cluster, as a task of its own, so that a lost worker does not lose it."""
        parcel = self._client.submit(deliver, errand, pure=False, retries=3, **self._where())
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
        """Return where a task may go: anywhere unless some workers take none, see no input, or `others` are better."""
        workers = list(others)
        if not workers and (chosen := self._chosen()) != list(self._staff):
            workers = chosen
        return {"workers": workers, "allow_other_workers": True} if workers else {}

    def _judged(self, flight: _Flight, future: Any, result: Any) -> list[Landed]:
        """Judge by the result, not by the future's status: a result may arrive while that says 'lost'."""
        number, tile = flight.number, flight.tile
        if number not in self._errands:
            return [_left(flight)]
        volume = self._errands[number][0].volume
        if not isinstance(result, Report):
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
                if not self._again(number, part, result.worker):
                    landed.append(Landed(number, part, self._blame(number, outcome, result.worker), result.seconds))
            else:
                landed.append(Landed(number, part, outcome, result.seconds))
        return landed

    def _again(self, number: int, part: Tile, worker: str) -> bool:
        """Have curves that a worker could not read tried by another: perhaps the file is fine and its mount is not."""
        tries = self._tries[number, part.start] = self._tries.get((number, part.start), 0) + 1
        others = [each for each in self._chosen() if each != worker]
        if tries > 1:
            # before they are given up: a worker without that mount must not have had them twice
            self._sight.look(number, self._errands[number][0].volume, self._answering())
            others = [each for each in self._chosen() if each != worker]
            if tries > _TRIES or not (others and self._sight.lacks(worker)):
                return False
        self._submit(number, part, [], others)
        return True

    def _blame(self, number: int, failure: Failure, worker: str) -> Outcome:
        """Return what curves end in that could not be read: of a file that no worker sees nothing can be."""
        if unseen := self._sight.unseen(number):
            return FvprocError(unseen)
        return Failure(failure.tile, failure.flag, f"worker {worker}: {failure.reason}")

    # ---- the watchdog

    def _watch(self) -> list[Landed]:
        self._require_scheduler()
        self._sight.hear()
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
                return self._look_after(late)
        return []

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise FvprocError(
                f"the scheduler is lost (the connection is {self._client.status}) with {len(self._flying)} tasks in"
                " flight; start it and the run again"
            )

    def _count(self) -> None:
        """Count the threads of workers that take work; that is the sign of life of the scheduler, too."""
        before, self._staff = self._staff, vigil.staff(self._client, self._answer)
        self._counted = time.monotonic()
        volume = next((errand.volume for errand, _ in reversed(self._errands.values())), None)
        self._sight.meet(self._staff, volume)
        self._vigil.review(self._staff)
        for address, worker in self._staff.items():
            if worker.paused and not (address in before and before[address].paused):
                event("worker_paused", level=logging.WARNING, worker=address)
                self._news.append(
                    f"worker {address} pauses, its memory is full: it takes no work until some is free;"
                    " give it more (dask worker --memory-limit), or fewer threads"
                )
        self.workers = max(1, sum(self._staff[worker].threads for worker in self._chosen()))
        if self._answering():
            self._peopled = self._counted
        elif self._counted - self._peopled > self._patience:
            silent = ", ".join(sorted(self._vigil.silent))
            paused = ", ".join(address for address, worker in self._staff.items() if worker.paused)
            told = [f"silent: {silent}"] if silent else []
            told += [f"paused, with their memory full: {paused}; see dask worker --memory-limit"] if paused else []
            state = f"no worker that answers ({'; '.join(told)})" if told else "no worker"
            raise FvprocError(f"the cluster has had {state} for {self._patience:g} s; start some and run again")

    def _answering(self) -> list[str]:
        """Return the workers that answer and take work."""
        return [
            address for address, worker in self._staff.items() if worker.working and address not in self._vigil.silent
        ]

    def _chosen(self) -> list[str]:
        """Return those of them that see the input; all of them if none does."""
        answering = self._answering()
        return [worker for worker in answering if not self._sight.lacks(worker)] or answering

    def _look_after(self, late: list[_Flight]) -> list[Landed]:
        """Ask the workers that hold late tiles, or what these need, for a sign of life; twins for the silent ones'.

        Return the tiles that nobody waits for, of errands that are forgotten.
        """
        left = [flight for flight in late if flight.number not in self._errands]
        for flight in left:
            for key in flight.twins:
                self._flying.pop(key).future.cancel()
        late = [flight for flight in late if flight.number in self._errands]
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
            workers = held[flight.future.key]
            if any(alive[worker] is None for worker in workers):
                continue  # known within seconds
            silent = any(alive[worker] is False for worker in workers)
            # what waits for an errand that was packed anew may be computed where it waits
            waits = flight.parcel != self._errands[flight.number][1].key
            others = [worker for worker in self._chosen() if waits or worker not in workers]
            # one that answers may sit in a read that never ends, and a task that was meant for workers that are all
            # gone is not given to those that come (distributed 2026.8): the second time its tile gets a twin as well
            if others and (silent or waits or flight.looked):
                self._submit(flight.number, flight.tile, flight.twins, others)
            elif not silent:
                flight.looked, flight.patience, flight.since = True, 2 * flight.patience, time.monotonic()
        return [_left(flight) for flight in left]


def _left(flight: _Flight) -> Landed:
    """Return the end of a tile whose errand has been forgotten meanwhile."""
    return Landed(flight.number, flight.tile, FvprocError("its job has ended"), 0.0)


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
