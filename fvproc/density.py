"""Force against separation of all curves of a map, counted tile by tile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fvproc import engine, measurement
from fvproc.errors import FvprocError
from fvproc.maps import Density, ParameterMaps
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, RawTile, Tile

CELLS = (300, 400)  # of force, of separation
_TILE_BYTES = 4 << 20
_BLOCK = 8  # samples
_SAMPLE = 64  # curves that settle how wide the picture is


def count(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps, mask: np.ndarray | None = None) -> Density:
    """Count the samples of all curves in cells of force and separation, memory flat in the size of the map.

    The baseline, a line through the non-contact part of each branch, is subtracted (spikes, bow, drag and interference
    stay); the zero of the separation is the contact point of the maps: s = contact_point + d − z.

    Parameters
    ----------
    volume, recipe : ForceVolume, Recipe
        The measurement, shown with the calibration of the maps, and what it was processed with (`Recipe.completed`).
    maps : ParameterMaps
        Its results.
    mask : ndarray of bool, shape (ny, nx), optional
        Curves to count; by default all.

    Raises
    ------
    FvprocError
        If the maps came from another measurement or calibration, or no curve to count has a contact point.
    FileFormatError, OSError
        If the curves cannot be read.
    """
    volume = measurement.as_processed(volume, maps)
    wanted = (np.ones(maps.shape, bool) if mask is None else mask).ravel()
    contact = maps["contact_point"].ravel().astype(np.float64)
    known = wanted & np.isfinite(contact)
    if not known.any():
        raise FvprocError(f"{volume.path}: none of the {int(wanted.sum())} curves has a contact point to start from")
    separation_edges, force_edges = _frame(volume, recipe, maps, known)
    counts = {branch: np.zeros(CELLS[0] * CELLS[1], np.int64) for branch in ("approach", "retract")}
    for tile in _tiles(volume):
        chosen = known[tile.start : tile.stop]
        if not chosen.any():
            continue
        raw = engine.read_tile(volume, tile)
        for branch, found in counts.items():
            separation, force = _placed(volume, recipe, raw, branch, contact[tile.start : tile.stop], chosen)
            row = _cell(force, force_edges)
            column = _cell(separation, separation_edges)
            inside = (row >= 0) & (row < CELLS[0]) & (column >= 0) & (column < CELLS[1])
            found += np.bincount(row[inside] * CELLS[1] + column[inside], minlength=found.size)
    return Density(
        separation_edges,
        force_edges,
        counts["approach"].reshape(CELLS),
        counts["retract"].reshape(CELLS),
        int(known.sum()),
        int(wanted.sum() - known.sum()),
    )


def _tiles(volume: ForceVolume) -> Iterator[Tile]:
    curves = max(volume.tile_alignment, _TILE_BYTES // max(1, volume.curve_bytes))
    curves -= curves % volume.tile_alignment
    for start in range(0, volume.grid.curves, curves):
        yield Tile(start, min(start + curves, volume.grid.curves))


def _cell(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the number of the cell of each value, −1 for what is no number."""
    cells = (values - edges[0]) * ((len(edges) - 1) / (edges[-1] - edges[0]))
    return np.where((cells >= 0) & (cells < len(edges) - 1), np.nan_to_num(cells), -1).astype(np.int64)


def _frame(
    volume: ForceVolume, recipe: Recipe, maps: ParameterMaps, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return edges of separation and force that hold nearly all curves, contact in the middle third."""
    numbers = np.flatnonzero(known)
    numbers = numbers[np.linspace(0, numbers.size - 1, min(_SAMPLE, numbers.size)).astype(int)]
    contact = maps["contact_point"].ravel().astype(np.float64)
    lowest, highest, deepest, farthest, foot = [], [], [], [], []
    for number in numbers.tolist():
        raw = engine.read_tile(volume, Tile(number, number + 1))
        for branch in ("approach", "retract"):
            separation, force = _placed(volume, recipe, raw, branch, contact[number : number + 1], np.ones(1, bool))
            seen = np.isfinite(force) & np.isfinite(separation)
            if seen.any():
                separation, force = separation[seen], force[seen]
                lowest.append(force.min())
                highest.append(force.max())
                deepest.append(separation.min())
                farthest.append(separation.max())
                if branch == "retract":
                    foot.append(separation[np.argmin(force)])
    low, high = np.percentile(lowest, 2), np.percentile(highest, 98)
    deep = min(float(np.percentile(deepest, 2)), -1e-12)
    # the far baseline is empty country; as much of it as of what matters is enough
    far = min(float(np.percentile(farthest, 98)), max(3 * float(np.percentile(foot, 98)), -deep))
    margin = 0.08 * (high - low) or 1e-12
    return (
        np.linspace(deep * 1.15, far, CELLS[1] + 1),
        np.linspace(low - margin, high + margin, CELLS[0] + 1),
    )


def _placed(
    volume: ForceVolume, recipe: Recipe, raw: RawTile, branch: str, contact: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return separation (m) and force (N), (curves, samples) float64, of the chosen curves of a tile."""
    part, described = getattr(raw, branch), getattr(volume, branch)
    scale, offset = volume.deflection_scale(branch)
    numbers = part.deflection[chosen]
    deflection = numbers * scale + offset
    if described.deflection.invalid is not None:
        deflection[numbers == described.deflection.invalid] = np.nan
    if part.valid_length is not None:
        deflection[np.arange(deflection.shape[1]) >= part.valid_length[chosen][:, None]] = np.nan
    scale, offset = volume.z_scale(branch)
    z = (part.z if part.z.ndim == 1 else part.z[chosen]) * scale + offset
    z = np.broadcast_to(z, deflection.shape)
    deflection = deflection - _baseline(z, deflection, recipe.baseline.fraction, min(recipe.baseline.order, 1))
    assert volume.calibration.spring_constant is not None, "agreed upon before"
    return contact[chosen][:, None] + deflection - z, volume.calibration.spring_constant.value * deflection


def _baseline(z: np.ndarray, deflection: np.ndarray, fraction: float, order: int) -> np.ndarray:
    """Return the line (or level, for order 0) through the non-contact part of each curve, (curves, samples).

    As the kernel has it: the samples farthest from the surface, and from there toward it as far as blocks of samples
    lie on their line.
    """
    if z[0, 0] > z[0, -1]:  # retract: now the far end comes first
        return _baseline(z[:, ::-1], deflection[:, ::-1], fraction, order)[:, ::-1]
    weight = np.isfinite(deflection).astype(np.float64)
    known = np.nan_to_num(deflection)
    blocks = np.arange(z.shape[1]) // _BLOCK
    # of the samples that there are: a branch that was cut short lacks those that would be the farthest
    rank = np.cumsum(weight, axis=1)
    far = weight * (rank <= np.maximum(2, np.floor(fraction * rank[:, -1:])))
    line, variance = _line(z, known, far, order)
    residual = (known - line) * weight
    total = np.maximum(far.sum(axis=1, keepdims=True) - 1 - order, 1.0)
    noise = (far * residual**2).sum(axis=1, keepdims=True) / total
    starts = np.arange(0, z.shape[1], _BLOCK)
    count = np.maximum(np.add.reduceat(weight, starts, axis=1), 1.0)
    mean = np.add.reduceat(residual, starts, axis=1) / count
    off_line = mean**2 > 16 * noise * (1 / count + variance[:, starts])
    first = np.where(off_line.any(axis=1), off_line.argmax(axis=1), len(starts))[:, None]
    return _line(z, known, np.maximum(far, weight * (blocks < first - 1)), order)[0]


def _line(z: np.ndarray, known: np.ndarray, weight: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least-squares line of each curve, and its variance in units of that of a sample."""
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    mean = (weight * known).sum(axis=1, keepdims=True) / total
    if order == 0:
        return np.broadcast_to(mean, z.shape), np.broadcast_to(1 / total, z.shape)
    centre = (weight * z).sum(axis=1, keepdims=True) / total
    moment = (weight * (z - centre) ** 2).sum(axis=1, keepdims=True)
    moment = np.where(moment > 0, moment, 1.0)
    slope = (weight * (z - centre) * (known - mean)).sum(axis=1, keepdims=True) / moment
    return mean + slope * (z - centre), 1 / total + (z - centre) ** 2 / moment
