"""Pictures of a whole map at a glance: its flags as map and table, its surface in three dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, to_rgb
from matplotlib.figure import Figure

from fvproc.maps import ParameterMaps
from fvproc.quantities import FATAL_BITS, FLAG_MEANINGS, QUANTITIES, readable
from fvproc.writers import figure as page
from fvproc.writers import panels
from fvproc.writers.plots import COLOURS, OTHER_COLOURS, Limits, with_unit
from fvproc.writers.sheet import new_figure, place

RELIEF = 0.2  # height of a topography as drawn, as a part of its longer edge
FACETS = 256  # along the longer edge: more are not seen, and take minutes


def draw_flags(maps: ParameterMaps) -> Figure:
    """Return the map of flags beside a table of all that occur, with counts, shares and meanings."""
    found = maps.flag_counts()
    pitch = 0.19
    dy, dx = maps.grid.pixel
    side = 2.6
    height = min(max(side * maps.grid.ny * dy / (maps.grid.nx * dx), 0.5), 4.0)
    rows = len(found) + 5
    high = page.TOP + max(rows * pitch, height + 0.3) + 0.25
    # about as wide as its longest line: a letter of this size is a good 0.06 inch
    wide = page.LEFT + side + 0.35 + 3.85 + 0.062 * max([44, *(len(FLAG_MEANINGS[flag]) for flag in found)]) + 0.2
    picture = new_figure(wide, high)
    axes = place(picture, page.LEFT, high - page.TOP - height, side, height)
    if maps.grid.curves > 1:
        panels.draw_flags(axes, maps, stretched=True)
    else:
        axes.set_axis_off()
    if 1 not in maps.shape:
        panels.draw_scale_bar(axes, maps.grid, height)
    left = page.LEFT + side + 0.35
    table = place(picture, left, 0.2, wide - left - 0.15, high - page.TOP - 0.2)
    table.set_axis_off()
    span = high - page.TOP - 0.2
    table.set(xlim=(0, wide - left - 0.15), ylim=(span, 0))
    total, sizes = maps.grid.curves, np.bincount(panels.classes(maps).ravel(), minlength=3)
    style: dict[str, Any] = {"fontsize": panels.NORMAL - 0.3, "va": "center_baseline", "parse_math": False}
    row = 0.5

    def line(colour: str | None, name: str, count: str, share: float | None, meaning: str, ink: str) -> None:
        nonlocal row
        y = row * pitch
        if colour is not None:
            table.barh(y, 0.1, 0.11, color=colour, edgecolor=panels.QUIET, linewidth=0.4)
        table.text(0.18, y, name, color=ink, **style)
        table.text(2.25, y, count, ha="right", color=ink, **style)
        if share is not None:
            table.text(
                2.95,
                y,
                f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %",
                ha="right",
                color=ink,
                **style,
            )
            table.barh(y, 0.6 * share, 0.1, left=3.08, color=colour or panels.QUIET, linewidth=0)
            table.barh(y, 0.6, 0.1, left=3.08, fill=False, edgecolor=panels.MASKED, linewidth=0.5)
        table.text(3.85, y, meaning, color=ink, **style)
        row += 1

    line(None, "flag", "curves", None, "meaning", panels.QUIET)
    for number, name in enumerate(panels.CLASS_NAMES):
        meaning = ("no flag", "a value, and a doubt about it", "a quantity without a value, and the reason")[number]
        colour = panels.CLASS_COLOURS[number]
        line(colour, name, str(sizes[number]), sizes[number] / total, meaning, panels.INK)
        for flag, count in found.items():
            if number and bool(flag & FATAL_BITS) is (number == 2):
                shade = colour if number == 2 else "#c07f10"
                line(shade, f"  {str(flag.name).lower()}", str(count), count / total, FLAG_MEANINGS[flag], panels.QUIET)
    page.draw_heading(picture, maps)
    return picture


def draw_topography(
    maps: ParameterMaps, height: str = "contact_height", colour: str = "modulus", limits: Limits | None = None
) -> Figure:
    """Return the surface in three dimensions, coloured by a quantity; missing heights are holes, colours grey."""
    picture = new_figure(7.2, 4.4)
    page.draw_heading(picture, maps)
    step = max(1, math.ceil(max(maps.shape) / FACETS))
    shape = tuple(max(1, size // step) for size in maps.shape)
    quantity = QUANTITIES[colour]
    scale = panels.scale_of(
        maps[colour],
        quantity.unit,
        COLOURS.get(colour, OTHER_COLOURS),
        log=quantity.log,
        limits=(limits or {}).get(colour),
    )
    values, title = page.shown(maps, height)
    heights = _blocks(values, step, shape)
    if min(shape) < 2 or scale is None or not np.isfinite(heights).any():
        panels.nothing(place(picture, 0.5, 0.5, 6, 3.5))
        return picture
    axes: Any = picture.add_axes((-0.07, -0.01, 0.92, 0.97), projection="3d", computed_zorder=False)
    dy, dx = maps.grid.pixel if maps.grid.sized else (1.0, 1.0)
    size = (maps.grid.ny * dy, maps.grid.nx * dx)
    # a scan of unknown size is measured in pixels, which take no prefix
    factor, unit = readable("m", np.array([max(size)])) if maps.grid.sized else (1.0, "px")
    z_scale = panels.scale_of(values, "m", "viridis")
    assert z_scale is not None
    y, x = ((np.arange(n) + 0.5) * step * d * factor for n, d in zip(shape, (dy, dx), strict=True))
    # limits keep a stray pixel from flattening everything
    low, high = (float(v) for v in np.nanpercentile(heights, (0.2, 99.8)))
    margin = 0.05 * (high - low) or 1e-12
    z = np.clip(heights, low - margin, high + margin)
    painted = scale.colours(scale.norm(np.ma.masked_invalid(_blocks(maps[colour], step, shape) * scale.factor)))
    painted[~np.isfinite(_blocks(maps[colour], step, shape))] = (*to_rgb(panels.MASKED), 1.0)
    relief = RELIEF * max(size) / (high - low + 2 * margin)
    light = LightSource(azdeg=315, altdeg=50)
    filled = np.where(np.isfinite(z), z, np.nanmedian(z))
    shaded = light.shade_rgb(
        painted[..., :3], filled * relief, vert_exag=1.2, dx=step * dx, dy=step * dy, blend_mode="soft"
    )
    axes.plot_surface(
        x[None, :] + 0 * y[:, None],
        y[:, None] + 0 * x[None, :],
        z * z_scale.factor,
        facecolors=shaded,
        rstride=1,
        cstride=1,
        linewidth=0,
        antialiased=False,
        shade=False,
        rasterized=True,
    )
    axes.set_box_aspect((size[1], size[0], RELIEF * max(size)), zoom=1.08 * min(1.0, size[1] / size[0]) ** 0.5)
    axes.view_init(elev=38, azim=-62)
    for axis, label in (
        (axes.xaxis, f"x ({unit})"),
        (axes.yaxis, f"y ({unit})"),
        (axes.zaxis, f"z ({z_scale.unit})"),
    ):
        axis.set_pane_color((1, 1, 1, 0))
        axis.set_label_text(label, fontsize=panels.SMALL + 0.5)
        panels.numbers(axis, False, 4)
    axes.tick_params(labelsize=panels.SMALL, pad=0)
    axes.zaxis.labelpad = -6
    axes.grid(False)
    note = f"z: {title[0].lower()}{title[1:]}"
    if maps.grid.sized:  # without a length along x and y there is nothing to exaggerate
        note += f", × {float(f'{relief:.2g}'):g}"
    picture.text(0.98, 0.04, note, fontsize=panels.SMALL, color=panels.QUIET, va="baseline", ha="right")
    bar = picture.add_axes((0.875, 0.2, 0.016, 0.52))
    bar.set_zorder(2)
    panels.draw_colour_bar(bar, ScalarMappable(scale.norm, colormaps[scale.colours.name]), maps[colour], scale, 2.5)
    bar.set_ylabel(with_unit(quantity.label, scale), fontsize=panels.SMALL + 0.5, labelpad=3)
    return picture


def _blocks(values: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return medians over blocks of pixels, NaN where a block holds no value."""
    if step == 1:
        return np.where(np.isfinite(values), values, np.nan).astype(float)
    cut = values[: shape[0] * step, : shape[1] * step].astype(float)
    blocks = np.where(np.isfinite(cut), cut, np.nan).reshape(shape[0], step, shape[1], step).swapaxes(1, 2)
    blocks = blocks.reshape(*shape, step * step)
    result = np.full(shape, np.nan)
    known = np.isfinite(blocks).any(axis=-1)
    result[known] = np.nanmedian(blocks[known], axis=-1)
    return result
