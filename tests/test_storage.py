"""HDF5 files on a disk that refuses: the error is the disk's, and the library neither fails over it nor crashes."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import fvproc as fv
from fvproc import storage


def test_what_is_written_is_what_h5py_writes(tmp_path):
    values = np.arange(100_000.0)
    for path, made in ((tmp_path / "ours.h5", storage.new_hdf5), (tmp_path / "theirs.h5", lambda p: h5py.File(p, "w"))):
        with made(path) as file:
            options = {"chunks": (1000,), "compression": "gzip", "track_times": False}
            file.create_dataset("values", data=values, **options).attrs["units"] = "m"
    assert (tmp_path / "ours.h5").read_bytes() == (tmp_path / "theirs.h5").read_bytes()


FULL = """
import sys, errno
import numpy as np
from fvproc import storage
room = int(sys.argv[2])
of = storage._Patient.__init__
class Small:
    def __init__(self, file):
        self._file = file
    def write(self, content):
        if self._file.tell() + len(content) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(content)
    def __getattr__(self, name):
        return getattr(self._file, name)
def small(self, path):
    of(self, path)
    self._file = Small(self._file)
storage._Patient.__init__ = small
try:
    with storage.new_hdf5(sys.argv[1]) as file:
        for number in range(10):
            values = np.random.default_rng(number).normal(size=10_000)
            file.create_dataset(f"v{number}", data=values, chunks=(1000,), compression="gzip")
            assert file[f"v{number}"].shape == (10_000,)
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize("room", [0, 100, 5_000, 60_000, 400_000])
def test_a_full_disk_ends_in_its_own_error_and_no_crash(tmp_path, room):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "full.h5"), str(room)], capture_output=True, text=True, check=False
    )
    assert done.returncode == errno.ENOSPC, done.stderr
    assert done.stderr == ""


def test_a_file_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(FileNotFoundError), storage.new_hdf5(tmp_path / "nowhere" / "file.h5"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_can_be_read_from(curves_file, monkeypatch, number):
    honest = h5py.File

    def file(path, mode="r", locking=None):
        if locking is not False:
            raise OSError(number, "unable to lock file")
        return honest(path, mode, locking=locking)

    want = fv.process(curves_file)["modulus"]
    monkeypatch.setattr(h5py, "File", file)
    np.testing.assert_array_equal(fv.process(curves_file)["modulus"], want)


def test_a_file_that_is_being_written_is_not_read(tmp_path, monkeypatch):
    """Only what tells of missing locks is let pass."""
    asked = []

    def file(path, mode="r", locking=None):
        asked.append(locking)
        raise OSError(errno.EAGAIN, "unable to lock file")

    monkeypatch.setattr(h5py, "File", file)
    with pytest.raises(BlockingIOError):
        storage.read_hdf5(tmp_path / "map.h5")
    assert asked == ["best-effort"]


def test_nobody_else_opens_hdf5_to_read():
    package = Path(storage.__file__).parent
    others = [path for path in package.rglob("*.py") if "h5py.File(" in path.read_text(encoding="utf-8")]
    assert others == [Path(storage.__file__)]


def test_a_new_file_takes_no_name_but_its_own(tmp_path):
    """A measurement may have any other."""
    others = [tmp_path / name for name in ("new.h5.partial", "new.h5.tmp", ".new.h5")]
    for other in others:
        other.write_text("a measurement")
    with storage.whole_hdf5(tmp_path / "new.h5") as (file, _):
        file.attrs["whole"] = 1
    assert {other.read_text() for other in others} == {"a measurement"}
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "new.h5"])


def test_what_is_flushed_to_the_disk_is_open_for_writing(tmp_path, monkeypatch):
    """Windows answers EBADF to a flush of what is open for reading: no simulated file could be finished there."""
    fcntl = pytest.importorskip("fcntl")
    honest = os.fsync

    def strict(descriptor):
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", strict)
    with storage.whole_hdf5(tmp_path / "out.h5") as (file, _):
        file["x"] = 1
    assert (tmp_path / "out.h5").exists()
