"""The registry: every quantity and every flag, with its unit, its name and its meaning, written once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class Flag(enum.IntFlag):
    """Why a value is missing or doubtful: bits 0-15 warn, bits 16-31 are fatal.

    A warning keeps the value. A fatal bit makes NaN of the quantities that name it in `Quantity.fatal`.
    A bit's number never changes; a bit is never used again for something else.
    """

    FEW_POINTS = 1 << 0
    NO_ADHESION = 1 << 1
    POOR_FIT = 1 << 2
    BASELINE_TILTED = 1 << 3
    NOISE_CORRELATED = 1 << 4
    SNAP_IN = 1 << 5
    INVALID_SAMPLES = 1 << 6
    BRANCHES_DISAGREE = 1 << 7
    BEYOND_TIP_SHAPE = 1 << 8
    DMT_DOUBTFUL = 1 << 9
    SPIKES = 1 << 10
    MULTIPLE_PULL_OFFS = 1 << 11
    BLUNT_PULL_OFF = 1 << 12
    PULL_OFF_DISAGREES = 1 << 13
    JKR_DOUBTFUL = 1 << 14
    FILM_DOUBTFUL = 1 << 15

    NOT_COMPUTED = 1 << 16
    READ_ERROR = 1 << 17
    WORKER_LOST = 1 << 18
    INVALID_CURVE = 1 << 19
    BASELINE_TOO_SHORT = 1 << 20
    NO_CONTACT = 1 << 21
    CONTACT_NOT_LEFT = 1 << 22
    SATURATED = 1 << 23
    TOO_FEW_POINTS = 1 << 24
    FIT_FAILED = 1 << 25
    MODULUS_UNBOUNDED = 1 << 26
    CONTACT_NOT_FOUND = 1 << 27
    NO_THICKNESS = 1 << 28
    NOT_FINITE = 1 << 31


FATAL_BITS = Flag(0xFFFF0000 & sum(Flag))

FLAG_MEANINGS: dict[Flag, str] = {
    Flag.FEW_POINTS: "fewer than 8 samples in the fit of the contact",
    Flag.NO_ADHESION: "the pull-off does not stand out of the noise",
    Flag.POOR_FIT: "the residual of the fit is more than twice the noise of the baseline",
    Flag.BASELINE_TILTED: "the tilt of the baseline over the branch exceeds a fifth of the peak force",
    Flag.NOISE_CORRELATED: "noise of the map or of this curve that is correlated in time; the errors allow for it",
    Flag.SNAP_IN: "attraction before contact: the contact point on approach lies late",
    Flag.INVALID_SAMPLES: "some samples are marked invalid and were left out",
    Flag.BRANCHES_DISAGREE: "approach and retract do not meet at the turning point",
    Flag.BEYOND_TIP_SHAPE: "indentation beyond half the tip radius, where a paraboloid no longer stands for the tip",
    Flag.DMT_DOUBTFUL: "Tabor parameter above 1: the DMT model does not hold",
    Flag.SPIKES: "samples far off their neighbours, replaced by these; with poor_fit: too many to replace",
    Flag.MULTIPLE_PULL_OFFS: "the tip comes off in several steps; for `ml` the contact ends at the first",
    Flag.BLUNT_PULL_OFF: "the pull-off takes several samples; for `ml` the contact ends before the lowest",
    Flag.PULL_OFF_DISAGREES: "the fit's adhesion is not that of the lowest samples; it was fitted again with theirs",
    Flag.JKR_DOUBTFUL: "Tabor parameter below 1: the JKR model does not hold",
    Flag.FILM_DOUBTFUL: "contact too wide for the film's thickness: its series is off by 5 % or ends",
    Flag.NOT_COMPUTED: "not computed (yet)",
    Flag.READ_ERROR: "the tile of this curve could not be read",
    Flag.WORKER_LOST: "the tile of this curve killed its worker",
    Flag.INVALID_CURVE: "too few valid samples in the curve",
    Flag.BASELINE_TOO_SHORT: "fewer than 8 samples in the baseline",
    Flag.NO_CONTACT: "no force above the noise of the baseline",
    Flag.CONTACT_NOT_LEFT: "the tip never leaves the surface, or the baseline is no line",
    Flag.SATURATED: "the deflection reaches the limits of the converter",
    Flag.TOO_FEW_POINTS: "too few samples in contact for the fit",
    Flag.FIT_FAILED: "the fit did not converge",
    Flag.MODULUS_UNBOUNDED: "the data bound the modulus from below only; see modulus_lower",
    Flag.CONTACT_NOT_FOUND: "no contact point on approach",
    Flag.NO_THICKNESS: "the map of the film's thickness holds no positive value here",
    Flag.NOT_FINITE: "arithmetic ended in a value that is not finite",
}

# True of a whole map and harmless: such a curve is as good as one without a flag.
_NOTES = np.uint32(Flag.NOISE_CORRELATED)


def ordinary(flags: np.ndarray) -> np.ndarray:
    """Return which curves have no flag, or only one that says nothing against them."""
    return np.asarray((flags & ~_NOTES) == 0)


_CURVE = (
    Flag.NOT_COMPUTED
    | Flag.READ_ERROR
    | Flag.WORKER_LOST
    | Flag.INVALID_CURVE
    | Flag.BASELINE_TOO_SHORT
    | Flag.NOT_FINITE
)
_CONTACT = _CURVE | Flag.NO_CONTACT | Flag.CONTACT_NOT_LEFT
_FIT = _CONTACT | Flag.SATURATED | Flag.TOO_FEW_POINTS | Flag.FIT_FAILED | Flag.NO_THICKNESS
_MODULUS = _FIT | Flag.MODULUS_UNBOUNDED
_APPROACH = _CONTACT | Flag.SATURATED | Flag.CONTACT_NOT_FOUND | Flag.NO_THICKNESS


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a curve's record: what it is called, its SI unit, and when it is NaN.

    `fatal` holds exactly the flags that make it NaN. `log` says that it spans decades in one map, so that
    a picture does well to show it on a logarithmic scale.
    """

    name: str
    unit: str
    label: str
    meaning: str
    fatal: Flag
    log: bool = False


QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("modulus", "Pa", "Young's modulus", "from the contact model of the recipe", _MODULUS, True),
        Quantity("modulus_std", "Pa", "Standard error of the modulus", "one sigma, from noise alone", _MODULUS, True),
        Quantity("modulus_lower", "Pa", "Lower limit of the modulus", "95 % one-sided, from noise alone", _FIT, True),
        Quantity("reduced_modulus", "Pa", "Reduced modulus", "E* of the contact", _MODULUS, True),
        Quantity("adhesion", "N", "Adhesion force", "force needed to pull the tip off, on retract", _FIT),
        Quantity("adhesion_std", "N", "Standard error of the adhesion", "one sigma, from noise alone", _FIT),
        Quantity("peak_force", "N", "Peak force", "largest force above the baseline", _CURVE),
        Quantity("contact_point", "m", "Contact point", "z where the indentation of the fit is zero", _FIT),
        Quantity("contact_point_std", "m", "Standard error of the contact point", "one sigma, from noise alone", _FIT),
        Quantity("approach_contact_point", "m", "Contact point on approach", "z where contact begins", _APPROACH),
        Quantity(
            "approach_contact_point_std", "m", "Standard error of the contact point on approach", "one sigma", _APPROACH
        ),
        Quantity(
            "deformation",
            "m",
            "Deformation",
            "change of separation on approach from part of the peak force to the peak force",
            _CONTACT | Flag.SATURATED,
            True,
        ),
        Quantity("indentation", "m", "Indentation", "depth of the tip in the sample at peak force", _FIT, True),
        Quantity("stiffness", "N/m", "Contact stiffness", "slope of force against indentation", _MODULUS, True),
        Quantity("dissipation", "J", "Dissipation", "work lost in one cycle of approach and retract", _CONTACT),
        Quantity("adhesion_energy", "J", "Adhesion energy", "area of the retract curve below the baseline", _CONTACT),
        Quantity("snap_in", "N", "Snap-in force", "largest attraction on approach before contact", _APPROACH),
        Quantity("height", "m", "Height at peak force", "height of the loaded surface", _CONTACT),
        Quantity("contact_height", "m", "Height at zero force", "height of the surface before it is indented", _FIT),
        Quantity("baseline_noise", "N", "Noise of the baseline", "scatter about the baseline, retract", _CURVE),
        Quantity("fit_rmse", "N", "Residual of the fit", "root mean square over the fitted samples", _FIT),
        Quantity("r_squared", "1", "Coefficient of determination", "of the fit over its samples", _FIT),
        Quantity("n_fit", "1", "Samples in the fit", "samples in contact that the fit used", _FIT),
    )
}

RECORD: np.dtype = np.dtype([(name, "<f4") for name in QUANTITIES] + [("flags", "<u4")])

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_ELECTRONVOLT = 1.602176634e-19


def readable(unit: str, values: np.ndarray) -> tuple[float, str]:
    """Return (factor, unit) that turn SI values into numbers a person reads with ease.

    Parameters
    ----------
    unit : str
        SI unit of the values: ``"Pa"``, ``"N"``, ``"m"``, ``"N/m"``, ``"J"`` or ``"1"``.
    values : ndarray of float
        Values in that unit; NaN is passed over.

    Returns
    -------
    factor : float
        Multiply the SI values by this.
    unit : str
        The unit of the products, such as ``"GPa"``. Energies are given in (prefixed) electronvolts.
    """
    finite = np.abs(values[np.isfinite(values)])
    typical = float(np.median(finite[finite > 0])) if np.any(finite > 0) else 0.0
    if unit in ("1", ""):
        return 1.0, ""
    factor = 1.0
    if unit == "J":
        factor, unit = 1.0 / _ELECTRONVOLT, "eV"
    if typical == 0.0:
        return factor, unit
    exponent = int(3 * np.floor(np.log10(typical * factor) / 3))
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return factor * 10.0**-exponent, _PREFIXES[exponent] + unit
