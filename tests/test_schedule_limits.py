"""What a run holds open, what it leaves behind, and how soon it stops."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
import weakref
from types import SimpleNamespace

import dask
import pytest

import fvproc as fv
from fvproc import bulk, engine, readers, simulate, writers
from fvproc.errors import FileFormatError, FvprocError
from fvproc.schedule import flow, limits

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    paths = [folder / f"map{number}.h5" for number in range(6)]
    for number, path in enumerate(paths):
        simulate.write_map(path, ny=4, nx=4, samples=64, seed=number)
    return paths


@pytest.fixture(scope="module")
def client():
    one = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="inproc")
    with one, distributed.Client(one, set_as_default=False) as client:
        yield client


class Open:
    """Counts the files that are open."""

    def __init__(self):
        self.now = self.most = 0

    def expect(self, curves, done):
        self.now += 1
        self.most = max(self.most, self.now)

    def told(self, result):
        self.now -= 1

    def start(self, workers):
        pass

    advance = staff = lambda self, *_: None

    def finish(self):
        pass


# ---- files


@pytest.mark.parametrize(
    ("jobs", "nbytes", "most"), [(3, 10**9, 3), (100, 1, 2), (100, 3 * 16 * 96, 3), (100, 10**9, 6)]
)
def test_no_more_files_are_open_than_descriptors_and_memory_allow(
    small_files, tmp_path, monkeypatch, jobs, nbytes, most
):
    monkeypatch.setattr(flow, "most_jobs", lambda: jobs)
    monkeypatch.setattr(flow, "MOST_BYTES", nbytes)
    seen = Open()
    results = bulk.process_many(small_files, output_dir=tmp_path, threads=8, progress=seen, told=seen.told)
    assert [result.status for result in results] == ["done"] * 6
    assert seen.most == most


def test_outputs_that_are_locked_count_as_files(small_files, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "most_jobs", lambda: 6)
    seen = Open()
    given = {"output_dir": tmp_path, "suffixes": (".h5", ".csv", ".npz")}
    bulk.process_many(small_files, threads=8, progress=seen, told=seen.told, **given)
    assert seen.most == 3  # each with its partial file and three locks


def test_the_limit_of_the_system_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    for soft, most in ((1024, 256), (64, 16), (4, 2), (10**6, 1024), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert limits.most_jobs() == most


def _full(*_, **__):
    try:
        raise OSError(errno.EMFILE, "Too many open files")
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error}") from None


@pytest.mark.parametrize("where", ["opening", "reading", "reading on a cluster"])
def test_too_many_open_files_end_the_run_and_are_no_fault_of_a_file(small_files, tmp_path, monkeypatch, client, where):
    if where != "opening":
        monkeypatch.setattr(readers, "read_tile", _full)
    with pytest.raises(FvprocError, match=r"too many files are open in process .*ulimit -n.*0 of 6 files came to an"):
        bulk.process_many(
            small_files,
            output_dir=tmp_path,
            client=client if "cluster" in where else None,
            open_volume=_full if where == "opening" else readers.open_volume,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_says_no_more_than_that_it_cannot_read(monkeypatch):
    limits.require_files(FileFormatError("no known format"))
    system = SimpleNamespace(open=_emfile, close=os.close, devnull=os.devnull, O_RDONLY=os.O_RDONLY, getpid=os.getpid)
    monkeypatch.setattr(limits, "os", system)
    with pytest.raises(limits.OutOfFilesError):
        limits.require_files(FileFormatError("no known format"))


def _emfile(*_):
    raise OSError(errno.EMFILE, "Too many open files")


# ---- what is left behind


def test_a_run_that_a_cluster_refuses_leaves_no_lock(small_files, tmp_path):
    nobody = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="inproc")
    with nobody, dask.config.set({"fvproc.patience": 0.2, "fvproc.answer": 2}):
        with pytest.raises(FvprocError, match="no worker") as held:
            fv.process_many(small_files, output_dir=tmp_path, client=nobody)
        results = fv.process_many(small_files, output_dir=tmp_path)
    assert held.tb is not None  # as a notebook holds it
    assert {result.status for result in results} == {"done"}


def test_a_run_that_is_interrupted_while_it_writes_leaves_no_lock(small_files, tmp_path, monkeypatch):
    def save(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as held:
        patch.setattr(writers, "save", save)
        fv.process_many(small_files, output_dir=tmp_path, threads=1)
    results = fv.process_many(small_files, output_dir=tmp_path)
    assert held.tb is not None
    assert {result.status for result in results} == {"done"}


def test_a_file_that_is_done_is_held_by_nobody(small_files, tmp_path, monkeypatch):
    made, alive = [], []
    honest = bulk._FileJob.__init__

    def init(job, *arguments):
        honest(job, *arguments)
        made.append(weakref.ref(job))

    def told(result):
        gc.collect()
        alive.append(made[0]() is not None)

    monkeypatch.setattr(bulk._FileJob, "__init__", init)
    monkeypatch.setattr(flow, "most_jobs", lambda: 2)
    bulk.process_many(small_files, output_dir=tmp_path, threads=1, told=told)
    assert alive == [True, False, False, False, False, False]


# ---- how soon it stops


def test_a_stop_is_looked_at_while_files_are_opened_and_skipped(small_files, tmp_path):
    fv.process_many(small_files, output_dir=tmp_path)
    seen = []

    def told(result):
        seen.append(result.status)
        if len(seen) == 2:
            assert flow.ask_to_stop()

    with pytest.raises(KeyboardInterrupt, match="2 of 6 files came to an end"):
        bulk.process_many(small_files, output_dir=tmp_path, resume=True, told=told)
    assert seen == ["done before"] * 2 + ["not run"] * 4
    assert not flow.ask_to_stop()


def test_a_read_that_hangs_does_not_hold_up_a_stop(sei_file, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "GRACE", 0.3)
    monkeypatch.setattr(flow, "_LEAVE", 0.1)
    over, honest = threading.Event(), engine.run_tile

    def run_tile(volume, recipe, tile):
        if tile.start == 0:
            over.wait(60)
        return honest(volume, recipe, tile)

    class Asks(Open):
        def advance(self, tile, failed):
            self.now += 1
            if self.now == 100:  # long after the one that hangs was submitted
                flow.ask_to_stop()

    monkeypatch.setattr(engine, "run_tile", run_tile)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt, match="curves are kept"):
            fv.process(sei_file, output=tmp_path / "out.h5", tile_bytes=1, threads=2, progress=Asks())
        assert 0.3 < time.monotonic() - began < 10
    finally:
        over.set()


def test_what_is_in_flight_when_a_run_stops_lands(sei_file, tmp_path, monkeypatch):
    """However long ago it was submitted."""
    asked, honest, landed = threading.Event(), engine.run_tile, []

    def run_tile(volume, recipe, tile):
        if tile.start == 0:
            assert asked.wait(60)
            time.sleep(0.2)
        return honest(volume, recipe, tile)

    class Asks(Open):
        def advance(self, tile, failed):
            landed.append(tile.start)
            if len(landed) == 100:
                flow.ask_to_stop()
                asked.set()

    monkeypatch.setattr(engine, "run_tile", run_tile)
    with pytest.raises(KeyboardInterrupt):
        fv.process(sei_file, tile_bytes=1, threads=2, progress=Asks())
    assert 0 in landed
