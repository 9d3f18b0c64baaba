"""The crew of this process: a few threads, no port opened."""

from __future__ import annotations

import os
import queue
import site
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from fvproc.errors import FvprocError
from fvproc.processors import cores
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


def _settings_of_dask() -> tuple[int | None, bool]:
    """Return Dask's number of threads, None if nobody has set it, and whether its scheduler is the synchronous one.

    Dask is imported only where it is there already, or configured by the environment or by a file, in the places where
    it looks itself: that takes some tenth of the time of a small map.
    """
    folders: list[str | Path] = [
        os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        *(Path(prefix) / "etc" / "dask" for prefix in (sys.prefix, *site.PREFIXES)),
        os.path.expanduser("~/.config/dask"),  # noqa: PTH111 (a Path refuses where there is no home)
    ]
    told = any(name.startswith("DASK_") for name in os.environ) or any(Path(folder).exists() for folder in folders)
    if "dask" not in sys.modules and not told:
        return None, False
    import dask

    inline = dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded")
    return dask.config.get("num_workers", None), inline


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
        if threads is not None and threads < 1:
            raise FvprocError(f"threads = {threads!r}: at least one is needed")
        number, inline = _settings_of_dask()
        self.workers = threads or number or cores()
        self._tile_bytes = tile_bytes
        self._landed: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._submitted = 0
        self._taken = 0
        # the last ones submitted: no more than these can be in flight
        self._futures: deque[Future[None]] = deque(maxlen=WINDOW * self.workers)
        self._stop = threading.Event()
        self._pool = None if inline else ThreadPoolExecutor(self.workers, thread_name_prefix="fvproc-schedule")

    def room(self) -> int:
        """Return how many tiles may be submitted now."""
        return (1 if self._pool is None else WINDOW * self.workers) - (self._submitted - self._taken)

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
        if self._pool is None:
            self._work(number, errand, tile)
        else:
            self._futures.append(self._pool.submit(self._work, number, errand, tile))

    def _work(self, number: int, errand: Errand, tile: Tile) -> None:
        if self._stop.is_set():
            return
        began = time.perf_counter()
        outcome: Outcome
        try:
            outcome = attempt(errand, tile)
        except Exception as error:
            outcome = error
        self._landed.put(Landed(number, tile, outcome, time.perf_counter() - began))

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
        return self._pool is None or (self._landed.empty() and all(future.done() for future in self._futures))

    def forget(self, number: int) -> None:
        """Threads hold nothing between tiles."""

    def close(self) -> None:
        """Wait for the tiles that run, let go of the others: no thread may work on for a run that is over."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
