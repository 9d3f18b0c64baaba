"""Who does the work of a run: threads of this process, a client's cluster, or the cluster at an address."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from fvproc.errors import FvprocError
from fvproc.schedule.cluster import ClusterCrew
from fvproc.schedule.connect import client_of, connect, is_cluster, require_usable
from fvproc.schedule.flow import run, stop_if_asked, stoppable
from fvproc.schedule.threads import ThreadCrew
from fvproc.schedule.work import Crew, Job, Progress
from fvproc.volume import ForceVolume


@contextmanager
def crew(
    first: ForceVolume,
    *,
    client: Any = None,
    threads: int | None = None,
    tile_bytes: int | None = None,
    patience: float | None = None,
) -> Iterator[Crew]:
    """Yield the crew for a run.

    Parameters
    ----------
    first : ForceVolume
        The first input, which all workers of a cluster must see.
    client : distributed.Client, distributed.deploy.Cluster or str, optional
        A client of a cluster, a cluster such as `LocalCluster`, or a scheduler's address. By default threads of this
        process; no port is opened.
    threads : int, optional
        Number of threads of this process; by default one for each core.
    tile_bytes : int, optional
        Bytes of raw curves in a tile.
    patience : float, optional
        How long the cluster may be without any worker, s; by default the setting `fvproc.patience` of Dask, or 60.

    Raises
    ------
    FvprocError
        If the client is closed, asynchronous or none; if a worker lacks fvproc, or has another version of it, or cannot
        see the input; or if nobody answers.
    """
    if client is None:
        yield ThreadCrew(threads, tile_bytes)
    elif isinstance(client, str):
        with connect(client) as own:
            yield ClusterCrew(own, first, tile_bytes, patience)
    elif is_cluster(client):
        with client_of(client) as own:
            yield ClusterCrew(own, first, tile_bytes, patience)
    else:
        require_usable(client)
        yield ClusterCrew(client, first, tile_bytes, patience)


def run_all(
    jobs: Iterable[Job],
    progress: Progress | None = None,
    *,
    client: Any = None,
    threads: int | None = None,
    tile_bytes: int | None = None,
) -> None:
    """Do every tile of some jobs, opened as there is room, with a crew that the first of them is shown to.

    Parameters
    ----------
    jobs, progress
        As for `fvproc.schedule.run`.
    client, threads, tile_bytes
        As for `crew`.

    Raises
    ------
    FvprocError, KeyboardInterrupt
        As both; every job that was opened is finished, has failed or was paused before.
    """
    queue, waiting = iter(jobs), deque[Job]()
    try:
        with stoppable():
            waiting.extend(islice(queue, 1))
            stop_if_asked()
        if waiting:
            with crew(waiting[0].errand.volume, client=client, threads=threads, tile_bytes=tile_bytes) as own:
                run(_handed_over(waiting, queue), own, progress)
    finally:
        for job in waiting:
            with suppress(OSError, FvprocError):
                job.pause()


def _handed_over(waiting: deque[Job], queue: Iterator[Job]) -> Iterator[Job]:
    """Yield the jobs that wait, then those of the queue, and hold none: a job that is done must leave the memory."""
    while waiting:
        yield waiting.popleft()
    yield from queue
