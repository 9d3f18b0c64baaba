"""How many processors this process may use: of a batch job, of a container, or as many as its user says."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_asked: ContextVar[int | None] = ContextVar("asked", default=None)


def cores() -> int:
    """Return the processors that this process may use: not those of the machine, where it has been given fewer."""
    try:
        number = len(os.sched_getaffinity(0))
    except AttributeError:  # no such limit on macOS and Windows
        number = os.cpu_count() or 1
    return max(1, min(number, math.ceil(min(_quota(), number)), _asked.get() or number))


@contextmanager
def at_most(number: int | None) -> Iterator[None]:
    """Have `cores` say no more than a number (None: as before), in this context."""
    token = _asked.set(number if number is not None else _asked.get())
    try:
        yield
    finally:
        _asked.reset(token)


@cache
def _quota() -> float:
    """Return the processors' time per time that control groups of Linux, as of a container, leave; else infinity.

    Of the process's own group and of all that it is part of; see "cgroups(7)" and the kernel's documentation of
    `cpu.max` (version 2) and `cpu.cfs_quota_us` (version 1). A container may see its own group as the root.
    """
    least = math.inf
    with suppress(OSError, ValueError):
        for line in _GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                root = _MOUNTED / controllers
                own = root / path.lstrip("/")
                for folder in [own, *own.parents]:
                    if folder.is_relative_to(root):
                        least = min(least, _quota_of(folder))
    return least


def _quota_of(folder: Path) -> float:
    with suppress(OSError, ValueError):
        given, _, period = (folder / "cpu.max").read_text().strip().partition(" ")
        return math.inf if given == "max" else float(given) / float(period)
    with suppress(OSError, ValueError):
        given, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(given) / float(period) if float(given) > 0 else math.inf
    return math.inf
