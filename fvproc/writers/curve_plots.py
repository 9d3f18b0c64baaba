"""Pictures of curves: chosen ones with contact point, fit, error band and residuals; the density of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fvproc.maps import CurveFit, Density, ParameterMaps
from fvproc.quantities import readable
from fvproc.writers import figure as page
from fvproc.writers import panels
from fvproc.writers.curve_panel import QUIET_TEXT, draw_curve, draw_residuals
from fvproc.writers.sheet import new_figure, panel_title, place


def draw_curves(maps: ParameterMaps, curves: Sequence[CurveFit]) -> Figure:
    """Return each curve with contact point, fit and error band; below it the residuals over the fitted samples.

    The band is the fit ± 2 σ of the noise of the baseline: where 95 % of the samples lie if the model is right.
    """
    columns = 1 if len(curves) == 1 else 2
    rows = math.ceil(len(curves) / columns)
    width, height, below, gap = (5.6 if columns == 1 else 3.9), 2.3, 0.75, 1.05
    high = page.TOP + rows * (height + below + gap)
    picture = new_figure(columns * (width + 0.75) + 0.3, high)
    for number, curve in enumerate(curves):
        row, column = divmod(number, columns)
        left = 0.65 + column * (width + 0.75)
        top = high - page.TOP - row * (height + below + gap) - 0.1
        axes = place(picture, left, top - height, width, height)
        residuals = place(picture, left, top - height - below - 0.32, width, below)
        panel_title(axes, "abcdefghijklmnopqrstuvwx"[number % 24], page.curve_title(curve))
        draw_curve(axes, curve)
        draw_residuals(axes, residuals, curve)
    page.draw_heading(picture, maps)
    return picture


def draw_density(maps: ParameterMaps, density: Density) -> Figure:
    """Return force against separation of all curves as a density, approach and retract side by side."""
    width, height, left = 3.7, 3.2, 0.62
    high = page.TOP + height + 0.75
    picture = new_figure(left + 2 * width + 0.35 + 0.85, high)
    z_factor, z_unit = readable("m", density.separation_edges[[0, -1]])
    force_factor, force_unit = readable("N", density.force_edges[[0, -1]])
    top = max(int(density.approach.max()), int(density.retract.max()), 2)
    for number, (name, counts) in enumerate((("Approach", density.approach), ("Retract", density.retract))):
        axes = place(picture, left + number * (width + 0.35), 0.6, width, height)
        panels.tidy(axes)
        panel_title(axes, "ab"[number], name)
        mesh = axes.pcolormesh(
            density.separation_edges * z_factor,
            density.force_edges * force_factor,
            np.ma.masked_equal(counts, 0),
            norm=LogNorm(1, top),
            cmap="magma_r",
            rasterized=True,
        )
        axes.axhline(0, color=panels.QUIET, lw=0.5, ls=(0, (4, 3)))
        axes.axvline(0, color=panels.QUIET, lw=0.5, ls=(0, (4, 3)))
        panels.numbers(axes.xaxis, False, 6)
        panels.numbers(axes.yaxis, False, 6)
        axes.set_xlabel(f"separation from the contact point ({z_unit})", fontsize=panels.SMALL + 0.5, labelpad=2)
        if number == 0:
            axes.set_ylabel(f"force ({force_unit})", fontsize=panels.SMALL + 0.5, labelpad=2)
        else:
            axes.tick_params(labelleft=False)
    bar = place(picture, left + 2 * width + 0.35 + 0.12, 0.6, 0.1, height)
    picture.colorbar(mesh, cax=bar).outline.set(linewidth=0.5, edgecolor=panels.QUIET)
    bar.tick_params(labelsize=panels.SMALL, width=0.5, length=2, color=panels.QUIET, pad=2)
    panels.numbers(bar.yaxis, True, 6)
    bar.set_ylabel("samples per cell", fontsize=panels.SMALL, labelpad=2)
    left_out = f"; {density.left_out} without a contact point are left out" if density.left_out else ""
    wide = picture.get_size_inches()[0]
    picture.text(left / wide, 0.12 / high, f"{density.curves} curves{left_out}", **(QUIET_TEXT | {"va": "baseline"}))
    page.draw_heading(picture, maps)
    return picture
