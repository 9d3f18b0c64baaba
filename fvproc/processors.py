"""How many processors this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use: of a batch job or container, not of the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no such limit on macOS and Windows
        return os.cpu_count() or 1
