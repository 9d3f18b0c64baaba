"""Sphere, cone and flat punch on a half space or a film: force over indentation, load over the cantilever's travel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fvproc.errors import FvprocError

Numbers = np.ndarray | float

EXPONENT = {"sphere": 1.5, "cone": 2.0, "punch": 1.0}
"""m of P = K·δ^m."""

# p with q = p^n·f and δ = B·p^j: whole powers only, so that Newton needs neither logarithm nor root
_POWERS = {"sphere": (3, 2), "cone": (2, 1), "punch": (1, 1)}


class Response(NamedTuple):
    """The load of a contact under a cantilever and its derivatives; each an array of the broadcast shape, float64.

    Parameters
    ----------
    load : ndarray
        q in m.
    by_travel : ndarray
        ∂q/∂c: 0 … 1, and negative for JKR between pull-off force and jump.
    by_compliance : ndarray
        ∂q/∂B at constant c (and r), in m^(1/m).
    by_reach : ndarray
        ∂q/∂r at constant c and B; 0 but for JKR.
    """

    load: np.ndarray
    by_travel: np.ndarray
    by_compliance: np.ndarray
    by_reach: np.ndarray


def reduced_modulus(
    modulus: Numbers, poisson_ratio: Numbers, tip_modulus: Numbers = math.inf, tip_poisson_ratio: Numbers = 0.0
) -> np.ndarray:
    """Return E* in Pa, 1/E* = (1 − ν²)/E + (1 − ν_t²)/E_t; the tip is rigid unless its modulus is given."""
    sample = (1.0 - np.square(poisson_ratio)) / np.asarray(modulus, float)
    return 1.0 / (sample + (1.0 - np.square(tip_poisson_ratio)) / np.asarray(tip_modulus, float))


def prefactor(shape: str, reduced: Numbers, size: Numbers) -> np.ndarray:
    """Return K of P = K·δ^m, in N/m^m.

    Parameters
    ----------
    shape : {"sphere", "cone", "punch"}
        K = (4/3)·E*·√R (Hertz 1882); (2/π)·E*·tan α; 2·E*·a (both Sneddon, Int. J. Eng. Sci. 3 (1965) 47).
    reduced : float or ndarray
        E*, Pa.
    size : float or ndarray
        Radius R in m, half angle α in rad, or radius a of the flat end in m.

    Raises
    ------
    FvprocError
        Unknown shape.
    """
    reduced = np.asarray(reduced, float)
    if shape == "sphere":
        return 4.0 / 3.0 * reduced * np.sqrt(size)
    if shape == "cone":
        return 2.0 / math.pi * reduced * np.tan(size)
    if shape == "punch":
        return 2.0 * reduced * size
    raise FvprocError(f"tip.shape = {shape!r}: choose from {', '.join(EXPONENT)}")


def compliance(shape: str, spring_constant: Numbers, factor: Numbers) -> np.ndarray:
    """Return B = (k/K)^(1/m), in m^(1 − 1/m); `factor` is K as from `prefactor`."""
    return (np.asarray(spring_constant, float) / factor) ** (1.0 / EXPONENT[shape])


def contact_force(
    shape: str, indentation: Numbers, reduced: Numbers, size: Numbers, *, adhesion: Numbers = 0.0
) -> np.ndarray:
    """Return F = K·δ^m − F_adh in N, 0 where δ < 0 (DMT: Derjaguin, Muller & Toporov 1975; Hertz, Sneddon)."""
    indentation = np.asarray(indentation, float)
    load = prefactor(shape, reduced, size) * np.maximum(indentation, 0.0) ** EXPONENT[shape]
    return np.where(indentation >= 0.0, load - adhesion, 0.0)


def increasing_root(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return where a function that increases over [low, high] is zero; it returns its value and slope.

    Newton from the upper end, where convexity makes it converge from one side; a step out of the bracket is halved
    instead, so that an end of zero slope (the jump out of contact) does no harm.
    """
    x, low, high = high.copy(), low.copy(), high.copy()
    for _ in range(200):
        value, slope = function(x)
        high = np.where(value >= 0.0, x, high)
        low = np.where(value < 0.0, x, low)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            trial = x - value / slope
        trial = np.where((trial >= low) & (trial <= high), trial, 0.5 * (low + high))
        # after a step of 1e-12 quadratic convergence has reached the rounding, in which iteration would wander for ever
        settled = (np.abs(trial - x) <= 1e-12 * np.abs(trial)) | (high - low <= 4e-16 * np.abs(trial))
        x = trial
        if np.all(settled):
            break
    return x


# contacts without adhesion of their own: sphere, cone, punch, bare or on a film --------------------------------------


def _polynomial(coefficients: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ aᵢ·xⁱ and its slope."""
    value, slope = np.zeros_like(x), np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        slope = slope * x + value
        value = value * x + coefficient
    return value, slope


def _power_response(
    shape: str, travel: Numbers, compliance: Numbers, coefficients: np.ndarray, confinement: Numbers
) -> Response:
    """Return the response of q = p^n·f(g·p), δ = B·p^j with g the `confinement`; NaN where f no longer makes sense."""
    n, j = _POWERS[shape]
    c, b, g = np.broadcast_arrays(*(np.asarray(values, float) for values in (travel, compliance, confinement)))
    touching = c > 0.0
    c = np.where(touching, c, 1.0)  # any number that keeps the arithmetic finite; dropped below
    # the series ends where the load it gives stops growing: n·f + x·f' = Σ (n + i)·aᵢ·xⁱ = 0
    roots = np.roots((coefficients * (n + np.arange(len(coefficients))))[::-1])
    end = min((root.real for root in roots if abs(root.imag) < 1e-12 and root.real > 0.0), default=math.inf)
    with np.errstate(divide="ignore", over="ignore"):
        last = np.where(g > 0.0, end / g, math.inf)
        # f >= 1, so the bare rigid contact and the bare rigid lever bound p from above
        high = np.minimum(c ** (1.0 / n), (c / b) ** (1.0 / j))
    high = np.minimum(high, last)

    def equation(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f, slope = _polynomial(coefficients, g * p)
        return p**n * f + b * p**j - c, p ** (n - 1) * (n * f + g * p * slope) + b * j * p ** (j - 1)

    beyond = equation(high)[0] < -1e-12 * c
    p = increasing_root(equation, np.zeros_like(high), high)
    f, slope = _polynomial(coefficients, g * p)
    by_p = p ** (n - 1) * (n * f + g * p * slope)
    total = by_p + b * j * p ** (j - 1)
    values = (p**n * f, by_p / total, -n * p ** (n - 1 + j) * f / total, np.zeros_like(c))
    kept = [np.where(touching, np.where(beyond, math.nan, value), 0.0) for value in values]
    return Response(*kept)


def load(shape: str, travel: Numbers, compliance: Numbers) -> Response:
    """Solve q + B·q^(1/m) = c for q, the load of a sphere, cone or punch on a half space.

    Parameters
    ----------
    shape : {"sphere", "cone", "punch"}
        m = 3/2, 2, 1.
    travel : float or ndarray
        c in m; q and its derivatives are 0 where c <= 0.
    compliance : float or ndarray
        B in m^(1 − 1/m), as from `compliance`; B = 0 is a rigid sample.

    Returns
    -------
    Response
        Of the shape to which the arguments broadcast.

    Notes
    -----
    With p = q^(1/3) for the sphere, δ = B·p² and ∂q/∂B = −3·p⁴/(3·p² + 2·B·p); likewise for the others.
    """
    if shape not in EXPONENT:
        raise FvprocError(f"tip.shape = {shape!r}: choose from {', '.join(EXPONENT)}")
    return _power_response(shape, travel, compliance, np.ones(1), 0.0)


# films on a rigid substrate -------------------------------------------------------------------------------------------


def film_coefficients(shape: str, poisson_ratio: float = 0.5, *, bonded: bool = True) -> np.ndarray:
    """Return a₀ … a₄, (5,), of the factor f(χ) = Σ aᵢ·χⁱ by which a film on a rigid substrate exceeds K·δ^m.

    Parameters
    ----------
    shape : {"sphere", "cone"}
        Sphere: χ = √(R·δ)/h, Dimitriadis, Horkay, Maresca, Kachar & Chadwick, Biophys. J. 82 (2002) 2798, eqs. 5 to 10.
        Cone: χ = tan α·δ/h, Garcia & Garcia, Biophys. J. 114 (2018) 2923, for ν = 0.5 and a bonded film.
    poisson_ratio : float
        Of the film, 0 … 0.5.
    bonded : bool
        The film sticks to its substrate; otherwise it slides.

    Raises
    ------
    FvprocError
        No series for the shape, for ν out of range, or for a cone on a film other than bonded and incompressible.
    """
    nu = float(poisson_ratio)
    if not 0.0 <= nu <= 0.5:
        raise FvprocError(f"sample.poisson_ratio = {nu:g}: a film's series needs 0 … 0.5")
    if shape == "cone":
        if nu != 0.5 or not bonded:
            raise FvprocError(
                f"sample.poisson_ratio = {nu:g}, bonded = {bonded}: the cone's series holds for a bonded film with 0.5"
            )
        return np.array([1.0, 0.721, 0.650, 0.491, 0.225])
    if shape != "sphere":
        raise FvprocError(f"tip.shape = {shape!r}: films have a series for sphere and cone only")
    if bonded:
        alpha = -(1.2876 - 1.4678 * nu + 1.3442 * nu**2) / (1.0 - nu)
        beta = (0.6387 - 1.0277 * nu + 1.5164 * nu**2) / (1.0 - nu)
    else:
        alpha = -0.347 * (3.0 - 2.0 * nu) / (1.0 - nu)
        beta = 0.056 * (5.0 - 2.0 * nu) / (1.0 - nu)
    pi = math.pi
    return np.array(
        [
            1.0,
            -2.0 * alpha / pi,
            4.0 * alpha**2 / pi**2,
            -8.0 / pi**3 * (alpha**3 + 4.0 * pi**2 / 15.0 * beta),
            16.0 * alpha / pi**4 * (alpha**3 + 3.0 * pi**2 / 5.0 * beta),
        ]
    )


def confinement(shape: str, indentation: Numbers, size: Numbers, thickness: Numbers) -> np.ndarray:
    """Return χ = √(R·δ)/h of a sphere or tan α·δ/h of a cone: the contact's width over the film's thickness."""
    depth = np.maximum(indentation, 0.0)
    return (np.sqrt(depth * size) if shape == "sphere" else np.tan(size) * depth) / thickness


def film_factor(coefficients: np.ndarray, chi: Numbers) -> np.ndarray:
    """Return f(χ); the force is f(χ)·K·δ^m."""
    return _polynomial(coefficients, np.asarray(chi, float))[0]


def film_load(
    shape: str,
    travel: Numbers,
    compliance: Numbers,
    size: Numbers,
    thickness: Numbers,
    poisson_ratio: float = 0.5,
    *,
    bonded: bool = True,
    coefficients: np.ndarray | None = None,
) -> Response:
    """Solve c = q + δ, q = p^n·f(χ), δ = B·p^j for the load on a film on a rigid substrate.

    Parameters
    ----------
    shape : {"sphere", "cone"}
        p = (q/f)^(1/3), δ = B·p², χ = √(R·B)·p/h of a sphere; p = (q/f)^(1/2), δ = B·p, χ = tan α·B·p/h of a cone.
    travel, compliance : float or ndarray
        c and B as for `load`; B is that of the film's material as a half space.
    size, thickness : float or ndarray
        R in m or α in rad; h in m.
    poisson_ratio, bonded : float, bool
        See `film_coefficients`.
    coefficients : ndarray, optional
        Others than those, such as `solved_coefficients`.

    Returns
    -------
    Response
        NaN where c asks for a χ at which the series' load no longer grows, far beyond `film_holds`.

    Notes
    -----
    ∂c/∂p = p^(n−1)·(n·f + χ·f') + j·B·p^(j−1); ∂q/∂c = p^(n−1)·(n·f + χ·f')/(∂c/∂p), and although χ depends on B,
    ∂q/∂B = −n·p^(n−1+j)·f/(∂c/∂p) exactly, for the terms in f' cancel.
    """
    if coefficients is None:
        coefficients = film_coefficients(shape, poisson_ratio, bonded=bonded)
    b = np.asarray(compliance, float)
    per_p = (np.sqrt(size * b) if shape == "sphere" else np.tan(size) * b) / thickness
    return _power_response(shape, travel, b, coefficients, per_p)
