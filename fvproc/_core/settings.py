"""From a volume and a completed recipe to the plain numbers the kernel works on."""

from __future__ import annotations

from dataclasses import dataclass

from fvproc.models import MODELS, film_series
from fvproc.quantities import QUANTITIES
from fvproc.recipe import Recipe
from fvproc.volume import Channel, ForceVolume

_SPHERE, _CONE, _POWER, _JKR = range(4)
_CONTACT_METHODS = {"piecewise": 0, "threshold": 1, "gradient": 2, "ratio_of_variances": 3}
_NANOMETRE = 1e-9
# What each part of the kernel's work tells; the survey of a curve, which they all rest on, tells the others.
_OF_CONTACT = ("approach_contact_point", "approach_contact_point_std", "snap_in")
_OF_FIT = tuple(
    name
    for name in QUANTITIES
    if name not in _OF_CONTACT
    and name not in ("peak_force", "height", "baseline_noise", "deformation", "dissipation", "adhesion_energy")
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """From the raw numbers of a channel to nm: nm = raw · scale + offset; `invalid` is a raw number or None."""

    scale: float
    offset: float
    invalid: int | None


@dataclass(frozen=True, slots=True)
class Law:
    """A contact model as the kernel takes it; see `fvproc.models` and `Law` in `types.pxd`."""

    kind: int
    load_power: int
    depth_power: int
    film: bool = False
    reach_power: int = 0
    series: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    end: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """What `_kernel.pyx` needs to know, in its units: nm for lengths along z, SI for the rest."""

    approach_deflection: Conversion
    approach_z: Conversion
    retract_deflection: Conversion
    retract_z: Conversion
    spring_constant: float
    law: Law
    modulus_scale: float
    film_reach: float
    film_thickness: float
    one_minus_nu2: float
    tip_compliance: float
    tip_radius: float
    adhesive: bool
    tabor: int
    baseline_fraction: float
    baseline_order: int
    baseline_of_approach: bool
    interference_period: float
    drag: bool
    bow: bool
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
    quantities: tuple[str, ...]
    noise: tuple[tuple[float, ...], tuple[float, ...]] | None

    @property
    def tip_share(self) -> float:
        """The compliance B of the tip on a rigid sample, in the units of the kernel."""
        return (self.tip_compliance * self.spring_constant * self.modulus_scale) ** (
            self.law.depth_power / self.law.load_power
        )

    @property
    def wants_fit(self) -> bool:
        """Whether a quantity is asked for that the fit of the contact tells."""
        return any(name in _OF_FIT for name in self.quantities)

    @property
    def wants_contact(self) -> bool:
        """Whether one of the contact on approach is asked for."""
        return any(name in _OF_CONTACT for name in self.quantities)

    @property
    def wants_areas(self) -> bool:
        """Whether an area under the curves is asked for."""
        return "dissipation" in self.quantities or "adhesion_energy" in self.quantities

    @property
    def wants_deformation(self) -> bool:
        """Whether the deformation is asked for."""
        return "deformation" in self.quantities

    @property
    def wants_height(self) -> bool:
        """Whether a height of the surface is asked for."""
        return "height" in self.quantities or "contact_height" in self.quantities


def _conversion(channel: Channel, scale: tuple[float, float]) -> Conversion:
    return Conversion(scale[0] / _NANOMETRE, scale[1] / _NANOMETRE, channel.invalid)


def _law(recipe: Recipe) -> tuple[Law, float]:
    """Return the law of the recipe's model and film, and χ of the film in the kernel's units at h = 1 nm."""
    model = MODELS[recipe.fit.model]
    powers = model.load_power, model.depth_power
    if recipe.film.thickness is None:
        kind = _SPHERE if powers == (3, 2) else _CONE if powers == (2, 1) else _POWER
        return Law(_JKR if model.adhesion == "inside" else kind, *powers), 0.0
    assert recipe.poisson_ratio is not None
    series = film_series(recipe.tip, recipe.film.bonding, recipe.film.series, recipe.poisson_ratio)
    # χ = reach·δ^(power/2)/h: in nm, (1e-9)^(power/2 − 1) of that in m
    reach = series.reach * _NANOMETRE ** (0.5 * series.power - 1.0)
    return Law(_POWER, *powers, True, series.power, series.coefficients, series.end, series.limit), reach


def _noise(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the noise of the map, (approach, retract); None where each curve is to tell, or it is white."""
    approach, retract = recipe.noise.approach, recipe.noise.retract
    if approach is None or retract is None or not any((*approach[1:], *retract[1:])):
        return None
    return approach, retract


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
    model = MODELS[fit.model]
    law, film_reach = _law(recipe)
    thickness = recipe.film.thickness
    return KernelSettings(
        approach_deflection=_conversion(volume.approach.deflection, volume.deflection_scale("approach")),
        approach_z=_conversion(volume.approach.z, volume.z_scale("approach")),
        retract_deflection=_conversion(volume.retract.deflection, volume.deflection_scale("retract")),
        retract_z=_conversion(volume.retract.z, volume.z_scale("retract")),
        spring_constant=spring_constant.value,
        law=law,
        # per N/m of k: K = k/B^m with B in m^(1 − 1/m), 1e-9^(m − 1) of that in nm
        modulus_scale=_NANOMETRE ** (1.0 - model.exponent) / model.stiffness_factor(tip),
        film_reach=film_reach,
        film_thickness=thickness / _NANOMETRE if isinstance(thickness, float) else 0.0,
        one_minus_nu2=1.0 - recipe.poisson_ratio**2,
        tip_compliance=0.0 if tip.modulus is None else (1.0 - tip.poisson_ratio**2) / tip.modulus,
        tip_radius=tip.radius / _NANOMETRE if tip.shape == "sphere" and tip.radius is not None else 0.0,
        adhesive=model.adhesion != "none",
        tabor={"dmt": 1, "jkr": -1}.get(fit.model, 0),
        baseline_fraction=recipe.baseline.fraction,
        baseline_order=min(recipe.baseline.order, 1),
        baseline_of_approach=recipe.baseline.source == "approach",
        interference_period=(recipe.baseline.interference_period or 0.0) / _NANOMETRE,
        drag=recipe.baseline.drag == "velocity",
        bow=recipe.baseline.order == 2,
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
        quantities=recipe.maps.names,
        noise=_noise(recipe),
    )
