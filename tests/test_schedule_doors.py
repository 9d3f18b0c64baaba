"""What a run is given to run on: clients of all kinds, Dask's configuration, adaptive clusters; refused by name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import dask
import pytest

import fvproc as fv
from fvproc import schedule
from fvproc.errors import FvprocError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def one():
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="inproc")
    with cluster:
        yield cluster


def test_a_cluster_is_taken_for_its_client(curves_file, one):
    assert fv.process(curves_file, client=one).records.tobytes() == fv.process(curves_file).records.tobytes()
    assert one.status.name == "running"


def test_a_client_that_is_closed_or_none_is_refused(curves_file, one):
    client = distributed.Client(one, set_as_default=False)
    client.close()
    with pytest.raises(FvprocError, match=r"its connection is closed; give a new Client"):
        fv.process(curves_file, client=client)
    for junk in (42, SimpleNamespace(status="running")):
        with pytest.raises(FvprocError, match=r"client = .*expected a distributed\.Client, a cluster"):
            fv.process(curves_file, client=junk)


def test_an_asynchronous_client_is_refused_in_its_own_loop_at_once(curves_file, one):
    async def inside():
        async with distributed.Client(one.scheduler_address, asynchronous=True, set_as_default=False) as client:
            fv.process(curves_file, client=client)

    began = time.monotonic()
    with pytest.raises(FvprocError, match="without asynchronous=True"):
        asyncio.run(inside())
    assert time.monotonic() - began < 5


def test_an_adaptive_cluster_starts_a_worker(curves_file):
    """It does so for tasks, not for a client that waits for workers."""
    cluster = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="inproc")
    with cluster, distributed.Client(cluster, set_as_default=False) as client, dask.config.set({"fvproc.patience": 10}):
        cluster.adapt(minimum=0, maximum=1, interval="50ms")
        assert fv.process(curves_file, client=client).shape == (12, 17)


def test_a_link_that_cannot_be_made_is_none():
    class Broken:
        @property
        def dashboard_link(self):
            raise KeyError("JUPYTERHUB_SERVICE_PREFIX")

    assert schedule.dashboard_link(Broken()) is None
    assert schedule.dashboard_link(SimpleNamespace(dashboard_link="")) is None
    assert schedule.dashboard_link(SimpleNamespace(dashboard_link="http://x")) == "http://x"


# ---- Dask's configuration


@pytest.mark.parametrize("number", ["abc", -1, 0, 2.5, 1e9, 10**9, True])
def test_a_number_of_threads_that_is_none_is_named(curves_file, number):
    with dask.config.set(num_workers=number), pytest.raises(FvprocError, match=r"num_workers = .*DASK_NUM_WORKERS"):
        fv.process(curves_file)
    with pytest.raises(FvprocError, match=r"threads = .*expected a whole number"):
        schedule.ThreadCrew(number)


@pytest.mark.parametrize("arguments", [[], ["--processes", "1"], ["--scheduler", "tcp://127.0.0.1:9"]])
def test_a_configuration_that_cannot_be_read_is_named(curves_file, tmp_path, arguments):
    (tmp_path / "dask.yaml").write_text("a: [1\n")
    done = subprocess.run(
        [sys.executable, "-m", "fvproc", "run", curves_file, "-o", tmp_path / "out.h5", *arguments],
        env={**os.environ, "DASK_CONFIG": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("fvproc: Dask's configuration cannot be read") and "dask.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_worker_processes_cannot_write_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "folder"
    with dask.config.set({"temporary-directory": str(folder)}):  # noqa: SIM117
        with pytest.raises(FvprocError, match=rf"cannot be started: .*{folder}.*DASK_TEMPORARY_DIRECTORY"):
            with schedule.local_processes(1):
                pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for one process")
def test_a_signal_of_the_terminal_leaves_worker_processes_at_work():
    """Ctrl-C reaches the whole group; what is in flight must land all the same."""
    with schedule.local_processes(1) as client:
        process = client.submit(os.getpid, pure=False).result(timeout=30)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process, number)
        time.sleep(0.3)
        assert client.submit(os.getpid, pure=False).result(timeout=30) == process
