"""Compressed HDF5 chunks read as they are and decompressed here: on as many threads as there are.

HDF5 has one lock for all threads of a process, and holds it while it decompresses. Here it is held only while a chunk's
bytes are fetched; zlib lets go of Python's lock as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import h5py
import numpy as np

# What HDF5 numbers its filters.
_DEFLATE, _SHUFFLE = 1, 2
# A chunk that claims to be larger is left to HDF5: the memory is needed before it is known to be true.
_LARGEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How the chunks of a dataset were packed, filters in the order of writing."""

    filters: tuple[int, ...]
    chunk: tuple[int, ...]
    stored: np.dtype
    fill: np.ndarray

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk when unpacked."""
        return int(np.prod(self.chunk)) * self.stored.itemsize

    def unpacked(self, packed: bytes, mask: int) -> np.ndarray:
        """Return the numbers of a chunk, shape `chunk`, in the byte order of the file.

        Parameters
        ----------
        packed : bytes
            As they lie in the file.
        mask : int
            Bits of the filters that this chunk was written without.

        Raises
        ------
        OSError
            If they are damaged: zlib's checksum, or their number.
        """
        content = packed
        for number in reversed(range(len(self.filters))):
            if mask >> number & 1:
                continue
            content = self._inflated(content) if self.filters[number] == _DEFLATE else self._unshuffled(content)
        if len(content) != self.chunk_bytes:
            raise OSError(f"a chunk holds {len(content)} bytes, not {self.chunk_bytes}")
        return np.frombuffer(content, self.stored).reshape(self.chunk)

    def _inflated(self, content: bytes) -> bytes:
        inflate = zlib.decompressobj()
        try:
            # no more than it may be, whatever it claims to be
            unpacked = inflate.decompress(content, self.chunk_bytes)
            rest = inflate.decompress(inflate.unconsumed_tail, 1) if not inflate.eof else b""
        except zlib.error as error:
            raise OSError(f"a compressed chunk is damaged: {error}") from None
        if rest or not inflate.eof:
            raise OSError(f"a compressed chunk holds more or less than its {self.chunk_bytes} bytes")
        return unpacked

    def _unshuffled(self, content: bytes) -> bytes:
        """Undo HDF5's shuffle: first bytes of all numbers, then second bytes …; a rest stays as it is."""
        size = self.stored.itemsize
        whole = len(content) // size * size
        if size == 1 or whole != len(content):
            return content
        return np.frombuffer(content, np.uint8).reshape(size, -1).T.tobytes()


def pipeline(dataset: h5py.Dataset) -> Pipeline | None:
    """Return how the chunks of a dataset are packed; None where HDF5 itself must read them."""
    if dataset.chunks is None or dataset.dtype.kind not in "iuf" or dataset.external or dataset.is_virtual:
        return None
    settings = dataset.id.get_create_plist()
    filters = tuple(settings.get_filter(number)[0] for number in range(settings.get_nfilters()))
    # of numbers with bits of padding, as HDF5 also knows them, NumPy knows nothing
    if not set(filters) <= {_DEFLATE, _SHUFFLE} or not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        return None
    fill = np.asarray(dataset.fillvalue, dataset.dtype)
    found = Pipeline(filters, dataset.chunks, dataset.dtype, fill)
    return found if found.filters and found.chunk_bytes <= _LARGEST else None


def read_into(dataset: h5py.Dataset, packed: Pipeline, selection: tuple[slice, ...], out: np.ndarray) -> None:
    """Read a part of a dataset.

    Parameters
    ----------
    dataset : h5py.Dataset
        Open; used by one thread at a time.
    packed : Pipeline
        What `pipeline` returned of it.
    selection : tuple of slice
        One for each dimension, with start and stop and without step.
    out : ndarray
        Of the selection's shape; filled in.

    Raises
    ------
    OSError
        If a chunk is damaged.
    """
    for origin in _origins(selection, packed.chunk):
        theirs, ours = [], []
        for start, length, part in zip(origin, packed.chunk, selection, strict=True):
            first, last = max(start, part.start), min(start + length, part.stop)
            theirs.append(slice(first - start, last - start))
            ours.append(slice(first - part.start, last - part.start))
        stored = dataset.id.get_chunk_info_by_coord(origin)
        if stored.byte_offset is None:
            out[tuple(ours)] = packed.fill  # never written
            continue
        _, content = dataset.id.read_direct_chunk(origin)
        out[tuple(ours)] = packed.unpacked(content, stored.filter_mask)[tuple(theirs)]


def _origins(selection: tuple[slice, ...], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the first element of each chunk that the selection touches."""
    return product(
        *(
            range(part.start // length * length, part.stop, length)
            for part, length in zip(selection, chunk, strict=True)
        )
    )
