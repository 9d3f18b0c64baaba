"""Which contact model holds: Tabor's parameter, the paraboloid for a sphere, a film's series."""

from __future__ import annotations

import math

import numpy as np

from fvproc.errors import FvprocError
from fvproc.physics.contact import Numbers, confinement, film_coefficients, film_factor
from fvproc.physics.layer import WIDEST, film_factor_solved

# Bond of the atoms at contact, m: PHYSICS.md and Johnson & Greenwood, J. Colloid Interface Sci. 192 (1997) 326
EQUILIBRIUM_DISTANCE = 0.16e-9


def work_of_adhesion(adhesion: Numbers, radius: Numbers, model: str = "dmt") -> np.ndarray:
    """Return w in J/m² of a pull-off force in N: F_adh/(2πR) of DMT, 2·F_adh/(3πR) of JKR."""
    factors = {"dmt": 0.5, "jkr": 2.0 / 3.0}
    if model not in factors:
        raise FvprocError(f"model = {model!r}: a work of adhesion follows from {' or '.join(factors)}")
    return factors[model] / math.pi * np.asarray(adhesion, float) / radius


def tabor_parameter(
    radius: Numbers, work: Numbers, reduced: Numbers, distance: Numbers = EQUILIBRIUM_DISTANCE
) -> np.ndarray:
    """Return μ = (R·w²/(E*²·z_eq³))^(1/3): DMT holds well below 1, JKR above 5 (Johnson & Greenwood 1997)."""
    return np.cbrt(np.asarray(radius, float) * np.square(work) / (np.square(reduced) * np.power(distance, 3)))


def paraboloid_excess(indentation: Numbers, radius: Numbers) -> np.ndarray:
    """Return by how much K·δ^(3/2) exceeds the force on a true sphere, relative to the former.

    Sneddon's sphere as a series in δ/R, to 1e-4 up to δ = 0.4·R: an indentation of R/10 costs 1 %.
    """
    x = np.asarray(indentation, float) / radius
    return x * (1.0 / 10.0 + x * (1.0 / 840.0 - x * (11.0 / 15120.0 + x * 1357.0 / 6652800.0)))


def film_limit(shape: str, poisson_ratio: float = 0.5, *, bonded: bool = True, tolerance: float = 0.05) -> float:
    """Return the χ up to which the series of `film_coefficients` is within `tolerance` of `film_factor_solved`.

    It bounds the error of the modulus, which the factor divides. With ν of the sample and a bonded film Dimitriadis'
    series is good to 5 % up to χ = 0.55 (ν = 0.3) or 0.39 (ν = 0.5); Garcia's for the cone up to 1.2.
    """
    coefficients = film_coefficients(shape, poisson_ratio, bonded=bonded)
    chi = np.linspace(0.0, WIDEST, 1201)
    error = film_factor(coefficients, chi) / film_factor_solved(shape, chi, poisson_ratio, bonded=bonded) - 1.0
    beyond = np.flatnonzero(np.abs(error) > tolerance)
    return float(chi[max(beyond[0] - 1, 0)]) if len(beyond) else WIDEST


def film_holds(
    shape: str,
    indentation: Numbers,
    size: Numbers,
    thickness: Numbers,
    poisson_ratio: float = 0.5,
    *,
    bonded: bool = True,
    tolerance: float = 0.05,
) -> np.ndarray:
    """Say where a film's series may be used: bool of the broadcast shape, χ <= `film_limit` and δ <= h/10.

    δ <= h/10 keeps the film's strain small enough for linear elasticity. Nothing here holds on a substrate that is not
    much stiffer than the film.
    """
    chi = confinement(shape, indentation, size, thickness)
    limit = film_limit(shape, poisson_ratio, bonded=bonded, tolerance=tolerance)
    return (chi <= limit) & (np.asarray(indentation, float) <= 0.1 * np.asarray(thickness, float))
