"""The verb `plot` and the command `fvproc plot`: which picture, of which regions and curves, into which file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import engine, measurement, provenance, region_tables, regions, writers
from fvproc.errors import FvprocError, OutputError
from fvproc.job import agree, typical_curve
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import QUANTITIES
from fvproc.recipe import Recipe, parse_quantity
from fvproc.volume import ForceVolume

PathName = str | PathLike[str]
KINDS = {
    "overview": "maps, histograms, flags and a curve on one page",
    "maps": "maps of the quantities",
    "histogram": "histograms with median, spread and fit of each material or region",
    "correlation": "modulus against adhesion (or two other quantities), as a density",
    "density": "force against separation of all curves, as a density; needs --curves",
    "curves": "chosen curves with contact point, fit, error band and residuals; needs --curves",
    "flags": "a map and a table of the flags",
    "topography": "the surface in three dimensions, coloured by the modulus or another quantity",
}
_OF_CURVES = ("density", "curves")
HEIGHTS = ("contact_height", "height")  # what a topography shows: the first that there is
_DEFAULTS: dict[str, tuple[str, ...]] = {
    "maps": ("contact_height", "modulus", "adhesion", "deformation"),
    "histogram": ("modulus", "adhesion", "deformation"),
    "correlation": ("modulus", "adhesion"),
    "topography": ("modulus",),
}


def plot(
    maps: ParameterMaps,
    path: PathName,
    kind: str = "overview",
    *,
    quantities: Sequence[str] = (),
    regions: Mapping[str, np.ndarray] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    volume: ForceVolume | None = None,
    pixels: Sequence[tuple[int, int]] = (),
    overwrite: bool = True,
) -> None:
    """Draw a picture.

    Parameters
    ----------
    maps : ParameterMaps
        What to show.
    path : path-like
        ``.png``, ``.svg`` or ``.pdf``.
    kind : str
        ``"overview"``, ``"maps"``, ``"histogram"``, ``"correlation"``, ``"density"``, ``"curves"``, ``"flags"`` or
        ``"topography"``.
    quantities : sequence of str, optional
        For maps and histograms any of the registry; for a correlation two; for a topography the one that colours it.
    regions : mapping of str to ndarray of bool, shape (ny, nx), optional
        For histogram, correlation and density (the first of them); by default the materials that
        `fvproc.regions.materials` finds, and all curves for the density.
    limits : mapping of str to (float, float), optional
        Limits of the colours in SI, by quantity, in place of the 1st and 99th percentile.
    volume : ForceVolume, optional
        The measurement: needed for ``density`` and ``curves``, adds a curve to the overview. Its curves are shown with
        the calibration of the maps.
    pixels : sequence of (int, int), optional
        (y, x) of the curves; by default one of median modulus for each material.
    overwrite : bool
        Whether a picture that exists is replaced.

    Raises
    ------
    FvprocError
        If kind, quantity or pixel is unknown, or the volume is missing or not what the maps came from.
    CalibrationError
        If the volume was given another calibration than that of the maps.
    OutputError
        If the suffix is no picture's, matplotlib is missing or the file cannot be written.
    """
    path = Path(path)
    if kind not in KINDS:
        raise FvprocError(f"kind = {kind!r}: choose from {', '.join(KINDS)}")
    check_picture(path, overwrite)
    names = _names(maps, kind, quantities)
    recipe = None
    if volume is not None:
        volume, recipe = measured(volume, maps)
    elif kind in _OF_CURVES or pixels:
        raise FvprocError(f"kind = {kind!r}: needs the curves; give volume=fv.open(FILE) (--curves FILE)")
    if regions is None and kind in ("histogram", "correlation", "curves"):
        regions = materials_or_all(maps)
    curves: list[CurveFit] = []
    if volume is not None and recipe is not None and kind in ("overview", "curves"):
        curves = curves_of(volume, recipe, maps, pixels, regions if kind == "curves" else None)
    density = None
    if kind == "density" and volume is not None and recipe is not None:
        from fvproc import density as counted

        density = counted.count(volume, recipe, maps, next(iter(regions.values())) if regions else None)
    _draw(maps, path, kind, names, regions or {}, limits or {}, curves, density)


def _draw(
    maps: ParameterMaps,
    path: Path,
    kind: str,
    names: tuple[str, ...],
    regions: Mapping[str, np.ndarray],
    limits: Mapping[str, tuple[float, float]],
    curves: Sequence[CurveFit],
    density: Any,
) -> None:
    from fvproc.writers import curve_plots, figure, plots, scenes, sheet

    draw = {
        "overview": lambda: figure.draw(maps, curves[0] if curves else None, limits),
        "maps": lambda: plots.draw_maps(maps, names, limits),
        "histogram": lambda: plots.draw_histograms(maps, regions, names),
        "correlation": lambda: plots.draw_correlation(maps, regions, (names[0], names[1])),
        "density": lambda: curve_plots.draw_density(maps, density),
        "curves": lambda: curve_plots.draw_curves(maps, curves),
        "flags": lambda: scenes.draw_flags(maps),
        "topography": lambda: scenes.draw_topography(maps, _height(maps), names[0], limits),
    }[kind]
    with placed(path) as temporary:
        sheet.store(draw, temporary, maps.provenance)


def check_picture(path: PathName, overwrite: bool = True) -> None:
    """Raise OutputError, before any work starts, if a path is no picture's or will not be writable."""
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OutputError(f"{path}: a picture is a .png, .svg or .pdf")
    writers.check_writable(path, overwrite)


@contextmanager
def placed(path: PathName) -> Iterator[Path]:
    """Yield where to write a picture, which is put in place when it is whole; OutputError where the disk refuses."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writers.replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _names(maps: ParameterMaps, kind: str, quantities: Sequence[str]) -> tuple[str, ...]:
    for name in quantities:
        if name not in maps.quantities:
            raise FvprocError(f"quantity {name!r}: not among the maps; choose from {', '.join(maps)}")
    names = tuple(quantities) or _DEFAULTS.get(kind, ())
    if kind in ("maps", "histogram") and not quantities:
        names = tuple(name for name in names if name in maps) or maps.quantities[:1]
    if kind == "topography":
        if not any(name in maps for name in HEIGHTS):
            raise FvprocError(
                f"kind = {kind!r}: needs {' or '.join(HEIGHTS)}, which are not among the maps; "
                f"there are {', '.join(maps)}"
            )
        if not quantities and names[0] not in maps:
            names = tuple(name for name in HEIGHTS if name in maps)
    if kind == "correlation" and not quantities and not all(name in maps for name in names):
        # an error goes with its quantity, and tells nothing new beside it
        names = tuple(name for name in maps if not name.endswith("_std"))[:2]
        if len(names) < 2:
            raise FvprocError(f"kind = {kind!r}: needs maps of two quantities; there are only {', '.join(maps)}")
    if kind == "correlation" and len(names) != 2:
        raise FvprocError(f"a correlation is of two quantities, not {len(names)}: {', '.join(names)}")
    return names


def _height(maps: ParameterMaps) -> str:
    return next(name for name in HEIGHTS if name in maps)


def measured(volume: ForceVolume, maps: ParameterMaps) -> tuple[ForceVolume, Recipe]:
    """Return the measurement with the calibration of the maps, and the recipe that made them, completed.

    Raises
    ------
    FvprocError, CalibrationError
        If it is another measurement, or was given another calibration; see `fvproc.measurement.as_processed`.
    """
    volume = measurement.as_processed(volume, maps)
    return volume, agree(volume, provenance.recipe_of(maps.provenance))


def materials_or_all(maps: ParameterMaps) -> dict[str, np.ndarray]:
    """Return the materials of a map, or the whole of it where nothing has a modulus."""
    found = regions.materials(maps) if "modulus" in maps else {}
    return found or {"whole map": regions.everything(maps)}


def curves_of(
    volume: ForceVolume,
    recipe: Recipe,
    maps: ParameterMaps,
    pixels: Sequence[tuple[int, int]],
    of: Mapping[str, np.ndarray] | None,
) -> list[CurveFit]:
    """Return the curves of the pixels, else one of each region, else a typical one."""
    for y, x in pixels:
        if not (0 <= y < maps.shape[0] and 0 <= x < maps.shape[1]):
            raise FvprocError(f"--curve {y},{x}: the grid has {maps.shape[0]} rows and {maps.shape[1]} columns")
    if pixels:
        return [engine.explain(volume, recipe, y, x) for y, x in pixels]
    if of is not None and "modulus" in maps:
        typical = [
            engine.typical_pixel(maps.flags, np.where(mask, maps["modulus"], np.float32(np.nan)))
            for mask in of.values()
        ]
        return [engine.explain(volume, recipe, *pixel) for pixel in typical if pixel is not None]
    curve = typical_curve(volume, recipe, maps)
    return [] if curve is None else [curve]


def command(options: argparse.Namespace, volume: ForceVolume | None) -> int:
    """Run `fvproc plot`, with the measurement if one was given; return the exit status."""
    maps = writers.load(options.input)
    default = Path(options.input).with_suffix(".png")
    if options.kind != "overview":
        default = default.with_name(f"{default.stem}-{options.kind}.png")
    output = Path(options.output or default)
    if options.curve and volume is None:
        raise FvprocError(f"--curve {options.curve[0]}: also give --curves FILE, the measurement that holds it")
    pixels = [pixel_of(text) for text in options.curve]
    if options.kind in _OF_CURVES and volume is None:
        raise FvprocError(f"--kind {options.kind}: also give --curves FILE, the measurement")
    plot(
        maps,
        output,
        options.kind,
        quantities=options.quantity,
        regions=region_tables.collect(maps, options.where, options.polygon, options.mask) or None,
        limits=dict(_limits(text) for text in options.limits),
        volume=volume,
        pixels=pixels,
        overwrite=options.overwrite,
    )
    print(output)
    return 0


def pixel_of(text: str) -> tuple[int, int]:
    """Read ``"Y,X"``."""
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise FvprocError(f"--curve {text!r}: expected Y,X such as 12,30") from None
    return y, x


def _limits(text: str) -> tuple[str, tuple[float, float]]:
    name, _, numbers = text.partition("=")
    low, comma, high = numbers.partition(",")
    if name.strip() not in QUANTITIES or not comma:
        raise FvprocError(f"--limits {text!r}: expected QUANTITY=LOW,HIGH such as modulus=10MPa,20GPa")
    unit = QUANTITIES[name.strip()].unit
    unit = unit if unit in regions.KNOWN_UNITS else ""
    first, second = (parse_quantity(part.strip(), unit, f"--limits {name.strip()}") for part in (low, high))
    if not first < second:
        raise FvprocError(f"--limits {text!r}: the lower limit comes first")
    return name.strip(), (first, second)
