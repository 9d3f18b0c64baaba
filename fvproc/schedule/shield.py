"""Preloaded by worker processes of this machine: signals of the terminal are the client's, which ends them in order."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

# By then the client has ended its workers, or will not.
_SECONDS = 30.0


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C, and SIGTERM for a while: both reach the whole group of processes.

    What is in flight then lands as it does with threads. SIGTERM is also how Python ends a child that hangs when the
    parent ends, so it cannot be ignored for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # signals cannot be set from elsewhere
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: Any) -> None:
    timer = threading.Timer(_SECONDS, os._exit, [128 + number])
    timer.daemon = True
    timer.start()
