"""Who does the work of a run: threads of this process, a client's cluster, or the cluster at an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fvproc.schedule.cluster import ClusterCrew
from fvproc.schedule.connect import client_of, connect, is_cluster, require_usable
from fvproc.schedule.threads import ThreadCrew
from fvproc.schedule.work import Crew
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
