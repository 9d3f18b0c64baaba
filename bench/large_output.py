"""Outputs of maps larger than one would hold in memory: time and memory to write them, time to read a window.

python bench/large_output.py FOLDER [EDGE …]      (default 2048 8192; the records of 8192² are 6.4 GB on disk)
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

import fvproc as fv
from fvproc.writers import geotiff, hdf5, ometiff

QUANTITIES = (
    *("modulus", "modulus_std", "reduced_modulus", "adhesion", "adhesion_std", "peak_force", "contact_point"),
    *("deformation", "indentation", "stiffness", "dissipation", "height"),
)


def records(path: Path, edge: int) -> np.ndarray:
    """Return records in a file, noise in every quantity, row by row; not kept in memory."""
    generator = np.random.default_rng(0)
    block = np.empty((64, edge), fv.RECORD)
    for name in fv.QUANTITIES:
        block[name] = generator.lognormal(0, 0.1, block.shape)
    block["flags"] = generator.random(block.shape) < 0.01
    with path.open("wb") as file:
        for _ in range(edge // 64):
            block.tofile(file)
    return np.memmap(path, fv.RECORD, "r", shape=(edge, edge))


class Memory:
    """The most memory of this process that is its own, pages of mapped files not counted."""

    def __init__(self) -> None:
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, own())

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most


def own() -> int:
    """Anonymous memory of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def measure(write: Callable[[fv.ParameterMaps, Path], Any], maps: fv.ParameterMaps, path: Path) -> str:
    """Return what writing cost, as cells of a table."""
    memory, start = Memory(), time.perf_counter()
    write(maps, path)
    return f"{time.perf_counter() - start:.0f} | {path.stat().st_size / 1e9:.2f} | {memory.stop() / 1e6:.0f}"


def window_of(path: Path, edge: int, maps: fv.ParameterMaps) -> str:
    """Return how long rasterio takes to open the file and read 256 × 256 pixels of a band in its midst."""
    start = time.perf_counter()
    with rasterio.open(path) as file:
        values = file.read(4, window=Window(edge // 2, edge // 2, 256, 256))
    seconds = time.perf_counter() - start
    truth = np.asarray(maps["adhesion"][edge - edge // 2 - 256 : edge - edge // 2, edge // 2 : edge // 2 + 256])
    assert values.tobytes() == np.ascontiguousarray(truth[::-1]).tobytes()
    return f"{seconds * 1e3:.0f} ms"


OUTPUTS: tuple[tuple[str, str, Callable[[fv.ParameterMaps, Path], Any]], ...] = (
    (".tif", "12 quantities and flags", lambda maps, path: geotiff.write(maps, path, quantities=QUANTITIES)),
    (".ome.tif", "12 quantities and flags", lambda maps, path: ometiff.write(maps, path, quantities=QUANTITIES)),
    (".h5", "everything", hdf5.write),
)


def main() -> None:
    folder = Path(sys.argv[1])
    print("| map | output | s | GB | memory of the process, MB | open, and read a window of 256² |")
    print("|---|---|---|---|---|---|")
    for edge in map(int, sys.argv[2:] or ("2048", "8192")):
        source = folder / "records.raw"
        maps = fv.ParameterMaps(fv.Grid(edge, edge, edge * 1e-9, edge * 1e-9), records(source, edge))
        for suffix, what, write in OUTPUTS:
            path = folder / f"large{suffix}"
            try:
                told = measure(write, maps, path)
                opened = window_of(path, edge, maps) if suffix == ".tif" else ""
                print(f"| {edge}² | {suffix}, {what} | {told} | {opened} |", flush=True)
            finally:
                path.unlink(missing_ok=True)
        source.unlink()


if __name__ == "__main__":
    main()
