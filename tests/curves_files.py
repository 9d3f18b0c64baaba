"""Writes curves files of known content, with h5py as others would and with fvproc."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fvproc import readers
from fvproc.readers.curves import CurvesWriter
from fvproc.volume import Branch, Channel, ForceVolume, Grid, RawBranch, RawTile, Tile


def write_with_h5py(path: Path, *, ny: int = 3, nx: int = 4, n: int = 8, dtype: str = "<i2", **options: object) -> Path:
    """Write a curves file as someone without fvproc would."""
    numbers = np.arange(ny * nx * n).reshape(ny, nx, n)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "fvproc-curves"
        file.attrs["format_version"] = 1
        for branch, sign in (("approach", 1), ("retract", -1)):
            group = file.create_group(branch)
            deflection = group.create_dataset("deflection", data=(sign * numbers).astype(dtype), **options)
            deflection.attrs["units"] = "V"
            deflection.attrs["scale_factor"] = 3e-4
            z = group.create_dataset("z", data=np.linspace(0, 1e-7, n)[::sign])
            z.attrs["units"] = "m"
        file.create_group("calibration").attrs.update(
            spring_constant=0.4, spring_constant_rel_std=0.1, deflection_sensitivity=5e-8, tip_radius=1e-8
        )
        file.create_group("scan").attrs.update(size_x=2e-6, size_y=1e-6, rotation=15.0)
    return path


def edit(path: Path, change: object) -> Path:
    """Change a file in place."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def write(path: Path, **options: object) -> ForceVolume:
    """Write 40 × 30 curves of 64 samples, each sample its own number."""
    grid = Grid(40, 30, 1e-6, 1e-6)
    branch = Branch(64, Channel("int32", "m", 1e-12), Channel("float64", "m"), True)
    z = np.linspace(0, 1e-7, 64)
    numbers = np.arange(1200 * 64, dtype=np.int32).reshape(1200, 64)
    with CurvesWriter(path, grid, branch, branch, shared_z=(z, z[::-1]), **options) as writer:
        writer.write(Tile(0, 1200), RawTile(RawBranch(numbers, z), RawBranch(-numbers[:, ::-1], z[::-1])))
    return readers.open_volume(path)


def small() -> dict:
    """Return what a writer needs for 2 × 2 curves of 4 samples."""
    branch = Branch(4, Channel("int16", "m"), Channel("float32", "m"), True)
    return {
        "grid": Grid(2, 2),
        "approach": branch,
        "retract": branch,
        "shared_z": (np.arange(4.0), np.arange(4.0)[::-1]),
    }


def curves(count: int, dtype: str = "int16") -> RawTile:
    """Return so many curves for the file of `small`."""
    part = RawBranch(np.zeros((count, 4), dtype), np.arange(4.0))
    return RawTile(part, part)
