"""Real processes for the measurements of runs on a cluster: scheduler, workers, clients, and what they report.

Clients are `python -m fvproc run …` as a user types it. A `sitecustomize` on their path notes what the progress is
told, with the time of it; on the workers it may let a curve kill whoever reads it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

CUSTOM = '''
"""Notes of a run's progress, and a curve that kills; only where the environment asks for them."""
import os, sys, time
if os.environ.get("BENCH_NOTES") and "run" in sys.argv + sys.orig_argv:
    from fvproc import progress
    file = open(os.environ["BENCH_NOTES"], "a", buffering=1)
    def note(*words):
        print(time.time(), *words, file=file)
    note("begin", 0, 0)
    class Noted(progress.Bar):
        def expect(self, curves, done=0):
            note("expect", curves, done)
            super().expect(curves, done)
        def advance(self, tile, failed):
            note("failed" if failed else "tile", tile.start, tile.stop)
            super().advance(tile, failed)
    progress.Bar = Noted
if os.environ.get("BENCH_POISON"):
    from fvproc import readers
    honest, curve = readers.read_tile, int(os.environ["BENCH_POISON"])
    def read_tile(volume, tile):
        if tile.start <= curve < tile.stop:
            os._exit(9)
        return honest(volume, tile)
    readers.read_tile = read_tile
'''


@dataclass
class Ended:
    """How a client ended, and what it did until then."""

    status: int
    said: str
    seconds: float
    before: int
    tiles: list[tuple[int, int]]
    failed: list[tuple[int, int]]
    standstill: float
    work: float


@dataclass
class Cluster:
    """`dask scheduler` and `dask worker` of this machine, each a process that can be killed."""

    folder: Path
    workers: int = 2
    nanny: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    scheduler: subprocess.Popen[bytes] | None = None
    hosts: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = self.folder / "scheduler.json"
        custom = self.folder / "custom"
        custom.mkdir(parents=True, exist_ok=True)
        (custom / "sitecustomize.py").write_text(CUSTOM)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(custom), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "SOURCE_DATE_EPOCH": "1700000000",
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def _start(self, name: str, *arguments: object) -> subprocess.Popen[bytes]:
        code = f"from distributed.cli.dask_{name} import main; main()"
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, "--no-dashboard", *map(str, arguments)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
            )

    def start(self) -> None:
        """Start what does not run, and wait until all workers are there."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            for host in self.hosts:
                end(host)
            self.hosts.clear()
            self.file.unlink(missing_ok=True)
            arguments = ["--host", "127.0.0.1", "--port", self.port, "--scheduler-file", self.file]
            self.scheduler = self._start("scheduler", *arguments)
            while not (self.file.exists() and self.file.stat().st_size):
                time.sleep(0.05)
        self.hosts = [host for host in self.hosts if host.poll() is None]
        if not self.hosts:
            self.add_host()
        self.wait_for(self.workers)

    def add_host(self) -> None:
        """Start a `dask worker` with all its worker processes."""
        nanny = ["--nworkers", self.workers] if self.nanny else ["--no-nanny"]
        for _ in range(1 if self.nanny else self.workers):
            self.hosts.append(self._start("worker", "--scheduler-file", self.file, "--nthreads", 1, *nanny))

    def wait_for(self, workers: int, seconds: float = 60.0) -> None:
        """Wait until so many workers are there, no more and no fewer."""
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{self.port}", set_as_default=False) as client:
            end = time.monotonic() + seconds
            while len(client.nthreads()) != workers:
                if time.monotonic() > end:
                    sys.exit(f"{len(client.nthreads())} workers and not {workers} after {seconds:g} s")
                time.sleep(0.1)

    def worker_processes(self) -> list[int]:
        """Return the ids of the processes that compute."""
        if not self.nanny:
            return [host.pid for host in self.hosts if host.poll() is None]
        found = []
        for host in self.hosts:
            with suppress(psutil.Error):
                for child in psutil.Process(host.pid).children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        found.append(child.pid)
        return found

    def close(self) -> None:
        """End all of it."""
        for process in [*self.hosts, *([self.scheduler] if self.scheduler else [])]:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait()


class Client:
    """A run from the command line, in a process of its own."""

    def __init__(self, cluster: Cluster, arguments: list[object], prefix: tuple[str, ...] = ()) -> None:
        self.notes = cluster.folder / "notes"
        self.notes.unlink(missing_ok=True)
        self.log = (cluster.folder / "client.log").open("w+b")
        self.began = time.time()
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "fvproc", "run", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            cwd=cluster.folder,
            env={**cluster.environment, "BENCH_NOTES": str(self.notes), "PYTHONFAULTHANDLER": "1"},
        )

    def wait(self, seconds: float = 80.0) -> Ended:
        """Wait for the end; a process that takes longer is killed and counts as status -9."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler then tells where it hangs
            self.process.wait()
            status = -signal.SIGKILL
            self.log.seek(0)
            print(self.log.read().decode(errors="replace"), file=sys.stderr)
        ended = time.time()
        self.log.seek(0)
        said = self.log.read().decode(errors="replace")
        self.log.close()
        before, tiles, failed, moments = 0, [], [], [self.began]
        for line in self.notes.read_text().splitlines() if self.notes.exists() else []:
            words = line.split()
            if len(words) < 4:
                continue  # killed while it was written
            moments.append(float(words[0]))
            pair = int(words[2]), int(words[3])
            if words[1] == "expect":
                before = pair[1]
            elif words[1] in ("tile", "failed"):
                (tiles if words[1] == "tile" else failed).append(pair)
        moments.append(ended)
        standstill = max(later - earlier for earlier, later in pairwise(moments))
        # from the moment that the tiles are known to the last one: start-up and writing cost the same whoever computes
        work = moments[-2] - moments[2] if tiles else 0.0
        return Ended(status, said, ended - self.began, before, tiles, failed, standstill, work)


def journaled(output: Path) -> list[tuple[int, int]]:
    """Return the runs of curves that the journal beside an output calls done."""
    journal = output.with_name(output.name + ".partial.journal")
    done = []
    for line in journal.read_bytes().split(b"\n") if journal.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            done.append((entry["start"], entry["stop"]))
    return done
