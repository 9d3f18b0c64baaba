"""The journal: whatever is torn, flipped or cut off, what it gives back is whole, or it refuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvproc import beside, journal
from fvproc.beside import partial_path
from fvproc.errors import OutputError
from fvproc.journal import Journal
from fvproc.maps import not_computed
from fvproc.partial import PartialFile
from fvproc.quantities import RECORD
from fvproc.volume import Tile

TESTS = Path(__file__).parent
CURVES = 40
KEY = {"input": {"name": "map.spm", "size": 7}, "recipe": "abc", "kernel": "2", "grid": [5, 8]}


@pytest.fixture
def truth():
    records = np.zeros(CURVES, RECORD)
    records["modulus"] = np.arange(CURVES) * 1e6
    records["adhesion"] = np.random.default_rng(0).normal(size=CURVES)
    records["flags"] = np.arange(CURVES)
    return records


@pytest.fixture(autouse=True, params=["in memory", "mapped"])
def place(request, monkeypatch):
    """Where the records are: those of large maps stay in the partial file."""
    if request.param == "mapped":
        if os.name == "nt":
            pytest.skip("a file that is mapped cannot be removed there")
        monkeypatch.setattr(journal, "MAPPED_BYTES", 0)
    return request.param


def begin(folder: Path, key=KEY, overwrite=False) -> tuple[Journal, np.ndarray]:
    kept = Journal(folder / "out.h5", key, CURVES, overwrite)
    return kept, kept.records


def keep(folder: Path, truth: np.ndarray, *tiles: tuple[int, int]) -> None:
    """Leave an unfinished run with these tiles, each of a commit of its own."""
    kept, _ = begin(folder)
    for start, stop in tiles:
        kept.place(Tile(start, stop), truth[start:stop])
        kept.commit()
    kept.close()


def test_what_was_kept_comes_back_and_the_rest_is_left_to_do(tmp_path, truth):
    keep(tmp_path, truth, (0, 5), (20, 30), (5, 9))
    again, records = begin(tmp_path)
    assert again.done == [Tile(0, 9), Tile(20, 30)]
    assert again.left() == [Tile(9, 20), Tile(30, 40)]
    assert again.kept() == 19
    for tile in again.done:
        assert records[tile.start : tile.stop].tobytes() == truth[tile.start : tile.stop].tobytes()
    for tile in again.left():
        assert records[tile.start : tile.stop].tobytes() == not_computed(len(tile)).tobytes()
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_short_run_leaves_no_trace(tmp_path, place):
    kept, _ = begin(tmp_path)
    kept.place(Tile(0, 3), not_computed(3))
    assert partial_path(tmp_path / "out.h5").exists() == (place == "mapped")
    kept.remove()
    assert list(tmp_path.iterdir()) == []
    kept, _ = begin(tmp_path)
    kept.close()
    assert place == "mapped" or list(tmp_path.iterdir()) == []


def test_commits_come_by_themselves(tmp_path, truth, monkeypatch):
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)
    kept, _ = begin(tmp_path)
    kept.place(Tile(0, 4), truth[:4])
    deadline = time.monotonic() + 10
    while b'"stop"' not in kept.path.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    kept.close()
    assert begin(tmp_path)[0].done == [Tile(0, 4)]


def test_tiles_land_while_the_disk_takes_its_time(tmp_path, truth, monkeypatch):
    """And what landed meanwhile is no part of that commit, but of the next."""
    disk, began = threading.Event(), threading.Event()
    honest = PartialFile.synchronise

    def slow(file):
        began.set()
        assert disk.wait(30)
        honest(file)

    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(PartialFile, "synchronise", slow)
    kept, _ = begin(tmp_path)
    kept.place(Tile(0, 4), truth[:4])
    assert began.wait(30)
    kept.place(Tile(4, 9), truth[4:9])
    assert b'"stop"' not in kept.path.read_bytes()
    disk.set()
    kept.commit()
    assert kept.done == [Tile(0, 9)]
    noted = [json.loads(line) for line in kept.path.read_bytes().splitlines()[1:]]
    assert [(entry["start"], entry["stop"]) for entry in noted] == [(0, 4), (4, 9)]
    kept.close()


def test_the_partial_file_is_hdf5_that_shows_what_is_done(tmp_path, truth):
    keep(tmp_path, truth, (8, 16))
    with h5py.File(tmp_path / "out.h5.partial") as file:
        records = file["records"][()]
    assert records["modulus"][8:16].tobytes() == truth["modulus"][8:16].tobytes()
    assert np.isnan(records["modulus"][:8]).all()
    assert records["flags"][0] == not_computed(1)["flags"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "abd"}, "the recipe is another"),
        ({"input": {"name": "map.spm", "size": 8}}, "the input has changed .size: 7 then, 8 now"),
        ({"kernel": "3"}, "the kernel is of another version"),
    ],
)
def test_a_run_of_something_else_is_refused_by_name(tmp_path, truth, change, words):
    keep(tmp_path, truth, (0, 5))
    with pytest.raises(OutputError, match=rf"out\.h5\.partial.*{words}.*--overwrite"):
        begin(tmp_path, {**KEY, **change})
    again, _ = begin(tmp_path)  # nothing was lost by the refusal
    assert again.kept() == 5
    again.close()
    anew, records = begin(tmp_path, {**KEY, **change}, overwrite=True)
    assert anew.kept() == 0 and records.tobytes() == not_computed(CURVES).tobytes()
    anew.close()


def test_two_runs_of_one_output_at_once_are_refused(tmp_path, truth):
    first, _ = begin(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="another run is writing it now"):
            begin(tmp_path, overwrite=overwrite)
    first.place(Tile(0, 5), truth[:5])
    first.commit()
    first.close()
    second, _ = begin(tmp_path)
    assert second.kept() == 5
    second.close()


def test_a_dead_process_holds_no_lock(tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, '.'); from pathlib import Path; from test_journal import begin\n"
        "begin(Path(sys.argv[1])); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=TESTS, check=False)
    assert done.returncode == 9
    begin(tmp_path)[0].close()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_damage_gives_wrong_records(data):
    """Any byte flipped, any end cut off, of journal or partial file: whole records, or a refusal."""
    truth = np.zeros(CURVES, RECORD)
    truth["modulus"] = np.arange(1, CURVES + 1) * 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keep(folder, truth, (0, 5), (20, 30), (5, 9), (30, 40))
        for _ in range(data.draw(st.integers(1, 3))):
            victim = folder / data.draw(st.sampled_from(["out.h5.partial", "out.h5.partial.journal"]))
            content = bytearray(victim.read_bytes())
            place = data.draw(st.integers(0, max(len(content) - 1, 0)))
            if data.draw(st.booleans()) or not content:
                content = content[:place]
            else:
                content[place] ^= data.draw(st.integers(1, 255))
            victim.write_bytes(content)
        try:
            again, records = begin(folder)
        except OutputError:
            try:
                again, records = begin(folder, overwrite=True)
            except OutputError as error:  # nothing tells any more that it is ours
                assert "move it away" in str(error)
                for left in folder.iterdir():
                    left.unlink()
                again, records = begin(folder)
            assert again.kept() == 0
        for tile in again.done:
            assert records[tile.start : tile.stop].tobytes() == truth[tile.start : tile.stop].tobytes()
        for tile in again.left():
            assert records[tile.start : tile.stop].tobytes() == not_computed(len(tile)).tobytes()
            again.place(tile, truth[tile.start : tile.stop])
        # and what is added after the damage is found by the next one
        again.commit()
        again.close()
        last, records = begin(folder)
        assert last.left() == [] and records.tobytes() == truth.tobytes()
        last.close()


def test_lines_that_lie_are_passed_over(tmp_path, truth):
    """Tiles that overlap, run backwards, reach beyond the grid, or are no numbers."""
    keep(tmp_path, truth, (0, 5))
    path = tmp_path / "out.h5.partial.journal"
    crc = zlib.crc32(truth[3:8].tobytes())
    lies = [(3, 8, crc), (9, 4, 0), (-4, 2, 0), (30, 10**9, 0), (10, 10, 0), ("0", "5", 0), (5.0, 6.0, 0), (None, 1, 2)]
    with path.open("a") as file:
        for start, stop, check in lies:
            file.write(json.dumps({"start": start, "stop": stop, "crc32": check}) + "\n")
        file.write("[1, 2]\n7\nnull\n")
    again, _ = begin(tmp_path)
    assert again.done == [Tile(0, 5)]
    again.close()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out.h5.partial", "out.h5.partial.journal"])
def test_a_file_of_that_name_that_no_run_has_made_keeps_every_byte(tmp_path, truth, name, overwrite):
    theirs = tmp_path / name
    for content in (b"a measurement", b"{}\n[1]\n", b"\x89HDF\r\n\x1a\n"):
        theirs.write_bytes(content)
        with pytest.raises(OutputError, match=rf"{name}: is there and is .*; move it away"):
            begin(tmp_path, overwrite=overwrite)
        beside.sweep(tmp_path / "out.h5")
        assert theirs.read_bytes() == content
        assert list(tmp_path.iterdir()) == [theirs]


def test_what_a_run_left_that_died_while_it_made_its_partial_file_is_no_obstacle(tmp_path, truth, monkeypatch):
    def die(path, curves):
        path.write_bytes(b"half of an HDF5 file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, ExitStack() as stack, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal, "allocate", die)
        kept, _ = begin(tmp_path)
        stack.callback(kept.close)
        kept.place(Tile(0, 5), truth[:5])
        kept.commit()
    assert partial_path(tmp_path / "out.h5").read_bytes() == b"half of an HDF5 file"
    again, _ = begin(tmp_path)
    again.place(Tile(0, 5), truth[:5])
    again.commit()
    assert again.kept() == 5
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_time_that_another_client_of_the_share_rounds_is_the_same(tmp_path, truth):
    key = {**KEY, "input": {"name": "map.spm", "modified_ns": 10**18}}
    kept, _ = begin(tmp_path, key)
    kept.place(Tile(0, 5), truth[:5])
    kept.commit()
    kept.close()
    again, _ = begin(tmp_path, {**key, "input": {"name": "map.spm", "modified_ns": 10**18 + 1_900_000_000}})
    assert again.kept() == 5
    again.close()
    for change in ({"modified_ns": 10**18 + 2_100_000_000}, {"name": "other.spm"}):
        with pytest.raises(OutputError, match="the input has changed"):
            begin(tmp_path, {**key, "input": {**key["input"], **change}})


class Full:
    """A file on a disk that is full."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, start, octets):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_loses_nothing_that_was_durable(tmp_path, truth):
    kept, _ = begin(tmp_path)
    kept.place(Tile(0, 5), truth[:5])
    kept.commit()
    honest, kept._file = kept._file, Full(kept._file)
    with pytest.raises(OutputError, match=r"No space left.*needs\s+about as much again.*run the same again"):
        kept.place(Tile(5, 9), truth[5:9])  # where the records are mapped, else at the next commit
        kept.commit()
    kept._file = honest
    kept.close()
    again, _ = begin(tmp_path)
    assert again.done == [Tile(0, 5)]
    again.close()
