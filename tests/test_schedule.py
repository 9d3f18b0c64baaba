"""Tiles on threads and on a cluster: the same bytes whatever the cut, and each kind of failure on its road."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import cloudpickle
import dask
import numpy as np
import pytest
from cluster_processes import dask_command

import fvproc as fv
from fvproc import engine, readers, schedule
from fvproc.errors import FileFormatError, FvprocError
from fvproc.processors import cores
from fvproc.quantities import Flag
from fvproc.schedule import cluster, flow, preflight, work
from fvproc.schedule.threads import WINDOW, ThreadCrew

distributed = pytest.importorskip("distributed")


class Unmoved:
    """Is told of the progress of a run, and keeps it to itself."""

    def start(self, workers):
        pass

    def expect(self, curves, done):
        pass

    def advance(self, tile, failed):
        pass

    def staff(self, workers):
        pass

    def finish(self):
        pass


@pytest.fixture(scope="module")
def client():
    two = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="inproc"
    )
    with two, distributed.Client(two) as client:
        yield client


@pytest.fixture(scope="module")
def reference(sei_file):
    return fv.process(sei_file, threads=1)


@pytest.mark.parametrize("tile_bytes", [1, 3000, 100_000, 10**9])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_do_not_depend_on_tiles_or_threads(sei_file, reference, tile_bytes, threads):
    maps = fv.process(sei_file, tile_bytes=tile_bytes, threads=threads)
    assert maps.records.tobytes() == reference.records.tobytes()


def test_bytes_do_not_depend_on_dask_being_synchronous(sei_file, reference):
    with dask.config.set(scheduler="synchronous"):
        assert fv.process(sei_file).records.tobytes() == reference.records.tobytes()


def test_tiles_of_threads_are_large_while_much_is_left_and_small_toward_the_end(sei_file):
    """Each costs Python a tenth of a millisecond; a map of a few MB must still keep many cores busy."""
    volume = fv.open(sei_file)
    errand = work.Errand(volume, fv.Recipe())
    crew = ThreadCrew(4)
    sizes = [crew.curves(0, errand, left) * volume.curve_bytes for left in (10**9, 10**5, 10**4, 1920, 100, 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(16 << 20, rel=0.01)
    assert sizes[-1] == pytest.approx(1 << 18, rel=0.01)
    left, tiles = volume.grid.curves, 0
    while left > 0:
        left -= crew.curves(0, errand, left)
        tiles += 1
    assert tiles >= 4
    assert ThreadCrew(64).curves(0, errand, 10**9) * volume.curve_bytes <= work.TILE_BYTES
    assert ThreadCrew(4, 1000).curves(0, errand, 10**9) == 1


COUNTED = """
import sys
from fvproc.schedule.threads import ThreadCrew
crew = ThreadCrew()
print(crew.workers, crew.room(), "dask" in sys.modules)
"""


@pytest.mark.parametrize("told_by", ["nobody", "the environment", "a file"])
def test_what_dask_is_told_of_threads_holds_and_dask_is_not_imported_for_nothing(tmp_path, told_by):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    environment["HOME"] = environment["USERPROFILE"] = str(tmp_path)
    expected = [str(cores()), str(WINDOW * cores()), "False"]
    if told_by == "the environment":
        environment |= {"DASK_NUM_WORKERS": "3"}
        expected = ["3", str(WINDOW * 3), "True"]
    if told_by == "a file":
        (tmp_path / ".config" / "dask").mkdir(parents=True)
        (tmp_path / ".config" / "dask" / "mine.yaml").write_text("scheduler: synchronous\nnum_workers: 5\n")
        expected = ["5", "1", "True"]
    command = [sys.executable, "-c", COUNTED]
    # from elsewhere: a checkout in the way would be imported in place of what is installed
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == expected


def test_bytes_do_not_depend_on_a_cluster(sei_file, reference, client):
    maps = fv.process(sei_file, client=client, tile_bytes=50_000)
    assert maps.records.tobytes() == reference.records.tobytes()


def test_a_cluster_by_its_address(sei_file, reference, client):
    address = client.scheduler.address
    assert fv.process(sei_file, client=address, tile_bytes=200_000).records.tobytes() == reference.records.tobytes()


def test_lazy_arrays_hold_the_same(sei_file, reference):
    volume = fv.open(sei_file)
    lazy = fv.lazy(volume)
    assert lazy.shape == volume.shape
    assert lazy.compute().tobytes() == reference.records.tobytes()
    curves = fv.to_dask(volume, "retract")
    assert curves.shape == (*volume.shape, volume.retract.samples)
    one = fv.curve(volume, 7, 9)
    np.testing.assert_array_equal(curves[7, 9].compute(), one["retract_deflection"])
    with pytest.raises(FvprocError, match="choose from approach, retract"):
        fv.to_dask(volume, "sideways")


def _failing(monkeypatch, error, where=range(100, 130)):
    """Let every read of a tile that holds one of these curves fail."""
    honest = readers.read_tile
    calls = []

    def read(volume, tile):
        if tile.start in where:
            calls.append(tile)
            raise error
        return honest(volume, tile)

    monkeypatch.setattr(readers, "read_tile", read)
    monkeypatch.setattr(engine, "_FIRST_WAIT", 0.001)
    return calls


@pytest.mark.parametrize("where", ["threads", "cluster"])
@pytest.mark.parametrize("error", [OSError("the share went away"), FileFormatError("truncated")])
def test_a_tile_that_cannot_be_read_is_flagged_and_the_rest_goes_on(
    sei_file, reference, monkeypatch, client, error, where
):
    calls = _failing(monkeypatch, error)
    maps = fv.process(sei_file, tile_bytes=1, client=client if where == "cluster" else None)
    lost = np.zeros(maps.grid.curves, bool)
    lost[100:130] = True
    lost = lost.reshape(maps.shape)
    assert np.all(maps.flags[lost] == Flag.READ_ERROR)
    assert np.isnan(maps["modulus"][lost]).all()
    assert maps.records[~lost].tobytes() == reference.records[~lost].tobytes()
    assert len(maps.provenance["failures"]) == 30
    assert maps.provenance["failures"][0]["curves"] == [100, 101]
    assert str(error) in maps.provenance["failures"][0]["reason"]
    # a share may recover, a wrong file will not; another worker may see what one does not
    attempts = engine.READ_ATTEMPTS if isinstance(error, OSError) else 1
    assert len(calls) == 30 * attempts * (2 if where == "cluster" else 1)


def test_a_read_that_recovers_is_no_failure(sei_file, reference, monkeypatch):
    honest, tried = readers.read_tile, set()

    def read(volume, tile):
        if tile not in tried:
            tried.add(tile)
            raise OSError("for once")
        return honest(volume, tile)

    monkeypatch.setattr(readers, "read_tile", read)
    monkeypatch.setattr(engine, "_FIRST_WAIT", 0.001)
    maps = fv.process(sei_file, tile_bytes=400_000)
    assert maps.records.tobytes() == reference.records.tobytes()
    assert maps.provenance["failures"] == []


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_bug_goes_up_and_names_volume_and_tile(sei_file, monkeypatch, client, where):
    _failing(monkeypatch, ZeroDivisionError("oops"), where={100})
    with pytest.raises(RuntimeError, match=r"sei\.h5: curves 100 to 100 ended in ZeroDivisionError: oops"):
        fv.process(sei_file, tile_bytes=1, client=client if where == "cluster" else None)


def test_no_thread_is_left_after_a_bug(sei_file, monkeypatch):
    _failing(monkeypatch, ZeroDivisionError("oops"), where={100})
    with pytest.raises(RuntimeError):
        fv.process(sei_file, tile_bytes=1, threads=3)
    assert not [t for t in threading.enumerate() if t.name.startswith("fvproc-schedule")]


def _killer(monkeypatch, kills):
    """Let tasks be lost as distributed reports it of those whose workers died; return the tiles that were lost."""
    honest, lost = cluster._fate, []
    of = cluster.ClusterCrew._judged

    def judged(crew, flight, future, result):
        if kills(flight.tile):
            lost.append(flight.tile)
            error = distributed.KilledWorker(future.key, SimpleNamespace(address="tcp://worker:1"), 3)
            volume = crew._errands[flight.number][0].volume
            outcome = honest(volume, flight.tile, future, (type(error), error, None))
            return [work.Landed(flight.number, flight.tile, outcome, 0.0)]
        return of(crew, flight, future, result)

    monkeypatch.setattr(cluster.ClusterCrew, "_judged", judged)
    return lost


def test_a_tile_that_kills_its_workers_is_flagged_and_no_more_than_that(sei_file, reference, monkeypatch, client):
    """Tiles that were lost with it are tried again, alone and in pieces: only the curves that kill are given up."""
    volume = fv.open(sei_file)
    monkeypatch.setattr(flow, "base_curves", lambda volume: 100)
    lost = _killer(monkeypatch, lambda tile: tile.start <= 250 < tile.stop)
    maps = fv.process(sei_file, client=client, tile_bytes=600 * volume.curve_bytes)
    flagged = (maps.flags & np.uint32(Flag.WORKER_LOST)) != 0
    assert maps.provenance["failures"][0]["curves"] == [200, 300]
    assert np.flatnonzero(flagged.ravel()).tolist() == list(range(200, 300))
    assert np.all(maps.flags[flagged] == Flag.WORKER_LOST)
    assert maps.records[~flagged].tobytes() == reference.records[~flagged].tobytes()
    assert [(tile.start, tile.stop) for tile in lost] == [(0, 600), (200, 300)]


def test_a_tile_lost_by_chance_is_computed_in_the_end(sei_file, reference, monkeypatch, client):
    seen = set()

    def kills(tile):
        return tile.start == 0 and not (tile in seen or seen.add(tile)) and len(seen) == 1

    lost = _killer(monkeypatch, kills)
    maps = fv.process(sei_file, client=client, tile_bytes=100_000)
    assert lost
    assert maps.records.tobytes() == reference.records.tobytes()
    assert maps.provenance["failures"] == []


def test_no_thread_is_left_while_an_error_of_the_caller_is_held(sei_file):
    """The exception's frames hold the run alive: its threads must end all the same, not with the exception."""

    class Broken(Unmoved):
        def advance(self, tile, failed):
            raise ZeroDivisionError("in the caller")

    with pytest.raises(ZeroDivisionError) as held:
        fv.process(sei_file, tile_bytes=1, threads=3, progress=Broken())
    assert held.tb is not None
    assert not [t for t in threading.enumerate() if t.name.startswith("fvproc-schedule")]


def test_lazy_records_of_rows_that_cannot_be_read_are_flagged(sei_file, reference, monkeypatch):
    nx = reference.shape[1]
    _failing(monkeypatch, OSError("the share went away"), where={0})
    volume = fv.open(sei_file)
    recipe = fv.Recipe().completed(volume)
    records = schedule.lazy(volume, recipe, block_bytes=8 * nx * volume.curve_bytes).compute()
    assert np.all(records["flags"][:8] == Flag.READ_ERROR)
    assert records[8:].tobytes() == reference.records[8:].tobytes()


def test_tiles_stream_whatever_their_number(sei_file, monkeypatch):
    """A slow reader of results holds the threads back: never more than a few tiles wait in memory."""
    waiting, most, lock = 0, 0, threading.Lock()
    honest = engine.run_tile

    def counted(volume, recipe, tile):
        nonlocal waiting, most
        records = honest(volume, recipe, tile)
        with lock:
            waiting += 1
            most = max(most, waiting)
        return records

    monkeypatch.setattr(engine, "run_tile", counted)

    class Slow(Unmoved):
        def advance(self, tile, failed):
            nonlocal waiting
            threading.Event().wait(0.0005)
            with lock:
                waiting -= 1

    fv.process(sei_file, tile_bytes=1, threads=2, progress=Slow())
    assert waiting == 0
    assert most <= 4 * 2 + 2 + 1


def test_a_cluster_holds_a_bounded_window(sei_file, monkeypatch, client):
    flying, submitted, most = set(), 0, 0
    honest, judged = client.submit, cluster.ClusterCrew._judged

    def submit(function, *arguments, **options):
        nonlocal submitted, most
        future = honest(function, *arguments, **options)
        if function is cluster.task:
            submitted += 1
            flying.add(future.key)
            most = max(most, len(flying))
        return future

    def judge(crew, flight, future, result):
        flying.discard(future.key)
        return judged(crew, flight, future, result)

    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(cluster.ClusterCrew, "_judged", judge)
    volume = fv.open(sei_file)
    fv.process(volume, client=client, tile_bytes=20_000)
    assert submitted == len(schedule.cut(volume, 20_000))
    assert 2 < most <= cluster.WINDOW * 2


def test_preflight_refuses_workers_with_another_kernel_or_another_file(sei_file, monkeypatch, client):
    volume = fv.open(sei_file)
    for report, words in (
        (("0", volume.file_size, volume.modified_ns), "kernel version 0"),
        ((engine.KERNEL_VERSION, 7, volume.modified_ns), "with 7 bytes"),
        ((engine.KERNEL_VERSION, volume.file_size, volume.modified_ns + 10**10), r"\+10\.0 s away"),
        ("fvproc cannot be imported there (no module)", "cannot be imported there"),
    ):
        monkeypatch.setattr(client, "run", lambda function, report=report, **_: {"tcp://worker:1": report})
        with pytest.raises(FvprocError, match=f"tcp://worker:1.*{words}"):
            fv.process(volume, client=client)


def test_preflight_asks_the_scheduler_too(sei_file, monkeypatch, client):
    monkeypatch.setattr(client, "run_on_scheduler", lambda function: "fvproc cannot be imported there (no module)")
    with pytest.raises(FvprocError, match="the scheduler: fvproc cannot be imported there"):
        fv.process(sei_file, client=client)


def test_the_inspection_runs_where_fvproc_is_not_installed(sei_file):
    """It travels by value; a reference to this package would fail before it could say what is missing."""
    code = (
        "import base64, pickle, sys; sys.modules['fvproc'] = None\nprint(pickle.loads(base64.b64decode(sys.argv[1]))())"
    )
    parcel = base64.b64encode(cloudpickle.dumps(preflight.inspection(str(sei_file)))).decode()
    done = subprocess.run([sys.executable, "-c", code, parcel], capture_output=True, text=True, check=False)
    assert "fvproc cannot be imported there" in done.stdout, done.stderr


def test_a_cluster_without_workers_is_named(sei_file):
    volume = fv.open(sei_file)
    nobody = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="inproc")
    with nobody, distributed.Client(nobody, set_as_default=False) as client:  # noqa: SIM117
        with pytest.raises(FvprocError, match="has no worker"):
            cluster.ClusterCrew(client, volume, patience=0.1)


def test_a_scheduler_that_dies_ends_the_run(sei_file, tmp_path):
    """A plain loop over results would wait for ever."""
    file = tmp_path / "scheduler.json"
    processes = [dask_command("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file)]

    class Killer(Unmoved):
        tiles = 0

        def expect(self, curves, done):
            assert curves == 48 * 40
            assert done == 0

        def advance(self, tile, failed):
            self.tiles += 1
            if self.tiles == 5:
                processes[0].kill()
                processes[0].wait()

    try:
        while not (file.exists() and file.stat().st_size):
            assert processes[0].poll() is None
            threading.Event().wait(0.05)
        processes.append(dask_command("worker", "--scheduler-file", file, "--no-nanny", "--nthreads", 1))
        with schedule.connect(scheduler_file=str(file)) as client:
            killer = Killer()
            with pytest.raises(FvprocError, match="the scheduler"):
                fv.process(sei_file, client=client, tile_bytes=1, progress=killer)
            assert 5 <= killer.tiles < 48 * 40
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_scheduler_file_that_is_none_is_named(tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    for name in ("empty.json", "nowhere.json"):
        with pytest.raises(FvprocError, match=rf"{name}: no scheduler's address"):
            schedule.connect(scheduler_file=str(tmp_path / name))


def test_a_scheduler_that_does_not_answer_is_named():
    quick = dask.config.set({"distributed.comm.timeouts.connect": "300ms"})
    with quick, pytest.raises(FvprocError, match=r"127\.0\.0\.1:9"):
        schedule.connect("tcp://127.0.0.1:9")


def test_a_run_that_is_asked_to_stop_ends_between_two_tiles(sei_file):
    """As a signal handler asks: an exception raised there may be swallowed by whatever is interrupted."""
    assert not flow.ask_to_stop()  # nothing runs

    class Asks(Unmoved):
        tiles = 0

        def advance(self, tile, failed):
            self.tiles += 1
            if self.tiles == 5:
                assert flow.ask_to_stop()

    asks = Asks()
    with pytest.raises(KeyboardInterrupt):
        fv.process(sei_file, tile_bytes=1, threads=2, progress=asks)
    assert 5 <= asks.tiles < 50
    assert not flow.ask_to_stop()
    fv.process(sei_file, tile_bytes=10**6)  # the next run knows nothing of it
