"""Dask arrays of records and of curves, for those who compose their own graphs."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.maps import joined, not_computed
from fvproc.quantities import RECORD
from fvproc.recipe import Recipe
from fvproc.schedule import preflight, settings
from fvproc.schedule.work import TILE_BYTES, Errand, Failure, attempt, base_curves, split
from fvproc.volume import ForceVolume, Tile

# As many blocks as keep a machine busy to the end, none so small that Dask's overhead of a task (about 1 ms) counts,
# none so large that a lost worker costs much; of curves less, since they are in memory as float64.
_BLOCKS = 64
_MOST_RECORDS = 256 << 20
_MOST_CURVES = 16 << 20


def lazy(volume: ForceVolume, recipe: Recipe, block_bytes: int | None = None) -> Any:
    """Return a Dask array of records (ny, nx); see `fvproc.lazy`."""
    frame = _frame(volume, block_bytes, _MOST_RECORDS)
    return _array(volume, _Records(frame, Errand(volume, recipe)), (), RECORD)


def to_dask(volume: ForceVolume, branch: str, block_bytes: int | None = None) -> Any:
    """Return a Dask array of deflection (ny, nx, samples) in metres, float64; see `fvproc.to_dask`."""
    if branch not in ("approach", "retract"):
        raise FvprocError(f"branch = {branch!r}: choose from approach, retract")
    scale, offset = volume.deflection_scale(branch)
    block = _Curves(_frame(volume, block_bytes, _MOST_CURVES), volume, branch, scale, offset)
    return _array(volume, block, (getattr(volume, branch).samples,), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class _Frame:
    """How a grid (ny, nx) is cut: blocks of whole rows, or pieces of single rows where a row is too long."""

    ny: int
    nx: int
    rows: int
    columns: int

    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the lengths of the blocks along y and along x, as Dask has them."""
        return _lengths(self.ny, self.rows), _lengths(self.nx, self.columns)

    def place(self, block_id: tuple[int, ...]) -> tuple[Tile, tuple[int, int]]:
        """Return the curves of a block, which follow one another, and its shape."""
        y, x = block_id[0] * self.rows, block_id[1] * self.columns
        shape = min(self.rows, self.ny - y), min(self.columns, self.nx - x)
        start = y * self.nx + x
        return Tile(start, start + shape[0] * shape[1]), shape


def _lengths(whole: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, whole - start) for start in range(0, whole, step))


def _frame(volume: ForceVolume, block_bytes: int | None, most: int) -> _Frame:
    """Cut a grid into blocks of about so many raw bytes, by default dozens; in whole chunks of the file."""
    ny, nx = volume.shape
    if block_bytes is None:
        block_bytes = min(max(volume.grid.curves * volume.curve_bytes // _BLOCKS, TILE_BYTES), most)
    elif block_bytes < 1:
        raise FvprocError(f"block_bytes = {block_bytes!r}: at least one byte is needed")
    rows = block_bytes // max(volume.curve_bytes * nx, 1)
    if rows < 1:
        return _Frame(ny, nx, 1, min(base_curves(volume, block_bytes), nx))
    step = math.lcm(volume.tile_alignment, nx) // nx
    return _Frame(ny, nx, min(max(rows // step, 1) * step if rows >= step else rows, ny), nx)


@dataclass(frozen=True, slots=True)
class _Records:
    """Computes the records of a block, tile by tile: of its curves only some megabytes are in memory at a time."""

    frame: _Frame
    errand: Errand

    def __call__(self, block_id: tuple[int, ...] | None = None) -> np.ndarray:
        assert block_id is not None
        volume, theirs = self.errand.volume, self.errand.kernel_version
        if theirs != engine.KERNEL_VERSION:
            raise FvprocError(preflight.other_kernel("a worker", engine.KERNEL_VERSION, theirs))
        whole, shape = self.frame.place(block_id)
        parts = []
        for tile in split(whole, base_curves(volume)):
            outcome = attempt(self.errand, tile)
            parts.append(not_computed(len(tile), outcome.flag) if isinstance(outcome, Failure) else outcome)
        return joined(parts).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Curves:
    """Reads the deflection of a block in metres."""

    frame: _Frame
    volume: ForceVolume
    branch: str
    scale: float
    offset: float

    def __call__(self, block_id: tuple[int, ...] | None = None) -> np.ndarray:
        assert block_id is not None
        tile, shape = self.frame.place(block_id)
        part = getattr(engine.read_tile(self.volume, tile), self.branch)
        values = part.deflection.astype(np.float64) * self.scale + self.offset
        invalid = getattr(self.volume, self.branch).deflection.invalid
        if invalid is not None:
            values[part.deflection == invalid] = np.nan
        if part.valid_length is not None:
            values[np.arange(values.shape[1]) >= part.valid_length[:, None]] = np.nan
        return values.reshape(*shape, values.shape[1])


def _array(volume: ForceVolume, block: _Records | _Curves, tail: tuple[int, ...], dtype: np.dtype) -> Any:
    """Return the array of all blocks: its graph names one function, whatever their number."""
    settings.dask()
    import dask.array as da

    return da.map_blocks(
        block,
        chunks=(*block.frame.chunks(), *((length,) for length in tail)),
        dtype=dtype,
        meta=np.empty((0,) * (2 + len(tail)), dtype),
        # each call is a reading of its own: a name made of the content would keep what a failed one left on a cluster
        name=f"fvproc-{type(block).__name__.strip('_').lower()}-{uuid.uuid4().hex}",
    )
