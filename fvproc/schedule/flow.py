"""The one loop of a run: cut tiles from jobs, keep a bounded window of them in flight, put what lands in place."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from fvproc.errors import FvprocError
from fvproc.events import event
from fvproc.quantities import RECORD, Flag
from fvproc.schedule.limits import FILES_OF_A_JOB, MOST_BYTES, most_jobs, require_files
from fvproc.schedule.work import Crew, Errand, Failure, Job, Landed, Progress, base_curves, split
from fvproc.volume import Tile

# After Ctrl-C: what is in flight may land within this time, s; and who has not ended then is not waited for.
GRACE = 10.0
_LEAVE = 1.0

_asked = threading.Event()
_running = 0


def ask_to_stop() -> bool:
    """Ask the run of this process to end as after Ctrl-C, between two tiles; return whether there is one.

    For signal handlers: an exception raised at any point of the program may be swallowed there, as in a callback of the
    garbage collector, and the run would go on.
    """
    if _running:
        _asked.set()
    return _running > 0


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if the run was asked to stop; for what takes long between two tiles."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[None]:
    """Let what is done meanwhile be a run that can be asked to stop: who does it calls `stop_if_asked`."""
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1
        if not _running:
            _asked.clear()


def run(jobs: Iterable[Job], crew: Crew, progress: Progress | None = None) -> None:
    """Have a crew do every tile of some jobs.

    Jobs are taken from the iterable only when the crew has room, so that it may open files as it goes: there is one
    queue of tiles over all of them, and small volumes leave nobody idle.

    Parameters
    ----------
    jobs : iterable of Job
        What is to be done.
    crew : Crew
        Who does it; closed at the end.
    progress : Progress, optional
        Told of each tile.

    Raises
    ------
    FvprocError
        If the crew is lost; jobs that are not done were paused before.
    KeyboardInterrupt
        After what was in flight has landed, for at most `GRACE` seconds, and unfinished jobs were paused.
    """
    flow = _Flow(iter(jobs), crew, progress)
    if progress is not None:
        progress.start(crew.workers)
    event("run_started", workers=crew.workers)
    patience = GRACE
    try:
        with stoppable():
            try:
                flow.work()
            except KeyboardInterrupt:
                event("stopped", level=logging.WARNING, in_flight=not crew.idle())
                patience = _LEAVE
                flow.drain(time.monotonic() + GRACE)
                raise
            except FvprocError as error:
                event("run_failed", level=logging.ERROR, reason=str(error))
                raise
        event("run_done")
    finally:
        try:
            crew.close(patience)
        finally:
            for active in flow.active.values():
                with suppress(OSError, FvprocError):
                    active.job.pause()
            if progress is not None:
                progress.finish()


@dataclass(slots=True)
class _Active:
    """A job with tiles in flight or to cut."""

    job: Job
    errand: Errand
    gaps: deque[Tile]
    uncut: int = field(init=False)
    unplaced: int = field(init=False)

    def __post_init__(self) -> None:
        self.uncut = self.unplaced = sum(len(tile) for tile in self.gaps)

    def take(self, curves: int) -> Tile:
        """Cut the next tile, of at most so many curves."""
        gap = self.gaps.popleft()
        # edges fall on multiples of the aligned size, whatever was done before
        stop = min(gap.stop, gap.start + curves)
        step = self.errand.volume.tile_alignment
        if stop < gap.stop and stop // step * step > gap.start:
            stop = stop // step * step
        if stop < gap.stop:
            self.gaps.appendleft(Tile(stop, gap.stop))
        self.uncut -= stop - gap.start
        return Tile(gap.start, stop)


class _Flow:
    """The state of the loop."""

    def __init__(self, jobs: Iterable[Job], crew: Crew, progress: Progress | None) -> None:
        self._jobs, self._crew, self._progress = iter(jobs), crew, progress
        self.active: dict[int, _Active] = {}
        self._cutting: int | None = None
        self._opened = 0
        self._flying = 0  # curves
        self._landed: deque[Landed] = deque()
        self._suspects: deque[tuple[int, Tile]] = deque()
        self._quarantined: set[tuple[int, int]] = set()
        self._workers = crew.workers
        self._most = most_jobs()

    def work(self) -> None:
        """Run until every job is finished or has failed."""
        while True:
            while self._crew.room() > 0 and self._submit_next():
                stop_if_asked()
            if not self.active:
                return
            stop_if_asked()
            self._settle_landed()

    def drain(self, deadline: float) -> None:
        """Place what still lands; submit nothing more."""
        while (self._landed or not self._crew.idle()) and time.monotonic() < deadline:
            self._settle_landed()

    def _settle_landed(self) -> None:
        if not self._landed:
            self._landed.extend(self._crew.landed())
        # one by one out of the queue: an interruption must not lose those that wait behind
        while self._landed:
            self._settle(self._landed.popleft())
        for text in self._crew.news():
            self._tell(text)
        if self._crew.workers != self._workers:
            self._workers = self._crew.workers
            event("workers", workers=self._workers)
            if self._progress is not None:
                self._progress.staff(self._workers)

    def _tell(self, text: str) -> None:
        tell = getattr(self._progress, "tell", None)
        if tell is not None:
            tell(text)
        else:
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _submit_next(self) -> bool:
        """Submit one tile; return whether there was one."""
        number = self._next_with_tiles()
        if number is None:
            return self._submit_suspect()
        active = self.active[number]
        tile = active.take(self._crew.curves(number, active.errand, active.uncut))
        self._submit(number, tile)
        return True

    def _next_with_tiles(self) -> int | None:
        while self._cutting is None or self._cutting not in self.active or not self.active[self._cutting].uncut:
            job = next(self._jobs, None) if self._may_open() else None
            if job is None:
                return None
            active = _Active(job, job.errand, deque(job.left()))
            curves = job.errand.volume.grid.curves
            if self._progress is not None:
                self._progress.expect(curves, curves - active.uncut)
            self._cutting = self._opened
            self._opened += 1
            self.active[self._cutting] = active
            if not active.uncut:
                self._finish(self._cutting)
        return self._cutting

    def _may_open(self) -> bool:
        """Return whether another job may be opened beside those that are."""
        if len(self.active) < 2:
            return True
        held = sum(active.errand.volume.grid.curves for active in self.active.values()) * RECORD.itemsize
        files = sum(getattr(active.job, "files", FILES_OF_A_JOB) for active in self.active.values())
        return files < self._most * FILES_OF_A_JOB and held < MOST_BYTES

    def _submit_suspect(self) -> bool:
        """Try a tile that lost its worker again, alone: it may have been the neighbour of the one that killed it."""
        if self._flying or not self._suspects:
            return False
        number, tile = self._suspects.popleft()
        if number in self.active:
            self._quarantined.add((number, tile.start))
            self._submit(number, tile)
        return True

    def _submit(self, number: int, tile: Tile) -> None:
        self._flying += len(tile)
        self._crew.submit(number, self.active[number].errand, tile)

    def _settle(self, landed: Landed) -> None:
        number, tile, outcome, _ = landed
        self._flying -= len(tile)
        active = self.active.get(number)
        if active is None:
            return  # its job has failed
        if isinstance(outcome, Exception):
            self._fail(number, outcome)
            return
        lost = isinstance(outcome, Failure) and outcome.flag == Flag.WORKER_LOST
        if lost and (number, tile.start) not in self._quarantined:
            # small pieces, so that only the curves that kill are given up
            pieces = split(tile, base_curves(active.errand.volume))
            self._suspects.extend((number, piece) for piece in pieces)
            return
        try:
            active.job.place(tile, outcome)
        except (FvprocError, OSError) as error:
            self._fail(number, error)
            return
        active.unplaced -= len(tile)
        if self._progress is not None:
            self._progress.advance(tile, isinstance(outcome, Failure))
        if not active.unplaced:
            self._finish(number)

    def _finish(self, number: int) -> None:
        self._crew.forget(number)
        job = self.active[number].job
        try:
            job.finish()
        except (FvprocError, OSError) as error:
            require_files(error)
            job.fail(error)
        del self.active[number]  # not before: a job that is interrupted while it writes is paused as the others

    def _fail(self, number: int, error: Exception) -> None:
        require_files(error)
        self._crew.forget(number)
        job = self.active[number].job
        job.fail(error)  # raises where it must end the run; the job is paused then
        job.pause()
        del self.active[number]
