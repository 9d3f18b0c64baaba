"""Before work starts on a cluster: every part of it must have this fvproc and see this input."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fvproc import engine, readers
from fvproc.errors import FvprocError
from fvproc.schedule import vigil
from fvproc.volume import ForceVolume


def check(volume: ForceVolume, client: Any, patience: float, answer: float = vigil.ANSWER) -> set[str]:
    """Check scheduler and workers before work starts.

    Without this a module that is missing on the workers only leaves the tasks pending for ever.

    Parameters
    ----------
    volume : ForceVolume
        The input, which all workers must see.
    client : distributed.Client
        Of the cluster.
    patience : float
        Seconds that the cluster may take to bring its first worker that answers.
    answer : float
        Seconds that a part of it may take to answer.

    Returns
    -------
    set of str
        Addresses of the workers that are fit for the work.

    Raises
    ------
    FvprocError
        If there is no worker, or one lacks fvproc, has another kernel, or sees another file; if the scheduler or all
        workers are silent. A worker that dies meanwhile is no reason: others may be left, or come.
    """
    # the scheduler unpickles each task; it does not read the input
    agree(
        "the scheduler", vigil.ask(lambda: client.run_on_scheduler(inspection(None)), answer, "the scheduler"), volume
    )
    end = time.monotonic() + patience
    while True:
        _wait_for_one(client, max(0.1, end - time.monotonic()), patience, answer)
        seen = vigil.ask_all(client, inspection(path_of(volume)), answer)
        if fit := agree_all(seen, volume):
            return fit
        if time.monotonic() > end:
            silent = "; ".join(f"worker {address}: {error}" for address, error in seen.items())
            raise FvprocError(
                f"the cluster has no worker that answers, not after {patience:g} s: {silent}; restart them, run again"
            )


def agree_all(seen: Mapping[str, Any], volume: ForceVolume) -> set[str]:
    """Return the workers that are fit for the work, not those that are gone; raise FvprocError for a strange one."""
    fit = set()
    for address, answer in seen.items():
        if not isinstance(answer, vigil.GONE):
            agree(f"worker {address}", answer, volume)
            fit.add(address)
    return fit


def path_of(volume: ForceVolume) -> str | None:
    """Return what workers must see of an input; None if nothing."""
    return None if volume.format == "arrays" else volume.path  # arrays that can be sent at all need no file


def _wait_for_one(client: Any, seconds: float, patience: float, answer: float) -> None:
    if vigil.ask(client.nthreads, answer, "the scheduler"):
        return

    def wait() -> None:
        # an adaptive cluster starts workers for tasks, not for those who wait for workers
        wish = client.submit(inspection(None), pure=False)
        client.wait_for_workers(1, timeout=seconds)
        del wish

    try:
        vigil.ask(wait, seconds + answer, "the scheduler")
    except FvprocError:
        if client.status != "running" or vigil.ask(client.nthreads, answer, "the scheduler"):
            raise
        raise FvprocError(
            f"the cluster has no worker, not even after {patience:g} s; start some, or wait longer with"
            " DASK_FVPROC__PATIENCE=600 in the environment"
        ) from None


def agree(who: str, seen: Any, volume: ForceVolume) -> None:
    """Raise FvprocError unless what a part of the cluster saw is what this process sees."""
    require_ours(who, seen)
    if lack := lacking(who, seen, volume):
        raise FvprocError(lack)


def require_ours(who: str, seen: Any) -> None:
    """Raise FvprocError unless a part of the cluster has this fvproc."""
    if isinstance(seen, (str, Exception)):
        raise FvprocError(f"{who}: {seen}")
    if seen[0] != engine.KERNEL_VERSION:
        raise FvprocError(other_kernel(who, seen[0], engine.KERNEL_VERSION))


def lacking(who: str, seen: Any, volume: ForceVolume) -> str | None:
    """Return why a part of the cluster cannot read an input that this process sees; None if it can."""
    _, size, modified_ns = seen
    if size is None:
        return None
    if isinstance(size, str):
        return f"{who}: cannot see {volume.path} ({size}); workers need the same path to the input"
    if size != volume.file_size:
        return (
            f"{who}: sees {volume.path} with {size} bytes, this machine with {volume.file_size};"
            " workers must read the same file"
        )
    if not readers.same_time(modified_ns, volume.modified_ns):
        return (
            f"{who}: sees {volume.path} as changed {(modified_ns - volume.modified_ns) / 1e9:+.1f} s away from when"
            " this machine saw it changed; workers must read the same file, and a copy must keep its time"
        )
    return None


def other_kernel(who: str, theirs: str, ours: str) -> str:
    """Return the refusal of a worker that would compute other numbers."""
    return f"{who}: its fvproc has kernel version {theirs}, this one {ours}; install the same fvproc on all machines"


def inspection(path: str | None) -> Callable[[], Any]:
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
            return KERNEL_VERSION, error.strerror, None
        return KERNEL_VERSION, status.st_size, status.st_mtime_ns

    return inspect
