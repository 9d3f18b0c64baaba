"""Runs on real scheduler and worker processes that are killed, stopped, join late, are strangers or speak TLS."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from cluster_processes import Hosts

import fvproc as fv
from fvproc import journal, schedule
from fvproc.errors import FvprocError
from fvproc.schedule import cluster

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that stop or kill a process so")

TESTS = Path(__file__).parent
TILE_BYTES = 20_000  # some 100 tiles
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture
def hosts(tmp_path):
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.close()


@pytest.fixture(scope="module")
def reference(sei_file):
    return fv.process(sei_file, threads=1)


@pytest.fixture(scope="module")
def quiet(sei_file, tmp_path_factory):
    """The bytes of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("quiet") / "out.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH["SOURCE_DATE_EPOCH"])
        fv.process(sei_file, output=out, threads=1)
    return out.read_bytes()


class At:
    """Does something when so many tiles are in place; keeps how many threads there were."""

    def __init__(self, **actions):
        self.actions = {int(name.removeprefix("tile")): action for name, action in actions.items()}
        self.tiles, self.before, self.threads = 0, None, []

    def start(self, workers):
        self.threads.append(workers)

    def expect(self, curves, done):
        self.before = done

    def advance(self, tile, failed):
        assert not failed
        self.tiles += 1
        if action := self.actions.get(self.tiles):
            action()

    def staff(self, workers):
        self.threads.append(workers)

    def finish(self):
        pass


def run(sei_file, hosts, progress=None, **options):
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        return fv.process(sei_file, client=client, tile_bytes=TILE_BYTES, progress=progress or False, **options)


def test_a_worker_that_is_killed_costs_nothing(sei_file, reference, hosts):
    hosts.scheduler()
    first, _ = hosts.worker(), hosts.worker()
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        client.wait_for_workers(2, timeout=30)
    at = At(tile10=first.kill)
    maps = run(sei_file, hosts, at)
    assert at.tiles > 10
    assert maps.records.tobytes() == reference.records.tobytes()
    assert maps.provenance["failures"] == []


def test_the_only_worker_is_killed_and_another_comes(sei_file, reference, hosts):
    hosts.scheduler()
    first = hosts.worker()

    def replace():
        first.kill()
        hosts.worker()

    at = At(tile10=replace)
    assert run(sei_file, hosts, at).records.tobytes() == reference.records.tobytes()
    assert at.tiles > 10


def test_a_scheduler_that_is_killed_ends_the_run_which_goes_on_from_there(
    sei_file, quiet, hosts, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH["SOURCE_DATE_EPOCH"])
    out = tmp_path / "out.h5"
    scheduler, worker = hosts.scheduler(), hosts.worker()
    at = At(tile20=scheduler.kill)
    began = time.monotonic()
    with pytest.raises(FvprocError, match=r"the scheduler .*of 1,920 curves are kept.*it goes on from there"):
        run(sei_file, hosts, at, output=out)
    assert time.monotonic() - began < 60
    worker.kill()
    hosts.scheduler()
    hosts.worker()
    again = At()
    run(sei_file, hosts, again, output=out)
    assert again.before > 0
    assert out.read_bytes() == quiet


def test_a_scheduler_that_is_stopped_ends_the_run(sei_file, hosts):
    """Nothing is closed then, and no answer comes: who waits for one waits for ever."""
    scheduler, _ = hosts.scheduler(), hosts.worker()
    client = schedule.connect(scheduler_file=str(hosts.file))
    try:
        at = At(tile5=lambda: scheduler.send_signal(signal.SIGSTOP))
        began = time.monotonic()
        with dask.config.set({"fvproc.answer": 2}), pytest.raises(FvprocError, match="scheduler has not answered"):
            fv.process(sei_file, client=client, tile_bytes=TILE_BYTES, progress=at)
        assert time.monotonic() - began < 60
    finally:
        scheduler.send_signal(signal.SIGCONT)
        client.close()


def test_workers_come_and_go(sei_file, reference, hosts, monkeypatch):
    monkeypatch.setattr(cluster, "_COUNT", 0.05)
    hosts.scheduler()
    first = hosts.worker()
    with schedule.connect(scheduler_file=str(hosts.file)) as client:

        def join():
            hosts.worker()
            client.wait_for_workers(2, timeout=30)
            time.sleep(0.1)

        def leave():
            first.terminate()
            try:
                first.wait(5)
            except subprocess.TimeoutExpired:  # one in 200 waits for itself for ever (distributed 2026.8)
                first.kill()  # as a batch system does
            time.sleep(0.1)

        at = At(tile20=join, tile50=leave)
        maps = fv.process(sei_file, client=client, tile_bytes=TILE_BYTES, progress=at)
    assert maps.records.tobytes() == reference.records.tobytes()
    assert at.threads == [1, 2, 1]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_worker_that_is_stopped_holds_nothing_up(sei_file, reference, hosts, when):
    """It keeps its connections, so that the scheduler takes it for a good one for minutes."""
    hosts.scheduler()
    first, _ = hosts.worker(), hosts.worker()
    stop = lambda: first.send_signal(signal.SIGSTOP)  # noqa: E731
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        client.wait_for_workers(2, timeout=30)
        at = At(**{"tile10": stop} if when == "meanwhile" else {})
        if when == "before":
            stop()
        began = time.monotonic()
        with dask.config.set({"fvproc.late": 0.5, "fvproc.answer": 2}):
            maps = fv.process(sei_file, client=client, tile_bytes=TILE_BYTES, progress=at)
        assert time.monotonic() - began < 60
    assert maps.records.tobytes() == reference.records.tobytes()


def test_a_late_worker_does_not_wait_for_what_a_stopped_one_holds(sei_file, reference, hosts):
    """The errand is held by the only worker there was."""
    hosts.scheduler()
    first = hosts.worker()
    with schedule.connect(scheduler_file=str(hosts.file)) as client:

        def replace():
            first.send_signal(signal.SIGSTOP)
            hosts.worker()
            client.wait_for_workers(2, timeout=30)

        began = time.monotonic()
        with dask.config.set({"fvproc.late": 0.5, "fvproc.answer": 2}):
            maps = fv.process(sei_file, client=client, tile_bytes=TILE_BYTES, progress=At(tile10=replace))
        assert time.monotonic() - began < 60
    assert maps.records.tobytes() == reference.records.tobytes()


HANGS = """
import time
from fvproc import readers
honest = readers.read_tile
def read_tile(volume, tile):
    if tile.start > 900:
        time.sleep(1000)
    return honest(volume, tile)
readers.read_tile = read_tile
"""


def test_a_read_that_never_ends_on_one_worker_holds_nothing_up(sei_file, reference, hosts):
    """It answers all the same, as one whose network share is gone."""
    hosts.scheduler()
    hosts.worker()
    hosts.worker(**hosts.shim(HANGS))
    with schedule.connect(scheduler_file=str(hosts.file)) as client:
        client.wait_for_workers(2, timeout=30)
    began = time.monotonic()
    with dask.config.set({"fvproc.late": 0.5}):
        maps = run(sei_file, hosts)
    assert time.monotonic() - began < 60
    assert maps.records.tobytes() == reference.records.tobytes()


def test_a_cluster_of_stopped_workers_is_named(sei_file, hosts):
    hosts.scheduler()
    first = hosts.worker()
    short = dask.config.set({"fvproc.late": 0.5, "fvproc.answer": 2, "fvproc.patience": 2})
    with short, pytest.raises(FvprocError, match=r"no worker that answers \(silent: tcp://127"):
        run(sei_file, hosts, At(tile5=lambda: first.send_signal(signal.SIGSTOP)))


# ---- strangers

OTHER_KERNEL = "import fvproc.engine\nfvproc.engine.KERNEL_VERSION = '0'\n"
NO_FVPROC = "import sys\nsys.modules['fvproc'] = None\n"


@pytest.fixture(params=["kernel", "no fvproc"])
def strange(request, hosts):
    """A scheduler, the environment of a worker that computes other numbers or none, and why it is refused."""
    hosts.scheduler()
    if request.param == "kernel":
        return hosts.shim(OTHER_KERNEL), "worker tcp://127.*: its fvproc has kernel version 0"
    return hosts.shim(NO_FVPROC), "worker tcp://127.*: fvproc cannot be imported there"


def test_a_strange_worker_is_refused_before_work_starts(sei_file, hosts, strange):
    environment, words = strange
    hosts.worker(**environment)
    with pytest.raises(FvprocError, match=words):
        run(sei_file, hosts)


def test_a_strange_worker_is_refused_when_it_joins(sei_file, hosts, strange, monkeypatch):
    monkeypatch.setattr(cluster, "_COUNT", 0.05)
    environment, words = strange
    hosts.worker()
    with schedule.connect(scheduler_file=str(hosts.file)) as client:

        def join():
            hosts.worker(**environment)
            client.wait_for_workers(2, timeout=30)
            time.sleep(0.2)

        at = At(tile10=join)
        try:
            maps = fv.process(sei_file, client=client, tile_bytes=1, progress=at)
        except FvprocError as error:
            assert re.search(words, str(error))
        else:
            # a worker that cannot read its first task dies of it, if that comes before the question
            assert "cannot be imported" in words
            assert not maps.provenance["failures"] and not (maps.flags & int(fv.Flag.NOT_COMPUTED)).any()
        assert at.tiles >= 10


# ---- who may come in


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority and a certificate of it, in PEM."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make certificates")
    folder = tmp_path_factory.mktemp("certificates")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout own.key -out own.csr",
        "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out own.pem",
    ):
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem", folder / "own.pem", folder / "own.key"


def fvproc(*arguments, **environment):
    command = [sys.executable, "-m", "fvproc", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=TESTS, env={**os.environ, **EPOCH, **environment}, stderr=subprocess.PIPE, text=True
    )


def test_tls_works_and_plain_tcp_is_refused(sei_file, quiet, hosts, certificates, tmp_path):
    ca, certificate, key = certificates
    options = ["--tls-ca-file", ca, "--tls-cert", certificate, "--tls-key", key]
    hosts.scheduler("--protocol", "tls", *options)
    hosts.worker("--protocol", "tls", *options)
    out = tmp_path / "out.h5"
    common = ["run", sei_file, "-o", out, "--quiet"]
    own = ["--tls-ca", ca, "--tls-cert", certificate, "--tls-key", key]
    with fvproc(*common, "--scheduler-file", hosts.file, *own) as good:
        assert good.wait(60) == 0, good.stderr.read()
    assert out.read_bytes() == quiet
    address = json.loads(hosts.file.read_text())["address"]
    assert address.startswith("tls://")
    out.unlink()
    short = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    for arguments, words in (
        ([address], "a tls:// address takes --tls-ca, --tls-cert and --tls-key"),
        ([address, "--tls-ca", key, "--tls-cert", ca, "--tls-key", key], "no scheduler answers at 'tls://"),
        ([address.replace("tls", "tcp")], "no scheduler answers at 'tcp://"),
    ):
        with fvproc(*common, "--scheduler", *arguments, **short) as refused:
            assert refused.wait(60) == 2
            said = refused.stderr.read()
        assert words in said, said
        assert "Traceback" not in said
    assert not out.exists()


def test_processes_give_the_same_bytes_and_listen_to_this_machine_only(sei_file, quiet, tmp_path):
    psutil = pytest.importorskip("psutil")
    out, heard = tmp_path / "out.h5", set()
    with fvproc("run", sei_file, "-o", out, "--processes", 2, "--tile-bytes", TILE_BYTES, "--quiet") as process:
        family = psutil.Process(process.pid)
        while process.poll() is None:
            for member in [family, *family.children(recursive=True)]:
                try:
                    connections = member.net_connections("all")
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                heard |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
            time.sleep(0.05)
        assert process.returncode == 0, process.stderr.read()
    assert heard == {"127.0.0.1"}
    assert out.read_bytes() == quiet
    assert np.isfinite(fv.load(out)["modulus"]).any()
