"""What is done and durable: the journal of a run beside its partial file, and the way back from both.

While a run goes on, `X.h5.partial` (`fvproc.partial`) holds its records. `X.h5.partial.journal` tells which of them
count: a line for each tile {start, stop, crc32}, written and synchronised after the records are. Killed at any moment,
the two hold whole tiles only. A line {replaces} tells which outputs the run may replace: those it was told to, and
those that it has begun to write itself.

Records of large maps live in the partial file alone, mapped into memory: the system keeps of them what it has room for.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import provenance, readers
from fvproc.beside import kept_beside
from fvproc.errors import OutputError
from fvproc.journal_file import JournalFile, replaces
from fvproc.maps import not_computed, put
from fvproc.partial import PartialFile, allocate, is_ours
from fvproc.quantities import RECORD
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, Tile

FORMAT_VERSION = 1
# Records become durable this often, s: a file system takes milliseconds to promise that, and a crash costs no more.
COMMIT_SECONDS = 0.5
# records of more bytes than this are not held in memory
MAPPED_BYTES = 1 << 28


def identity(volume: ForceVolume, recipe: Recipe, kernel_version: str) -> dict[str, Any]:
    """Return what must be the same for the records of an earlier run to count, ready for JSON."""
    return {
        "input": {
            "name": Path(volume.path).name,
            "size": volume.file_size,
            "modified_ns": volume.modified_ns,
            "header": volume.header_digest,
        },
        "calibration": provenance.plain(volume.calibration.to_dict()),
        "recipe": recipe.digest,
        "kernel": kernel_version,
        "fvproc": provenance.version(),
        "grid": list(volume.shape),
        "record": [f"{name}:{RECORD[name].str}" for name in RECORD.names or ()],
    }


_SPOKEN = {
    "input": "the input has changed",
    "calibration": "the calibration is another",
    "recipe": "the recipe is another",
    "kernel": "the kernel is of another version",
    "fvproc": "fvproc is of another version",
    "grid": "the grid is another",
    "record": "the quantities are others",
}


class Journal:
    """Keeps the records of one run durable, and finds those of an earlier one.

    Parameters
    ----------
    output : path-like
        The output that the run will write; the partial file and the journal lie beside it.
    key : mapping
        What `identity` returned.
    curves : int
        Of the whole grid.
    overwrite : bool
        Whether an unfinished run is thrown away and not gone on with.

    Attributes
    ----------
    records : ndarray of RECORD, shape (curves,)
        What an earlier run has done is filled in, and `commit` takes what is new from it; in memory, or mapped from the
        partial file where they are more than `MAPPED_BYTES`.

    Raises
    ------
    OutputError
        If a partial file of another input, recipe or version is there, or another process works on it.
    """

    def __init__(
        self, output: str | os.PathLike[str], key: Mapping[str, Any], curves: int, overwrite: bool = False
    ) -> None:
        self.partial, self.path = kept_beside(output)
        self.done: list[Tile] = []
        self._key, self._curves = provenance.plain(key), curves
        # a file that is mapped cannot be removed on Windows
        self._mapped = curves * RECORD.itemsize > MAPPED_BYTES and os.name != "nt"
        self.records = np.empty(0, RECORD) if self._mapped else not_computed(curves)
        self._pending: list[tuple[int, int, int]] = []  # start, stop, crc32
        self._underway: list[tuple[int, int, int]] = []  # those that a thread makes durable now
        self._committing: Future[None] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="fvproc-journal")
        self._file: PartialFile | None = None
        self._committed = time.monotonic()
        self._closed = False
        self._replaces: set[str] = set()  # outputs, as `_named` says
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self._lines = JournalFile(self.path, Path(output))
        try:
            if overwrite:
                self._begin_anew()
            else:
                self._find()
            if self._mapped:
                self._map()
        except BaseException:
            self.close()
            raise

    # ---- what an earlier run left

    def _find(self) -> None:
        """Fill in the records of an earlier run that are whole."""
        first, tiles = self._lines.read()
        if first is None or "making" in first or not self.partial.exists():
            self._begin_anew()  # killed before anything was durable
            return
        head = self._head(first)
        self._replaces = self._lines.replaceable()
        try:
            self._file = PartialFile(self.partial, head["offset"])
        except OSError as error:
            raise self._told(error) from error
        whole = np.zeros(self._curves, bool)
        for start, stop, crc in tiles:
            # tiles may overlap: one that was damaged has been computed again, perhaps as part of another
            if 0 <= start < stop <= len(whole) and not whole[start:stop].all():
                content = self._file.read(start, stop)
                if len(content) == (stop - start) * RECORD.itemsize and zlib.crc32(content) == crc:
                    if self.records.size:
                        put(self.records[start:stop], np.frombuffer(content, RECORD))
                    whole[start:stop] = True
        edges = np.flatnonzero(np.diff(whole, prepend=False, append=False))
        self.done = [Tile(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    def _begin_anew(self) -> None:
        """Forget what is there; a partial file without a journal is nobody's, and may take the room that is needed.

        A file of that name that no run has made is somebody's: a measurement, for all we know.
        """
        if self.partial.exists() and not self._lines.begun and not is_ours(self.partial):
            raise OutputError(
                f"{self.partial}: is there and is not of a run, which would keep its records under that name; move it"
                " away, or choose another output"
            )
        self._lines.clear()
        with suppress(OSError):
            self.partial.unlink(missing_ok=True)

    def _head(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the first line says, if it is whole and of a run like this one."""
        head = entry.get("head")
        if not isinstance(head, dict) or zlib.crc32(provenance.to_json(head).encode()) != entry.get("crc32"):
            # without it nothing else can be trusted
            raise OutputError(
                f"{self.path}: the first line of the journal is damaged, so what {self.partial.name} holds cannot be"
                " told; give --overwrite (overwrite=True) to begin anew"
            )
        if head["version"] != FORMAT_VERSION:
            raise OutputError(
                f"{self.path}: a journal of version {head['version']!r}, this fvproc knows version {FORMAT_VERSION};"
                " go on with the fvproc that wrote it, or give --overwrite (overwrite=True) to begin anew"
            )
        theirs = head["key"]
        other = [name for name, value in self._key.items() if not _same(theirs.get(name), value)]
        if other:
            told = "; ".join(f"{_SPOKEN[name]} ({_difference(theirs.get(name), self._key[name])})" for name in other)
            raise OutputError(
                f"{self.partial}: an unfinished run is there that cannot be gone on with: {told}."
                " Run it as it was, or give --overwrite (overwrite=True) to begin anew"
            )
        return head

    def left(self) -> list[Tile]:
        """Return the runs of curves that are not done, in order."""
        gaps, reached = [], 0
        for tile in [*self.done, Tile(self._curves, self._curves + 1)]:
            if tile.start > reached:
                gaps.append(Tile(reached, tile.start))
            reached = tile.stop
        return gaps

    # ---- what this run adds

    def may_replace(self, output: str | os.PathLike[str]) -> bool:
        """Return whether this run, or the one it goes on with, has the right to replace an output."""
        return self._named(output) in self._replaces

    def grant(self, outputs: Iterable[str | os.PathLike[str]]) -> None:
        """Note outputs that the run may replace, now and when it is gone on with."""
        new = {self._named(output) for output in outputs} - self._replaces
        self._replaces |= new
        self._settle()  # which writes lines, too
        if new and self._file is not None and not self._closed:
            with suppress(OSError):  # the run that goes on asks for --overwrite, which costs no curve
                self._lines.write([replaces(new)])

    def _named(self, output: str | os.PathLike[str]) -> str:
        """Return the name of an output as seen from here: the folder may have been moved since."""
        path = os.path.realpath(output)
        try:
            return Path(os.path.relpath(path, os.path.realpath(self.partial.parent))).as_posix()
        except ValueError:  # of another drive
            return path

    def place(self, tile: Tile, records: np.ndarray) -> None:
        """Put the records (len(tile),) of a tile in their place.

        They are durable after the next `commit`, which comes by itself.

        Raises
        ------
        OutputError
            If the disk is full or refuses; what was durable before still is.
        """
        octets = np.ascontiguousarray(records, RECORD).view(np.uint8).data
        try:
            if self._mapped and self._file is not None:
                self._file.write(tile.start, octets)  # `records` shows it
            else:
                put(self.records[tile.start : tile.stop], records)
        except OSError as error:
            raise self._told(error) from error
        # neighbours that come in order make one line; a checksum taken later would have to fetch mapped pages back
        for number, (start, stop, crc) in enumerate(self._pending):
            if stop == tile.start:
                self._pending[number] = start, tile.stop, zlib.crc32(octets, crc)
                break
        else:
            self._pending.append((tile.start, tile.stop, zlib.crc32(octets)))
        if self._committing is not None and self._committing.done():
            self._settle()
        if self._committing is None and time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._start()

    def commit(self) -> None:
        """Make every record so far durable, then say so in the journal: never the other way round.

        Raises
        ------
        OutputError
            If the disk is full or refuses; what was durable before still is.
        """
        self._settle()
        if self._pending and not self._closed:
            self._start()
            self._settle()

    def _start(self) -> None:
        """Have what is pending made durable by a thread: a disk takes its time, and tiles land meanwhile."""
        self._underway, self._pending = self._pending, []
        self._committing = self._committer.submit(self._make_durable, self._underway)

    def _settle(self) -> None:
        """Wait for what that thread does, and count it."""
        if self._committing is None:
            return
        try:
            self._committing.result()
        except OSError as error:
            self._pending = self._underway + self._pending
            self._underway, self._committing = [], None
            raise self._told(error) from error
        self.done = _joined([*self.done, *(Tile(start, stop) for start, stop, _ in self._underway)])
        self._underway, self._committing = [], None
        self._committed = time.monotonic()

    def _make_durable(self, tiles: Sequence[tuple[int, int, int]]) -> None:
        if self._file is None:
            # not before: a run of less than `COMMIT_SECONDS` leaves no trace
            self._begin()
        assert self._file is not None
        if not self._mapped:
            for start, stop, _ in tiles:
                self._file.write(start, self.records[start:stop].view(np.uint8).data)
        self._file.synchronise()
        self._lines.write([{"start": start, "stop": stop, "crc32": crc} for start, stop, crc in tiles])
        self._file.forget_pages()

    def _begin(self) -> None:
        """Make the partial file at its full size, then the journal's first line."""
        # killed meanwhile, we leave a file of which only this line tells that it is ours
        self._lines.write([{"making": self.partial.name}])
        try:
            offset = allocate(self.partial, self._curves)
        except OSError:
            with suppress(OSError):
                self.partial.unlink()  # what does not fit shall not fill the disk
            self._lines.clear()
            raise
        self._lines.clear()
        self._file = PartialFile(self.partial, offset)
        head = {"version": FORMAT_VERSION, "key": self._key, "offset": offset}
        granted = [replaces(self._replaces)] if self._replaces else []
        self._lines.write([{"head": head, "crc32": zlib.crc32(provenance.to_json(head).encode())}, *granted])

    def _map(self) -> None:
        """Let the records be those in the partial file; what no tile of the journal covers will be computed again."""
        fresh = self._file is None
        try:
            if self._file is None:
                self._begin()
            assert self._file is not None
            self.records = self._file.mapped(self._curves)
            for tile in [] if fresh else self.left():  # a run that died may have left any part of a tile here
                self._file.blank(tile.start, tile.stop)
            self._file.forget_pages()
        except OSError as error:
            raise self._told(error) from error

    def kept(self) -> int:
        """Return how many curves are durable."""
        return sum(len(tile) for tile in self.done)

    def close(self) -> None:
        """Let go of the files; another run may go on from them."""
        self._closed = True
        self._committer.shutdown()
        if self._file is not None:
            self._file.close()
        self._lines.close()

    def remove(self) -> None:
        """The output is complete: nothing of this is needed any more."""
        self._closed = True
        self._committer.shutdown()
        if self._file is not None:
            self._file.close()
            # the records first: a journal without them means a new beginning, they without it are nobody's
            self.partial.unlink(missing_ok=True)
        self._lines.close(remove=True)

    def _told(self, error: OSError) -> OutputError:
        need = self._curves * RECORD.itemsize / 1e6
        return OutputError(
            f"{self.partial}: cannot be written: {error.strerror or error}; the run keeps {need:.1f} MB there and needs"
            " about as much again for its outputs. What was durable before is kept: make room and run the same again"
        )


def _joined(tiles: Sequence[Tile]) -> list[Tile]:
    """Return tiles in order, neighbours as one."""
    joined: list[Tile] = []
    for tile in sorted(tiles):
        if joined and joined[-1].stop == tile.start:
            joined[-1] = Tile(joined[-1].start, tile.stop)
        else:
            joined.append(tile)
    return joined


def _same(then: Any, now: Any) -> bool:
    """Return whether two values of a key are the same, a time of modification to what file systems keep of it."""
    name = "modified_ns"
    if isinstance(then, dict) and isinstance(now, dict) and {type(then.get(name)), type(now.get(name))} == {int}:
        return readers.same_time(then[name], now[name]) and {**then, name: now[name]} == now
    return bool(then == now)


def _difference(then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        names = [name for name in now if then.get(name) != now[name]]
        return ", ".join(f"{name}: {then.get(name)} then, {now[name]} now" for name in names)
    return f"{str(then)[:60]} then, {str(now)[:60]} now"
