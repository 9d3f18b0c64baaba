"""One contiguous run of numbers of a file into memory: no map, no handle that outlives the call."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
from numpy.typing import DTypeLike

from fvproc.errors import FileFormatError

_POOL_BYTES = 128 << 20
_SMALL = 1 << 16  # bytes; below this the allocator is as good


def read_block(path: str, offset: int, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array that lies contiguous in a file; the result is in native byte order, and the caller's to change.

    Reading rather than mapping: a file that shrinks meanwhile, or a disk that fails, is an error of one tile and not
    the death of the process.

    Raises
    ------
    FileFormatError
        If the file ends before the array does, or cannot be read.
    """
    stored = np.dtype(dtype)
    values = buffer(stored, shape)
    view = values.reshape(-1).view(np.uint8).data
    done = 0
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (four times a tile: a Path costs as much again)
            file.seek(offset)
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise FileFormatError(
                        f"{path}: ends at byte {offset + done}, within the data of {len(view)} bytes at {offset}:"
                        " the file is truncated; fetch it again"
                    )
                done += count
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    native = stored.newbyteorder("=")
    return values if stored == native else values.astype(native)


def buffer(dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialised array like `numpy.empty`, in memory of an earlier tile where there is some.

    A fresh array of a few MB costs seven times as much as reading a file in the page cache into it: the system hands
    out and takes back its pages each time.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = _POOL.take(size) if size >= _SMALL else None
    return np.empty(shape, dtype) if memory is None else memory[:size].view(dtype).reshape(shape)


def _references(arrays: list[np.ndarray], index: int) -> int:
    return sys.getrefcount(arrays[index])


class _Pool:
    """Byte arrays that are lent out again once nobody else refers to them.

    Every view refers to the array that owns its memory, so the reference count tells whether one is in use.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._lock = threading.Lock()
        self._idle = _references([np.empty(1, np.uint8)], 0)

    def take(self, size: int) -> np.ndarray | None:
        """Return an idle array of at least so many bytes; None where there is no room to keep one more."""
        # not waiting for the lock: after a fork it may be held by a thread that no longer is
        if not self._lock.acquire(blocking=False):
            return None
        try:
            idle = [i for i in range(len(self._arrays)) if _references(self._arrays, i) == self._idle]
            for index in idle:
                if size <= self._arrays[index].size <= 2 * size:
                    return self._arrays[index]
            if self._held() + size > _POOL_BYTES:
                for index in reversed(idle):  # of sizes that are no longer asked for
                    del self._arrays[index]
            if self._held() + size > _POOL_BYTES:
                return None
            self._arrays.append(np.empty(size, np.uint8))
            return self._arrays[-1]
        finally:
            self._lock.release()

    def _held(self) -> int:
        return sum(array.size for array in self._arrays)


_POOL = _Pool()
