"""Dask arrays of records and of curves, for those who compose their own graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fvproc import engine
from fvproc.errors import FvprocError
from fvproc.maps import not_computed
from fvproc.quantities import RECORD
from fvproc.recipe import Recipe
from fvproc.schedule.work import TILE_BYTES, Errand, Failure, attempt
from fvproc.volume import ForceVolume, Tile


def lazy(volume: ForceVolume, recipe: Recipe, tile_bytes: int = TILE_BYTES) -> Any:
    """Return a Dask array of records (ny, nx), in blocks of whole rows; see `fvproc.lazy`."""
    import dask.array as da

    errand = Errand(volume, recipe)

    def block(rows: tuple[int, int]) -> np.ndarray:
        nx = volume.grid.nx
        tile = Tile(rows[0] * nx, rows[1] * nx)
        outcome = attempt(errand, tile)
        if isinstance(outcome, Failure):
            outcome = not_computed(len(tile), outcome.flag)
        return outcome.reshape(-1, nx)

    return _by_rows(da, volume, block, (volume.grid.nx,), RECORD, tile_bytes)


def to_dask(volume: ForceVolume, branch: str, tile_bytes: int = TILE_BYTES) -> Any:
    """Return a Dask array of deflection (ny, nx, samples) in metres, float64; see `fvproc.to_dask`."""
    import dask.array as da

    if branch not in ("approach", "retract"):
        raise FvprocError(f"branch = {branch!r}: choose from approach, retract")
    scale, offset = volume.deflection_scale(branch)
    description = getattr(volume, branch)
    invalid = description.deflection.invalid

    def block(rows: tuple[int, int]) -> np.ndarray:
        nx = volume.grid.nx
        part = getattr(engine.read_tile(volume, Tile(rows[0] * nx, rows[1] * nx)), branch)
        values = part.deflection.astype(np.float64) * scale + offset
        if invalid is not None:
            values[part.deflection == invalid] = np.nan
        if part.valid_length is not None:
            values[np.arange(values.shape[1]) >= part.valid_length[:, None]] = np.nan
        return values.reshape(-1, nx, values.shape[1])

    return _by_rows(da, volume, block, (volume.grid.nx, description.samples), np.dtype(np.float64), tile_bytes)


def _by_rows(
    da: Any,
    volume: ForceVolume,
    block: Callable[[tuple[int, int]], np.ndarray],
    tail: tuple[int, ...],
    dtype: np.dtype,
    tile_bytes: int,
) -> Any:
    """Concatenate delayed blocks of whole rows."""
    from dask import delayed

    ny, nx = volume.shape
    step = max(1, tile_bytes // max(volume.curve_bytes * nx, 1))
    parts = []
    for first in range(0, ny, step):
        last = min(first + step, ny)
        parts.append(da.from_delayed(delayed(block)((first, last)), (last - first, *tail), dtype=dtype))
    return da.concatenate(parts, axis=0)
