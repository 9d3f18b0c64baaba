"""The panels of one curve: force against piezo extension with fit and error band, and the residuals below it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fvproc.curve_numbers import residuals_of, window
from fvproc.maps import CurveFit
from fvproc.quantities import Flag, readable
from fvproc.writers import panels

BAND = 2  # σ of the noise that the band about the fit is wide to either side
BAND_COLOUR = "#f4c9a8"
NARROW_COLOUR = "#e5a070"
QUIET_TEXT: dict[str, Any] = {"fontsize": panels.SMALL, "color": panels.QUIET, "va": "bottom", "ha": "left"}


def draw_curve(axes: Axes, curve: CurveFit) -> None:
    """Draw force against piezo extension from the contact point: both branches, fit, and pull-off."""
    panels.tidy(axes)
    all_z = np.concatenate([curve.approach_z, curve.retract_z])
    all_force = np.concatenate([curve.approach_force, curve.retract_force])
    seen = np.isfinite(all_z) & np.isfinite(all_force)
    if not seen.any():
        panels.nothing(axes)
        return
    contact = float(curve.record["contact_point"])
    known = float(all_z[seen].min()) <= contact <= float(all_z[seen].max())
    origin = contact if known else 0.0
    z_factor, z_unit = readable("m", np.array([np.ptp(all_z[seen])]))
    force_factor, force_unit = readable("N", np.array([np.max(np.abs(all_force[seen]))]))

    def place(z: np.ndarray, force: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (z - origin) * z_factor, force * force_factor

    axes.axhline(0, color=panels.MASKED, lw=0.8, zorder=0)
    axes.plot(*place(curve.approach_z, curve.approach_force), color=panels.APPROACH_COLOUR, lw=1.1, label="approach")
    dots: dict[str, Any] = {"marker": "o", "ms": 2.6, "mew": 0, "lw": 0.5, "alpha": 0.9}
    axes.plot(*place(curve.retract_z, curve.retract_force), color=panels.RETRACT_COLOUR, label="retract", **dots)
    if curve.fit_z.size:
        axes.plot(*place(curve.fit_z, curve.fit_force), color=panels.FIT_COLOUR, lw=1.8, label="fit", zorder=4)
    if known:
        axes.axvline(0, color=panels.INK, lw=0.8, ls=(0, (4, 2)), zorder=1, label="contact point")
    start, stop = (window(curve, all_z[seen]) - origin) * z_factor
    axes.set_xlim(start, stop)
    panels.numbers(axes.xaxis, False, 9)
    panels.numbers(axes.yaxis, False, 6)
    reference = "z − contact point" if known else "z"
    axes.set_xlabel(f"piezo extension {reference} ({z_unit})", fontsize=panels.SMALL, labelpad=2)
    axes.set_ylabel(f"force ({force_unit})", fontsize=panels.SMALL, labelpad=2)
    legend(axes)


def legend(axes: Axes) -> None:
    """Draw the legend of a curve."""
    axes.legend(
        fontsize=panels.SMALL, frameon=False, loc="upper left", handlelength=1.6, labelspacing=0.3, borderaxespad=0.2
    )


def draw_residuals(above: Axes, axes: Axes, curve: CurveFit) -> None:
    """Draw the error band into the axes of the curve, and the residuals into those below it."""
    panels.tidy(axes)
    z, residual = residuals_of(curve)
    if not z.size:
        panels.nothing(axes)
        return
    above.set_xlabel("")
    above.tick_params(labelbottom=False)
    every_z = np.concatenate([curve.approach_z, curve.retract_z])
    every_force = np.concatenate([curve.approach_force, curve.retract_force])
    every_z, every_force = every_z[np.isfinite(every_z)], every_force[np.isfinite(every_force)]
    contact = float(curve.record["contact_point"])
    known = float(every_z.min()) <= contact <= float(every_z.max())
    # as panels.draw_curve has it
    origin = contact if known else 0.0
    z_factor, z_unit = readable("m", np.array([np.ptp(every_z)]))
    force_factor, _ = readable("N", np.array([np.max(np.abs(every_force))]))
    noise = float(curve.record["baseline_noise"])
    if math.isfinite(noise):
        order = np.argsort(curve.fit_z)
        place, fitted = (curve.fit_z[order] - origin) * z_factor, curve.fit_force[order] * force_factor
        wide = BAND * noise * force_factor
        above.fill_between(
            place, fitted - wide, fitted + wide, color=BAND_COLOUR, lw=0, zorder=0.5, label="fit ± 2 σ noise"
        )
        legend(above)
    factor, unit = readable("N", np.array([np.std(residual) or abs(residual).max()]))
    if math.isfinite(noise):
        for sigmas, colour in ((2, BAND_COLOUR), (1, NARROW_COLOUR)):
            axes.axhspan(-sigmas * noise * factor, sigmas * noise * factor, color=colour, lw=0, alpha=0.7, zorder=0)
    axes.axhline(0, color=panels.FIT_COLOUR, lw=0.9, zorder=1)
    axes.plot((z - origin) * z_factor, residual * factor, "o", ms=2.2, mew=0, color=panels.RETRACT_COLOUR)
    axes.set_xlim(above.get_xlim())
    reach = max(float(np.abs(residual).max()), 2.2 * noise if math.isfinite(noise) else 0.0) * factor * 1.1 or 1.0
    axes.set_ylim(-reach, reach)
    panels.numbers(axes.xaxis, False, 9)
    panels.numbers(axes.yaxis, False, 3)
    axes.set_ylabel(f"residual ({unit})", fontsize=panels.SMALL, labelpad=2)
    reference = "z − contact point" if known else "z"
    axes.set_xlabel(f"piezo extension {reference} ({z_unit})", fontsize=panels.SMALL, labelpad=2)
    rmse = float(np.sqrt(np.mean(residual**2)))
    text = f"rms {panels.amount(rmse, 'N')} over {z.size} samples"
    if math.isfinite(noise):
        text += f"; noise {panels.amount(noise, 'N')} (bands: 1 σ, 2 σ)"
    axes.annotate(text, (0, 1), (2, 1), xycoords="axes fraction", textcoords="offset points", **QUIET_TEXT)
    names = [str(flag.name).lower() for flag in Flag if int(curve.record["flags"]) & int(flag)]
    if names:
        style = QUIET_TEXT | {"va": "top", "color": "#a06a00"}
        above.annotate(
            "\n".join(names), (0, 0.6), (5, 0), xycoords="axes fraction", textcoords="offset points", **style
        )
