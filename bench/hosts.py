"""A run on hosts with addresses of their own, one of them cut off from the network for a while.

    python bench/hosts.py [--cut 20]

Network namespaces stand for the hosts: scheduler and client in one, two workers in theirs, a bridge between them.
Needs Linux, the `ip` command and the right to use it; says so elsewhere.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import Client, Cluster, end

import fvproc as fv
from fvproc import simulate

NAME = f"fv{os.getpid() % 10_000}"
ADDRESSES = {"scheduler": "10.89.7.1", "worker1": "10.89.7.2", "worker2": "10.89.7.3"}


def ip(*words: str) -> None:
    """Run the `ip` command."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def inside(host: str) -> tuple[str, ...]:
    """Return what puts a command into the namespace of a host."""
    return "ip", "netns", "exec", f"{NAME}-{host}"


def link(host: str) -> str:
    """Return the name of the bridge's end of the wire to a host."""
    return f"{NAME}{host[0]}{host[-1]}"


def build() -> None:
    """Make bridge, namespaces and wires."""
    ip("link", "add", NAME, "type", "bridge")
    ip("link", "set", NAME, "up")
    for host, address in ADDRESSES.items():
        ip("netns", "add", f"{NAME}-{host}")
        ip("link", "add", link(host), "type", "veth", "peer", "name", "eth0", "netns", f"{NAME}-{host}")
        ip("link", "set", link(host), "master", NAME, "up")
        for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            ip("-n", f"{NAME}-{host}", *words)
        ip("-n", f"{NAME}-{host}", "link", "set", "lo", "up")


def tear_down() -> None:
    """Remove them."""
    for host in ADDRESSES:
        subprocess.run(["ip", "netns", "del", f"{NAME}-{host}"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", NAME], capture_output=True, check=False)


class Hosts(Cluster):
    """A scheduler and two workers, each in a namespace."""

    def start(self) -> None:
        """Start all of them; the client waits for the workers itself."""
        self.file.unlink(missing_ok=True)
        self.scheduler = self._inside("scheduler", "scheduler", "--port", 8786, "--scheduler-file", self.file)
        while not (self.file.exists() and self.file.stat().st_size):
            time.sleep(0.05)
        for host in ("worker1", "worker2"):
            address = f"tcp://{ADDRESSES['scheduler']}:8786"
            self.hosts.append(self._inside(host, "worker", address, "--nthreads", 1, "--host", ADDRESSES[host]))

    def _inside(self, host: str, name: str, *arguments: object) -> subprocess.Popen[bytes]:
        code = f"from distributed.cli.dask_{name} import main; main()"
        if name == "scheduler":
            arguments = (*arguments, "--host", ADDRESSES[host])
        with (self.folder / f"{host}.log").open("ab") as log:
            return subprocess.Popen(
                [*inside(host), sys.executable, "-c", code, "--no-dashboard", *map(str, arguments)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cut", type=float, default=20.0, help="seconds without a network")
    parser.add_argument("--size", type=int, default=300, help="pixels along an edge")
    parser.add_argument("--tile-bytes", type=int, default=100_000)
    options = parser.parse_args()
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        tear_down()
        print(f"skipped: no network namespaces here ({getattr(error, 'stderr', None) or error})")
        return
    folder = Path(tempfile.mkdtemp(prefix="fvproc-hosts-"))
    curves = folder / "map.h5"
    simulate.write_map(curves, ny=options.size, nx=options.size, samples=256, modulus=916e6, adhesion=4e-9, seed=1)
    print("| network | s | bytes equal | failed tiles | longest standstill s |\n|---|---|---|---|---|")
    quiet, wall = b"", 0.0
    # the defaults of what is waited for, then shorter ones
    for case, settings in (
        ("undisturbed", {}),
        (f"worker 2 cut off for {options.cut:g} s, defaults", {}),
        (f"worker 2 cut off for {options.cut:g} s, late and answer 3 s", {"LATE": "3", "ANSWER": "3"}),
        ("worker 2 cut off for good, late and answer 3 s", {"LATE": "3", "ANSWER": "3"}),
    ):
        cluster = Hosts(folder / "cluster", settings={f"DASK_FVPROC__{key}": value for key, value in settings.items()})
        out = folder / "out.h5"
        out.unlink(missing_ok=True)
        try:
            cluster.start()
            time.sleep(4.0)
            command = [curves, "-o", out, "--tile-bytes", options.tile_bytes, "--scheduler-file", cluster.file]
            client = Client(cluster, command, inside("scheduler"))
            if quiet:
                time.sleep(min(wall / 3, 10.0))
                ip("link", "set", link("worker2"), "down")
                if "good" not in case:
                    time.sleep(options.cut)
                    ip("link", "set", link("worker2"), "up")
            ended = client.wait(240)
        finally:
            for process in [*cluster.hosts, *([cluster.scheduler] if cluster.scheduler else [])]:
                end(process)
            subprocess.run(["ip", "link", "set", link("worker2"), "up"], capture_output=True, check=False)
        if ended.status:
            print(ended.said, file=sys.stderr)
        if not quiet:
            quiet, wall = out.read_bytes(), ended.seconds
        equal = out.exists() and out.read_bytes() == quiet
        failed = len(fv.load(out).provenance["failures"]) if out.exists() else "-"
        print(f"| {case} | {ended.seconds:.1f} | {equal} | {failed} | {ended.standstill:.1f} |", flush=True)
    tear_down()


if __name__ == "__main__":
    main()
