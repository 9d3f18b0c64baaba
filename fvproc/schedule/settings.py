"""Dask's configuration, as far as this package goes by it: broken or strange, it is named and not stumbled over."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import Any

from fvproc.errors import FvprocError

# More threads than any machine has; more would only be a window of tiles that holds the whole map.
_MOST_THREADS = 10_000


def dask() -> Any:
    """Return the module; it reads its configuration when it is imported.

    Raises
    ------
    FvprocError
        If a file of the configuration cannot be understood.
    """
    try:
        import dask
        import dask.utils
    except ImportError:
        raise
    except Exception as error:  # whatever a file of its configuration leads to
        told = " ".join(str(error).split())
        raise FvprocError(
            f"Dask's configuration cannot be read: {told}; correct or remove that file (environment variable"
            f" DASK_CONFIG = {os.environ.get('DASK_CONFIG', 'not set')}, else ~/.config/dask and /etc/dask)"
        ) from None
    return dask


def duration(name: str, default: float) -> float:
    """Return a duration of Dask's configuration, s: `fvproc.answer`, `fvproc.patience`, `fvproc.late`.

    As everything there it is set in Dask's YAML files or by the environment, such as ``DASK_FVPROC__PATIENCE=600``.

    Raises
    ------
    FvprocError
        If it is no positive duration.
    """
    value = dask().config.get(f"fvproc.{name}", default)
    try:
        seconds = float(dask().utils.parse_timedelta(value))
    except (ValueError, TypeError, KeyError):
        seconds = 0.0
    if not seconds > 0:
        raise FvprocError(f"fvproc.{name} = {value!r} in Dask's configuration: write a time > 0, such as 30 or '5 min'")
    return seconds


def threads() -> tuple[int | None, bool]:
    """Return Dask's number of threads, None if nobody has set it, and whether its scheduler is the synchronous one.

    Dask is imported only where it is there already, or configured by the environment or by a file, in the places where
    it looks itself: that takes some tenth of the time of a small map.

    Raises
    ------
    FvprocError
        If it is no number of threads.
    """
    folders: list[str | Path] = [
        os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        *(Path(prefix) / "etc" / "dask" for prefix in (sys.prefix, *site.PREFIXES)),
        os.path.expanduser("~/.config/dask"),  # noqa: PTH111 (a Path refuses where there is no home)
    ]
    told = any(name.startswith("DASK_") for name in os.environ) or any(Path(folder).exists() for folder in folders)
    if "dask" not in sys.modules and not told:
        return None, False
    config = dask().config
    inline = config.get("scheduler", None) in ("sync", "synchronous", "single-threaded")
    number = config.get("num_workers", None)
    if number is not None:
        require_threads(number, "num_workers", " in Dask's configuration (DASK_NUM_WORKERS in the environment)")
    return number, inline


def require_threads(number: Any, name: str, where: str = "") -> None:
    """Raise FvprocError unless a value is a number of threads."""
    if type(number) is not int or not 1 <= number <= _MOST_THREADS:
        raise FvprocError(f"{name} = {number!r}{where}: expected a whole number of threads, 1 to {_MOST_THREADS}")
