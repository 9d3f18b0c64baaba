"""What happens in a run, as records of Python's logging: for a log file with one JSON object a line, or any handler."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any

from fvproc.errors import OutputError

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


@contextmanager
def to_file(path: str | PathLike[str] | None) -> Iterator[None]:
    """Append what happens to a file, each line at once; None writes nothing.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
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
