"""The journal as a file: lines of JSON that only ever grow, locked by the run that writes them.

What the lines say is the matter of `fvproc.journal`.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fvproc import provenance
from fvproc.errors import OutputError

# how the first line of a journal begins: what a run had in mind, or the note that it is making its partial file
_BEGINNINGS = (b'{"crc32":', b'{"making":')


class JournalFile:
    """The open journal, locked for this process; the system unlocks it whatever way the process ends.

    Parameters
    ----------
    path : Path
        Of the journal, made where there is none.
    output : Path
        For people: of the run.

    Raises
    ------
    OutputError
        If another process holds the lock, or a file of that name is there that is no journal.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        self._file = _locked(path, output)
        self._torn = False
        self._file.seek(0)
        content = self._file.read()
        self.begun = bool(content)  # whether a run has noted anything
        if not _is_ours(content):
            self._file.close()
            raise OutputError(
                f"{path}: is there and is no journal of a run; move it away, or choose another output than {output}"
            )

    def read(self) -> tuple[dict[str, Any] | None, set[tuple[int, int, int]]]:
        """Return the first line and (start, stop, crc32) of the others; None in place of the first if it is not whole.

        An empty first line stands for one that is damaged; other damaged ones are left out.
        """
        self._file.seek(0)
        first, *lines = self._file.read().split(b"\n")
        if not lines:
            return None, set()
        self._torn = bool(lines[-1])
        return _parsed(first), _noted(lines)

    def replaceable(self) -> set[str]:
        """Return the outputs that the run has noted that it may replace."""
        self._file.seek(0)
        noted = (_parsed(line) for line in self._file.read().split(b"\n"))
        # a flipped bit must not give another file away
        return {
            name
            for entry in noted
            if "replaces" in entry and entry == replaces(entry["replaces"])
            for name in entry["replaces"]
        }

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add lines, and have the system keep them."""
        end = b"\n" if self._torn else b""  # so that a line that a crash tore stays alone
        self._file.write(end + b"".join(provenance.to_json(entry).encode() + b"\n" for entry in entries))
        self._torn = False
        self._file.flush()
        os.fsync(self._file.fileno())

    def clear(self) -> None:
        """Forget all lines."""
        self._file.truncate(0)
        self._torn = False

    def close(self, remove: bool = False) -> None:
        """Unlock and close the file; remove it before, or if it has no line: then it is of no use to any run."""
        if self._file.closed:
            return
        remove = remove or os.fstat(self._file.fileno()).st_size == 0
        if os.name == "nt":
            self._file.close()  # an open file cannot be removed there
        if remove:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        # only now: who gets the lock must not lose the file to us
        with suppress(OSError):
            self._file.close()


def replaces(outputs: Iterable[str]) -> dict[str, Any]:
    """Return the line that notes outputs which a run may replace."""
    names = sorted(outputs)
    return {"replaces": names, "crc32": zlib.crc32(provenance.to_json(names).encode())}


def _is_ours(content: bytes) -> bool:
    """Return whether a file is a journal, however damaged, or empty: of any other no byte may be lost."""
    if any(content.startswith(begin) or begin.startswith(content) for begin in _BEGINNINGS):
        return True
    return bool(_noted(content.split(b"\n")))


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line of the journal; empty if it is torn or damaged."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _noted(lines: Sequence[bytes]) -> set[tuple[int, int, int]]:
    """Return (start, stop, crc32) of the whole lines; the tile of a torn or damaged one is computed again."""
    noted = set()
    for line in lines:
        entry = _parsed(line)
        values = tuple(entry.get(name) for name in ("start", "stop", "crc32"))
        if all(type(value) is int for value in values):
            noted.add(values)
    return noted  # type: ignore[return-value]


def _locked(path: Path, output: Path) -> IO[bytes]:
    """Open the journal and lock it for this process; the system unlocks it whatever way the process ends.

    Raises
    ------
    OutputError
        If another process holds it. A file system without locks is taken as it is.
    """
    while True:
        file = path.open("a+b")
        try:
            if os.name == "nt":
                import msvcrt

                file.seek(1 << 30)  # far behind the lines, which stay readable
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            else:
                import fcntl

                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            raise OutputError(
                f"{output}: another run is writing it now; let it end, or choose another output"
            ) from None
        except OSError:
            return file
        # the run before may have ended and removed it between our opening and our locking
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
