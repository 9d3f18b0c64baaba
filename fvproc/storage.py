"""HDF5 files where file systems refuse: new ones on full disks, of which the library must not learn; locks to read."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from fvproc.errors import OutputError

_REMEDY = "nothing is kept: make room there, or choose another disk"


# what a file system without locks answers: ENOLCK of a network's, EOPNOTSUPP of some in user space
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def read_hdf5(path: str | PathLike[str]) -> Any:
    """Return an `h5py.File` to read, locked for reading where the file system has locks: nobody writes it meanwhile.

    Raises
    ------
    OSError
        If the file cannot be read, or is being written.
    """
    import h5py

    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    # not at once: the library refuses a file that this process has open with another choice
    return h5py.File(path, "r", locking=False)


class _Patient:
    """A file for HDF5 that takes everything and notes the first error.

    The library (2.0 and before) cannot let go of a file that a full disk kept it from writing: it tries again when
    Python ends, and crashes. Here it never fails; who made the file asks for `error` when it is closed.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: PTH123, SIM115
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all of it, or note why not."""
        view = memoryview(content).cast("B")
        left = view
        try:
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read; what could not be written is zeros."""
        view = memoryview(buffer).cast("B")
        got = self._file.readinto(view) or 0
        view[got:] = bytes(len(view) - got)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """Read; h5py takes for a file what can do this."""
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Make the file so long, or note why not."""
        try:
            self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return self._file.tell() if size is None else size

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Close the file, or note why not: some file systems tell only now."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


@contextmanager
def new_hdf5(path: str | PathLike[str]) -> Iterator[Any]:
    """Yield an `h5py.File` to write; an existing file is overwritten.

    Raises
    ------
    OSError
        If the file cannot be made or written, such as on a full disk; at the latest when the block ends.
    """
    with watched_hdf5(path) as (file, _):
        yield file


@contextmanager
def watched_hdf5(path: str | PathLike[str]) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield the same, and a function that raises what was noted by then: so a long writer can stop at once.

    Raises
    ------
    OSError
        As `new_hdf5`.
    """
    import h5py

    patient = _Patient(path)

    def require_written() -> None:
        if patient.error is not None:
            raise patient.error

    try:
        with h5py.File(patient, "w") as file:
            yield file, require_written
    except BaseException as error:
        if patient.error not in (None, error) and isinstance(error, (OSError, RuntimeError, ValueError)):
            raise patient.error from error  # that is why
        raise
    finally:
        patient.close()
    require_written()


@contextmanager
def whole_hdf5(path: str | PathLike[str]) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield an `h5py.File` that takes its name when the block ends well, and a function that raises on a full disk.

    After an exception nothing is left of it, and a file that was there before stays.

    Raises
    ------
    OutputError
        If the file cannot be made, written or finished.
    """
    path = Path(path)
    # a name that nothing else has: neither a measurement, nor what a run of that output keeps
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        opened = watched_hdf5(partial)
        file, require_written = opened.__enter__()
    except OSError as error:
        raise OutputError(f"{path}: the file cannot be created: {error.strerror or error}") from None

    def require_room() -> None:
        try:
            require_written()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}; {_REMEDY}") from None

    try:
        yield file, require_room
    except BaseException:
        with suppress(OSError):  # what could not be written matters no more
            opened.__exit__(None, None, None)
        partial.unlink(missing_ok=True)
        raise
    try:
        opened.__exit__(None, None, None)
        _sync(partial)
        partial.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be finished: {error.strerror or error}; {_REMEDY}") from None


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk before what depends on it."""
    # Windows flushes only what is open for writing; a folder opens for reading only
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
