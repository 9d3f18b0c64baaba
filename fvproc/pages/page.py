"""One page for a browser with everything in it: maps, numbers, chosen curves, statistics, plotting library."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import provenance, region_tables, statistics
from fvproc.curve_numbers import residuals_of, window
from fvproc.errors import OutputError
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import FATAL_BITS, FLAG_MEANINGS, QUANTITIES
from fvproc.statistics import Statistics

LARGEST_EDGE = 512  # pixels; of a larger map a page shows every second, third … in both directions
FIRST = ("contact_height", "modulus", "adhesion", "deformation")  # that are on the maps as the page opens
_COLOURS = {"contact_height": "Cividis", "height": "Cividis", "adhesion": "Magma", "deformation": "Plasma"}
_DECADES = 1.5  # as the pictures have it


def require_plotly() -> None:
    """Raise OutputError if the plotting library is missing, naming the remedy."""
    if importlib.util.find_spec("plotly") is None:
        raise OutputError("a page for the browser needs plotly: pip install fvproc[report]")


def page(
    maps: ParameterMaps,
    *,
    regions: Mapping[str, np.ndarray],
    curves: Sequence[CurveFit] = (),
    pixel: tuple[int, int] | None = None,
    server: bool = False,
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    maps : ParameterMaps
        What to show; of maps with more than `LARGEST_EDGE` rows or columns every second, third … pixel.
    regions : mapping of str to ndarray of bool, shape (ny, nx)
        Whose statistics are told.
    curves : sequence of CurveFit
        Put into the page.
    pixel : (int, int), optional
        (y, x) that is chosen as the page opens; by default that of the first curve.
    server : bool
        Whether a viewer is there to be asked for other curves; else the page needs nothing and nobody.

    Raises
    ------
    OutputError
        If plotly is missing.
    """
    require_plotly()
    from plotly.offline import get_plotlyjs

    if pixel is None and curves:
        pixel = (curves[0].y, curves[0].x)
    told = provenance.plain(maps.provenance)
    source = told.get("input") or {}
    parts = {
        "title": html.escape(str(source.get("name") or "Parameter maps")),
        "summary": html.escape(_summary(maps)),
        "connect": "'self'" if server else "'none'",
        "css": _file("page.css"),
        "data": _safe(_data(maps, regions, curves, pixel, server)),
        "plotly": get_plotlyjs(),
        "script": _file("page.js"),
    }
    # split, not replaced: what is put in may hold braces
    first, *rest = _file("page.html").split("{{")
    made = [first]
    for piece in rest:
        name, _, text = piece.partition("}}")
        made += [parts[name], text]
    return "".join(made)


def _summary(maps: ParameterMaps) -> str:
    grid = maps.grid
    told = [f"{grid.ny} × {grid.nx} curves"]
    if grid.size_y is not None and grid.size_x is not None:  # as `grid.sized`, which tells a type checker nothing
        told.append(f"{grid.size_y * 1e6:.4g} µm × {grid.size_x * 1e6:.4g} µm")
    recipe = maps.provenance.get("recipe")
    if isinstance(recipe, Mapping) and isinstance(recipe.get("fit"), Mapping):
        told.append(
            ", ".join(str(recipe["fit"][name]) for name in ("model", "branch", "method") if name in recipe["fit"])
        )
    told.append(f"{provenance.PROGRAM} {maps.provenance.get('version', '')}".strip())
    step = stride(maps.shape)
    if step > 1:
        told.append(f"one row and column in {step} is shown")
    return "  ·  ".join(told)


def stride(shape: tuple[int, ...]) -> int:
    """Return how many pixels apart those are that a page shows."""
    return max(1, math.ceil(max(shape) / LARGEST_EDGE))


def _file(name: str) -> str:
    return resources.files("fvproc.pages").joinpath(name).read_text(encoding="utf-8")


def _safe(data: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(
    maps: ParameterMaps,
    regions: Mapping[str, np.ndarray],
    curves: Sequence[CurveFit],
    pixel: tuple[int, int] | None,
    server: bool,
) -> dict[str, Any]:
    grid, step = maps.grid, stride(maps.shape)
    dy, dx = grid.pixel if grid.sized else (1.0, 1.0)
    found: list[Statistics] = statistics.statistics(maps, regions)
    counts = maps.flag_counts()
    return {
        "grid": {
            "ny": grid.ny,
            "nx": grid.nx,
            "dy": dy,
            "dx": dx,
            "unit": "m" if grid.sized else "px",
            "step": step,
            "rows": len(range(0, grid.ny, step)),
            "columns": len(range(0, grid.nx, step)),
        },
        "quantities": [_quantity(maps, name, step) for name in maps],
        "first": [name for name in FIRST if name in maps] or list(maps)[:1],
        "flags": encoded(maps.flags[::step, ::step], "<u4"),
        "flag_meanings": [
            {
                "name": str(flag.name).lower(),
                "bit": int(flag).bit_length() - 1,
                "fatal": bool(flag & FATAL_BITS),
                "meaning": meaning,
                "count": counts.get(flag, 0),
            }
            for flag, meaning in FLAG_MEANINGS.items()
        ],
        "statistics": region_tables.to_dict(region_tables.Findings("", found, [], []))["regions"],
        "curves": {
            f"{curve.y},{curve.x}": curve_data(curve) | {"record": numbers(maps, curve.y, curve.x)} for curve in curves
        },
        "pixel": pixel,
        "provenance": provenance.plain(maps.provenance),
        "server": server,
    }


def _quantity(maps: ParameterMaps, name: str, step: int) -> dict[str, Any]:
    from plotly import colors

    quantity = QUANTITIES[name]
    values = maps[name][::step, ::step]
    finite = values[np.isfinite(values)].astype(np.float64)
    low, median, high = np.percentile(finite, (1, 50, 99)) if finite.size else (0.0, 0.0, 1.0)
    log = bool(quantity.log and low > 0 and high / low > 10**_DECADES)
    if not high > low:
        margin = abs(low) * 0.01 or 1.0
        low, high = low - margin, high + margin
    palette = getattr(colors.sequential, _COLOURS.get(name, "Viridis"))
    return {
        "name": name,
        "label": quantity.label,
        "unit": quantity.unit,
        "log": log,
        "low": float(low),
        "median": float(median),
        "high": float(high),
        "colours": [[i / (len(palette) - 1), colour] for i, colour in enumerate(palette)],
        "data": encoded(values, "<f4"),
    }


def encoded(values: np.ndarray, dtype: str) -> str:
    """Return an array as base64 of its bytes, rows from the bottom of the scan."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def curve_data(curve: CurveFit) -> dict[str, Any]:
    """Return one curve for the page: arrays as base64 of float64 in SI, numbers, None for what is none."""
    z, residual = residuals_of(curve)
    every = np.concatenate([curve.approach_z, curve.retract_z])
    every = every[np.isfinite(every)]
    contact, noise = float(curve.record["contact_point"]), float(curve.record["baseline_noise"])
    known = every.size > 0 and float(every.min()) <= contact <= float(every.max())
    order = np.argsort(curve.fit_z, kind="stable")
    return {
        **{
            name: encoded(getattr(curve, name), "<f8")
            for name in ("approach_z", "approach_force", "retract_z", "retract_force")
        },
        "fit_z": encoded(curve.fit_z[order], "<f8"),
        "fit_force": encoded(curve.fit_force[order], "<f8"),
        "residual_z": encoded(z, "<f8"),
        "residual": encoded(residual, "<f8"),
        "window": [float(v) for v in window(curve, every)] if every.size else [0.0, 1.0],
        "contact_point": contact if known else None,
        "noise": noise if math.isfinite(noise) else None,
    }


def numbers(maps: ParameterMaps, y: int, x: int) -> dict[str, Any]:
    """Return the record of one pixel for the page; what is no number is None."""
    record = maps.records[y, x]
    values = {name: float(record[name]) for name in maps}
    told = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {"y": y, "x": x, "flags": int(record["flags"]), "values": told}


def write(text: str, path: Path, overwrite: bool) -> None:
    """Write a page; the file appears when it is complete.

    Raises
    ------
    OutputError
        If the suffix is not .html, the file exists and must not be overwritten, or the disk refuses.
    """
    from fvproc.writers import replacing

    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: a report is an .html file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists; give another name, or --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
