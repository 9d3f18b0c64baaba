"""Pictures of one kind each: maps, histograms of materials, modulus against adhesion, flags, topography."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES, readable
from fvproc.statistics import Statistics, statistics
from fvproc.writers import figure as page
from fvproc.writers import panels
from fvproc.writers.sheet import new_figure, panel_title, place

COLOURS = {**page.MAPPED, "contact_height": "cividis"}
OTHER_COLOURS = "viridis"
# told apart by the colour blind, after Okabe and Ito; the light ones last
REGION_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444", "#f0e442")
MOST_REGIONS = len(REGION_COLOURS)

Limits = Mapping[str, tuple[float, float]]


def draw_maps(maps: ParameterMaps, names: Sequence[str], limits: Limits | None = None) -> Figure:
    """Return maps of quantities side by side, up to four in a row, with colour bars, scale bars and histograms."""
    dy, dx = maps.grid.pixel
    aspect = min(max(maps.grid.ny * dy / (maps.grid.nx * dx), 0.3), 2.0)
    columns = min(len(names), 4 if len(names) != 4 else 2)
    rows = math.ceil(len(names) / columns)
    width = 3.0 if columns < 4 else 2.2
    height = width * aspect
    wide, high = columns * (width + 0.85) + page.LEFT, page.TOP + rows * (height + 0.62)
    picture = new_figure(wide, high)
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        left, top = page.LEFT + column * (width + 0.85), high - page.TOP - row * (height + 0.62)
        axes = place(picture, left, top - height, width, height)
        values, title = page.shown(maps, name)
        quantity = QUANTITIES[name]
        scale = panels.scale_of(
            values,
            quantity.unit,
            COLOURS.get(name, OTHER_COLOURS),
            log=quantity.log,
            limits=(limits or {}).get(name),
        )
        panel_title(axes, "abcdefghijklmnopqrstuvwx"[number % 24], with_unit(title, scale))
        stretched = not math.isclose(aspect, maps.grid.ny * dy / (maps.grid.nx * dx))
        image = panels.draw_map(axes, values, maps.grid, scale, stretched=stretched)
        panels.draw_scale_bar(axes, maps.grid, height)
        missing = int(np.size(values) - np.isfinite(values).sum())
        if missing:
            panels.note_below(axes, f"grey: {missing} without a value", 1)
        if scale is not None:
            bar = place(picture, left + width + 0.06, top - height, 0.09, height)
            panels.draw_colour_bar(bar, image, values, scale, height)
    page.draw_heading(picture, maps)
    return picture


def draw_histograms(maps: ParameterMaps, regions: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Return histograms of quantities, a colour for each region, with median, spread and the better fit."""
    found = statistics(maps, regions, names)
    row_height, gap = 1.75, 0.62
    high = page.TOP + len(names) * (row_height + gap) + 0.1
    wide, plot = 7.6, 4.1
    picture = new_figure(wide, high)
    for row, name in enumerate(names):
        bottom = high - page.TOP - row * (row_height + gap) - row_height
        axes = place(picture, 0.62, bottom, plot, row_height)
        panel_title(
            axes,
            "abcdefghijklmnopqrstuvwx"[row % 24],
            f"{QUANTITIES[name].label}: curves per bin, each region to its own peak",
        )
        own = [one for one in found if one.quantity == name]
        scale = _histogram(axes, maps, regions, own)
        table = place(picture, 0.62 + plot + 0.25, bottom, wide - plot - 0.95, row_height)
        _histogram_table(table, own, scale)
    page.draw_heading(picture, maps)
    return picture


def _histogram(
    axes: Axes, maps: ParameterMaps, regions: Mapping[str, np.ndarray], own: Sequence[Statistics]
) -> panels.Scale | None:
    panels.tidy(axes)
    name = own[0].quantity
    quantity = QUANTITIES[name]
    together = np.zeros(maps.shape, bool)
    for mask in regions.values():
        together |= mask
    scale = panels.scale_of(maps[name][together], quantity.unit, OTHER_COLOURS, log=quantity.log)
    if scale is None:
        panels.nothing(axes)
        return None
    shown = maps[name][together].astype(float) * scale.factor
    shown = shown[np.isfinite(shown) & ((shown > 0) | (not scale.log))]
    low, high = np.percentile(shown, (0.2, 99.8))
    # bins that resolve the narrowest region, as far as the eye can
    width = min((one.spread / (abs(one.median) if scale.log else 1.0) for one in own if one.spread > 0), default=0.0)
    span = math.log(high / low) if scale.log else (high - low) / scale.factor
    bins = int(min(max(30, span / (0.5 * width) if width else 0), 200))
    if scale.log:
        edges = np.geomspace(low / 1.25, high * 1.25, bins + 1)
        axes.set_xscale("log")
    else:
        margin = 0.05 * (high - low) or abs(low) * 0.01 or 1.0
        edges = np.linspace(low - margin, high + margin, bins + 1)
    for number, one in enumerate(own):
        colour = REGION_COLOURS[number % MOST_REGIONS]
        values = maps[name][regions[one.region]].astype(float) * scale.factor
        counts = np.histogram(values[np.isfinite(values)], edges)[0]
        top = counts.max() or 1
        axes.stairs(counts / top, edges, fill=True, color=colour, alpha=0.35, linewidth=0)
        axes.stairs(counts / top, edges, color=colour, linewidth=0.8)
        if one.fits:
            fit = one.fits[0]
            half = 5 * fit.width * (fit.centre if fit.law == "lognormal" else 1.0)
            fine = np.linspace(max(fit.centre - half, 0.0 if scale.log else -np.inf), fit.centre + half, 401)[1:]
            step = np.interp(fine * scale.factor, (edges[:-1] + edges[1:]) / 2, np.diff(edges)) / scale.factor
            expected = fit.density(fine) * step * (one.count - fit.left_out)
            # a peak narrower than a bin is as high as what it puts into the bin
            expected *= min(1.0, top / expected.max()) if expected.max() > 1.5 * top else 1.0
            axes.plot(fine * scale.factor, expected / top, color=colour, lw=1.0, ls=(0, (3, 1.5)))
        if one.count:
            axes.axvline(one.median * scale.factor, color=colour, lw=0.9)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.12)
    panels.numbers(axes.xaxis, scale.log)
    panels.numbers(axes.yaxis, False, 3)
    axes.set_xlabel(with_unit(quantity.label, scale), fontsize=panels.SMALL, labelpad=2)
    return scale


def _histogram_table(axes: Axes, own: Sequence[Statistics], scale: panels.Scale | None) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    if scale is None:
        return
    lines = min(len(own), 7)
    pitch = 1 / 8.0
    style: dict[str, Any] = {"fontsize": panels.SMALL, "va": "center_baseline", "parse_math": False}
    for where, text in ((0.05, "region"), (0.72, "median ± spread"), (1.0, "curves")):
        side = "left" if where < 0.1 else "right"
        axes.text(where, 1 - 0.5 * pitch, text, ha=side, color=panels.QUIET, **style)
    for number, one in enumerate(own[:lines]):
        y = 1 - (number + 1.5) * pitch
        axes.plot([0, 0.03], [y, y], color=REGION_COLOURS[number % MOST_REGIONS], lw=4, solid_capstyle="butt")
        name = one.region if len(one.region) <= 16 else f"{one.region[:15]}…"
        axes.text(0.05, y, name, color=panels.INK, **style)
        if one.count:
            axes.text(0.72, y, _with_spread(one), ha="right", color=panels.INK, **style)
        axes.text(1.0, y, f"{one.count}", ha="right", color=panels.QUIET, **style)
    if len(own) > lines:
        axes.text(0.05, 0, f"and {len(own) - lines} more regions", color=panels.QUIET, **style)


def _with_spread(one: Statistics) -> str:
    factor, unit = readable(one.unit, np.array([one.median]))
    spread = one.spread * factor
    places = max(0, 1 - math.floor(math.log10(spread))) if spread > 0 else 3
    return f"{one.median * factor:.{places}f} ± {spread:.{places}f} {unit}".rstrip().replace("-", panels.MINUS)


def draw_correlation(
    maps: ParameterMaps, regions: Mapping[str, np.ndarray], names: tuple[str, str] = ("modulus", "adhesion")
) -> Figure:
    """Return the density of two quantities against each other, with their distributions along the edges."""
    side, edge, left, bottom = 3.9, 0.75, 0.7, 0.55
    picture = new_figure(left + side + edge + 1.05, page.TOP + bottom + side + edge + 0.15)
    axes = place(picture, left, bottom, side, side)
    panels.tidy(axes)
    both = np.isfinite(maps[names[0]]) & np.isfinite(maps[names[1]])
    scales = [panels.scale_of(maps[n][both], QUANTITIES[n].unit, "viridis", log=QUANTITIES[n].log) for n in names]
    page.draw_heading(picture, maps)
    if scales[0] is None or scales[1] is None:
        panels.nothing(axes)
        return picture
    edges, values = [], []
    for name, scale in zip(names, scales, strict=True):
        assert scale is not None
        shown = maps[name][both].astype(float) * scale.factor
        low, high = np.percentile(shown[shown > 0] if scale.log else shown, (0.2, 99.8))
        margin = 0.05 * (high - low) or abs(low) * 0.01 or 1.0
        made = np.geomspace(low / 1.3, high * 1.3, 121) if scale.log else np.linspace(low - margin, high + margin, 121)
        edges.append(made)
        values.append(shown)
    counts, *_ = np.histogram2d(values[1], values[0], (edges[1], edges[0]))
    top = max(float(counts.max()), 2.0)
    mesh = axes.pcolormesh(
        edges[0], edges[1], np.ma.masked_equal(counts, 0), norm=LogNorm(1, top), cmap="viridis_r", rasterized=True
    )
    for axis, scale, name in ((axes.xaxis, scales[0], names[0]), (axes.yaxis, scales[1], names[1])):
        if scale.log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        axis.set_label_text(with_unit(QUANTITIES[name].label, scale), fontsize=panels.SMALL + 0.5)
    axes.set(xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
    for axis, scale in ((axes.xaxis, scales[0]), (axes.yaxis, scales[1])):
        panels.numbers(axis, scale.log)
    _region_marks(axes, maps, regions, names, scales)
    for number, direction in enumerate("xy"):
        beside = (
            place(picture, left, bottom + side + 0.06, side, edge)
            if direction == "x"
            else place(picture, left + side + 0.06, bottom, edge, side)
        )
        beside.set_axis_off()
        counted = np.histogram(values[number], edges[number])[0]
        orientation: Literal["vertical", "horizontal"] = "vertical" if direction == "x" else "horizontal"
        beside.stairs(counted, edges[number], fill=True, color="#7f9bb3", orientation=orientation)
        if scales[number].log:  # type: ignore[union-attr]
            (beside.set_xscale if direction == "x" else beside.set_yscale)("log")
        beside.set(**{f"{direction}lim": edges[number][[0, -1]]})
    bar = place(picture, left + side + edge + 0.25, bottom, 0.1, side)
    picture.colorbar(mesh, cax=bar).outline.set(linewidth=0.5, edgecolor=panels.QUIET)
    bar.tick_params(labelsize=panels.SMALL, width=0.5, length=2, color=panels.QUIET, pad=2)
    panels.numbers(bar.yaxis, True, 4)
    bar.set_ylabel("curves per cell", fontsize=panels.SMALL, labelpad=2)
    return picture


def _region_marks(
    axes: Axes, maps: ParameterMaps, regions: Mapping[str, np.ndarray], names: tuple[str, str], scales: Sequence[Any]
) -> None:
    """Mark median and spread of each region, and name it."""
    for name, mask in regions.items():
        x, y = statistics(maps, {name: mask}, names)
        if not (x.count and y.count):
            continue
        at = (x.median * scales[0].factor, y.median * scales[1].factor)
        reach = (x.spread * scales[0].factor, y.spread * scales[1].factor)
        for colour, width in (("white", 3.0), (panels.INK, 1.0)):
            axes.errorbar(*at, reach[1], reach[0], fmt="o", color=colour, ms=1 + width, elinewidth=width, zorder=5)
        right = axes.transAxes.inverted().transform(axes.transData.transform(at))[0] > 0.75
        axes.annotate(
            name,
            at,
            (-8 if right else 8, 8),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=panels.SMALL + 0.5,
            color=panels.INK,
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
            zorder=6,
        )


def with_unit(label: str, scale: panels.Scale | None) -> str:
    """Return a label with the unit of a scale."""
    return f"{label} ({scale.unit})" if scale is not None and scale.unit else label
