"""The registry of contact models: what each is, for which tip, and the numbers that the kernel needs of it.

A model says how load and indentation go together. In the kernel's coordinates (lengths; q the load over the spring
constant, δ the indentation, B the compliance) every model but JKR is a pair of powers of one root p,

    q = p^n,   δ = B·p^r,   that is P = K·δ^(n/r) with K = k/B^(n/r)

so a row here is all that a new one takes: docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from fvproc.errors import FvprocError, RecipeError


class Apex(Protocol):
    """What a model asks of a tip: `fvproc.Tip` is one."""

    @property
    def shape(self) -> str:
        """``"sphere"``, ``"cone"`` or ``"punch"``."""

    @property
    def radius(self) -> float | None:
        """Of sphere or punch, m."""

    @property
    def half_angle(self) -> float | None:
        """Of the cone, rad."""


@dataclass(frozen=True, slots=True)
class ContactModel:
    """A contact model.

    Parameters
    ----------
    shape : {"sphere", "cone", "punch"}
        Of the tip that it is for.
    load_power, depth_power : int
        n and r, from 1 to 4: P = K·δ^(n/r).
    stiffness_factor : callable
        K/E* of a tip, m^(2 − n/r).
    adhesion : {"none", "outside", "inside"}
        Whether there is a pull-off force; acting outside the contact and so added to the load (Derjaguin, Muller &
        Toporov), or inside, where it changes the contact's shape (Johnson, Kendall & Roberts; sphere only).
    source : str
        Equation and where it is from.
    """

    shape: Literal["sphere", "cone", "punch"]
    load_power: int
    depth_power: int
    stiffness_factor: Callable[[Apex], float]
    adhesion: Literal["none", "outside", "inside"]
    source: str

    def __post_init__(self) -> None:
        if not (
            1 <= self.load_power <= 4 and 1 <= self.depth_power <= 4 and 2 * self.load_power % self.depth_power == 0
        ):
            raise RecipeError(
                f"load_power = {self.load_power}, depth_power = {self.depth_power}: allowed are 1 to 4, and an exponent"
                " that is a multiple of a half"
            )

    @property
    def exponent(self) -> float:
        """m in P = K·δ^m."""
        return self.load_power / self.depth_power


def _of_sphere(tip: Apex) -> float:
    assert tip.radius is not None
    return 4.0 / 3.0 * math.sqrt(tip.radius)


def _of_cone(tip: Apex) -> float:
    assert tip.half_angle is not None
    return 2.0 / math.pi * math.tan(tip.half_angle)


def _of_punch(tip: Apex) -> float:
    assert tip.radius is not None
    return 2.0 * tip.radius


MODELS: dict[str, ContactModel] = {
    "dmt": ContactModel(
        "sphere",
        3,
        2,
        _of_sphere,
        "outside",
        "F = −F_adh + (4/3)·E*·√R·δ^(3/2): Derjaguin, Muller & Toporov, J. Colloid Interface Sci. 53 (1975) 314",
    ),
    "hertz": ContactModel(
        "sphere", 3, 2, _of_sphere, "none", "F = (4/3)·E*·√R·δ^(3/2): Hertz, J. reine angew. Math. 92 (1881) 156"
    ),
    "sneddon_cone": ContactModel(
        "cone", 2, 1, _of_cone, "outside", "F = −F_adh + (2/π)·E*·tan α·δ²: Sneddon, Int. J. Eng. Sci. 3 (1965) 47"
    ),
    "punch": ContactModel(
        "punch", 1, 1, _of_punch, "outside", "F = −F_adh + 2·E*·a·δ: Sneddon, Int. J. Eng. Sci. 3 (1965) 47"
    ),
    "jkr": ContactModel(
        "sphere",
        3,
        2,
        _of_sphere,
        "inside",
        "F = P − 2·√(F_adh·P), δ = (P/K)^(2/3)·(1 − (4/3)·√(F_adh/P)), K = (4/3)·E*·√R, F_adh = (3/2)·π·w·R, P the load"
        " that gives the same contact without adhesion: Johnson, Kendall & Roberts, Proc. R. Soc. A 324 (1971) 301",
    ),
}


@dataclass(frozen=True, slots=True)
class FilmSeries:
    """The factor f of a film on a rigid substrate: P = K·δ^m·f(χ).

    Parameters
    ----------
    coefficients : tuple of float
        Of f in powers of χ, eight.
    reach : float
        Sphere: √R in √m, χ = reach·√δ/h; cone: tan α, χ = reach·δ/h; h the film's thickness.
    power : int
        Twice the power of δ in χ.
    end : float
        χ beyond which f is held at its last value; past it the series means nothing.
    limit : float
        χ beyond which f is wrong by more than 5 %.
    """

    coefficients: tuple[float, ...]
    reach: float
    power: int
    end: float
    limit: float


def film_series(tip: Apex, bonding: str, series: str, poisson_ratio: float) -> FilmSeries:
    """Return the series of a tip on a film that rests on a rigid substrate.

    Parameters
    ----------
    tip : Apex
        Sphere or cone.
    bonding : {"bonded", "free"}
        Whether the film sticks to the substrate or slips.
    series : {"solved", "published"}
        A polynomial through the solution of the contact's integral equation (`physics.solved_coefficients`), good for
        χ up to 2; or, for parity with other programs, Dimitriadis, Horkay, Maresca, Kachar & Chadwick (Biophys. J. 82
        (2002) 2798) for the sphere and Garcia & Garcia (Biophys. J. 114 (2018) 2923) for the cone.
    poisson_ratio : float
        Of the film.

    Raises
    ------
    RecipeError
        If no series is known for the tip, the bonding and the ratio.
    """
    import numpy as np  # here, and not above: `fvproc --help` knows the models and needs no arrays

    from fvproc import physics

    bonded = bonding == "bonded"
    if tip.shape == "punch":
        raise RecipeError("film.thickness with tip.shape = 'punch': no series is known; use a sphere or a cone")
    if not 0.0 <= poisson_ratio <= 0.5:
        raise RecipeError(f"film.thickness with sample.poisson_ratio = {poisson_ratio:g}: known for 0 … 0.5 only")
    if series == "published":
        try:
            coefficients = physics.film_coefficients(tip.shape, poisson_ratio, bonded=bonded)
        except FvprocError as error:
            raise RecipeError(f"film.series = 'published': {error}; or take film.series = 'solved'") from None
        # beyond 1.7 the bonded sphere's series bends back
        end, limit = 1.5, physics.film_limit(tip.shape, poisson_ratio, bonded=bonded, tolerance=0.05)
    else:
        # rounded: solvers of linear equations differ in the last digits from one machine to another
        coefficients = np.round(physics.solved_coefficients(tip.shape, poisson_ratio, bonded=bonded), 6)
        end = limit = 2.0
    if tip.shape == "cone":
        assert tip.half_angle is not None
        reach, power = math.tan(tip.half_angle), 2
    else:
        assert tip.radius is not None
        reach, power = math.sqrt(tip.radius), 1
    padded = (*(float(a) for a in coefficients), *(0.0,) * (8 - len(coefficients)))
    return FilmSeries(padded, reach, power, end, float(limit))
