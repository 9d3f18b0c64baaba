"""The panels of the picture: map, profile, flags, histogram and curve, each drawn into axes it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import FATAL_BITS, QUANTITIES, readable
from fvproc.volume import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#222222"
QUIET = "#666666"
MASKED = "#d9d9d9"  # lighter than the middle greys of cividis, and in no other map used here
# fine, warned, fatal: told apart by lightness alone, so by every eye and in print
CLASS_COLOURS = ("#e9eef1", "#f0a830", "#6a1b3d")
CLASS_NAMES = ("fine", "warned", "fatal")
APPROACH_COLOUR, RETRACT_COLOUR, FIT_COLOUR = "#8fb8d8", "#1f4e79", "#d55e00"

SMALL, NORMAL = 7.0, 8.0  # type sizes, points
BELOW = 6.5  # from the bottom of a map to the middle of its scale bar, points
TITLE_PAD = 5.0  # from the top of a panel to the baseline of what stands over it, points
_ROUNDING = 1e-6  # values that differ by less, relative to themselves, differ by float32 only
MOSTLY = 0.98  # of the values must be positive for a logarithmic scale: zero in their midst is no small number
LOG_DECADES = 1.5  # a quantity that may be logarithmic is so from this span on
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of one quantity are shown: what to multiply by, in which unit, and how numbers become colours."""

    factor: float
    unit: str
    norm: Normalize
    colours: Colormap

    @property
    def log(self) -> bool:
        """Whether the scale is logarithmic."""
        return isinstance(self.norm, LogNorm)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest number with a colour of its own."""
        return float(self.norm.vmin or 0.0), float(self.norm.vmax or 0.0)


def scale_of(
    values: np.ndarray,
    unit: str,
    colours: str,
    *,
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> Scale | None:
    """Return a scale from the 1st to the 99th percentile, logarithmic if allowed and called for; None without values.

    Parameters
    ----------
    values : ndarray
        In the SI unit `unit`; or in ``"%"``, which stays.
    unit : str
        Of the values.
    colours : str
        Name of a colour map.
    log : bool
        Whether the quantity may span decades.
    limits : tuple of float, optional
        In place of the percentiles, in `unit`; so that several pictures can be compared.
    """
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return None
    factor, name = (1.0, "%") if unit == "%" else readable(unit, finite)
    shown = finite * factor
    given = None if limits is None else (limits[0] * factor, limits[1] * factor)
    if log:
        positive = shown[shown > 0]
        if positive.size > MOSTLY * shown.size:
            low, high = given or np.percentile(positive, (1, 99))
            if low > 0 and math.log10(high / low) > LOG_DECADES:
                return Scale(factor, name, LogNorm(low, high), colormaps[colours])
    low, high = given or np.percentile(shown, (1, 99))
    if not high - low > _ROUNDING * abs(high + low):
        margin = abs(low) * 0.01 or 1.0
        low, high = low - margin, high + margin
    return Scale(factor, name, Normalize(low, high), colormaps[colours])


def draw_map(axes: Axes, values: np.ndarray, grid: Grid, scale: Scale | None, *, stretched: bool) -> Any:
    """Draw a map, row 0 at the bottom, missing pixels in grey; return the image for its colour bar."""
    dy, dx = grid.pixel
    plain_map(axes)
    axes.set_facecolor(MASKED)
    if scale is None:
        nothing(axes)
        return None
    shown = np.ma.masked_invalid(values.astype(float) * scale.factor)
    if scale.log:  # which would mask the few that are not positive as if they were missing
        shown = np.ma.maximum(shown, scale.limits[0] * 0.1)
    return axes.imshow(
        shown,
        cmap=scale.colours.with_extremes(bad=MASKED),
        norm=scale.norm,
        origin="lower",
        extent=(0, grid.nx * dx, 0, grid.ny * dy),
        aspect="auto" if stretched else "equal",
        interpolation="nearest" if max(grid.shape) <= 512 else "antialiased",
    )


def plain_map(axes: Axes) -> None:
    """Take ticks away and keep a thin frame: the scale bar tells the size."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, edgecolor=QUIET)


def nothing(axes: Axes) -> None:
    """Say that there is nothing to show."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", fontsize=NORMAL, color=QUIET)


def draw_colour_bar(axes: Axes, image: Any, values: np.ndarray, scale: Scale, height: float) -> None:
    """Draw the colour bar `height` inches high, pointed where values lie beyond the limits."""
    shown = values[np.isfinite(values)].astype(float) * scale.factor
    low, high = scale.limits
    beyond = (bool(np.any(shown < low)), bool(np.any(shown > high)))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = axes.figure.colorbar(image, cax=axes, extend=extend, extendfrac=0.035)
    bar.outline.set(linewidth=0.5, edgecolor=QUIET)
    axes.tick_params(labelsize=SMALL, width=0.5, length=2, color=QUIET, pad=2, which="major")
    axes.tick_params(width=0.4, length=1.2, color=QUIET, which="minor")
    numbers(axes.yaxis, scale.log, min(max(2, int(height / 0.22)), 5))


def numbers(axis: Any, log: bool, count: int = 5) -> None:
    """Label an axis with about `count` plain numbers, no powers and no offsets."""
    if log:
        low, high = sorted(axis.get_view_interval())
        decades = math.log10(high / low) if low > 0 else 0.0
        axis.set_major_locator(LogLocator(10, subs=(1.0, 3.0) if 2 * decades < count else (1.0,), numticks=count + 1))
        axis.set_minor_locator(LogLocator(10, subs=tuple(range(2, 10)), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}".replace("-", MINUS)))


def draw_scale_bar(axes: Axes, grid: Grid, height: float) -> None:
    """Draw a bar of a round length below a map `height` inches high; in pixels where the size is unknown."""
    if grid.size_x is None:
        length = max(1.0, round_length(0.35 * grid.nx))
        text, share = f"{length:g} px", length / grid.nx
    else:
        length = round_length(0.35 * grid.size_x)
        text, share = amount(length, "m"), length / grid.size_x
    below = -BELOW / (72.0 * height)
    axes.plot(
        [0, share], [below, below], transform=axes.transAxes, color=INK, lw=2, clip_on=False, solid_capstyle="butt"
    )
    note_below(axes, text, share, 3)


def note_below(axes: Axes, text: str, share: float, shift: float = 0.0) -> None:
    """Write below a map, left-aligned at a share of its width; right-aligned at its right edge."""
    axes.annotate(
        text,
        (share, 0),
        (shift, -BELOW),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right" if share == 1 else "left",
        va="center",
        fontsize=SMALL,
        color=INK,
        annotation_clip=False,
    )


def amount(value: float, unit: str) -> str:
    """Return a value in SI as a person writes it: ``"25 nm"``."""
    # a hair more, so that rounding does not make 1000 nm of 1 µm
    factor, name = readable(unit, np.array([value * (1 + 1e-7)]))
    return f"{value * factor:.4g} {name}".rstrip().replace("-", MINUS)


def round_length(length: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max((step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)), default=power)


def mark_pixel(axes: Axes, grid: Grid, curve: CurveFit) -> None:
    """Ring the pixel of the curve."""
    dy, dx = grid.pixel
    for colour, width in (("white", 2.2), (INK, 0.9)):
        axes.plot((curve.x + 0.5) * dx, (curve.y + 0.5) * dy, "o", ms=6, mfc="none", mec=colour, mew=width)


def draw_profile(axes: Axes, values: np.ndarray, errors: np.ndarray | None, grid: Grid, scale: Scale | None) -> None:
    """Draw a map of one row or column as a line over the position, with one-sigma bars where errors are given."""
    tidy(axes)
    if scale is None:
        nothing(axes)
        return
    where, label = positions(grid)
    shown = np.where(np.isfinite(values), values, np.nan).ravel().astype(float) * scale.factor
    if errors is not None:
        # a symmetric bar has no lower end on a logarithmic scale; nothing is drawn for errors that are not numbers
        bars = np.where(np.isfinite(errors) & (errors >= 0), errors, 0).ravel().astype(float) * scale.factor
        axes.errorbar(where, shown, bars, fmt="none", ecolor=scale.colours(0.5), elinewidth=0.6, alpha=0.6)
    axes.plot(where, shown, "-o", color=scale.colours(0.35), ms=2, lw=0.8)
    if scale.log:
        axes.set_yscale("log")
    elif np.nanmax(shown) - np.nanmin(shown) < _ROUNDING * abs(np.nanmax(shown)):
        axes.set_ylim(scale.limits)
    numbers(axes.yaxis, scale.log)
    half = 0.5 * (where[1] - where[0])
    axes.set_xlim(where[0] - half, where[-1] + half)
    numbers(axes.xaxis, False)
    axes.set_xlabel(label, fontsize=SMALL, labelpad=2)


def positions(grid: Grid) -> tuple[np.ndarray, str]:
    """Return the pixel centres along the one row or column, in readable units, and what to call them."""
    name, size, count, pixel = (
        ("x", grid.size_x, grid.nx, grid.pixel[1]) if grid.ny == 1 else ("y", grid.size_y, grid.ny, grid.pixel[0])
    )
    centres = (np.arange(count) + 0.5) * pixel
    if size is None:
        return np.arange(count, dtype=float), f"{name} (pixel)"
    factor, unit = readable("m", centres)
    return centres * factor, f"{name} ({unit})"


def tidy(axes: Axes) -> None:
    """Give axes with numbers the common look: two spines, small type, thin lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(linewidth=0.6, edgecolor=QUIET)
    axes.tick_params(labelsize=SMALL, width=0.5, length=2.5, color=QUIET, pad=2)
    axes.tick_params(which="minor", width=0.4, length=1.5, color=QUIET)


def classes(maps: ParameterMaps) -> np.ndarray:
    """Return (ny, nx): 0 where a curve is fine, 1 where it carries a warning, 2 where a fatal flag."""
    flags = maps.flags
    return np.where(flags & np.uint32(FATAL_BITS), 2, np.where(flags, 1, 0))


def draw_flags(axes: Axes, maps: ParameterMaps, *, stretched: bool) -> None:
    """Draw which curves are fine, warned or fatal; maps of one row or column as a strip over the position."""
    grid = maps.grid
    dy, dx = grid.pixel
    shown, extent = classes(maps), (0.0, grid.nx * dx, 0.0, grid.ny * dy)
    plain_map(axes)
    if 1 in grid.shape:
        where, label = positions(grid)
        half = 0.5 * (where[1] - where[0])
        shown, extent = shown.reshape(1, -1), (where[0] - half, where[-1] + half, 0.0, 1.0)
    axes.imshow(
        shown,
        cmap=ListedColormap(CLASS_COLOURS),
        vmin=-0.5,
        vmax=2.5,
        origin="lower",
        extent=extent,
        aspect="auto" if stretched or 1 in grid.shape else "equal",
        interpolation="nearest",  # a mean of two classes is no class
    )
    if 1 in grid.shape:
        axes.tick_params(labelsize=SMALL, width=0.5, length=2.5, color=QUIET, pad=2)
        numbers(axes.xaxis, False)
        axes.set_xlabel(label, fontsize=SMALL, labelpad=2)


def draw_histogram(axes: Axes, values: np.ndarray, scale: Scale | None, label: str) -> None:
    """Draw the distribution in the colours of the map, with its median."""
    tidy(axes)
    if scale is None:
        nothing(axes)
        return
    shown = values[np.isfinite(values)].astype(float) * scale.factor
    if scale.log:
        shown = shown[shown > 0]
    low, high = (float(limit) for limit in np.percentile(shown, (0.5, 99.5)))
    if scale.log:
        low, high = low / 1.3, high * 1.3
        edges = np.geomspace(low, high, bins_for(shown.size) + 1)
        axes.set_xscale("log")
    else:
        margin = 0.06 * (high - low) or abs(low) * 0.01 or 1.0
        low, high = low - margin, high + margin
        edges = np.linspace(low, high, bins_for(shown.size) + 1)
    counts, _ = np.histogram(shown, edges)
    centres = np.sqrt(edges[1:] * edges[:-1]) if scale.log else (edges[1:] + edges[:-1]) / 2
    axes.bar(
        edges[:-1],
        counts,
        np.diff(edges),
        align="edge",
        color=scale.colours(scale.norm(np.clip(centres, *scale.limits))),
        edgecolor=QUIET,
        linewidth=0.25,
    )
    median = float(np.median(shown))
    axes.axvline(median, color="white", lw=2.4, alpha=0.8)  # keeps the line apart from dark bars
    axes.axvline(median, color=INK, lw=1.0, ls=(0, (4, 2)))
    axes.set_xlim(low, high)
    axes.set_ylim(0, max(int(counts.max()), 1) * 1.06)
    numbers(axes.xaxis, scale.log)
    numbers(axes.yaxis, False, 4)
    axes.set_xlabel(f"{label} ({scale.unit})" if scale.unit else label, fontsize=SMALL, labelpad=2)
    axes.set_title(f"median {median:.3g} {scale.unit}".rstrip(), fontsize=SMALL, pad=TITLE_PAD, loc="right")


def bins_for(count: int) -> int:
    """Return a number of bins that shows the shape without the noise: about the cube root, 8 to 64."""
    return int(min(max(8.0, 2 * count ** (1 / 3)), 64))


def number_with_error(record: np.ndarray, name: str) -> str:
    """Return a number of a record as people write it: ``"2.13 ± 0.04 GPa"``, or ``"no value"``."""
    value = float(record[name])
    if not math.isfinite(value):
        return "no value"
    factor, unit = readable(QUANTITIES[name].unit, np.array([value]))
    spread = f"{name}_std"
    error = float(record[spread]) if spread in QUANTITIES else math.nan
    if not (math.isfinite(error) and error > 0):
        return amount(value, QUANTITIES[name].unit)
    # two digits of the error, and the value to the same place
    places = max(0, 1 - math.floor(math.log10(error * factor)))
    if places > 9:
        return f"{value * factor:.4g} ± {error * factor:.2g} {unit}".rstrip().replace("-", MINUS)
    return f"{value * factor:.{places}f} ± {error * factor:.{places}f} {unit}".rstrip().replace("-", MINUS)
