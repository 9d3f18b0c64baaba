"""From a volume and a completed recipe to the plain numbers the kernel works on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fvproc.recipe import Recipe
from fvproc.volume import Channel, ForceVolume

_MODELS = {"dmt": 0, "hertz": 0, "sneddon_cone": 1}
_CONTACT_METHODS = {"piecewise": 0, "threshold": 1, "gradient": 2, "ratio_of_variances": 3}
_NANOMETRE = 1e-9


@dataclass(frozen=True, slots=True)
class Conversion:
    """From the raw numbers of a channel to nm: nm = raw · scale + offset; `invalid` is a raw number or None."""

    scale: float
    offset: float
    invalid: int | None


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """What `_kernel.pyx` needs to know, in its units: nm for lengths along z, SI for the rest."""

    approach_deflection: Conversion
    approach_z: Conversion
    retract_deflection: Conversion
    retract_z: Conversion
    spring_constant: float
    model: int
    reduced_per_stiffness: float
    one_minus_nu2: float
    tip_compliance: float
    tip_radius: float
    adhesive: bool
    tabor: bool
    baseline_fraction: float
    baseline_order: int
    baseline_of_approach: bool
    contact_method: int
    contact_threshold: float
    contact_window: float
    contact_detected: bool
    fit_approach: bool
    maximum_likelihood: bool
    adhesion_minimum: bool
    window_low: float
    window_high: float
    deformation_region: float
    stiffness_of_window: bool


def _conversion(channel: Channel, scale: tuple[float, float]) -> Conversion:
    return Conversion(scale[0] / _NANOMETRE, scale[1] / _NANOMETRE, channel.invalid)


def reduced_per_stiffness(recipe: Recipe) -> float:
    """Return E*/K of the recipe's tip, K the factor in F = K·δ^m.

    Sphere: K = (4/3)·E*·√R (Derjaguin, Muller & Toporov 1975; Hertz 1881). Cone: K = (2/π)·E*·tan α (Sneddon 1965).
    """
    if recipe.fit.model == "sneddon_cone":
        assert recipe.tip.half_angle is not None
        return math.pi / (2.0 * math.tan(recipe.tip.half_angle))
    assert recipe.tip.radius is not None
    return 3.0 / (4.0 * math.sqrt(recipe.tip.radius))


def kernel_settings(volume: ForceVolume, recipe: Recipe) -> KernelSettings:
    """Return the settings of the kernel.

    Parameters
    ----------
    volume : ForceVolume
        With a complete calibration.
    recipe : Recipe
        As returned by `Recipe.completed`.

    Raises
    ------
    CalibrationError
        If the calibration lacks a value.
    """
    volume.require_calibration()
    spring_constant = volume.calibration.spring_constant
    assert spring_constant is not None and recipe.poisson_ratio is not None
    tip, fit = recipe.tip, recipe.fit
    return KernelSettings(
        approach_deflection=_conversion(volume.approach.deflection, volume.deflection_scale("approach")),
        approach_z=_conversion(volume.approach.z, volume.z_scale("approach")),
        retract_deflection=_conversion(volume.retract.deflection, volume.deflection_scale("retract")),
        retract_z=_conversion(volume.retract.z, volume.z_scale("retract")),
        spring_constant=spring_constant.value,
        model=_MODELS[fit.model],
        reduced_per_stiffness=reduced_per_stiffness(recipe),
        one_minus_nu2=1.0 - recipe.poisson_ratio**2,
        tip_compliance=0.0 if tip.modulus is None else (1.0 - tip.poisson_ratio**2) / tip.modulus,
        tip_radius=0.0 if tip.radius is None else tip.radius / _NANOMETRE,
        adhesive=fit.model != "hertz",
        tabor=fit.model == "dmt",
        baseline_fraction=recipe.baseline.fraction,
        baseline_order=recipe.baseline.order,
        baseline_of_approach=recipe.baseline.source == "approach",
        contact_method=_CONTACT_METHODS[recipe.contact.method],
        contact_threshold=recipe.contact.threshold,
        contact_window=recipe.contact.window,
        contact_detected=recipe.contact.position == "detected",
        fit_approach=fit.branch == "approach",
        maximum_likelihood=fit.method == "ml",
        adhesion_minimum=fit.adhesion == "minimum",
        window_low=fit.window[0],
        window_high=fit.window[1],
        deformation_region=recipe.deformation.region,
        stiffness_of_window=recipe.stiffness.definition == "window",
    )
