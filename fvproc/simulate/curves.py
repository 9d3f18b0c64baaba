"""The forward model of one branch: probe, ramp, sample, and the deflection of a contact that comes and goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fvproc import physics
from fvproc.errors import FvprocError
from fvproc.simulate.attraction import Attraction, after_pull_off, van_der_waals

MODELS = ("dmt", "jkr")
SERIES = ("solved", "published")  # of a film; the first is the default, of a recipe as well
_WIDEST = {"solved": 2.0, "published": 1.5}  # χ up to which each is taken


@dataclass(frozen=True, slots=True)
class Probe:
    """The instrument of a simulation.

    Parameters
    ----------
    spring_constant : float
        N/m.
    tip_radius : float or None
        Of a sphere, m.
    half_angle : float or None
        Of a cone, rad; given, the tip is a cone.
    poisson_ratio : float
        Of the sample.
    punch_radius : float or None
        Of a flat end, m; given, the tip is a flat punch.
    """

    spring_constant: float
    tip_radius: float | None = 30e-9
    half_angle: float | None = None
    poisson_ratio: float = 0.3
    punch_radius: float | None = None

    def __post_init__(self) -> None:
        if self.half_angle is not None and self.punch_radius is not None:
            raise FvprocError(
                f"half_angle = {self.half_angle:g} and punch_radius = {self.punch_radius:g}: a tip has one shape"
            )

    @property
    def shape(self) -> str:
        """``"sphere"``, ``"cone"`` or ``"punch"``."""
        if self.punch_radius is not None:
            return "punch"
        return "sphere" if self.half_angle is None else "cone"

    @property
    def size(self) -> float:
        """Radius of the sphere or of the flat end in m, half angle of the cone in rad."""
        size = {"sphere": self.tip_radius, "cone": self.half_angle, "punch": self.punch_radius}[self.shape]
        assert size is not None
        return size

    def stiffness_factor(self, modulus: np.ndarray | float) -> np.ndarray:
        """Return K of P = K·δ^m for a rigid tip: (4/3)·E*·√R, (2/π)·E*·tan α or 2·E*·a."""
        reduced = np.asarray(modulus, float) / (1.0 - self.poisson_ratio**2)
        if self.shape == "punch":
            return 2.0 * reduced * self.size
        if self.half_angle is not None:
            return 2.0 / math.pi * reduced * math.tan(self.half_angle)
        assert self.tip_radius is not None
        return 4.0 / 3.0 * reduced * math.sqrt(self.tip_radius)


def ramp(samples: int, travel: float, drive: str = "sine") -> tuple[np.ndarray, np.ndarray]:
    """Return z of approach and retract in m, (samples,) each, in the order of time.

    Parameters
    ----------
    samples : int
        Per branch.
    travel : float
        From the farthest to the nearest position, m; z runs from 0 to `travel` and back.
    drive : {"sine", "linear"}
        A sinusoid as in PeakForce mode (its period sampled evenly), or a triangle.
    """
    phase = (np.arange(samples) + 0.5) / samples
    if drive == "sine":
        approach = travel * 0.5 * (1.0 - np.cos(np.pi * phase))
    elif drive == "linear":
        approach = travel * phase
    else:
        raise FvprocError(f"drive = {drive!r}: choose from sine, linear")
    return approach, approach[::-1].copy()


def load_at(compliance: np.ndarray, travel: np.ndarray, exponent: float) -> np.ndarray:
    """Solve q + B·q^(1/m) = c for q >= 0 (all in m, B in m^(1−1/m)); 0 where c <= 0.

    q is the contact's load over the spring constant; see `fvproc.physics`, which also has its derivatives. This one is
    for the many curves of a map. Newton in the cube root of q, which makes the sphere's equation convex, until it stops
    moving; the cone's and the punch's have closed forms.
    """
    compliance, travel = np.broadcast_arrays(np.asarray(compliance, float), np.maximum(travel, 0.0))
    if exponent == 2.0:
        return (2.0 * travel / (compliance + np.sqrt(compliance**2 + 4.0 * travel) + 1e-300)) ** 2
    if exponent == 1.0:
        return travel / (1.0 + compliance)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.minimum(np.cbrt(travel), np.sqrt(travel / compliance))
        for _ in range(60):
            step = (p * p * (p + compliance) - travel) / (p * (3.0 * p + 2.0 * compliance))
            p = np.where(travel > 0, p - step, 0.0)
            if not np.any(np.abs(step) > 1e-15 * p):
                break
    return p**3


@dataclass(frozen=True, slots=True)
class Sample:
    """What each of n curves measures; arrays broadcast to (n,), SI units.

    Parameters
    ----------
    modulus : ndarray
        Young's modulus, Pa.
    adhesion : ndarray
        Pull-off force, N: the largest attraction.
    peak_force : ndarray
        Force at the turning point, N.
    model : {"dmt", "jkr"}
        Contact with adhesion beside the contact (DMT; Sneddon with a pull-off for cone and punch), or in it (JKR,
        spheres only).
    thickness : ndarray, float or None
        Of a film on a rigid substrate, m; None is a half space. Spheres, and cones on an incompressible bonded film.
    bonded : bool
        Whether the film sticks to its substrate.
    series : {"solved", "published"}
        The film's factor: `fvproc.physics.solved_coefficients`, as a recipe has it by default, or `film_coefficients`
        of the literature, which err beyond χ = 0.3 and serve one Poisson's ratio under a cone.
    """

    modulus: np.ndarray
    adhesion: np.ndarray
    peak_force: np.ndarray
    model: str = "dmt"
    thickness: np.ndarray | float | None = None
    bonded: bool = True
    series: str = SERIES[0]

    def __post_init__(self) -> None:
        if self.series not in SERIES:
            raise FvprocError(f"series = {self.series!r}: choose from {', '.join(SERIES)}")
        if self.model not in MODELS:
            raise FvprocError(f"model = {self.model!r}: choose from {', '.join(MODELS)}")
        if self.model == "jkr" and self.thickness is not None:
            raise FvprocError("thickness: there is no JKR model of a film; take model = 'dmt'")

    def compliance(self, probe: Probe) -> np.ndarray:
        """Return B = (k/K)^(1/m) in m^(1 − 1/m)."""
        m = physics.EXPONENT[probe.shape]
        return (probe.spring_constant / probe.stiffness_factor(self.modulus)) ** (1.0 / m)

    def indentation(self, probe: Probe) -> np.ndarray:
        """Return the indentation at peak force, m; negative if JKR's adhesion pulls the surface up there."""
        m = physics.EXPONENT[probe.shape]
        if self.model == "jkr":
            return self._sticky_indentation(probe)
        load = self.peak_force + self.adhesion
        bare = (load / probe.stiffness_factor(self.modulus)) ** (1.0 / m)
        if self.thickness is None:
            return bare
        return self._film_indentation(probe, bare, m)

    def _sticky_indentation(self, probe: Probe) -> np.ndarray:
        """Invert JKR in closed form: √(K·(a²/R)^(3/2)) = √F_adh + √(F + F_adh)."""
        self._only_spheres(probe)
        root = np.sqrt(self.adhesion) + np.sqrt(np.asarray(self.peak_force, float) + self.adhesion)
        factor = probe.stiffness_factor(self.modulus)
        s = np.cbrt(root**2 / factor)  # √(a²/R)
        return s**2 - 4.0 / 3.0 * np.sqrt(self.adhesion * s / factor)

    def _only_spheres(self, probe: Probe) -> None:
        if probe.shape != "sphere":
            raise FvprocError(f"model = 'jkr': its tip is a sphere, not a {probe.shape}; take model = 'dmt'")

    def _coefficients(self, probe: Probe) -> np.ndarray:
        take = physics.film_coefficients if self.series == "published" else physics.solved_coefficients
        return take(probe.shape, probe.poisson_ratio, bonded=self.bonded)

    def _film_indentation(self, probe: Probe, bare: np.ndarray, m: float) -> np.ndarray:
        """Solve δ^m·f(χ(δ)) = (δ of the half space)^m by bisection."""
        assert self.thickness is not None
        coefficients = self._coefficients(probe)
        low, high = np.zeros_like(bare), bare.copy()
        for _ in range(200):
            middle = 0.5 * (low + high)
            chi = physics.confinement(probe.shape, middle, probe.size, self.thickness)
            over = middle**m * physics.film_factor(coefficients, chi) > bare**m
            low, high = np.where(over, low, middle), np.where(over, middle, high)
            if np.all(high - low <= 4e-16 * high):
                break
        chi = physics.confinement(probe.shape, high, probe.size, self.thickness)
        if np.any(chi > _WIDEST[self.series]):
            raise FvprocError(
                f"thickness = {float(np.min(self.thickness)):g} m: contact {float(np.max(chi)):.2g} times as wide as "
                "the film, where its series ends; take a thicker film, a sharper tip or a lower peak force"
            )
        return high

    def contact_point(self, probe: Probe, turning_point: float) -> np.ndarray:
        """Return z0 so that the force at z = `turning_point` is the peak force."""
        return turning_point - self.indentation(probe) - self.peak_force / probe.spring_constant

    def load(self, probe: Probe, travel: np.ndarray) -> np.ndarray:
        """Return q in m at travel c, (n, samples) each; NaN out of a JKR contact and beyond a film's series."""
        compliance = self.compliance(probe)[..., None]
        if self.model == "jkr":
            self._only_spheres(probe)
            reach = np.asarray(self.adhesion, float)[..., None] / probe.spring_constant
            return physics.jkr_load(travel, compliance, reach).load
        if self.thickness is None:
            return load_at(compliance, travel, physics.EXPONENT[probe.shape])
        thickness = np.asarray(self.thickness, float)[..., None]
        load = physics.film_load(
            probe.shape, travel, compliance, probe.size, thickness, coefficients=self._coefficients(probe)
        ).load
        # a polynomial goes on to grow where it follows nothing any more
        chi = physics.confinement(probe.shape, np.maximum(travel - load, 0.0), probe.size, thickness)
        return np.where(chi > 1.01 * _WIDEST["solved"], np.nan, load)


def deflection(
    z: np.ndarray,
    sample: Sample,
    probe: Probe,
    z0: np.ndarray,
    *,
    retract: bool,
    attraction: Attraction | None = None,
) -> np.ndarray:
    """Return the noise-free deflection in m, (n, samples): DMT or JKR (sphere), Sneddon with a pull-off (cone, punch).

    On approach the tip is free until z reaches z0, then jumps to the contact branch; on retract it stays in contact
    down to δ = 0, at z0 − F_adh/k, then jumps off (F = −F_adh + K·δ^m, Derjaguin, Muller & Toporov 1975). A JKR
    contact holds on until dF/dδ = −k. What `attraction` adds acts while the tip is free, and van der Waals' brings the
    jump into contact forward.
    """
    k = probe.spring_constant
    reach = np.asarray(sample.adhesion, float)[..., None] / k
    travel = z - np.asarray(z0, float)[..., None]
    load = sample.load(probe, travel + reach)
    lost, left = -reach, -reach  # travel beyond z0 at the end of contact, and the deflection there
    if sample.model == "jkr":
        end, last = physics.jkr_jump(sample.compliance(probe)[..., None], reach)
        lost, left = end - reach, last - reach
    free = np.zeros_like(load)
    caught = np.zeros_like(reach)
    if attraction is not None:
        if attraction.hamaker:
            free, caught = van_der_waals(-travel, attraction.hamaker, probe.shape, probe.size, k)
            caught = np.maximum(-caught, lost)
        if retract:
            free = np.minimum(free, after_pull_off(lost - travel, left, reach, attraction))
    touching = travel > (lost if retract else caught)
    if sample.model == "jkr":
        touching &= ~np.isnan(load)  # the end of contact is iterated too, so two of them may differ in the last digit
    elif sample.thickness is not None and np.any(touching & np.isnan(load)):
        raise FvprocError(
            "thickness, z0: the ramp presses the tip deeper than the film's series reaches; take a thicker film, a "
            "sharper tip or contact points nearer the turning point"
        )
    return np.where(touching, load - reach, free)
