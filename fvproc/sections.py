"""Film thickness from differences of height, and profiles along lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES
from fvproc.regions import RegionError, to_pixels
from fvproc.statistics import CLIP, robust


@dataclass(frozen=True, slots=True)
class Thickness:
    """How far a film stands above its substrate.

    Parameters
    ----------
    film, substrate : str
        Names of the regions.
    thickness : float
        Median height of the film above the plane through the substrate, in m.
    spread : float
        1.4826 times the median absolute deviation of it, in m: roughness of the film, noise included.
    substrate_spread : float
        The same of the substrate about its plane, in m.
    tilt : tuple of float
        Slopes (along y, along x) of the plane, m/m.
    count, substrate_count : int
        Pixels with a height in either.
    heights : ndarray of float64, shape (ny, nx)
        Height above the plane everywhere, in m.
    """

    film: str
    substrate: str
    thickness: float
    spread: float
    substrate_spread: float
    tilt: tuple[float, float]
    count: int
    substrate_count: int
    heights: np.ndarray


def film_thickness(
    maps: ParameterMaps,
    film: tuple[str, np.ndarray],
    substrate: tuple[str, np.ndarray],
    *,
    height: str = "contact_height",
    level: bool = True,
) -> Thickness:
    """Return the thickness of a film from the difference of heights.

    A plane through the substrate (least squares over its pixels within 3 σ of it, by iteration) takes the tilt of the
    scan away; the film stands above it.

    Parameters
    ----------
    maps : ParameterMaps
        On the (ny, nx) grid.
    film, substrate : tuple of str and ndarray of bool, shape (ny, nx)
        Name and mask.
    height : str
        ``"contact_height"``, the surface before it is indented, or ``"height"``, under the peak force.
    level : bool
        False: a level through the median of the substrate, no plane; where the scan has been levelled before.

    Raises
    ------
    RegionError
        If the regions share pixels, or either has too few heights (film 1, substrate 3 not on one line).
    """
    (film_name, film_mask), (substrate_name, substrate_mask) = film, substrate
    heights = maps[height].astype(np.float64)
    shared = int((film_mask & substrate_mask).sum())
    if shared:
        raise RegionError(f"film {film_name!r} and substrate {substrate_name!r} share {shared} pixels; choose others")
    known = np.isfinite(heights)
    on_film, on_substrate = film_mask & known, substrate_mask & known
    if not on_film.any():
        raise RegionError(f"film {film_name!r}: no pixel of it has a {height}")
    y, x = (centres - centres.mean() for centres in maps.coordinates())
    rows, columns = np.nonzero(on_substrate)
    plane = _plane(y[rows], x[columns], heights[on_substrate], level, f"substrate {substrate_name!r}: no {height}")
    above = heights - (plane[0] + plane[1] * y[:, None] + plane[2] * x)
    thickness, spread = robust(above[on_film])
    return Thickness(
        film_name,
        substrate_name,
        thickness,
        spread,
        robust(above[on_substrate])[1],
        (float(plane[1]), float(plane[2])),
        int(on_film.sum()),
        int(on_substrate.sum()),
        above,
    )


def _plane(y: np.ndarray, x: np.ndarray, heights: np.ndarray, level: bool, complaint: str) -> np.ndarray:
    """Return (offset, slope along y, slope along x) of the plane through heights, strays left out."""
    if not level and heights.size:
        return np.array([np.median(heights), 0.0, 0.0])
    scale = max(np.abs(y).max(initial=0), np.abs(x).max(initial=0)) or 1.0  # well conditioned, metres or not
    design = np.stack([np.ones(heights.size), y / scale, x / scale], axis=1)
    kept = np.ones(heights.size, bool)
    plane = np.zeros(3)
    for _ in range(20):
        plane, _, rank, _ = np.linalg.lstsq(design[kept], heights[kept], rcond=1e-9)
        if rank < 3:
            raise RegionError(
                f"{complaint} at three pixels that are not on one line, so no plane; mark more, or give level=False "
                "(--no-level)"
            )
        residual = heights - design @ plane
        median, spread = robust(residual[kept])
        again = np.abs(residual - median) <= CLIP * spread if spread > 0 else kept
        if np.array_equal(again, kept):
            break
        kept = again
    return plane / (1.0, scale, scale)


@dataclass(frozen=True, slots=True)
class Profile:
    """Values along a straight line over the map.

    Parameters
    ----------
    quantity, unit : str
        What, and its SI unit.
    distance : ndarray of float64, shape (n,)
        From the start, in `distance_unit`.
    y, x : ndarray of float64, shape (n,)
        Row and column; whole numbers are centres.
    values : ndarray of float64, shape (n,)
        Median over the width of the line; NaN where no pixel has a value.
    spread : ndarray of float64, shape (n,)
        Half the range from the 16th to the 84th percentile over the width; zero for a width of one.
    distance_unit : str
        ``"m"``, or ``"px"`` where the file does not tell the size of the scan.
    """

    quantity: str
    unit: str
    distance: np.ndarray
    y: np.ndarray
    x: np.ndarray
    values: np.ndarray
    spread: np.ndarray
    distance_unit: str = "m"


def profile(
    maps: ParameterMaps,
    quantity: str,
    start: tuple[float, float],
    stop: tuple[float, float],
    *,
    unit: str = "pixel",
    width: int = 1,
) -> Profile:
    """Return a quantity along the line from `start` to `stop`, one point for each pixel passed.

    A point is the pixel nearest to it, no mean of neighbours: what is shown was measured.

    Parameters
    ----------
    maps : ParameterMaps
        On the (ny, nx) grid.
    quantity : str
        A name of the registry.
    start, stop : tuple of float
        (y, x); see `unit`.
    unit : {"pixel", "m"}
        As for `fvproc.regions.polygon`.
    width : int
        How many lines side by side, a pixel apart, are taken together.

    Raises
    ------
    RegionError
        If the line leaves the map or has no length, the width is below 1, or the quantity is unknown.
    """
    if quantity not in maps.quantities:
        raise RegionError(f"quantity {quantity!r}: not among the maps; choose from {', '.join(maps)}")
    if width < 1:
        raise RegionError(f"width = {width}: a profile is at least one pixel wide")
    grid = maps.grid
    y, x = to_pixels(grid, np.array([start[0], stop[0]], float), np.array([start[1], stop[1]], float), unit)
    if not (np.all((y >= -0.5) & (y <= grid.ny - 0.5)) and np.all((x >= -0.5) & (x <= grid.nx - 0.5))):
        raise RegionError(
            f"profile {start} … {stop}: leaves the map; rows are 0 … {grid.ny - 1}, columns 0 … {grid.nx - 1}"
        )
    steps = max(abs(y[1] - y[0]), abs(x[1] - x[0]))
    if steps == 0:
        raise RegionError(f"profile {start} … {stop}: starts where it ends")
    share = np.linspace(0, 1, round(steps) + 1 if steps >= 1 else 2)
    along_y, along_x = y[0] + share * (y[1] - y[0]), x[0] + share * (x[1] - x[0])
    length = math.hypot(y[1] - y[0], x[1] - x[0])
    across = (np.arange(width) - (width - 1) / 2)[:, None]
    rows = np.rint(along_y - across * (x[1] - x[0]) / length).astype(int)
    columns = np.rint(along_x + across * (y[1] - y[0]) / length).astype(int)
    inside = (rows >= 0) & (rows < grid.ny) & (columns >= 0) & (columns < grid.nx)
    taken = maps[quantity][rows.clip(0, grid.ny - 1), columns.clip(0, grid.nx - 1)].astype(np.float64)
    taken[~inside | ~np.isfinite(taken)] = np.nan
    values, spread = np.full(share.size, np.nan), np.full(share.size, np.nan)
    known = np.isfinite(taken).any(axis=0)
    values[known] = np.nanmedian(taken[:, known], axis=0)
    low, high = np.nanpercentile(taken[:, known], (15.865525, 84.134475), axis=0)
    spread[known] = (high - low) / 2
    dy, dx = grid.pixel if grid.sized else (1.0, 1.0)
    whole = math.hypot((y[1] - y[0]) * dy, (x[1] - x[0]) * dx)
    unit_of_values, distance_unit = QUANTITIES[quantity].unit, "m" if grid.sized else "px"
    return Profile(quantity, unit_of_values, share * whole, along_y, along_x, values, spread, distance_unit)
