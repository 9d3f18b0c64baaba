"""Systematic errors: what an error of spring constant, sensitivity, tip or Poisson's ratio does to every quantity.

One number per map, beside the random error that each curve has: an error of the calibration shifts all curves alike,
and no number of them averages it out. How far is measured rather than derived: some curves of the map are fitted again
with a calibration that is one per cent off. docs/uncertainty.md says what comes out, and why.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fvproc import _core, engine, sampling
from fvproc.errors import RecipeError
from fvproc.events import event
from fvproc.maps import ParameterMaps
from fvproc.quantities import FATAL_BITS, QUANTITIES, ordinary
from fvproc.recipe import Recipe
from fvproc.volume import UNCERTAIN, ForceVolume, Tile

CURVES = 24
PLACES = 6
WINDOW = 1 << 16  # curves of a large map that are considered at each place
STEP = 1.01
_LARGEST_POWER = 500.0  # of e, which a number holds
# those that are ratios by nature; a contact point's zero is the scanner's own affair
ACTED_ON = (
    "modulus",
    "modulus_lower",
    "reduced_modulus",
    "adhesion",
    "peak_force",
    "deformation",
    "indentation",
    "stiffness",
    "dissipation",
    "adhesion_energy",
    "snap_in",
)


@dataclass(frozen=True, slots=True)
class Systematic:
    """Relative systematic standard uncertainty of one quantity over a map.

    Parameters
    ----------
    parts : mapping of str to float
        Of each source whose own uncertainty is known: |∂ln quantity/∂ln source| times that, the map's median.
    unknown : tuple of str
        Sources that act on the quantity and of which no uncertainty is known, or not how much they act.
    """

    parts: Mapping[str, float]
    unknown: tuple[str, ...]

    @property
    def rel_std(self) -> float:
        """Root of the sum of squares: the sources are taken as independent."""
        return math.sqrt(sum(part * part for part in self.parts.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"rel_std": self.rel_std, "parts": dict(self.parts), "unknown": list(self.unknown)}


def _typical_curves(maps: ParameterMaps) -> np.ndarray:
    """Numbers of up to `CURVES` curves, in `PLACES` spread evenly over the map; ordinary ones if there are enough.

    They have a modulus; where it was not asked for, no fatal flag. Neighbours cost one read: of a compressed file that
    is a whole chunk, whatever is wanted of it.
    """
    considered = np.arange(maps.grid.curves)
    if considered.size > PLACES * WINDOW:  # of a map that memory does not hold, some windows
        first = np.linspace(0, considered.size - WINDOW, PLACES).astype(int)
        considered = (first[:, None] + np.arange(WINDOW)).ravel()
    if "modulus" in maps:
        valued = np.isfinite(maps["modulus"].reshape(-1)[considered])
    else:
        valued = (maps.flags.reshape(-1)[considered] & np.uint32(FATAL_BITS)) == 0
    chosen = considered[valued & ordinary(maps.flags.reshape(-1)[considered])]
    if chosen.size < CURVES:
        chosen = considered[valued]
    if chosen.size <= CURVES:
        return chosen
    return chosen[sampling.spread(chosen.size, PLACES, CURVES // PLACES)]


def off(volume: ForceVolume, recipe: Recipe, source: str, factor: float) -> _core.KernelSettings:
    """Return settings of the kernel with one source off by a factor; as they are where the recipe has no such thing.

    The length of a tip that was calibrated with the volume's own spring constant and sensitivity is off with them.

    Raises
    ------
    RecipeError
        If there is no such tip, or no such Poisson's ratio.
    """
    ratio = recipe.poisson_ratio
    if source in ("tip_radius", "tip_half_angle"):
        recipe = _tip_off(recipe, source, factor)
    elif source == "poisson_ratio" and ratio is not None:
        film = recipe.film
        if recipe.tip.shape == "cone":  # its published series is known for one ratio only: what another does, for all
            film = replace(film, series="solved")
        recipe = replace(recipe, poisson_ratio=factor * ratio, film=film)
    elif source in volume.tip_depends:
        for length in ("tip_radius", "tip_half_angle"):
            # not that of another tip, which the recipe brought
            own = getattr(volume, length)
            if own is not None and own.value == getattr(recipe.tip, length.removeprefix("tip_")):
                recipe = _tip_off(recipe, length, factor ** volume.tip_depends[source])
    settings = _core.kernel_settings(volume, recipe)
    if source == "spring_constant":
        settings = replace(settings, spring_constant=factor * settings.spring_constant)
    elif source == "deflection_sensitivity":
        for name in ("approach_deflection", "retract_deflection"):
            channel = getattr(settings, name)
            scaled = replace(channel, scale=factor * channel.scale, offset=factor * channel.offset)
            settings = replace(settings, **{name: scaled})
    return settings


def _tip_off(recipe: Recipe, source: str, factor: float) -> Recipe:
    tip = recipe.tip
    if source == "tip_radius" and tip.radius is not None:
        return replace(recipe, tip=replace(tip, radius=factor * tip.radius))
    if source == "tip_half_angle" and tip.half_angle is not None:
        # only tan α acts; along ∂ln tan α/∂ln α it goes as far as to first order, and stays below 90°
        power = min(math.log(factor) / _of_angle(tip.half_angle), _LARGEST_POWER)
        return replace(recipe, tip=replace(tip, half_angle=math.atan(math.exp(power) * math.tan(tip.half_angle))))
    return recipe


def _of_angle(half_angle: float) -> float:
    """Return ∂ln α/∂ln tan α."""
    return math.sin(2.0 * half_angle) / (2.0 * half_angle)


def _beside(
    volume: ForceVolume, recipe: Recipe, source: str
) -> tuple[_core.KernelSettings, _core.KernelSettings, float] | None:
    """Return the settings on both sides of a source, and ln of the ratio of its values there.

    On one side and as it is where the other is outside what there can be; None where both are.
    """
    step = math.log(STEP)
    if source == "tip_half_angle" and recipe.tip.half_angle is not None:
        step *= _of_angle(recipe.tip.half_angle)  # one per cent of tan α: of α near 90° it would be far too much
    sides = []
    for steps in (1, 0, -1):
        with suppress(RecipeError):
            sides.append((off(volume, recipe, source, math.exp(steps * step)), steps * step))
    (high, above), (low, below) = sides[0], sides[-1]
    return None if above == below else (high, low, above - below)


def factors(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps) -> dict[str, dict[str, float]]:
    """Return ∂ln quantity/∂ln source, the median over some curves of the map.

    Parameters
    ----------
    volume : ForceVolume
        Whose file is still there.
    recipe : Recipe
        As returned by `Recipe.completed`.
    maps : ParameterMaps
        What the recipe gave.

    Returns
    -------
    dict of str to dict of str to float
        [quantity][source]; sources that do not act are left out, and all is where no curve has a modulus. NaN where one
        acts, but its factor cannot be had.

    Raises
    ------
    FileFormatError, OSError
        If the curves cannot be read.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in ACTED_ON if name in maps}
    numbers = _typical_curves(maps)
    if not numbers.size:
        return found
    raw = sampling.together([sampling.read(volume, run) for run in sampling.runs(numbers)])
    film = engine.film_thickness(volume, recipe, Tile(0, volume.grid.curves))
    film = None if film is None else film[numbers]
    for source in UNCERTAIN:
        sides = _beside(volume, recipe, source)
        if sides is None:
            for name in found:
                found[name][source] = math.nan
            continue
        high, low = (_core.fit_tile(raw, settings, thickness=film) for settings in sides[:2])
        for name in found:
            factor = _factor(high[name].astype(float), low[name].astype(float), sides[2])
            if not abs(factor) <= 1e-4:  # single precision of a record, over the step
                found[name][source] = factor
    return found


def _factor(high: np.ndarray, low: np.ndarray, distance: float) -> float:
    """Return the median over the curves of ∂ln quantity/∂ln source; NaN if there is a change that has no logarithm."""
    with np.errstate(all="ignore"):
        ratio = high / low
    ratio = ratio[np.isfinite(ratio) & (ratio > 0.0)]
    if ratio.size:
        return float(np.median(np.log(ratio))) / distance
    return 0.0 if np.array_equal(high, low, equal_nan=True) else math.nan


def systematic_errors(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps) -> dict[str, Systematic]:
    """Return the systematic uncertainty of every quantity on which the calibration acts.

    Parameters
    ----------
    volume, recipe, maps
        As for `factors`. Uncertainties are those of the file or those that were given to `fvproc.open`.

    Returns
    -------
    dict of str to Systematic
        By quantity; a source of unknown uncertainty is named rather than taken as 0.

    Raises
    ------
    FileFormatError, OSError
        If the curves cannot be read.
    """
    result: dict[str, Systematic] = {}
    for name, found in factors(volume, recipe, maps).items():
        shares = {source: abs(factor) * _known(volume, source) for source, factor in found.items()}
        parts = {source: share for source, share in shares.items() if math.isfinite(share)}
        result[name] = Systematic(parts, tuple(source for source in found if source not in parts))
    return result


def _known(volume: ForceVolume, source: str) -> float:
    value = volume.relative_std(source)
    return math.nan if value is None else value


def described(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps) -> dict[str, Any]:
    """Return the sources' own uncertainties and what they come to, as every output carries them.

    Where that could not be found, no quantity, and why under ``"failed"``: the maps are done, and nothing that goes
    wrong here, such as a file that has gone since, may cost more than this.
    """
    told: dict[str, Any] = {"sources": {source: volume.relative_std(source) for source in UNCERTAIN}, "quantities": {}}
    try:
        errors = systematic_errors(volume, recipe, maps)
    except Exception as error:
        told["failed"] = f"{type(error).__name__}: {error}"
        event("systematic_failed", level=logging.WARNING, file=volume.path, error=told["failed"])
    else:
        told["quantities"] = {name: error.to_dict() for name, error in errors.items()}
    return told


def total_std(maps: ParameterMaps, name: str) -> np.ndarray:
    """Return the standard uncertainty of a quantity at each pixel, random and systematic together.

    Parameters
    ----------
    maps : ParameterMaps
        Of a run, or loaded from its output.
    name : {"modulus", "adhesion", "contact_point", "approach_contact_point"}
        A quantity with a standard error.

    Returns
    -------
    ndarray of float64, (ny, nx)
        √(std² + (rel_std·value)²), SI; the random part alone where no source's uncertainty is known.

    Raises
    ------
    KeyError
        If the quantity has no standard error.
    """
    if f"{name}_std" not in QUANTITIES:
        known = [quantity for quantity in QUANTITIES if f"{quantity}_std" in QUANTITIES]
        raise KeyError(f"{name!r} has no standard error; choose from {', '.join(known)}")
    entry = maps.provenance.get("systematic", {}).get("quantities", {}).get(name, {})
    return np.hypot(maps[f"{name}_std"].astype(float), entry.get("rel_std", 0.0) * maps[name].astype(float))
