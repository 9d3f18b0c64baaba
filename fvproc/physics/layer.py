"""A film on a rigid substrate without a series: the contact's integral equation solved, the truth behind the series."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from fvproc.errors import FvprocError

# χ up to which `film_factor_solved` answers, and up to which `solved_coefficients` are fitted
WIDEST, FITTED = 3.0, 2.0


def _compliance_of(omega: np.ndarray, poisson_ratio: float, bonded: bool) -> np.ndarray:
    """Return L(ω) − 1: a film's surface displacement over the half space's, at wave number ω/h, less one."""
    w = np.minimum(omega, 300.0)  # L is 1 long before; keeps the exponential finite
    fall = np.exp(-2.0 * w)
    if not bonded:  # (cosh 2ω − 1)/(sinh 2ω + 2ω)
        return (-2.0 * fall + 2.0 * fall**2 - 4.0 * w * fall) / (1.0 - fall**2 + 4.0 * w * fall)
    kappa = 3.0 - 4.0 * poisson_ratio  # (2κ·sinh 2ω − 4ω)/(2κ·cosh 2ω + 4ω² + 1 + κ²)
    rest = (4.0 * w**2 + 1.0 + kappa**2) * fall
    return (-2.0 * kappa * fall**2 - 4.0 * w * fall - rest) / (kappa * (1.0 + fall**2) + rest)


def film_factor_solved(
    shape: str, chi: float | np.ndarray, poisson_ratio: float = 0.5, *, bonded: bool = True
) -> np.ndarray:
    """Return f(χ), by which a film on a rigid substrate exceeds K·δ^m, for a frictionless tip; no series.

    Parameters
    ----------
    shape : {"sphere", "cone"}
        χ = √(R·δ)/h of a paraboloid, tan α·δ/h of a cone, as in `film_coefficients`.
    chi : float or ndarray
        0 … 3.
    poisson_ratio : float
        0 … 0.5, for either shape.
    bonded : bool
        The film sticks to its substrate, or slides on it without friction.

    Returns
    -------
    ndarray
        Of the shape of `chi`; accurate to about 1e-6.

    Raises
    ------
    FvprocError
        For another shape, χ or ν out of range.

    Notes
    -----
    Lebedev & Ufliand, J. Appl. Math. Mech. 22 (1958) 442: with the pressure's transform (E*/2)·∫₀ᵃ φ(t)·cos(k·t) dt,
    φ(t) + (2/π)·∫₀ᵃ φ(s)·∫₀^∞ (L(k·h) − 1)·cos(k·t)·cos(k·s) dk ds = (2/π)·(δ − shape(t)), φ(a) = 0,
    F = π·E*·∫₀ᵃ φ dt, with shape(t) = t²/R of a paraboloid and π·t/(2·tan α) of a cone. Solved by Nyström's method for
    a range of a/h and interpolated to χ.
    """
    chi = np.asarray(chi, float)
    if shape not in ("sphere", "cone"):
        raise FvprocError(f"tip.shape = {shape!r}: the film's equation is solved for sphere and cone only")
    if not 0.0 <= poisson_ratio <= 0.5:
        raise FvprocError(f"sample.poisson_ratio = {poisson_ratio:g}: must be in 0 … 0.5")
    if np.any(~((chi >= 0.0) & (chi <= WIDEST))):
        raise FvprocError(f"chi = {chi!r}: must be in 0 … {WIDEST:g}")
    return _interpolated(*_table(shape, float(poisson_ratio), bool(bonded)), chi)


@lru_cache(maxsize=32)
def solved_coefficients(shape: str, poisson_ratio: float = 0.5, *, bonded: bool = True) -> np.ndarray:
    """Return a₀ … a₇, (8,), a₀ = 1, of a polynomial in χ that follows `film_factor_solved` to 0.1 % for χ in 0 … 2.

    They take the place of `film_coefficients` wherever those go; arguments and errors are those of the former.
    """
    chi = 0.5 * FITTED * (1.0 - np.cos(np.linspace(0.0, math.pi, 400)))[1:]
    factor = film_factor_solved(shape, chi, poisson_ratio, bonded=bonded)
    powers = chi[:, None] ** np.arange(1, 8) / factor[:, None]
    fitted = np.linalg.lstsq(powers, 1.0 - 1.0 / factor, rcond=None)[0]
    coefficients = np.concatenate(([1.0], fitted))
    coefficients.flags.writeable = False  # it is kept for the next caller
    return coefficients


@lru_cache(maxsize=1)
def _rules() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss and Legendre for the contact's radius and for the wave number."""
    return *np.polynomial.legendre.leggauss(40), *np.polynomial.legendre.leggauss(128)


@lru_cache(maxsize=32)
def _table(shape: str, poisson_ratio: float, bonded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return χ and f at many contact radii, from 0 to beyond the widest."""
    pairs = np.array([_solved(shape, radius, poisson_ratio, bonded) for radius in np.geomspace(2e-3, 4.4, 120)])
    return np.append(0.0, pairs[:, 0]), np.append(1.0, pairs[:, 1])


def _solved(shape: str, a: float, poisson_ratio: float, bonded: bool) -> tuple[float, float]:
    """Return χ and f at contact radius a, in units of the thickness, with E* = 1 and R = 1 or tan α = 1."""
    nodes, weights, waves_at, waves_by = _rules()
    t, weights = 0.5 * a * (nodes + 1.0), 0.5 * a * weights
    points = np.append(t, a)  # the last for φ(a), which Nyström's formula gives from the others
    omega, step = 10.0 * (waves_at + 1.0), 10.0 * waves_by  # at 20, L is 1 to 1e-14
    waves = np.cos(np.outer(points, omega))
    kernel = 2.0 / math.pi * (waves * (step * _compliance_of(omega, poisson_ratio, bonded))) @ waves[:-1].T
    matrix = np.eye(len(t)) + kernel[:-1] * weights
    profile = points**2 if shape == "sphere" else 0.5 * math.pi * points
    right = 2.0 / math.pi * np.stack([np.ones_like(points), profile], axis=1)
    flat, shaped = np.linalg.solve(matrix, right[:-1]).T
    at_edge = right[-1] - (kernel[-1] * weights) @ np.stack([flat, shaped], axis=1)
    depth = at_edge[1] / at_edge[0]  # φ(a) = 0
    force = math.pi * float(weights @ (depth * flat - shaped))
    if shape == "sphere":
        return math.sqrt(depth), force / (4.0 / 3.0 * depth**1.5)
    return float(depth), force / (2.0 / math.pi * depth**2)


def _interpolated(x: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the cubic through the four nearest of many points."""
    first = np.clip(np.searchsorted(x, wanted) - 2, 0, len(x) - 4)
    total = np.zeros_like(wanted)
    for i in range(4):
        term = y[first + i]
        for j in range(4):
            if j != i:
                term = term * (wanted - x[first + j]) / (x[first + i] - x[first + j])
        total = total + term
    return total
