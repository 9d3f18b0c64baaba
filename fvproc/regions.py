"""Regions of a map: boolean masks from thresholds and flags, polygons, and image files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc.errors import FileFormatError, FvprocError
from fvproc.maps import ParameterMaps
from fvproc.quantities import FATAL_BITS, QUANTITIES, Flag, readable
from fvproc.recipe import parse_quantity
from fvproc.volume import Grid

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
MOST_LABELS = 64  # an image with more values is a photograph or has soft edges, not a mask
KNOWN_UNITS = ("m", "Pa", "N", "N/m", "J")
_COMPARISONS = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "<": np.less,
    ">": np.greater,
}
_COMPARISON = re.compile(r"(.+?)(<=|>=|<|>)([^<>=]+)")


class RegionError(FvprocError):
    """A region is described in a way that cannot be read, or does not fit the map."""


def everything(maps: ParameterMaps) -> np.ndarray:
    """Return the mask of the whole map, (ny, nx) bool."""
    return np.ones(maps.shape, bool)


def where(maps: ParameterMaps, condition: str) -> np.ndarray:
    """Return the mask of the pixels that meet a condition, such as ``"modulus>1GPa & adhesion<5nN & unflagged"``.

    Parameters
    ----------
    maps : ParameterMaps
        On the (ny, nx) grid.
    condition : str
        Terms joined by ``&``, all of which must hold. A term compares a quantity or a map of the instrument's software
        (``vendor:KEY``) by ``<``, ``<=``, ``>`` or ``>=`` with a number, bare in SI or with a unit; or it is
        ``unflagged`` (no flag at all), ``fatal``, ``warned``, or the name of a flag; ``!`` in front of these negates.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        A missing value meets no comparison.

    Raises
    ------
    RegionError
        If a term cannot be read; the message names it and what it may be.
    """
    terms = [term.strip() for term in condition.split("&")]
    if not all(terms):
        raise RegionError(f"region {condition!r}: an empty term; write for example modulus>1GPa & adhesion<5nN")
    mask = everything(maps)
    for term in terms:
        mask &= _term(maps, term)
    return mask


def _term(maps: ParameterMaps, term: str) -> np.ndarray:
    match = _COMPARISON.fullmatch(term)
    if match is None:
        return _flagged(maps, term)
    name, sign, text = (part.strip() for part in match.groups())
    values, unit = _values(maps, name, term)
    try:
        limit = parse_quantity(text, unit if unit in KNOWN_UNITS else "", name)
    except FvprocError as error:
        raise RegionError(f"region {term!r}: {error}") from None
    # compared as float64: a float32 limit would move
    with np.errstate(invalid="ignore"):
        return np.asarray(_COMPARISONS[sign](values.astype(np.float64), limit))


def _values(maps: ParameterMaps, name: str, term: str) -> tuple[np.ndarray, str]:
    if name in QUANTITIES:
        return maps[name], QUANTITIES[name].unit
    vendor = name.removeprefix("vendor:")
    if vendor != name and vendor in maps.vendor_maps:
        return maps.vendor_maps[vendor].values, maps.vendor_maps[vendor].unit
    known = [*maps, *(f"vendor:{key}" for key in maps.vendor_maps)]
    raise RegionError(f"region {term!r}: no quantity {name!r}; choose from {', '.join(known)}")


def _flagged(maps: ParameterMaps, term: str) -> np.ndarray:
    name = term.lstrip("!").strip()
    flags = maps.flags
    if name == "unflagged":
        mask = flags == 0
    elif name == "fatal":
        mask = (flags & np.uint32(FATAL_BITS)) != 0
    elif name == "warned":
        mask = (flags & np.uint32(0xFFFF)) != 0
    elif name.upper() in Flag.__members__:
        mask = (flags & np.uint32(Flag[name.upper()])) != 0
    else:
        raise RegionError(
            f"region {term!r}: neither a comparison such as modulus>1GPa nor unflagged, fatal, warned or a flag; "
            "`fvproc quantities` lists quantities and flags"
        )
    return np.asarray(~mask if term.count("!") % 2 else mask)


def polygon(grid: Grid, corners: Sequence[tuple[float, float]], *, unit: str = "pixel") -> np.ndarray:
    """Return the mask of the pixels whose centres lie inside a polygon, by the even-odd rule.

    Parameters
    ----------
    grid : Grid
        Scan frame.
    corners : sequence of (y, x)
        At least three, in order around the polygon, which may be concave; y grows from the bottom of the scan.
    unit : {"pixel", "m"}
        ``"pixel"``: a whole number is the centre of a row or column; ``"m"``: from the lower left edge of the scan.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        A centre on the edge between two polygons belongs to exactly one of them.

    Raises
    ------
    RegionError
        If there are fewer than three corners, a corner is not finite, or no centre lies inside.
    """
    y, x = np.asarray(corners, np.float64).reshape(-1, 2).T
    if len(y) < 3 or not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise RegionError(f"polygon {corners!r}: at least three corners y,x that are finite are needed")
    y, x = to_pixels(grid, y, x, unit)
    rows, columns = np.arange(grid.ny, dtype=np.float64), np.arange(grid.nx, dtype=np.float64)
    inside = np.zeros(grid.shape, bool)
    ends = zip(y.tolist(), x.tolist(), np.roll(y, -1).tolist(), np.roll(x, -1).tolist(), strict=True)
    for y0, x0, y1, x1 in ends:
        crossed = np.flatnonzero((rows >= min(y0, y1)) & (rows < max(y0, y1)))
        # from the lower end always, so that an edge shared by two polygons gives both the same crossing
        (ya, xa), (yb, xb) = sorted(((y0, x0), (y1, x1)))
        at = xa + (rows[crossed] - ya) * ((xb - xa) / (yb - ya)) if crossed.size else np.empty(0)
        inside[crossed] ^= columns >= at[:, None]
    if not inside.any():
        raise RegionError(f"polygon {corners!r}: holds no pixel of the {grid.ny} × {grid.nx} grid; check order y,x")
    return inside


def to_pixels(grid: Grid, y: np.ndarray, x: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Return positions as row and column, whole numbers at the centres of pixels."""
    if unit == "pixel":
        return y, x
    if unit != "m":
        raise RegionError(f"unit = {unit!r}: choose pixel or m")
    if grid.size_x is None or grid.size_y is None:
        raise RegionError("positions in metres: the file does not tell the size of the scan; give them in pixels")
    dy, dx = grid.pixel
    return y / dy - 0.5, x / dx - 0.5


def points(text: str, option: str) -> tuple[list[tuple[float, float]], str]:
    """Read ``"y,x y,x …"``, bare numbers in pixels or all with a unit of length, as (points, unit).

    Raises
    ------
    RegionError
        If a number cannot be read, or pixels and lengths are mixed; `option` names the culprit.
    """
    parts = [part for part in re.split(r"[\s,;]+", text.strip()) if part]
    bare = [re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", part) is not None for part in parts]
    if not parts or len(parts) % 2 or (any(bare) and not all(bare)):
        raise RegionError(
            f"{option} {text!r}: expected y,x y,x …, all in pixels (10,20) or all with a unit (100nm,2µm)"
        )
    try:
        numbers = [parse_quantity(part, "" if all(bare) else "m", option) for part in parts]
    except FvprocError as error:
        raise RegionError(str(error)) from None
    return list(zip(numbers[::2], numbers[1::2], strict=True)), "pixel" if all(bare) else "m"


def from_file(path: str | PathLike[str], shape: tuple[int, int], name: str = "") -> dict[str, np.ndarray]:
    """Return the regions that a file of the size of the map marks, by name.

    Parameters
    ----------
    path : path-like
        ``.npy``: bool, integer labels or numbers, (ny, nx), row 0 at the bottom of the scan, as arrays in fvproc have
        it. ``.png``, ``.tif``: an image, top row first; grey, or coloured with 8 or 16 bits; alpha is passed over.
    shape : tuple of int
        (ny, nx) of the map.
    name : str
        What to call the regions in place of the file's name.

    Returns
    -------
    dict of str to ndarray of bool, shape (ny, nx)
        Each value but zero (black) is a region of its own; a single one is named by the file, several by the file and
        their value, ``"mask 2"``, or their colour, ``"mask #ff0000"`` (of 16 bits, twelve digits).

    Raises
    ------
    FileFormatError
        If the file is missing or unreadable, or has another shape.
    RegionError
        If it marks nothing, or has too many values to be a mask.
    """
    path = Path(path)
    values = _read_mask(path)
    if values.shape[:2] != shape or values.ndim not in (2, 3) or (values.ndim == 3 and not 1 <= values.shape[2] <= 4):
        raise FileFormatError(f"{path}: its shape is {values.shape}, that of the map {shape}; a pixel must be a curve")
    if values.ndim == 3 and values.shape[2] < 3:  # grey with alpha
        values = values[..., 0]
    coloured, bits = values.ndim == 3, 8 * values.dtype.itemsize
    if coloured:
        if values.dtype not in (np.uint8, np.uint16):
            raise FileFormatError(f"{path}: its colours are {values.dtype}; save it with 8 or 16 bits a colour")
        values = values[..., :3].astype(np.int64) @ np.array([1 << 2 * bits, 1 << bits, 1])
    elif values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0)
    labels = np.unique(values[values != 0])
    if not labels.size:
        raise RegionError(f"{path}: marks no pixel; all values are zero")
    if labels.size > MOST_LABELS:
        raise RegionError(
            f"{path}: has {labels.size} values, a mask at most {MOST_LABELS}; paint regions in plain colours on black, "
            "without soft edges"
        )
    name = name or path.stem
    if labels.size == 1:
        return {name: np.asarray(values != 0)}
    if coloured:
        told = [f"#{label:0{3 * bits // 4}x}" for label in labels.tolist()]
    else:
        told = [f"{label:g}" for label in labels.tolist()]
        if len(set(told)) < labels.size or labels.dtype.kind != "f":
            told = [str(label) for label in labels]  # in full: two that are alike would be one region
    return {f"{name} {text}": values == label for text, label in zip(told, labels, strict=True)}


def _read_mask(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix not in (".npy", *IMAGE_SUFFIXES):
        raise FileFormatError(f"{path}: a mask is an .npy file or an image: {', '.join(IMAGE_SUFFIXES)}")
    values: Any
    try:
        if suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            if values.ndim != 2 or values.dtype.kind not in "biuf":
                raise FileFormatError(
                    f"{path}: holds {values.dtype} {values.shape}, expected numbers of shape (ny, nx)"
                )
            return np.asarray(values)
        if suffix == ".png":
            values = _read_png(path)
        else:
            import tifffile

            values = tifffile.imread(path)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise FileFormatError(f"{path}: cannot be read as a mask: {error}") from error
    return np.asarray(values)[::-1]


def _read_png(path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise FileFormatError(f"{path}: PNG masks need pillow: pip install fvproc[plot], or use .npy or .tif") from None
    with Image.open(path) as image:
        # a palette's numbers are as good as any labels, but its colours are what was painted
        return np.asarray(image.convert("RGB") if image.mode in ("P", "RGBA", "LA") else image)


def materials(maps: ParameterMaps, quantity: str = "modulus", *, smallest: float = 0.005) -> dict[str, np.ndarray]:
    """Return the populations into which the values of a quantity fall of themselves, lowest first.

    The density of the values (of their logarithms, where the quantity spans decades) is smoothed by their median
    standard error and parted at its valleys, where these lie below half of the lower peak beside them.

    Parameters
    ----------
    maps : ParameterMaps
        On the (ny, nx) grid.
    quantity : str
        A name of the registry.
    smallest : float
        Populations of a smaller share of the values join their neighbour.

    Returns
    -------
    dict of str to ndarray of bool, shape (ny, nx)
        Named by their median, ``"1.5 GPa"``. One that holds everything where nothing parts; empty without values.

    Raises
    ------
    RegionError
        If the quantity is unknown.
    """
    if quantity not in maps.quantities:
        raise RegionError(f"quantity {quantity!r}: not among the maps; choose from {', '.join(maps)}")
    values = maps[quantity].astype(np.float64)
    log = QUANTITIES[quantity].log
    with np.errstate(invalid="ignore", divide="ignore"):
        placed = np.log(values) if log else values
        errors = maps.errors(quantity)
        errors = None if errors is None else errors / (values if log else 1.0)
    valued = np.isfinite(placed)
    if not valued.any():
        return {}
    inside = placed[valued]
    limits = _valleys(inside, None if errors is None else errors[valued], smallest)
    found: dict[str, np.ndarray] = {}
    for low, high in zip([-np.inf, *limits], [*limits, np.inf], strict=True):
        mask = valued & (placed >= low) & (placed < high)
        median = float(np.median(values[mask]))
        factor, unit = readable(QUANTITIES[quantity].unit, np.array([median]))
        name = f"{median * factor:.3g} {unit}".rstrip()
        found[name if name not in found else f"{name} ({len(found) + 1})"] = mask
    return found


def _valleys(values: np.ndarray, errors: np.ndarray | None, smallest: float) -> list[float]:
    """Return the places that part values into populations, ascending."""
    low, high = np.percentile(values, (0.1, 99.9))
    if not high > low:
        return []
    steps = 1000
    width = 0.01 * (high - low)
    if errors is not None and np.isfinite(errors).any():
        width = max(width, float(np.median(errors[np.isfinite(errors)])))
    edges = np.linspace(low - 3 * width, high + 3 * width, steps + 1)
    counts = np.histogram(values, edges)[0].astype(float)
    # an odd number and fewer than the counts: else the density would be longer than these, and a cell off
    reach = np.arange(1 - steps // 2, steps // 2) * (edges[1] - edges[0])
    density = np.convolve(counts, np.exp(-0.5 * (reach / width) ** 2), mode="same")
    rising = np.diff(density) > 0
    peaks = [int(p) for p in np.flatnonzero(~np.append(rising, False) & np.append(False, rising))]
    valleys = [int(a + np.argmin(density[a:b])) for a, b in pairwise(peaks)]
    cumulated = np.cumsum(counts) / counts.sum()
    while valleys:
        bounds = [0.0, *(float(cumulated[v]) for v in valleys), 1.0]
        # the shallowest valley goes first: its two peaks are one population
        depths = [density[v] / min(density[peaks[i]], density[peaks[i + 1]]) for i, v in enumerate(valleys)]
        small = [
            i for i in range(len(valleys)) if min(bounds[i + 1] - bounds[i], bounds[i + 2] - bounds[i + 1]) < smallest
        ]
        worst = max(small or range(len(valleys)), key=lambda i: depths[i])
        if not small and depths[worst] < 0.5:
            break
        peaks.pop(worst if density[peaks[worst]] < density[peaks[worst + 1]] else worst + 1)
        valleys.pop(worst)
    return [float((edges[v] + edges[v + 1]) / 2) for v in valleys]
