"""Chunks of HDF5 datasets, read and decompressed outside of HDF5's one lock, so that threads do it side by side.

HDF5 is asked once for the type of a dataset and for the places of its chunks in the file; from then on tiles are
read without it. Pipelines of shuffle and gzip over plain numbers take this road, anything else is left to HDF5.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import zlib
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

import h5py
import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.blocks import buffer
from fvproc.storage import read_hdf5

LARGEST = 1 << 28  # bytes of a chunk, decompressed
_COUNT = 1 << 20  # chunks of a dataset whose places are kept; 20 bytes each
_KEPT = 16  # datasets of a process whose chunks are known
_GZIP, _SHUFFLE = "gzip", "shuffle"
_FILTERS = {h5py.h5z.FILTER_DEFLATE: _GZIP, h5py.h5z.FILTER_SHUFFLE: _SHUFFLE}
_PIPELINES = ((), (_GZIP,), (_SHUFFLE,), (_SHUFFLE, _GZIP))


@dataclass(frozen=True, slots=True)
class Chunks:
    """Where the chunks of a dataset lie in its file, and how they are stored.

    Parameters
    ----------
    path, where : str
        The file, and the dataset in it.
    dtype : dtype
        As stored: integers or floats, either byte order.
    shape, chunk : tuple of int
        Of the dataset, and of a chunk.
    filters : tuple of {"shuffle", "gzip"}
        In the order of writing.
    fill : ndarray, shape ()
        Value of what was never written.
    offset, size : ndarray of int64, one element for each chunk
        Bytes in the file; −1 and 0 where a chunk does not exist.
    skipped : ndarray of uint32, one element for each chunk
        HDF5's filter mask: bit i tells that filter i was not applied.
    """

    path: str
    where: str
    dtype: np.dtype
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    filters: tuple[str, ...]
    fill: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    skipped: np.ndarray

    def read_direct(
        self,
        values: np.ndarray,
        selection: tuple[slice, ...],
        decoded: dict[tuple[int, ...], np.ndarray] | None = None,
    ) -> None:
        """Copy a rectangle of the dataset into `values`; as h5py's method of the same name.

        Parameters
        ----------
        values : ndarray
            Of the rectangle's shape; any numeric dtype.
        selection : tuple of slice
            For each of the first axes start and stop, within the dataset; the others are whole.
        decoded : dict, optional
            Keeps the chunks for reading other parts of them.

        Raises
        ------
        FileFormatError
            If a chunk is damaged, cut off, or longer than it may be.
        """
        whole = (slice(0, length) for length in self.shape[len(selection) :])
        axes = list(zip((*selection, *whole), self.chunk, strict=True))
        with Path(self.path).open("rb") as file:
            for place in itertools.product(*(range(part.start // n, -(-part.stop // n)) for part, n in axes)):
                inside, outside = [], []
                for number, (part, length) in zip(place, axes, strict=True):
                    first = number * length
                    begin, end = max(part.start, first), min(part.stop, first + length)
                    inside.append(slice(begin - first, end - first))
                    outside.append(slice(begin - part.start, end - part.start))
                if self.offset[place] < 0:
                    values[tuple(outside)] = self.fill
                    continue
                chunk = None if decoded is None else decoded.get(place)
                if chunk is None:
                    chunk = self._decoded(file, place)
                    if decoded is not None:
                        decoded[place] = chunk
                values[tuple(outside)] = chunk[tuple(inside)]

    def _decoded(self, file: BufferedReader, place: tuple[int, ...]) -> np.ndarray:
        expected = math.prod(self.chunk) * self.dtype.itemsize
        octets = self._stored(file, place)
        skipped = int(self.skipped[place])
        filters = [name for number, name in enumerate(self.filters) if not skipped >> number & 1]
        if _GZIP in filters:
            # not more than the chunk holds, whatever the file claims; the checksum is verified on the way
            stream = zlib.decompressobj()
            try:
                octets = np.frombuffer(stream.decompress(octets.data, expected + 1), np.uint8)
            except zlib.error as error:
                self._refuse(place, f"cannot be decompressed ({error})")
            if not stream.eof:
                self._refuse(place, "ends early, or holds more than a chunk")
        if len(octets) != expected:
            self._refuse(place, f"holds {len(octets)} bytes in place of {expected}")
        if _SHUFFLE in filters:
            octets = _unshuffled(octets, self.dtype.itemsize)
        return octets.view(self.dtype).reshape(self.chunk)

    def _stored(self, file: BufferedReader, place: tuple[int, ...]) -> np.ndarray:
        octets = buffer(np.uint8, (int(self.size[place]),))
        file.seek(int(self.offset[place]))
        if file.readinto(octets.data) < len(octets):
            self._refuse(place, "lies beyond the end of the file")
        return octets

    def _refuse(self, place: tuple[int, ...], why: str) -> None:
        corner = tuple(number * length for number, length in zip(place, self.chunk, strict=True))
        raise FileFormatError(
            f"{self.path}: /{self.where.strip('/')}: the chunk at {corner} {why}: the file is damaged; fetch it again"
        )


def _unshuffled(octets: np.ndarray, width: int) -> np.ndarray:
    """Undo HDF5's shuffle, first bytes of all numbers, second bytes …: five times as fast as a transposed copy."""
    if width == 1:
        return octets
    planes = octets.reshape(width, -1)
    word = np.dtype(f"<u{width}")
    numbers, plane = (buffer(word, planes[0].shape) for _ in range(2))
    numbers[:] = planes[0]
    for number in range(1, width):
        np.left_shift(planes[number], word.type(8 * number), out=plane, dtype=word)
        numbers |= plane
    return numbers.view(np.uint8)


def chunks_of(path: str, where: str) -> Chunks | None:
    """Return the chunks of a dataset; None where HDF5 has to read it: other filters or types, or no chunks at all.

    The same file, by size and time, is asked once.

    Parameters
    ----------
    path : str
        An HDF5 file.
    where : str
        A dataset in it.

    Raises
    ------
    FileFormatError
        If a chunk lies beyond the end of the file, or a chunk is larger than `LARGEST`.
    OSError, KeyError, RuntimeError
        As h5py raises them, if the file cannot be opened.
    """
    status = Path(path).stat()
    with _LOCK:  # one thread asks, the others wait for its answer
        return _indexed(path, where, status.st_size, status.st_mtime_ns)


_LOCK = threading.Lock()


def _unlock() -> None:
    """Forget a lock that a fork copied while a thread held it that is no more."""
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@lru_cache(_KEPT)
def _indexed(path: str, where: str, file_size: int, modified_ns: int) -> Chunks | None:
    with read_hdf5(path) as file:
        dataset = file[where]
        filters = _pipeline(dataset)
        # with a user block, versions of HDF5 differ in where they count places from
        if filters is None or file.userblock_size or not plain(dataset) or not hasattr(dataset.id, "chunk_iter"):
            return None
        shape, chunk, dtype = dataset.shape, dataset.chunks, dataset.dtype
        expected = math.prod(chunk) * dtype.itemsize
        if expected > LARGEST:
            raise FileFormatError(
                f"{path}: /{where.strip('/')}: a chunk {chunk} takes {expected} bytes: no more than {LARGEST} can be"
                " read at once; write it in smaller chunks, with h5repack -l"
            )
        counts = tuple(-(-length // part) for length, part in zip(shape, chunk, strict=True))
        if math.prod(counts) > _COUNT:
            return None
        offset = np.full(counts, -1, np.int64)
        size, skipped = np.zeros(counts, np.int64), np.zeros(counts, np.uint32)

        def note(chunk_info: h5py.h5d.StoreInfo) -> None:
            place = tuple(first // part for first, part in zip(chunk_info.chunk_offset, chunk, strict=True))
            if chunk_info.byte_offset is None or any(n >= count for n, count in zip(place, counts, strict=True)):
                return
            offset[place], size[place] = chunk_info.byte_offset, chunk_info.size
            skipped[place] = chunk_info.filter_mask

        dataset.id.chunk_iter(note)
        fill = np.array(dataset.fillvalue, dtype)
    if (offset + size > file_size).any():
        raise FileFormatError(
            f"{path}: /{where.strip('/')}: has chunks beyond the end of the file: it is truncated; fetch it again"
        )
    # HDF5 may leave chunks that overhang the edge without filters, and the filter mask does not tell
    if filters:
        for axis, (length, part) in enumerate(zip(shape, chunk, strict=True)):
            if length % part and (size.take(-1, axis) == expected).any():
                return None
    return Chunks(path, where, dtype, shape, chunk, filters, fill, offset, size, skipped)


def _pipeline(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Return the filters in the order of writing; None for pipelines, or layouts, that HDF5 has to read."""
    if not isinstance(dataset, h5py.Dataset) or dataset.chunks is None or dataset.is_virtual or 0 in dataset.shape:
        return None
    settings = dataset.id.get_create_plist()
    told = [settings.get_filter(number) for number in range(settings.get_nfilters())]
    filters = tuple(_FILTERS.get(code, "") for code, *_ in told)
    widths = {int(values[0]) for code, _, values, _ in told if code == h5py.h5z.FILTER_SHUFFLE}
    return filters if filters in _PIPELINES and widths <= {dataset.dtype.itemsize} else None


def plain(dataset: h5py.Dataset) -> bool:
    """Tell whether the bytes in the file are NumPy's numbers: not 12 bits of 16, nor an enumeration."""
    if dataset.dtype.kind not in "iuf" or dataset.dtype.itemsize > 8:
        return False
    return bool(dataset.id.get_type() == h5py.h5t.py_create(np.dtype(dataset.dtype.str)))
