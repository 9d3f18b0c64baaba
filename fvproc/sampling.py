"""Some curves of a map as one tile: what is measured on a few of them and holds for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fvproc import engine
from fvproc.volume import ForceVolume, RawBranch, RawTile, Tile

_NEIGHBOURS = 16  # curves this near are read at once


def runs(numbers: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of curves in runs that are worth a read each."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) > _NEIGHBOURS) + 1) if numbers.size else []


def spread(curves: int, places: int, each: int) -> np.ndarray:
    """Return the numbers of `each` neighbours in places spread evenly over so many curves; all where they are few."""
    if curves <= places * each:
        return np.arange(curves)
    first = np.linspace(0, curves - each, places).astype(int)
    return np.unique(first[:, None] + np.arange(each))


def read(volume: ForceVolume, numbers: np.ndarray) -> RawTile:
    """Return the curves of a run as a tile.

    Raises
    ------
    FileFormatError, OSError
        As `engine.read_tile`.
    """
    first = int(numbers[0])
    tile = engine.read_tile(volume, Tile(first, int(numbers[-1]) + 1))
    return taken(tile, numbers - first)


def taken(tile: RawTile, rows: np.ndarray) -> RawTile:
    """Return some curves of a tile."""
    branches = [
        RawBranch(
            part.deflection[rows],
            part.z if part.z.ndim == 1 else part.z[rows],
            None if part.valid_length is None else part.valid_length[rows],
        )
        for part in (tile.approach, tile.retract)
    ]
    return RawTile(branches[0], branches[1], None if tile.height is None else tile.height[rows])


def together(tiles: Sequence[RawTile]) -> RawTile:
    """Return several tiles as one: the kernel is called once and not for each."""
    branches = []
    for parts in zip(*((tile.approach, tile.retract) for tile in tiles), strict=True):
        shared = all(part.z.ndim == 1 for part in parts)
        branches.append(
            RawBranch(
                np.concatenate([part.deflection for part in parts]),
                parts[0].z if shared else np.concatenate([_heights(part) for part in parts]),
                None
                if all(part.valid_length is None for part in parts)
                else np.concatenate([_lengths(part) for part in parts]),
            )
        )
    heights = [tile.height for tile in tiles if tile.height is not None]
    return RawTile(branches[0], branches[1], np.concatenate(heights) if len(heights) == len(tiles) else None)


def _heights(branch: RawBranch) -> np.ndarray:
    return np.broadcast_to(branch.z, branch.deflection.shape)


def _lengths(branch: RawBranch) -> np.ndarray:
    if branch.valid_length is not None:
        return branch.valid_length
    count, samples = branch.deflection.shape
    return np.full(count, samples, np.int32)
