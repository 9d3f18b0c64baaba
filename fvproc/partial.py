"""The partial file of a run: records on their way to the outputs, at their place in a dataset that no library moves.

An HDF5 file with one contiguous dataset, made and allocated before work starts and never touched by the HDF5 library
again, so that no metadata can be torn. Which of its records count, the journal tells (`fvproc.journal`).
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from fvproc.maps import not_computed
from fvproc.quantities import RECORD
from fvproc.storage import new_hdf5, read_hdf5

_FORMAT = "fvproc-partial"
_BLOCK = 1 << 16  # records that are written at a time


class PartialFile:
    """The open file.

    Parameters
    ----------
    path : Path
        Of a file that `allocate` made.
    offset : int
        Where its records begin, bytes.

    Raises
    ------
    OSError
        As every method does, where the system refuses.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path, self._offset = path, offset
        self._file = path.open("r+b", buffering=0)
        self._mapping: np.memmap[Any, Any] | None = None

    def read(self, start: int, stop: int) -> bytes:
        """Return records [start, stop) as bytes; fewer if the file ends before."""
        self._file.seek(self._offset + start * RECORD.itemsize)
        wanted = (stop - start) * RECORD.itemsize
        parts: list[bytes] = []
        while wanted > 0 and (part := self._file.read(wanted)):
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def write(self, start: int, octets: memoryview) -> None:
        """Write the bytes of records from number `start` on.

        Also where the file is mapped, which shows them at once: storing them there costs a page fault for each 4 kB
        that was synchronised before, several times what the copy takes.
        """
        self._file.seek(self._offset + start * RECORD.itemsize)
        _write_all(self._file, octets)

    def blank(self, start: int, stop: int) -> None:
        """Make records [start, stop) not computed."""
        for first in range(start, stop, _BLOCK):
            self.write(first, not_computed(min(_BLOCK, stop - first)).view(np.uint8).data)

    def mapped(self, curves: int) -> np.ndarray:
        """Return all records (curves,), mapped: the system keeps of them in memory what it has room for."""
        self._mapping = np.memmap(self._path, RECORD, "r+", self._offset, (curves,))
        return np.asarray(self._mapping)

    def synchronise(self) -> None:
        """Have the system keep what was written, whatever happens to it."""
        os.fsync(self._file.fileno())

    def forget_pages(self) -> None:
        """Let go of mapped pages that the file holds: else they count as this process's until memory is scarce."""
        # the array has no public name for what it maps
        pages = getattr(self._mapping, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            with suppress(OSError):
                pages.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the file; records that are mapped stay to be seen."""
        self._file.close()


def is_ours(path: Path) -> bool:
    """Return whether a file is one that `allocate` made, or empty: of any other no byte may be lost."""
    try:
        if path.stat().st_size == 0:
            return True
        with read_hdf5(path) as file:
            return bool(file.attrs.get("format") == _FORMAT)
    except Exception:  # h5py raises whatever damage leads to
        return False


def allocate(path: Path, curves: int) -> int:
    """Make the partial file with every record as not computed; return where the records begin in it, bytes."""
    import h5py

    with new_hdf5(path) as file:
        file.attrs["format"] = _FORMAT
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.CONTIGUOUS)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)
        space = h5py.h5s.create_simple((curves,))
        dataset = h5py.h5d.create(file.id, b"records", h5py.h5t.py_create(RECORD, logical=True), space, plist)
        offset = int(dataset.get_offset())
    # written and not left as a hole: a disk that is too full says so now, and who looks in sees what is not done
    blank = not_computed(min(curves, _BLOCK)).tobytes()
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        for start in range(0, curves, _BLOCK):
            _write_all(file, memoryview(blank)[: min(_BLOCK, curves - start) * RECORD.itemsize])
        os.fsync(file.fileno())
    return offset


def _write_all(file: IO[bytes], content: memoryview) -> None:
    """Write all of it: an unbuffered file may take less than it was given."""
    while content:
        content = content[file.write(content) :]
