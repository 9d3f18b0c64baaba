"""The progress of a run, for eyes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from fvproc.volume import Tile

_BAR_EVERY = 0.1
_LINE_EVERY = 10.0


class Tally:
    """Counts the curves that a run computes, and says nothing."""

    def __init__(self) -> None:
        self._curves = self._before = 0

    @property
    def computed(self) -> int:
        """How many curves this run has computed; not those that an earlier one had."""
        return self._curves - self._before

    def start(self, workers: int) -> None:
        """Work begins."""

    def expect(self, curves: int, done: int = 0) -> None:
        """A volume of so many curves was opened; `done` of them were done by an earlier run."""
        self._curves += done
        self._before += done

    def advance(self, tile: Tile, failed: bool) -> None:
        """A tile is in its place."""
        self._curves += len(tile)

    def staff(self, workers: int) -> None:
        """Workers joined or left."""

    def tell(self, text: str) -> None:
        """Something that people should know of the workers."""

    def finish(self) -> None:
        """No more tiles will come."""


class Bar(Tally):
    """Counts curves, and files where there are many; tells curves/s, failures, workers and the time left.

    Parameters
    ----------
    name : str
        Put before the bar.
    stream : file, optional
        Standard error by default.
    files : int
        How many files the run has; one by default.
    """

    def __init__(self, name: str = "", stream: TextIO | None = None, files: int = 1) -> None:
        super().__init__()
        # of a closed standard error Python says None
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._name = f"{name}: " if name else ""
        self._terminal = self._stream is not None and self._stream.isatty()
        self._began = self._said = 0.0
        self._all_curves = self._failed = self._workers = 0
        self._files, self._all_files = 0, files

    def start(self, workers: int) -> None:
        """Work begins."""
        self._workers = workers
        self._began = self._said = time.monotonic()

    def expect(self, curves: int, done: int = 0) -> None:
        """A volume of so many curves was opened; `done` of them were done by an earlier run."""
        super().expect(curves, done)
        self._files += 1
        self._all_curves += curves

    def advance(self, tile: Tile, failed: bool) -> None:
        """A tile is in its place."""
        super().advance(tile, failed)
        self._failed += failed
        now = time.monotonic()
        if now - self._said >= (_BAR_EVERY if self._terminal else _LINE_EVERY):
            self._said = now
            self._say("\r" if self._terminal else "", "" if self._terminal else "\n")

    def staff(self, workers: int) -> None:
        """Workers joined or left."""
        self._workers = workers

    def tell(self, text: str) -> None:
        """Something that people should know of the workers, on a line of its own."""
        line = f"fvproc: {text}"
        if self._terminal:
            line = "\r" + line.ljust(shutil.get_terminal_size().columns - 1)
        self._write(line + "\n")

    def finish(self) -> None:
        """No more tiles will come."""
        if self._began:
            self._say("\r" if self._terminal else "", "\n")

    def text(self) -> str:
        """Return the line as it stands."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = self.computed / seconds
        done = self._curves / max(self._all_curves, 1)
        when = f"{clock(seconds)} in all"
        if self._files < self._all_files:
            # the curves of files that are not open yet are not known: these count as many as those before them
            done *= self._files / self._all_files
        if done < 1:
            left = (self._curves / done - self._curves) / rate if rate > 0 and done > 0 else float("inf")
            when = f"{clock(left)} left"
        failed = f" ({self._failed} failed)" if self._failed else ""
        workers = f", {self._workers} threads" if self._workers else ""
        files = f"file {self._files} of {self._all_files}, " if self._all_files > 1 else ""
        return (
            f"{self._name}{done:4.0%}{failed} {files}{self._curves:,}/{self._all_curves:,} curves,"
            f" {rate:,.0f} curves/s, {when}{workers}"
        )

    def _say(self, before: str, after: str) -> None:
        text = self.text()
        if self._terminal:
            width = shutil.get_terminal_size().columns
            room = min(width - len(text) - 4, 30)
            if room >= 8:
                full = room * self._curves // max(self._all_curves, 1)
                text = f"{text} [{'#' * full}{'.' * (room - full)}]"
            text = text[: width - 1].ljust(width - 1)
        self._write(f"{before}{text}{after}")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None  # closed, or its reader has left: no reason to end the run


def clock(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds == float("inf"):
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
