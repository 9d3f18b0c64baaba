"""HDF5 files on a disk that refuses: the error is the disk's, and the library neither fails over it nor crashes."""

from __future__ import annotations

import errno
import subprocess
import sys

import h5py
import numpy as np
import pytest

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
