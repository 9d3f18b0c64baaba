"""A JPK QI map: how long opening, reading and a whole process take, beside decompressing alone and beside afmformats.

    python bench/jpk.py [--size 128] [--samples 256] [--threads 1 2] [--folder DIR] [--peer-size 32]

The map is simulated, 916 MPa with noise, and written as the instrument does, thirteen entries a curve (two segments
with header, deflection and measured height; folders are entries, too), by the writer of the tests. `decompressing
alone` is `zlib.decompress` of the entries that are read, one thread, from memory. Opening is in a new process each
time, past the import. afmformats is
timed in the same run, on a map of fewer curves, all of which it reads (force and height, no fit), since its time for a
curve grows with the number of them; fvproc reads that file, too, and finds the same numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fvproc as fv
from fvproc import readers, schedule, simulate
from fvproc.volume import Tile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from jpk_files import JpkFile

OPEN = """
import sys, time
from fvproc import readers
readers.formats()
start = time.perf_counter()
readers.open_volume(sys.argv[1])
print(time.perf_counter() - start)
"""

PEER = """
import json, sys, time
import afmformats
start = time.perf_counter()
found = afmformats.load_data(sys.argv[1])
opened = time.perf_counter()
sums = [(one.enum, float(one["force"].sum()), float(one["height (measured)"].sum())) for one in found]
print(json.dumps([afmformats.__version__, opened - start, time.perf_counter() - opened, sums]))
"""
GOAL_OPENING, GOAL_RATE = 1.0, 20_000.0  # s; curves/s on two cores


def write(path: Path, size: int, samples: int, compression: int) -> None:
    """Write a map of size × size curves of the simulated kind."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "curves.h5"
        simulate.write_map(source, ny=size, nx=size, samples=samples, modulus=916e6, adhesion=4e-9)
        volume = fv.open(source)
        raw = readers.read_tile(volume, Tile(0, size * size))
    sensitivity = 5e-8
    branches = []
    for name in ("approach", "retract"):
        branch = getattr(raw, name)
        (scale, offset), (z_scale, z_offset) = volume.deflection_scale(name), volume.z_scale(name)
        z = np.broadcast_to(branch.z, branch.deflection.shape)
        branches.append((branch.deflection, scale / sensitivity, offset / sensitivity, z, z_scale, z_offset))
    # a real height sensor is noisy: without it the heights would deflate to nothing
    generator = np.random.default_rng(0)

    def volts(number: int, segment: int, count: int) -> np.ndarray:
        values, scale, offset = branches[segment][:3]
        return values[number] * scale + offset + generator.uniform(-0.5, 0.5, count) * scale

    def z(number: int, segment: int, count: int) -> np.ndarray:
        values, scale, offset = branches[segment][3:]
        return values[number] * scale + offset + generator.normal(0.0, 2e-12, count)

    JpkFile(
        ny=size,
        nx=size,
        samples=(samples, samples),
        spring_constant=repr(volume.calibration.spring_constant.value),
        sensitivity=repr(sensitivity),
        compression=compression,
        complete=True,
        deflection=volts,
        z=z,
    ).write(path)


def timed(function: Callable[[], object], rounds: int) -> float:
    """Return the least seconds of a call: what others on the machine take away only adds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def decompressing(path: Path) -> float:
    """Return the seconds that zlib takes for the entries that are read."""
    with zipfile.ZipFile(path) as archive:
        wanted = [entry for entry in archive.infolist() if entry.filename.endswith(".dat")]
    if wanted[0].compress_type == zipfile.ZIP_STORED:
        return 0.0
    content = path.read_bytes()
    pieces = []
    for entry in wanted:
        begin = entry.header_offset + 30 + len(entry.filename.encode())
        pieces.append((content[begin : begin + entry.compress_size], entry.file_size))
    return timed(lambda: [zlib.decompress(piece, -15, size) for piece, size in pieces], 3)


def peer(path: Path, patience: float) -> str:
    """Return a sentence on how long afmformats takes for a file, after its numbers were compared."""
    command = [sys.executable, "-c", PEER, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired:
        return f"afmformats: stopped after {patience:.0f} s"
    if done.returncode:
        return f"afmformats: {done.stderr.strip().splitlines()[-1]}"
    version, opening, reading, sums = json.loads(done.stdout)
    start = time.perf_counter()
    volume = fv.open(path)
    opened = time.perf_counter()
    for tile in schedule.cut(volume):
        readers.read_tile(volume, tile)
    read = time.perf_counter()
    constant = volume.calibration.spring_constant.value
    for number, force, height in sums:
        curve = fv.curve(volume, *divmod(number, volume.shape[1]))
        deflection = curve["approach_deflection"].sum() + curve["retract_deflection"].sum()
        z = curve["approach_z"].sum() + curve["retract_z"].sum()
        np.testing.assert_allclose([deflection * constant, -z], [force, height], rtol=1e-9)
    faster = (opening + reading) / (read - start)
    return (
        f"{len(sums):,} curves: afmformats {version} opens in {opening:.2f} s, reads in {reading:.2f} s; fvproc opens"
        f" in {opened - start:.2f} s, reads in {read - opened:.2f} s, {faster:,.0f} times faster"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="pixels along an edge")
    parser.add_argument("--samples", type=int, default=256, help="per branch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-size", type=int, default=32, help="pixels along an edge of afmformats' map; 0: none")
    parser.add_argument("--peer-seconds", type=float, default=1800.0, help="after which it is stopped")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=30e-9), poisson_ratio=0.3)
    print(
        f"{arguments.size}² curves, 2 × {arguments.samples} int32 samples, two channels, best of {arguments.rounds}\n"
    )
    columns = (
        "entries are, MB, opening s, reading s, decompressing alone s, threads, process s, of all cores s, curves/s"
    )
    print("| " + columns.replace(", ", " | ") + " |")
    print("|---" * 9 + "|")
    goals: list[str] = []
    for compression, word in ((zipfile.ZIP_DEFLATED, "deflated"), (zipfile.ZIP_STORED, "stored")):
        path = arguments.folder / "bench.jpk-qi-data"
        write(path, arguments.size, arguments.samples, compression)
        opening = min(
            float(subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, check=True).stdout)
            for _ in range(arguments.rounds)
        )
        volume = fv.open(path)
        tiles = schedule.cut(volume)
        reading = timed(lambda v=volume, t=tiles: [readers.read_tile(v, tile) for tile in t], arguments.rounds)
        alone = decompressing(path)
        for threads in arguments.threads:
            start = time.process_time()
            seconds = timed(lambda v=volume, n=threads: fv.process(v, recipe, threads=n), arguments.rounds)
            busy = (time.process_time() - start) / arguments.rounds
            megabytes = path.stat().st_size / 1e6
            print(
                f"| {word} | {megabytes:.0f} | {opening:.2f} | {reading:.2f} | {alone:.2f} | {threads} | {seconds:.2f}"
                f" | {busy:.2f} | {arguments.size**2 / seconds:,.0f} |",
                flush=True,
            )
        goals.append(
            f"{word}: opening {opening:.2f} s (goal {GOAL_OPENING:g}), on {threads} threads"
            f" {arguments.size**2 / seconds:,.0f} curves/s (goal {GOAL_RATE:,.0f})"
        )
        path.unlink()
    if arguments.peer_size:
        write(path, arguments.peer_size, arguments.samples, zipfile.ZIP_DEFLATED)
        goals.append(peer(path, arguments.peer_seconds))
        path.unlink()
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()
