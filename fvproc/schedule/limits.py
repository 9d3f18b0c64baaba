"""What a run may have open at once: jobs, by their files and their records; the error when it was too much."""

from __future__ import annotations

import errno
import os
import platform

from fvproc.errors import FvprocError

_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
FILES_OF_A_JOB = 2  # its journal and its partial file; one that locks further outputs tells how many it holds
# as much again is left to whoever reads, writes and talks to a cluster
_SHARE = 2 * FILES_OF_A_JOB
_MOST_JOBS = 1024
_JOBS_ON_WINDOWS = 64  # its C library opens 512 files
# Records of the jobs that are open, bytes: beyond it no other is opened while there are two.
MOST_BYTES = 512 << 20


class OutOfFilesError(FvprocError):
    """This process may open no other file: no input is to blame, and none would fare better."""


def most_jobs() -> int:
    """Return how many jobs may be open at once."""
    most = _descriptors()
    return _MOST_JOBS if most is None else max(2, min(_MOST_JOBS, most // _SHARE))


def _descriptors() -> int | None:
    """Return how many files this process may have open; None if there is no limit."""
    try:
        import resource
    except ImportError:
        return _JOBS_ON_WINDOWS * _SHARE
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def require_files(error: BaseException | None) -> None:
    """Raise OutOfFilesError if an error came of too many open files, however it is dressed."""
    cause = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno in _EXHAUSTED):
        if isinstance(cause, OutOfFilesError):
            raise cause
        cause = cause.__cause__ or cause.__context__
    if cause is None and error is not None:
        # a library may have said no more than that it cannot read
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as full:
            cause = full if full.errno in _EXHAUSTED else None
    if cause is not None:
        raise OutOfFilesError(
            f"too many files are open in process {os.getpid()} on {platform.node()}, which may have"
            f" {_descriptors()}: raise that limit (ulimit -n), or give it fewer threads"
        ) from error
