"""What happens to one tile: read, fit, records. The only caller of the compiled kernel."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numpy as np

from fvproc import _core, readers
from fvproc.errors import FileFormatError
from fvproc.maps import CurveFit
from fvproc.quantities import ordinary
from fvproc.recipe import Film, Maps, Recipe
from fvproc.volume import ForceVolume, RawTile, Tile

KERNEL_VERSION = _core.KERNEL_VERSION

# A share that stumbles is back within a second or two; a file that is gone stays gone.
READ_ATTEMPTS = 3
_FIRST_WAIT = 0.2


def run_tile(volume: ForceVolume, recipe: Recipe, tile: Tile) -> np.ndarray:
    """Read and fit the curves of a tile.

    Parameters
    ----------
    volume : ForceVolume
        With a complete calibration.
    recipe : Recipe
        As returned by `Recipe.completed`.
    tile : Tile
        Which curves.

    Returns
    -------
    ndarray of RECORD, shape (len(tile),)

    Raises
    ------
    FileFormatError, OSError
        If the tile cannot be read, after `READ_ATTEMPTS` attempts.
    """
    thickness = film_thickness(volume, recipe, tile)
    return _core.fit_tile(read_tile(volume, tile), _core.kernel_settings(volume, recipe), thickness=thickness)


def film_thickness(volume: ForceVolume, recipe: Recipe, tile: Tile) -> np.ndarray | None:
    """Return the thickness of the film under each curve of a tile, (len(tile),) float64 in m; None without a map."""
    if not isinstance(recipe.film.thickness, str):
        return None
    return _thickness_map(recipe.film, volume.shape).ravel()[tile.start : tile.stop]


@functools.lru_cache(maxsize=4)
def _thickness_map(film: Film, shape: tuple[int, int]) -> np.ndarray:
    """Read a map once in each process: its path and digest travel, not its numbers."""
    values = film.map(shape)
    assert values is not None
    values.flags.writeable = False
    return values


def read_tile(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile; try again where the file system fails, since a network share may recover."""
    wait = _FIRST_WAIT
    for attempt in range(READ_ATTEMPTS):
        try:
            return readers.read_tile(volume, tile)
        except FileFormatError:
            raise  # the file is there and is wrong: it will be wrong again
        except OSError:
            if attempt == READ_ATTEMPTS - 1:
                raise
            time.sleep(wait)
            wait *= 4
    raise AssertionError("unreachable: the last attempt returns or raises")


def explain(volume: ForceVolume, recipe: Recipe, y: int, x: int) -> CurveFit:
    """Fit one curve and return it with its fit; its record holds all quantities.

    Parameters
    ----------
    volume, recipe : ForceVolume, Recipe
        As for `run_tile`.
    y, x : int
        Pixel; row 0 at the bottom of the scan.

    Raises
    ------
    IndexError
        If the pixel is outside the grid.
    """
    ny, nx = volume.shape
    if not (0 <= y < ny and 0 <= x < nx):
        raise IndexError(f"pixel ({y}, {x}) is outside the grid of {ny} × {nx}")
    number = y * nx + x
    tile = Tile(number, number + 1)
    recipe = replace(recipe, maps=Maps())  # for eyes: the fit is shown, whichever maps were asked for
    thickness = film_thickness(volume, recipe, tile)
    raw = read_tile(volume, tile)
    return CurveFit(y, x, *_core.explain(raw, _core.kernel_settings(volume, recipe), thickness=thickness))


def typical_pixel(flags: np.ndarray, modulus: np.ndarray) -> tuple[int, int] | None:
    """Return (y, x) of the ordinary curve whose modulus is the median, else of any with a modulus; None without."""
    valued = np.isfinite(modulus)
    chosen = valued & ordinary(flags)
    if not chosen.any():
        chosen = valued
    if not chosen.any():
        return None
    where = np.argwhere(chosen)
    order = np.argsort(modulus[chosen], kind="stable")
    y, x = where[order[len(order) // 2]]
    return int(y), int(x)
