"""Numbers of one curve with its fit that every picture of it needs: what is worth showing, and the residuals."""

from __future__ import annotations

import math

import numpy as np

from fvproc.maps import CurveFit


def window(curve: CurveFit, z: np.ndarray) -> np.ndarray:
    """Return the (start, stop) of z worth showing: contact and pull-off, and as much baseline again on the left."""
    low, high = float(z.min()), float(z.max())
    margin = 0.02 * (high - low) or 1e-9
    contact = float(curve.record["contact_point"])
    if not low <= contact <= high:  # nor is NaN
        return np.array([low - margin, high + margin])
    foot = min(contact, float(curve.fit_z.min())) if curve.fit_z.size else contact
    finite = np.isfinite(curve.retract_force)
    if finite.any():
        foot = min(foot, float(curve.retract_z[finite][np.argmin(curve.retract_force[finite])]))
    start = max(low, foot - 1.5 * (high - foot))
    margin = 0.03 * (high - start) or 1e-9
    return np.array([start - margin, high + margin])


def residuals_of(curve: CurveFit) -> tuple[np.ndarray, np.ndarray]:
    """Return (z, measured − fitted force) over the samples of the fit, m and N, in ascending z."""
    if not curve.fit_z.size:
        return np.empty(0), np.empty(0)
    order = np.argsort(curve.fit_z, kind="stable")
    fit_z, fit_force = curve.fit_z[order], curve.fit_force[order]
    best: tuple[np.ndarray, np.ndarray] | None = None
    for z, force in ((curve.retract_z, curve.retract_force), (curve.approach_z, curve.approach_force)):
        inside = np.isin(z, fit_z) & np.isfinite(force)
        found = z[inside], force[inside] - np.interp(z[inside], fit_z, fit_force)
        # the fit lies on samples of one branch; where both share their z, it is the one it fits
        if best is None or found[0].size > best[0].size or (found[0].size == best[0].size and _rms(found) < _rms(best)):
            best = found
    assert best is not None
    order = np.argsort(best[0], kind="stable")
    return best[0][order], best[1][order]


def _rms(found: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.sqrt(np.mean(found[1] ** 2))) if found[1].size else math.inf
