"""The crew of this process: a few threads, no port opened."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass

from fvproc.events import event
from fvproc.processors import cores
from fvproc.schedule import settings
from fvproc.schedule.work import TILE_BYTES, Errand, Landed, Outcome, attempt, base_curves
from fvproc.volume import Tile

# Tiles in flight for each thread: one runs, the others wait, so that no thread waits for the caller.
WINDOW = 3
_POLL = 0.5
# Bytes of a tile: each costs a tenth of a millisecond of Python, and none should be so large that threads wait for the
# last ones. All threads together hold no more than `_TOGETHER`, but for the smallest tile that is worth its cost.
_LARGEST = 16 << 20
_SMALLEST = 1 << 18
_TOGETHER = 64 << 20
_SHARES = 8  # of what is left, for each thread


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    number: int
    errand: Errand
    tile: Tile


class ThreadCrew:
    """Threads of this process.

    Parameters
    ----------
    threads : int, optional
        By default Dask's setting `num_workers`, else one for each core. Dask's scheduler "synchronous" (its switch for
        debugging) computes each tile in the calling thread.
    tile_bytes : int, optional
        Bytes of raw curves in a tile; by default 16 MB at most, and smaller ones toward the end, so that all threads
        have work to the last.
    """

    def __init__(self, threads: int | None = None, tile_bytes: int | None = None) -> None:
        if threads is not None:
            settings.require_threads(threads, "threads")
        number, inline = settings.threads()
        self.workers = threads or number or cores()
        self._tile_bytes = tile_bytes
        self._landed: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._submitted = 0
        self._taken = 0
        self._inline = inline
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._flying: set[_Task] = set()
        self._stop = threading.Event()

    def room(self) -> int:
        """Return how many tiles may be submitted now."""
        return (1 if self._inline else WINDOW * self.workers) - (self._submitted - self._taken)

    def curves(self, number: int, errand: Errand, left: int) -> int:
        """Return the curves of a tile: a small part of what is left."""
        size = self._tile_bytes
        if size is None:
            most = max(TILE_BYTES, min(_LARGEST, _TOGETHER // self.workers))
            size = min(max(_SMALLEST, left * errand.volume.curve_bytes // (_SHARES * self.workers)), most)
        return base_curves(errand.volume, size)

    def submit(self, number: int, errand: Errand, tile: Tile) -> None:
        """Have a tile computed by a thread that is free."""
        self._submitted += 1
        task = _Task(number, errand, tile)
        if self._inline:
            self._work(task)
            return
        self._flying.add(task)
        self._tasks.put(task)
        if len(self._threads) < min(self.workers, self._submitted - self._taken):
            # daemons, unlike those of Python's pool: one that hangs in a read must not keep Python from ending
            thread = threading.Thread(target=self._serve, name=f"fvproc-schedule-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._work(task)

    def _work(self, task: _Task) -> None:
        if self._stop.is_set():
            return
        began = time.perf_counter()
        outcome: Outcome
        try:
            outcome = attempt(task.errand, task.tile)
        except Exception as error:
            outcome = error
        self._landed.put(Landed(task.number, task.tile, outcome, time.perf_counter() - began))
        self._flying.discard(task)

    def landed(self) -> list[Landed]:
        """Return the tiles that are done."""
        results: list[Landed] = []
        try:
            results.append(self._landed.get(timeout=_POLL))
            while True:
                results.append(self._landed.get_nowait())
        except queue.Empty:
            pass
        self._taken += len(results)
        return results

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        # not by what was taken: Ctrl-C may come between taking and counting
        return not self._flying and self._landed.empty()

    def forget(self, number: int) -> None:
        """Threads hold nothing between tiles."""

    def news(self) -> list[str]:
        """Return nothing: of threads there is none."""
        return []

    def close(self, seconds: float) -> None:
        """Wait for the tiles that run, let go of the others: no thread may work on for a run that is over.

        One that hangs in a read is left behind: it cannot be ended, and Python ends without it.
        """
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if hanging := sum(thread.is_alive() for thread in self._threads):
            event("threads_left", level=logging.WARNING, threads=hanging)
