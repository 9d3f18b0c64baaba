"""The standard streams of a command: closed, full or left by their reader, they cost a run nothing of what it did."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

from fvproc.errors import OutputError


class _Stream:
    """A text stream that tells what goes wrong by its name, and says nothing of a reader who has left.

    Parameters
    ----------
    stream : file
        What is written to.
    name : str
        Of the stream, for the error; empty for one whose failures matter to nobody.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Write; what nobody can read is dropped."""
        self._done(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush."""
        self._done(self._stream.flush)

    def _done(self, work: Any) -> None:
        try:
            work()
        except OSError as error:
            self._to_nowhere()
            if self._name and not isinstance(error, BrokenPipeError):
                raise OutputError(
                    f"{self._name} cannot be written: {error.strerror or error}; what was to be printed is lost,"
                    " files that a run has written are not"
                ) from None

    def _to_nowhere(self) -> None:
        """Let what is still to come, Python's own last flush among it, go nowhere."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Have standard output and error fail by name or not at all; what is closed is as good as the null device."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        # a Windows console or a pipe may not know µ and σ
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    out, err = _Stream(sys.stdout, "standard output"), _Stream(sys.stderr, "")
    with redirect_stdout(out), redirect_stderr(err):
        yield


def _open_closed() -> None:
    """Open standard streams that the shell has closed; their numbers would go to the next files that are opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                try:
                    os.fstat(number)
                except OSError:
                    nowhere = os.open(os.devnull, os.O_RDWR)
                    if nowhere != number:
                        os.dup2(nowhere, number)
                        os.close(nowhere)
            if number:
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
