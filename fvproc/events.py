"""What happens in a run, as records of Python's logging: for a log file with one JSON object a line, or any handler."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any

from fvproc.errors import OutputError

_BEGINS = b'{"time": "'  # every line of a log
LOGGER = logging.getLogger("fvproc")
# who does not ask for them does not see them
LOGGER.addHandler(logging.NullHandler())


def event(name: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Tell what happened; a record of the logger ``fvproc`` whose `facts` are plain values.

    Parameters
    ----------
    name : str
        One of those in docs/running.md, such as ``"tile_failed"``.
    level : int
        Of `logging`.
    **facts
        Ready for JSON.
    """
    if LOGGER.isEnabledFor(level):
        told = ", ".join(f"{key}={value}" for key, value in facts.items())
        LOGGER.log(level, "%s: %s", name, told, extra={"event": name, "facts": facts})


class JsonLines(logging.Formatter):
    """One JSON object for each record: time (UTC), level, event, and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": when, "level": record.levelname.lower()}
        if hasattr(record, "event"):
            entry |= {"event": record.event, **record.facts}  # type: ignore[attr-defined]
        else:
            entry |= {"event": "message", "text": record.getMessage()}
        return json.dumps(entry, default=str)


class _LogFile(logging.FileHandler):
    """A file of such lines that ends where it cannot be written, and says so once."""

    ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        if not self.ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell why a line could not be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.ended = True
        why = error.strerror or error
        print(f"fvproc: {self.baseFilename}: the log ends here: {why}; the run goes on", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what it refused to take was told."""
        with suppress(OSError):
            super().close()


@contextmanager
def to_file(path: str | PathLike[str] | None, others: Iterable[str | PathLike[str]] = ()) -> Iterator[None]:
    """Append what happens to a file, each line at once; None writes nothing.

    Parameters
    ----------
    path : path-like, optional
        A log of an earlier run grows.
    others : iterable of path-like
        Files that the run reads or writes, there or not.

    Raises
    ------
    OutputError
        If the file is one of the others, is there and no log, or cannot be written.
    """
    if path is None:
        yield
        return
    try:
        _require_log(Path(path), others)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: the log cannot be written: {error.strerror or error}") from error
    handler.setFormatter(JsonLines())
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
        handler.close()


def _require_log(path: Path, others: Iterable[str | PathLike[str]]) -> None:
    """Raise OutputError rather than add lines to a file that is no log."""
    real = os.path.realpath(path)
    for other in others:
        if os.path.realpath(other) == real or (path.exists() and Path(other).exists() and path.samefile(other)):
            raise OutputError(f"{path}: the log would be written into {other}, which the run reads or writes itself")
    if path.is_file():  # a terminal or a pipe takes anything
        with path.open("rb") as file:
            begins = file.read(len(_BEGINS))
        if not _BEGINS.startswith(begins):
            raise OutputError(f"{path}: is there and is no log of a run, to which lines could be added; name another")
