"""Deflating maps by several threads: chunks as HDF5 stores them, bytes in planes, and the tiles and strips of TIFF."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import Any, TypeVar

import h5py
import numpy as np

from fvproc.processors import cores

# gzip is the one compression that every HDF5 library has; level 1 because the noise in the numbers leaves higher
# levels nothing to gain
_LEVEL = 1
_SAMPLE = 4096  # bytes that tell whether more of them can be packed
# of the size, at most: packing what gets shorter by less takes a third of the time for a fiftieth of the file
_WORTH = 0.7
_PLACES = 16  # that such a sample of a stream is taken from
_SEARCHED = 0.8  # of the size: less gained by looking for repetitions is not worth its time
_ROWS = 8  # of records that are taken apart together: few enough for the processor's nearest memory
COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}

_Place = tuple[int, int]
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def workers() -> int:
    """Return how many threads pack."""
    return min(8, cores())


def in_order(work: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """Yield what the work makes of each item, in order; threads do it, a few items ahead of who takes them."""
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers() + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who takes them may have given up: a full disk
            for future in waiting:
                future.cancel()


def zlib_stream(numbers: np.ndarray) -> bytes:
    """Return the bytes of an array as a zlib stream (RFC 1950), which every reader of TIFF can inflate.

    Of noise only the exponents can be packed: coding bytes by their frequency comes within 5 % of what looking for
    repetitions gives, in a sixth of the time of zlib's default. Equal numbers are all repetition; a sample tells.
    """
    octets = np.ascontiguousarray(numbers).reshape(-1).view(np.uint8)
    content = octets.data
    # from everywhere: a tile may begin with noise and go on without values
    step = max(octets.size // _PLACES, _SAMPLE // _PLACES)
    sample = np.concatenate([octets[i : i + _SAMPLE // _PLACES] for i in range(0, octets.size, step)]).data
    plain, searched = (len(_compressed(sample, strategy)) for strategy in (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY))
    return _compressed(content, zlib.Z_DEFAULT_STRATEGY if searched < _SEARCHED * plain else zlib.Z_RLE)


def _compressed(content: memoryview, strategy: int) -> bytes:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return deflate.compress(content) + deflate.flush()


class Chunks:
    """Chunks of maps of one grid, packed by threads from the moment that this is made, some places ahead of the writer.

    By HDF5, one thread packs them all, a third of a run's time. Few places are under way at a time: the maps may lie in
    a file larger than memory.
    """

    def __init__(
        self, shape: _Place, chunk: _Place, packed: Callable[[_Place], list[bytes]], pool: ThreadPoolExecutor
    ) -> None:
        self._places = product(range(0, shape[0], chunk[0]), range(0, shape[1], chunk[1]))
        self._packed, self._pool = packed, pool
        self._waiting: deque[tuple[_Place, Future[list[bytes]]]] = deque()
        self._go_on()

    def _go_on(self) -> None:
        while len(self._waiting) < workers() + 2 and (place := next(self._places, None)) is not None:
            self._waiting.append((place, self._pool.submit(self._packed, place)))

    def write(self, datasets: Sequence[h5py.Dataset]) -> None:
        """Write all of them, each map into its dataset."""
        while self._waiting:
            place, chunks = self._waiting.popleft()
            for dataset, content in zip(datasets, chunks.result(), strict=True):
                dataset.id.write_direct_chunk(place, content)
            self._go_on()


def of_fields(records: np.ndarray, fills: Mapping[str, Any], chunk: _Place, pool: ThreadPoolExecutor) -> Chunks:
    """Return the chunks of fields of records (ny, nx), in the order of `fills`, which tells what stands beyond the map.

    All fields of a place together, since they stand side by side in memory.
    """

    def packed(place: _Place) -> list[bytes]:
        planes = _taken_apart(records[place[0] : place[0] + chunk[0], place[1] : place[1] + chunk[1]], fills, chunk)
        return [_packed(planes[name]) for name in fills]

    return Chunks(records.shape, chunk, packed, pool)


def of_map(values: np.ndarray, fill: Any, chunk: _Place, pool: ThreadPoolExecutor) -> Chunks:
    """Return the chunks of one map (ny, nx)."""

    def packed(place: _Place) -> list[bytes]:
        block = np.full(chunk, fill, values.dtype)
        part = values[place[0] : place[0] + chunk[0], place[1] : place[1] + chunk[1]]
        block[: part.shape[0], : part.shape[1]] = part
        return [_packed(block.view(np.uint8).reshape(-1, values.dtype.itemsize).T)]

    return Chunks(values.shape, chunk, packed, pool)


def _taken_apart(block: np.ndarray, fills: Mapping[str, Any], chunk: _Place) -> dict[str, np.ndarray]:
    """Return the bytes of fields of records as planes (itemsize, *chunk), the fill value's beyond the block.

    Neighbouring fields at once: taking them out one by one fetches the same memory for each of them.
    """
    block = np.asarray(block)  # that of lazy maps is computed now
    size = block.dtype.itemsize
    if block.strides[1] != size:
        block = np.ascontiguousarray(block)
    octets = block.view(np.uint8).reshape(*block.shape, size)
    assert block.dtype.fields is not None
    where = {name: slice(f[1], f[1] + f[0].itemsize) for name, f in block.dtype.fields.items() if name in fills}
    planes = np.empty((size, *chunk), np.uint8)
    wanted = np.zeros(size, bool)
    for name, place in where.items():
        wanted[place] = True
        if block.shape != chunk:
            fill = np.array(fills[name], block.dtype[name]).reshape(1)
            planes[place] = fill.view(np.uint8)[:, None, None]
    runs = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).reshape(-1, 2)
    for row in range(0, block.shape[0], _ROWS):
        part = octets[row : row + _ROWS]
        for start, stop in runs:
            planes[start:stop, row : row + len(part), : block.shape[1]] = np.moveaxis(part[..., start:stop], 2, 0)
    return {name: planes[place] for name, place in where.items()}


def _packed(planes: np.ndarray) -> bytes:
    """Return a chunk as HDF5 stores it: its bytes shuffled, in planes, and deflated."""
    # A zlib stream (RFC 1950, 1951) of blocks that end at bytes. The low bytes of noise are stored as they are; in the
    # others runs are all there is to find, and looking for nothing else comes out shorter, in a third of the time.
    planes = np.ascontiguousarray(planes).reshape(len(planes), -1)
    parts = [b"\x78\x01"]
    for plane in planes:
        sample = plane[:_SAMPLE]
        level = _LEVEL if len(_deflated(sample, _LEVEL)) < _WORTH * sample.size else 0
        parts.append(_deflated(plane, level))
    end = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*parts, end.flush(), zlib.adler32(planes.data).to_bytes(4, "big")])


def _deflated(plane: np.ndarray, level: int) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return deflate.compress(plane.data) + deflate.flush(zlib.Z_FULL_FLUSH)
