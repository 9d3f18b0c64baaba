"""The JKR contact of a sphere: parametric in the contact radius, under a cantilever, and its jump out of contact."""

from __future__ import annotations

import math

import numpy as np

from fvproc.physics.contact import Numbers, Response, increasing_root


def jkr_contact(
    contact_radius: Numbers, reduced: Numbers, radius: Numbers, work: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """Return force (N) and indentation (m) at a contact radius a (m): Johnson, Kendall & Roberts 1971.

    F = 4·E*·a³/(3·R) − √(8π·w·E*·a³), δ = a²/R − √(2π·w·a/E*), with w the work of adhesion in J/m²
    (Proc. R. Soc. Lond. A 324 (1971) 301; the indentation from Maugis, J. Colloid Interface Sci. 150 (1992) 243).
    """
    a = np.asarray(contact_radius, float)
    force = 4.0 * reduced * a**3 / (3.0 * np.asarray(radius)) - np.sqrt(8.0 * math.pi * work * reduced * a**3)
    return force, a**2 / radius - np.sqrt(2.0 * math.pi * work * a / reduced)


def jkr_jump(compliance: Numbers, reach: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Return travel c and load q in m at which a JKR contact jumps out under its cantilever.

    There dF/dδ = −k. Between load control (B → 0, q = 0, F = −F_adh) and fixed grips (B → ∞, q = 4r/9, F = −5/9·F_adh).
    """
    b, r = np.broadcast_arrays(np.asarray(compliance, float), np.asarray(reach, float))
    y, rho = _jkr_last(b, r), np.sqrt(r)
    return _jkr_travel(y, b, rho), (y**3 - rho) ** 2


def _jkr_travel(y: np.ndarray, b: np.ndarray, rho: np.ndarray) -> np.ndarray:
    return (y**3 - rho) ** 2 + b * y * (y**3 - 4.0 / 3.0 * rho)


def _jkr_slope(y: np.ndarray, b: np.ndarray, rho: np.ndarray) -> np.ndarray:
    return 6.0 * y**2 * (y**3 - rho) + 4.0 / 3.0 * b * (3.0 * y**3 - rho)


def _jkr_last(b: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return y at the jump out of contact, between (√r/3)^(1/3) and r^(1/6)."""
    rho = np.sqrt(r)

    def equation(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _jkr_slope(y, b, rho), y * (30.0 * y**3 - 12.0 * rho) + 12.0 * b * y**2

    return increasing_root(equation, np.cbrt(rho / 3.0), np.cbrt(rho))


def jkr_load(travel: Numbers, compliance: Numbers, reach: Numbers) -> Response:
    """Solve the JKR contact of a sphere under a cantilever for its load, on the stable branch.

    Parameters
    ----------
    travel : float or ndarray
        c = z − z0 + r in m.
    compliance : float or ndarray
        B = (k/K)^(2/3) in m^(1/3), K = (4/3)·E*·√R.
    reach : float or ndarray
        r = F_adh/k in m; F_adh = (3/2)π·w·R, the largest attraction.

    Returns
    -------
    Response
        NaN where c is below the jump out of contact, `jkr_jump`.

    Notes
    -----
    With y = √(a/√(R·B)) and ρ = √r, JKR reads q = (y³ − ρ)², δ = B·(y⁴ − (4/3)·ρ·y), hence
    c(y) = (y³ − ρ)² + B·(y⁴ − (4/3)·ρ·y) and c'(y) = 6·y²·(y³ − ρ) + (4/3)·B·(3·y³ − ρ).
    c' > 0 and c'' > 0 from the jump on, so Newton from any y above the root comes down to it; two bounds from above are
    (ρ + √(c + 3^(−1/3)·B·ρ^(4/3)))^(1/3) and (c/B)^(1/4) + (4ρ/3)^(1/3), for c > 0. ρ = 0 is Hertz with p = y².
    ∂q/∂c = 6·y²·(y³ − ρ)/c', ∂q/∂B = −(y⁴ − (4/3)·ρ·y)·∂q/∂c, ∂q/∂r = (4/3)·B·(y³ − ρ)/c': regular as r → 0.
    The pull-off force itself is reached at y³ = ρ, before the jump; past it q grows again and ∂q/∂c < 0.
    """
    arguments = (np.asarray(values, float) for values in (travel, compliance, reach))
    c, b, r = (values.copy() for values in np.broadcast_arrays(*arguments))
    rho, low = np.sqrt(r), _jkr_last(b, r)
    end = _jkr_travel(low, b, rho)
    held = (c >= end) & ((c > 0.0) | (r > 0.0))
    c = np.where(held, c, np.where(r > 0.0, end + r, 1.0))  # any with a root; dropped below
    lift = b * np.cbrt(rho) ** 4 / np.cbrt(3.0)
    high = np.cbrt(rho + np.sqrt(np.maximum(c + lift, 0.0)))
    with np.errstate(divide="ignore"):
        high = np.minimum(high, np.where(b > 0.0, (np.maximum(c, 0.0) / b) ** 0.25 + np.cbrt(4.0 / 3.0 * rho), high))
    high = np.maximum(high * (1.0 + 1e-15), low)
    y = increasing_root(lambda y: (_jkr_travel(y, b, rho) - c, _jkr_slope(y, b, rho)), low, high)
    over, slope = y**3 - rho, _jkr_slope(y, b, rho)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_travel = 6.0 * y**2 * over / slope
        values = (over**2, by_travel, -y * (y**3 - 4.0 / 3.0 * rho) * by_travel, 4.0 / 3.0 * b * over / slope)
    bare = ~held & (r == 0.0)  # Hertz out of contact: q = 0, as `load` says
    return Response(*(np.where(held, value, np.where(bare, 0.0, math.nan)) for value in values))
