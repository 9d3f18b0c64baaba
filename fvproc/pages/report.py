"""The verb `write_report` and the commands `fvproc report` and `fvproc view`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from fvproc import engine, region_tables, writers
from fvproc.errors import FvprocError
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.pages import page
from fvproc.pictures import curves_of, materials_or_all, measured, pixel_of
from fvproc.recipe import Recipe
from fvproc.region_options import EMBEDDED
from fvproc.volume import ForceVolume


def write_report(
    maps: ParameterMaps,
    path: str | PathLike[str],
    *,
    volume: ForceVolume | None = None,
    pixels: Sequence[tuple[int, int]] = (),
    embed: int = EMBEDDED,
    regions: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a report: one HTML file that needs no network and no other file.

    Parameters
    ----------
    maps : ParameterMaps
        What to show.
    path : path-like
        ``.html``.
    volume : ForceVolume, optional
        The measurement, for curves; they are shown with the calibration of the maps.
    pixels : sequence of (int, int), optional
        (y, x) of curves to put into the report, beside the following.
    embed : int
        How many curves to put into the report besides: a typical one of each material, the others evenly over the map.
    regions : mapping of str to ndarray of bool, shape (ny, nx), optional
        Whose statistics are told; by default the materials that `fvproc.regions.materials` finds.
    overwrite : bool
        Whether a file that exists is replaced.

    Raises
    ------
    OutputError
        If plotly is missing, the suffix is another, or the file cannot be written.
    FvprocError
        If a pixel is outside the map, or the volume missing or not what the maps came from.
    CalibrationError
        If the volume was given another calibration than that of the maps.
    """
    page.require_plotly()
    chosen: list[CurveFit] = []
    if regions is None:
        regions = materials_or_all(maps)
    if volume is not None:
        volume, recipe = measured(volume, maps)
        chosen = curves_of(volume, recipe, maps, pixels, None) if pixels else []
        taken = {(curve.y, curve.x) for curve in chosen}
        for curve in _spread(volume, recipe, maps, regions, embed):
            if (curve.y, curve.x) not in taken:
                taken.add((curve.y, curve.x))
                chosen.append(curve)
    elif pixels:
        raise FvprocError(
            "curves in a report: give volume=fv.open(FILE) (--curves FILE), the measurement that holds them"
        )
    page.write(page.page(maps, regions=regions, curves=chosen), Path(path), overwrite)


def _spread(
    volume: ForceVolume, recipe: Recipe, maps: ParameterMaps, regions: Mapping[str, np.ndarray], count: int
) -> list[CurveFit]:
    """Return a typical curve of each region, and others evenly over the pixels that a page shows."""
    if count < 1:
        return []
    found = curves_of(volume, recipe, maps, (), regions)[:count]
    step = page.stride(maps.shape)
    shown = np.argwhere(np.ones((len(range(0, maps.shape[0], step)), len(range(0, maps.shape[1], step))), bool)) * step
    rest = min(count - len(found), len(shown))
    if rest > 0:
        # a lattice would meet the same column again and again; the golden ratio does not
        places = np.floor((0.5 + np.arange(rest)) * len(shown) / rest).astype(int)
        columns = np.floor(np.modf(0.5 + np.arange(rest) * 0.6180339887)[0] * np.unique(shown[:, 1]).size).astype(int)
        for place, column in zip(places, columns, strict=True):
            found.append(engine.explain(volume, recipe, int(shown[place][0]), int(column) * step))
    return found


def report_command(options: argparse.Namespace, volume: ForceVolume | None) -> int:
    """Run `fvproc report`; return the exit status."""
    maps = writers.load(options.input)
    output = Path(options.output or Path(options.input).with_suffix(".html"))
    if options.embed < 0:
        raise FvprocError(f"--embed {options.embed}: a number of curves is not negative")
    write_report(
        maps,
        output,
        volume=volume,
        pixels=[pixel_of(text) for text in options.curve],
        embed=options.embed,
        regions=region_tables.collect(maps, options.where, options.polygon, options.mask) or None,
        overwrite=options.overwrite,
    )
    print(output)
    return 0


def view_command(options: argparse.Namespace, volume: ForceVolume | None) -> int:
    """Run `fvproc view` until Ctrl-C; return the exit status."""
    from fvproc.pages.viewer import Viewer

    maps = writers.load(options.input)
    chosen = region_tables.collect(maps, options.where, options.polygon, options.mask) or None
    if not 0 <= options.port < 1 << 16:
        raise FvprocError(f"--port {options.port}: ports are 0 … 65535; 0 takes any that is free")
    with Viewer(maps, volume, regions=chosen, port=options.port) as viewer:
        print(f"{viewer.address}   (this machine only; Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            import webbrowser

            webbrowser.open(viewer.address)
        viewer.serve()
    return 0
