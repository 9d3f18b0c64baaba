"""Workers that see some inputs and not others, that join when an input is gone, that pause; files that fail midway."""

from __future__ import annotations

import threading
import time
import warnings

import dask
import pytest
from cluster_processes import Hosts

import fvproc as fv
from fvproc import bulk, engine, schedule, simulate
from fvproc.errors import FvprocError
from fvproc.schedule import cluster, vigil
from fvproc.schedule.work import Errand
from fvproc.volume import Tile

distributed = pytest.importorskip("distributed")


@pytest.fixture
def one():
    own = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="inproc"
    )
    with own:
        yield own


@pytest.fixture
def client(one):
    with distributed.Client(one, set_as_default=False) as client:
        yield client


@pytest.fixture
def hosts(tmp_path):
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.close()


def maps(folder, number):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"map{each}.h5" for each in range(number)]
    for each, path in enumerate(paths):
        simulate.write_map(path, ny=8, nx=8, samples=64, seed=each)
    return paths


# ---- tiles of a file that has failed


def landed_until_idle(crew):
    landed, end = [], time.monotonic() + 20
    while not crew.idle() and time.monotonic() < end:
        landed += crew.landed()
    return landed


def crew_of(sei_file, client):
    volume = fv.open(sei_file)
    crew = cluster.ClusterCrew(client, volume)
    for start in range(0, 40, 10):
        crew.submit(0, Errand(volume, fv.Recipe().completed(volume)), Tile(start, start + 10))
    return crew


def test_tiles_in_flight_of_a_file_that_failed_are_told_to_be_over(sei_file, client):
    """Who lost their worker with others are tried again when nothing flies: that must come."""
    crew = crew_of(sei_file, client)
    crew.forget(0)
    landed = landed_until_idle(crew)
    crew.close(1.0)
    assert sorted(each.tile for each in landed) == [Tile(start, start + 10) for start in range(0, 40, 10)]


def test_even_those_that_hang(sei_file, client, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(engine, "run_tile", lambda *_: over.wait(60))
    monkeypatch.setattr(cluster, "_LOOK", 0.05)
    with dask.config.set({"fvproc.late": 0.2}):
        crew = crew_of(sei_file, client)
    try:
        crew.forget(0)
        assert sum(len(each.tile) for each in landed_until_idle(crew)) == 40
    finally:
        over.set()
        crew.close(1.0)


# ---- who joins


def test_a_worker_that_joins_when_the_first_input_is_gone_is_welcome(one, client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_COUNT", 0.02)
    paths = maps(tmp_path / "in", 6)
    statuses = []

    def told(result):
        statuses.append(result.status)
        if len(statuses) == 1:
            result.path.rename(tmp_path / "archived.h5")
            one.scale(2)
            client.wait_for_workers(2, timeout=30)
        time.sleep(0.2)

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # nor is anybody told that it lacks something
        bulk.process_many(paths, output_dir=tmp_path / "out", client=client, tile_bytes=10_000, told=told)
    assert statuses == ["done"] * 6


def blind(part):
    """Return code for a worker that sees no file whose path has this part, as without a mount."""
    return (
        "import os\nhonest = os.stat\n"
        "def stat(path, *arguments, **options):\n"
        f"    if {part!r} in str(path):\n"
        "        raise FileNotFoundError(2, 'No such file or directory', path)\n"
        "    return honest(path, *arguments, **options)\n"
        "os.stat = stat\n"
    )


def test_a_worker_that_joins_and_sees_no_input_is_left_out(sei_file, hosts, monkeypatch):
    monkeypatch.setattr(cluster, "_COUNT", 0.05)
    hosts.scheduler()
    hosts.worker()
    told, tiles = [], []
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        client.wait_for_workers(1, timeout=30)

        class Joins:
            def start(self, workers):
                pass

            expect = staff = lambda self, *_: None

            def advance(self, tile, failed):
                tiles.append(tile)
                assert not failed
                if len(tiles) == 10:
                    hosts.worker(**hosts.shim(blind("sei.h5")))
                    client.wait_for_workers(2, timeout=30)
                time.sleep(0.01)

            def tell(self, text):
                told.append(text)

            def finish(self):
                pass

        found = fv.process(sei_file, client=client, tile_bytes=10_000, progress=Joins())
    assert found.records.tobytes() == fv.process(sei_file).records.tobytes()
    assert len(told) == 1 and "sei.h5 (No such file or directory)" in told[0] and "left out" in told[0]


# ---- who sees what


@pytest.mark.parametrize("seeing", [0, 1])
def test_a_later_input_that_workers_do_not_see(hosts, tmp_path, seeing):
    """All of them: it fails and is told why. Some: the others do it."""
    first, *hidden = maps(tmp_path / "seen", 1) + maps(tmp_path / "hidden", 2)
    hidden = [path.rename(path.with_name(f"far{path.name}")) for path in hidden]
    hosts.scheduler()
    hosts.worker(**hosts.shim(blind("hidden")))
    for _ in range(seeing):
        hosts.worker()
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        client.wait_for_workers(1 + seeing, timeout=30)
        results = bulk.process_many([first, *hidden], output_dir=tmp_path / "out", client=client, tile_bytes=20_000)
    assert results[0].status == "done"
    if seeing:
        assert [result.status for result in results[1:]] == ["done"] * 2
        return
    for result, path in zip(results[1:], hidden, strict=True):
        assert result.status == "failed"
        assert f"cannot see {path} (No such file or directory); workers need the same path" in result.error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["map0.h5"]


# ---- who pauses


def test_what_the_scheduler_knows_of_workers(client):
    (worker,) = vigil.staff(client, 10.0).values()
    assert worker == vigil.Worker(2, "running") and worker.working and not worker.paused


def test_a_cluster_whose_workers_all_pause_is_named(sei_file, client, monkeypatch):
    address = next(iter(client.nthreads()))
    monkeypatch.setattr(vigil, "staff", lambda *_: {address: vigil.Worker(2, "paused")})
    monkeypatch.setattr(cluster, "_COUNT", 0.05)
    over = threading.Event()
    monkeypatch.setattr(engine, "run_tile", lambda *_: over.wait(60))
    try:
        with (
            dask.config.set({"fvproc.patience": 0.5}),
            pytest.warns(RuntimeWarning, match="pauses, its memory is full"),
            pytest.raises(FvprocError, match=r"no worker that answers \(paused, with their memory full: inproc"),
        ):
            fv.process(sei_file, client=client)
    finally:
        over.set()
