"""Pictures: one page of maps, distributions, flags and a typical curve, as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from fvproc import provenance as origin
from fvproc.errors import RecipeError
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import FATAL_BITS, FLAG_MEANINGS, QUANTITIES, Flag
from fvproc.volume import Grid
from fvproc.writers import panels
from fvproc.writers.curve_panel import draw_curve
from fvproc.writers.sheet import new_figure, store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# quantity -> colour map; all of them are even in lightness and safe for the colour blind
MAPPED = {"height": "cividis", "modulus": "viridis", "adhesion": "magma", "deformation": "plasma"}
OTHER_COLOURS = "cividis"
HEIGHTS = ("height", "contact_height")

# the page in inches, from which every panel gets its place
LEFT, RIGHT, TOP, BOTTOM = 0.40, 0.10, 0.72, 0.42
COLUMN = 2.05  # width of a panel
GUTTER = 0.72  # between panels: colour bar and its numbers, or the numbers of an axis
ROW_GAP = 0.66  # between rows: scale bar or axis below, title above
BAR_GAP, BAR_WIDTH = 0.06, 0.09
TALLEST, LOWEST = 2.6, 1.6  # height of the maps at most, and of what is no map at least
THINNEST = 0.16  # a map thinner than this part of its length is stretched


def write(maps: ParameterMaps, path: str | PathLike[str], *, curve: CurveFit | None = None) -> None:
    """Write the picture in the format that the suffix names; the provenance goes into the file's metadata.

    Parameters
    ----------
    maps : ParameterMaps
        What to show.
    path : path-like
        ``.png``, ``.svg`` or ``.pdf``.
    curve : CurveFit, optional
        A typical curve with its fit.
    """
    store(lambda: draw(maps, curve), path, maps.provenance)


def draw(
    maps: ParameterMaps, curve: CurveFit | None = None, limits: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Return the picture as a Figure that pyplot knows nothing of; `limits` (SI) go before the robust ones."""
    if maps.grid.curves == 1:
        return _draw_single(maps, curve)
    page = _Page(maps)
    letters = iter("abcdefghijkl")
    scales = {}
    mapped = _mapped(maps)
    for column, name in enumerate(mapped):
        quantity = QUANTITIES[name]
        values, title = shown(maps, name)
        scales[name] = panels.scale_of(
            values,
            quantity.unit,
            MAPPED.get(name, OTHER_COLOURS),
            log=quantity.log,
            limits=(limits or {}).get(name),
        )
        page.map(0, column, next(letters), title, values, scales[name], maps.errors(name), curve)
    errors = maps.errors("modulus")
    if errors is not None:
        with np.errstate(all="ignore"):
            relative = 100 * errors / maps["modulus"]
        scale = panels.scale_of(relative, "%", OTHER_COLOURS, log=True)
        page.map(1, 0, next(letters), "Standard error ÷ modulus", relative, scale, None, None)
    for column, name in enumerate([name for name in mapped if name not in HEIGHTS][:3], 1):
        axes = page.panel(1, column, next(letters), "Curves per bin")
        panels.draw_histogram(axes, maps[name], scales[name], QUANTITIES[name].label)
    axes = page.image_panel(2, 0, next(letters), "Flags")
    panels.draw_flags(axes, maps, stretched=page.stretched)
    page.below(axes)
    _draw_legend(page, 2, 1, maps, wide=curve is None)
    if curve is not None:
        axes = page.panel(2, 2, next(letters), curve_title(curve), columns=2)
        draw_curve(axes, curve)
    draw_heading(page.figure, maps)
    return page.figure


def _mapped(maps: ParameterMaps) -> list[str]:
    """Return the quantities of the first row: those of `MAPPED`, and others where the recipe asked for fewer."""
    others = [name for name in maps if name not in MAPPED and not name.endswith(("_std", "_lower"))]
    return [*(name for name in MAPPED if name in maps), *others][: len(MAPPED)]


def shown(maps: ParameterMaps, name: str) -> tuple[np.ndarray, str]:
    """Return the values of a quantity as pictures show them, and their title: heights from their median."""
    values, title = maps[name], QUANTITIES[name].label
    if name in HEIGHTS:
        # the zero of z is the scanner's own affair; nothing is levelled, so slopes are those of the scan
        finite = values[np.isfinite(values)]
        if finite.size:
            return values - np.median(finite), f"{title} − median"
    return values, title


@dataclass
class _Page:
    """Places panels in rows and columns measured in inches, so that edges align whatever the labels are."""

    maps: ParameterMaps
    figure: Figure = field(init=False)
    stretched: bool = field(init=False)
    size: tuple[float, float] = field(init=False)  # width, height of an image
    rows: tuple[float, float, float] = field(init=False)  # heights

    def __post_init__(self) -> None:
        dy, dx = self.grid.pixel
        aspect = self.grid.ny * dy / (self.grid.nx * dx)
        self.stretched = not THINNEST < aspect < 1 / THINNEST
        height = COLUMN if self.stretched else min(COLUMN * aspect, TALLEST)
        self.size = (COLUMN if self.stretched else height / aspect, height)
        if self.profile:
            self.size = (COLUMN, LOWEST)
        other = max(LOWEST, self.size[1])
        self.rows = (self.size[1], other, other)
        width = LEFT + 4 * COLUMN + 4 * GUTTER + RIGHT - 0.2
        self.figure = new_figure(width, TOP + sum(self.rows) + 2 * ROW_GAP + BOTTOM)

    @property
    def grid(self) -> Grid:
        return self.maps.grid

    @property
    def profile(self) -> bool:
        """Whether the maps are lines."""
        return 1 in self.grid.shape

    def map(
        self,
        row: int,
        column: int,
        letter: str,
        title: str,
        values: np.ndarray,
        scale: panels.Scale | None,
        errors: np.ndarray | None,
        curve: CurveFit | None,
    ) -> None:
        """Draw one quantity as a map with colour and scale bar, or as a profile where it is a line."""
        if scale is not None and scale.unit:
            title = f"{title} ({scale.unit})"
        if self.profile:
            axes = self.panel(row, column, letter, title)
            panels.draw_profile(axes, values, errors, self.grid, scale)
            return
        axes = self.image_panel(row, column, letter, title)
        image = panels.draw_map(axes, values, self.grid, scale, stretched=self.stretched)
        self.below(axes)
        if scale is None:
            return
        left, bottom, width, height = axes.get_position().bounds
        page_width = self.figure.get_figwidth()
        bar = self.figure.add_axes((left + width + BAR_GAP / page_width, bottom, BAR_WIDTH / page_width, height))
        panels.draw_colour_bar(bar, image, values, scale, self.size[1])
        if curve is not None:
            panels.mark_pixel(axes, self.grid, curve)

    def below(self, axes: Axes) -> None:
        """Draw what stands below an image: the scale bar, and a word where the image is out of proportion."""
        if self.profile:
            return
        panels.draw_scale_bar(axes, self.grid, self.size[1])
        if self.stretched:
            panels.note_below(axes, "y not to scale", 1)

    def panel(self, row: int, column: int, letter: str, title: str = "", *, columns: int = 1) -> Axes:
        """Return axes over the full height of a row, with letter and title."""
        width = columns * COLUMN + (columns - 1) * GUTTER
        return self._axes(row, column, width, self.rows[row], letter, title)

    def image_panel(self, row: int, column: int, letter: str, title: str) -> Axes:
        """Return axes of the shape of the maps, hanging from the top of a row."""
        return self._axes(row, column, *self.size, letter, title)

    def _axes(self, row: int, column: int, width: float, height: float, letter: str, title: str) -> Axes:
        left, top = self.corner(row, column)
        page_width, page_height = self.figure.get_size_inches()
        axes: Axes = self.figure.add_axes(
            (left / page_width, (top - height) / page_height, width / page_width, height / page_height)
        )
        where: dict[str, Any] = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "va": "baseline",
            "color": panels.INK,
        }
        axes.annotate(letter, (0, 1), (0, panels.TITLE_PAD), fontsize=panels.NORMAL + 1, fontweight="bold", **where)
        axes.annotate(title, (0, 1), (11, panels.TITLE_PAD), fontsize=panels.NORMAL, parse_math=False, **where)
        return axes

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Return left and top of a cell in inches from the lower left corner of the page."""
        top = self.figure.get_figheight() - TOP - sum(self.rows[:row]) - row * ROW_GAP
        return LEFT + column * (COLUMN + GUTTER), top


def draw_heading(figure: Figure, maps: ParameterMaps) -> None:
    """Write the name of the file and, in one line or two, what was done with it."""
    width, height = figure.get_size_inches()
    source = maps.provenance.get("input")
    name = source.get("name") if isinstance(source, Mapping) else None
    room = width - LEFT - RIGHT
    small = FontProperties(size=panels.SMALL + 0.5)
    lines = [""]
    for part in summary(maps):
        longer = f"{lines[-1]}  ·  {part}" if lines[-1] else part
        if _inches(figure, longer, small) > room and len(lines) < 2:
            lines.append(part)
        else:
            lines[-1] = longer
    down = 0.24
    for text, font, colour, pitch in (
        (str(name or "Parameter maps"), FontProperties(size=11.0, weight="bold"), panels.INK, 0.19),
        *((line, small, panels.QUIET, 0.14) for line in lines),
    ):
        figure.text(
            LEFT / width,
            1 - down / height,
            _shortened(figure, text, font, room),
            fontproperties=font,
            color=colour,
            va="baseline",
            parse_math=False,  # a file name may hold dollars
        )
        down += pitch


def _inches(figure: Figure, text: str, font: FontProperties) -> float:
    """Return the width of a text as it will be drawn."""
    renderer = cast(FigureCanvasAgg, figure.canvas).get_renderer()
    return float(renderer.get_text_width_height_descent(text, font, ismath=False)[0]) / figure.dpi


def _shortened(figure: Figure, text: str, font: FontProperties, room: float) -> str:
    """Return a text without what cannot be printed, and with its middle left out where it is wider than `room`."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    kept, shown = len(text), text
    while kept > 1 and _inches(figure, shown, font) > room:
        kept = int(kept * 0.95)
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown


def summary(maps: ParameterMaps) -> list[str]:
    """Return in a few words each what was measured and how it was fitted, as far as the provenance tells."""
    grid = maps.grid
    parts = [f"{grid.ny} × {grid.nx} curves" if grid.curves > 1 else "1 curve"]
    if grid.size_x is not None and grid.size_y is not None:
        parts.append(f"{panels.amount(grid.size_y, 'm')} × {panels.amount(grid.size_x, 'm')}")
    try:
        recipe = origin.recipe_of(maps.provenance)
    except RecipeError:
        pass
    else:
        model = recipe.fit.model.replace("_", " ")
        parts.append(f"{model.upper() if model == 'dmt' else model} on {recipe.fit.branch}, method {recipe.fit.method}")
        if recipe.tip.radius is not None:
            parts.append(f"tip radius {panels.amount(recipe.tip.radius, 'm')}")
        if recipe.tip.half_angle is not None:
            parts.append(f"half angle {math.degrees(recipe.tip.half_angle):.4g}°")
        if recipe.poisson_ratio is not None:
            parts.append(f"ν = {recipe.poisson_ratio:g}")
    calibration = maps.provenance.get("calibration")
    setting = calibration.get("spring_constant") if isinstance(calibration, Mapping) else None
    if isinstance(setting, Mapping) and isinstance(setting.get("value"), (int, float)):
        parts.append(f"k = {panels.amount(setting['value'], 'N/m')}")
    systematic = maps.provenance.get("systematic")
    errors = systematic.get("quantities") if isinstance(systematic, Mapping) else None
    for name in ("modulus", "adhesion"):
        error = errors.get(name) if isinstance(errors, Mapping) else None
        if isinstance(error, Mapping) and error.get("parts"):
            parts.append(f"{name} ± {100 * error['rel_std']:.2g} % systematic")
    if "version" in maps.provenance:
        parts.append(f"{origin.PROGRAM} {maps.provenance['version']}")
    return parts


def curve_title(curve: CurveFit) -> str:
    """Return pixel, modulus and adhesion of a curve in a line."""
    modulus = panels.number_with_error(curve.record, "modulus")
    lower = float(curve.record["modulus_lower"])
    if modulus == "no value" and math.isfinite(lower):
        modulus = f"> {panels.amount(lower, 'Pa')} (95 %)"
    else:
        modulus = f"= {modulus}"
    adhesion = panels.number_with_error(curve.record, "adhesion")
    return f"Row {curve.y}, column {curve.x}:  E {modulus},  adhesion = {adhesion}".replace("= no value", "unknown")


def _legend_lines(maps: ParameterMaps, room: int) -> Iterator[tuple[str | None, str, str, str]]:
    """Yield (colour of a class or None, name, count, meaning): each class, below it its most frequent flags."""
    found = maps.flag_counts()
    sizes = np.bincount(panels.classes(maps).ravel(), minlength=3)
    kinds: list[list[Flag]] = [[], *([f for f in found if bool(f & FATAL_BITS) is fatal] for fatal in (False, True))]
    each = max(1, (room - len(kinds)) // max(1, sum(bool(flags) for flags in kinds)))
    for colour, name, size, flags in zip(panels.CLASS_COLOURS, panels.CLASS_NAMES, sizes, kinds, strict=True):
        yield colour, name, f"{size}  ({100 * size / maps.grid.curves:.3g} %)", ""
        frequent = sorted(flags, key=lambda flag: -found[flag])
        listed = frequent if len(frequent) <= each else frequent[: each - 1]
        for flag in listed:
            yield None, str(flag.name).lower(), str(found[flag]), FLAG_MEANINGS[flag]
        if len(listed) < len(frequent):
            yield None, f"and {len(frequent) - len(listed)} more kinds", "", ""


def _draw_legend(page: _Page, row: int, column: int, maps: ParameterMaps, *, wide: bool) -> None:
    """List classes and flags with their counts beside the map of flags, with what they mean where there is room."""
    left, top = page.corner(row, column)
    left -= GUTTER - 0.15
    pitch, width, height = 0.155, COLUMN + 0.2, page.rows[row]
    page_width, page_height = page.figure.get_size_inches()
    axes = page.figure.add_axes(
        (left / page_width, (top - height) / page_height, width / page_width, height / page_height)
    )
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    for line, (colour, name, count, meaning) in enumerate(_legend_lines(maps, int(height / pitch))):
        y = (line + 0.5) * pitch
        if colour is not None:
            axes.add_patch(
                Rectangle((0, y - 0.055), 0.14, 0.11, facecolor=colour, edgecolor=panels.QUIET, linewidth=0.5)
            )
        style: dict[str, Any] = {
            "va": "center_baseline",
            "fontsize": panels.NORMAL if colour else panels.SMALL,
            "color": panels.INK if colour else panels.QUIET,
        }
        axes.text(0.22, y, name, **style)
        axes.text(width, y, count, ha="right", **style)
        if wide and meaning:
            axes.text(width + 0.2, y, meaning, **style)


def _draw_single(maps: ParameterMaps, curve: CurveFit | None) -> Figure:
    """Draw the only curve and all its numbers."""
    record = maps.records[0, 0]
    pitch, table = 0.168, 3.5
    rows = [(QUANTITIES[name].label, panels.number_with_error(record, name)) for name in maps if "_std" not in name]
    flags = [(f"{'Fatal flag' if f & FATAL_BITS else 'Warning'}", str(f.name).lower()) for f in maps.flag_counts()]
    rows += flags or [("Flags", "none")]
    height = TOP + pitch * len(rows) + BOTTOM
    plot = 5.2 if curve is not None else 0.0
    width = LEFT + 0.15 + (plot + 0.5 if plot else 0.0) + table + 0.3
    figure = new_figure(width, height)
    if curve is not None:
        axes = figure.add_axes(((LEFT + 0.15) / width, BOTTOM / height, plot / width, (height - TOP - BOTTOM) / height))
        draw_curve(axes, curve)
    left = LEFT + (plot + 0.65 if plot else 0.0)
    for number, (label, text) in enumerate(rows):
        y = 1 - (TOP + (number + 0.5) * pitch) / height
        style: dict[str, Any] = {"fontsize": panels.NORMAL, "va": "center_baseline"}
        figure.text(left / width, y, label, color=panels.QUIET, **style)
        figure.text((left + table) / width, y, text, ha="right", color=panels.INK, **style)
    draw_heading(figure, maps)
    return figure
