"""A run on a cluster killed at any moment: worker, nanny, scheduler, client; what is left, lost, done twice.

    python bench/kills.py [--kills 20] [--kinds worker nanny …] [--folder DIR]

Each run is `python -m fvproc run` on a `dask scheduler` and `dask worker --nworkers 2 --nthreads 1` of this machine.
After the death of the scheduler or the client the same command is given again; else the run must end by itself.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from processes import Client, Cluster, Ended, end, journaled

import fvproc as fv
from fvproc import simulate
from fvproc.quantities import Flag

HANG = 60.0
POISONED = 12_345


@dataclass
class Tally:
    """What became of the runs of one kind."""

    runs: int = 0
    alone: int = 0
    resumed: int = 0
    equal: int = 0
    lost: int = 0
    twice: int = 0
    hung: int = 0
    standstill: list[float] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)

    def row(self, kind: str) -> str:
        """Return the line of the table."""
        longest, middle = max(self.standstill), sorted(self.standstill)[len(self.standstill) // 2]
        cells = [kind, self.runs, self.alone, self.resumed, self.equal, self.lost, self.twice, self.hung]
        return "| " + " | ".join(map(str, cells)) + f" | {middle:.1f} | {longest:.1f} |"


class Bench:
    """A simulated map, a cluster, and the bytes of a run that nobody disturbed."""

    def __init__(self, folder: Path, size: int, tile_bytes: int) -> None:
        self.folder, self.output = folder, folder / "out.h5"
        self.map = folder / "map.h5"
        simulate.write_map(self.map, ny=size, nx=size, samples=256, modulus=916e6, adhesion=4e-9, seed=1)
        self.cluster = Cluster(folder / "cluster")
        self.command: list[object] = [self.map, "-o", self.output, "--tile-bytes", tile_bytes]
        self.command += ["--scheduler-file", self.cluster.file]
        self.cluster.start()
        walls = []
        for _ in range(3):
            self.clean()
            ended = Client(self.cluster, self.command).wait()
            if ended.status:
                sys.exit(f"the quiet run failed: {ended.said}")
            walls.append(ended.seconds)
        self.quiet, self.wall = self.output.read_bytes(), sorted(walls)[1]
        print(f"quiet run {self.wall:.2f} s, {len(ended.tiles)} tiles, {size * size} curves", file=sys.stderr)
        if not ended.tiles:
            sys.exit("the client noted no tile: nothing would be known of what is lost or done twice")

    def clean(self) -> None:
        """Remove outputs, whole or not."""
        for path in self.folder.glob("out.h5*"):
            path.unlink()

    def disturbed(self, tally: Tally, disturb: Callable[[Client], None]) -> Ended:
        """Run, disturb at a random moment, run again where it ended; add to the tally what came of it."""
        while True:
            self.clean()
            self.cluster.start()
            client = Client(self.cluster, self.command)
            time.sleep(random.uniform(0.05, 0.9) * self.wall)
            if client.process.poll() is None:
                break
            self.wall = client.wait().seconds  # too late: the machine is faster now
        disturb(client)
        ended = client.wait()
        tally.runs += 1
        tally.standstill.append(ended.standstill)
        tally.hung += ended.seconds > self.wall + HANG or ended.standstill > HANG
        if ended.status == 0:
            tally.alone += 1
        else:
            reason = ended.said.strip().splitlines()[-1][:300] if ended.said.strip() else f"status {ended.status}"
            reason = reason.replace(str(self.folder), "")
            tally.refusals[reason] = tally.refusals.get(reason, 0) + 1
            kept = journaled(self.output)
            self.cluster.start()
            ended = Client(self.cluster, self.command).wait()
            tally.standstill.append(ended.standstill)
            tally.resumed += ended.status == 0
            if ended.status:
                print(f"the second run failed: {ended.said}", file=sys.stderr)
            held = np.zeros(fv.open(self.map).grid.curves, bool)
            for start, stop in kept:
                held[start:stop] = True
            if self.output.exists() and not ended.tiles and not ended.before:
                pass  # killed when the output was in place
            else:
                tally.lost += max(0, int(held.sum()) - ended.before)
            tally.twice += sum(int(held[start:stop].sum()) for start, stop in ended.tiles)
        tally.equal += self.output.exists() and self.output.read_bytes() == self.quiet
        return ended


def kill_worker(bench: Bench, number: int = signal.SIGKILL) -> Callable[[Client], None]:
    """Return what sends a signal to one of the processes that compute."""

    def disturb(_: Client) -> None:
        workers = bench.cluster.worker_processes()
        if workers:
            with suppress(ProcessLookupError):
                os.kill(random.choice(workers), number)

    return disturb


def kill_nanny(bench: Bench) -> Callable[[Client], None]:
    """Return what kills the parent of all workers; another comes a second later, as a batch system would start it."""

    def disturb(_: Client) -> None:
        os.kill(bench.cluster.hosts[0].pid, signal.SIGKILL)
        bench.cluster.hosts[0].wait()
        time.sleep(1.0)
        bench.cluster.hosts.clear()
        bench.cluster.add_host()

    return disturb


def kill_scheduler(bench: Bench) -> Callable[[Client], None]:
    """Return what kills the scheduler."""

    def disturb(_: Client) -> None:
        assert bench.cluster.scheduler is not None
        bench.cluster.scheduler.kill()
        bench.cluster.scheduler.wait()

    return disturb


def kill_client(_: Bench) -> Callable[[Client], None]:
    """Return what kills the client."""
    return lambda client: client.process.kill()


def kill_lonely(bench: Bench) -> Callable[[Client], None]:
    """Return what kills a worker that has no nanny; another one comes a second later."""

    def disturb(_: Client) -> None:
        host = random.choice(bench.cluster.hosts)
        end(host)
        time.sleep(1.0)
        bench.cluster.hosts.remove(host)
        bench.cluster.workers = 1
        bench.cluster.add_host()
        bench.cluster.workers = 2

    return disturb


def stop_worker(bench: Bench) -> Callable[[Client], None]:
    """Return what stops a worker without ending it, as a machine does that swaps or a file system that hangs."""
    return kill_worker(bench, signal.SIGSTOP)


def with_cluster(bench: Bench, *, nanny: bool = True, **settings: str) -> None:
    """Begin with another cluster."""
    bench.cluster.close()
    shutil.rmtree(bench.cluster.folder)
    bench.cluster = Cluster(bench.folder / "cluster", nanny=nanny, settings=settings)
    bench.command[-1] = bench.cluster.file
    bench.cluster.start()


def poisoned(bench: Bench, tally: Tally) -> None:
    """Let a curve kill every worker that reads it: it must be flagged, and nothing else may be."""
    with_cluster(bench, BENCH_POISON=str(POISONED))
    bench.clean()
    ended = Client(bench.cluster, bench.command).wait(240)
    tally.runs, tally.alone = tally.runs + 1, tally.alone + (ended.status == 1)
    tally.standstill.append(ended.standstill)
    tally.hung += ended.standstill > HANG
    maps = fv.load(bench.output)
    whole = bench.folder / "quiet.h5"
    whole.write_bytes(bench.quiet)
    flagged = (maps.flags.ravel() & np.uint32(Flag.WORKER_LOST)) != 0
    tile = next(tile for tile in ended.failed if tile[0] <= POISONED < tile[1])
    expected = np.zeros(flagged.size, bool)
    expected[tile[0] : tile[1]] = True
    same = maps.records.ravel()[~expected].tobytes() == fv.load(whole).records.ravel()[~expected].tobytes()
    tally.equal += bool(same and np.array_equal(flagged, expected))
    tally.refusals[f"flagged worker_lost: curves {tile[0]} to {tile[1] - 1}"] = 1


KINDS: dict[str, Callable[[Bench], Callable[[Client], None]]] = {
    "worker": kill_worker,
    "nanny and its workers": kill_nanny,
    "scheduler": kill_scheduler,
    "client": kill_client,
    "worker, SIGTERM": lambda bench: kill_worker(bench, signal.SIGTERM),
    "worker, SIGSTOP": stop_worker,
    "worker without nanny": kill_lonely,
}
FEWER = {"worker, SIGTERM": 5, "worker, SIGSTOP": 3, "worker without nanny": 5, "poison": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, "poison"], choices=[*KINDS, "poison"])
    parser.add_argument("--size", type=int, default=200, help="pixels along an edge")
    parser.add_argument("--tile-bytes", type=int, default=32_000)
    parser.add_argument("--late", type=float, default=5.0, help="seconds after which a tile is late, where one is")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    random.seed(options.seed)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fvproc-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, options.size, options.tile_bytes)
    told: list[str] = []
    columns = "killed, runs, ended by itself, resumed, bytes equal, journaled curves lost, computed again, hung"
    print("| " + columns.replace(", ", " | ") + " | median standstill s | longest s |\n" + "|---" * 10 + "|")
    try:
        for kind in options.kinds:
            tally = Tally()
            if kind == "poison":
                poisoned(bench, tally)
            else:
                with_cluster(bench, nanny=kind != "worker without nanny", DASK_FVPROC__LATE=str(options.late))
                for _ in range(min(options.kills, FEWER.get(kind, options.kills))):
                    bench.disturbed(tally, KINDS[kind](bench))
                    if kind == "worker, SIGSTOP":
                        with_cluster(bench, DASK_FVPROC__LATE=str(options.late))
            print(tally.row(kind), flush=True)
            told += [f"- {kind}, {count} ×: {reason}" for reason, count in tally.refusals.items()]
    finally:
        bench.cluster.close()
    print("\n" + "\n".join(told))
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
