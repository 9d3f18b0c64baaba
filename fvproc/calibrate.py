"""Calibration from reference samples: the deflection sensitivity from a hard one, the tip from one of known modulus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fvproc import _core, engine, noise, systematic
from fvproc.calibration_file import Calibrated
from fvproc.errors import CalibrationError, RecipeError
from fvproc.quantities import Flag, ordinary
from fvproc.recipe import Maps, Recipe
from fvproc.volume import ForceVolume, RawTile, Tile

# Curves of a map that are looked at, in blocks of neighbours: a reader serves these in one go.
MOST_CURVES = 2048
_BLOCKS = 16
# Part of the peak deflection on which a hard sample's slope is taken: above adhesion and snap-in, below saturation.
WINDOW = (0.3, 0.9)
_FAR = 0.3
_LEAST_SAMPLES = 5
# Of the median of Gaussian values beside their mean.
_MEDIAN = math.sqrt(math.pi / 2.0)
_GUESS = 20e-9
_BIAS = 0.25
_STEPS = 20
_CLOSE = 1e-6


# ---- the deflection sensitivity


@dataclass(frozen=True, slots=True)
class HardSample:
    """What is pressed on: nothing bends but the cantilever, or nearly so.

    Parameters
    ----------
    modulus : float
        Young's modulus, Pa; by default that of sapphire (c axis about 435 GPa, polycrystalline 345 … 400 GPa).
    poisson_ratio : float
    """

    modulus: float = 400e9
    poisson_ratio: float = 0.27


def calibrate_sensitivity(volume: ForceVolume, sample: HardSample | None = None) -> Calibrated:
    """Return the deflection sensitivity (m/V) from curves on a hard sample.

    In contact with a sample that does not give way the deflection follows the piezo, so that the sensitivity is
    dz/dV: each branch's slope against z (by least squares, z being the known one) between 30 % and 90 % of its peak,
    less that of the baseline. The contact of a tip of known radius gives way a little (Hertz 1881; its stiffness is
    (6·E*²·R·F)^(1/3)), for which the value is corrected, with half of the correction as uncertainty.

    Parameters
    ----------
    volume : ForceVolume
        Deflection in V, or in m with the deflection sensitivity that made it known; z in m, or in V with its
        sensitivity.
    sample : HardSample, optional
        Sapphire by default.

    Returns
    -------
    Calibrated
        Parts: ``scatter`` (of the curves), ``branches`` (half of the difference of approach and retract: friction,
        creep, hysteresis), ``compliance``.

    Raises
    ------
    CalibrationError
        If the deflection cannot be traced back to V, the z sensitivity is missing, or no curve presses on anything.
    """
    if volume.missing() and "z_sensitivity" in volume.missing():
        volume.require_calibration()
    slopes: dict[str, np.ndarray] = {}
    peaks: list[np.ndarray] = []
    tiles = _blocks(volume)
    for name in ("approach", "retract"):
        found = [_slopes(volume, engine.read_tile(volume, tile), name) for tile in tiles]
        slopes[name] = np.concatenate([slope for slope, _ in found])
        peaks += [peak for _, peak in found]
    medians = {name: float(np.median(values[np.isfinite(values)])) for name, values in slopes.items() if _any(values)}
    if not medians:
        raise CalibrationError(
            f"{volume.path}: no curve presses on anything: of none do {_LEAST_SAMPLES} samples lie between"
            f" {WINDOW[0]:.0%} and {WINDOW[1]:.0%} of the peak; choose a file of curves on a hard sample"
        )
    values = np.concatenate(
        [values[np.isfinite(values)] / medians[name] for name, values in slopes.items() if name in medians]
    )
    mean = float(np.mean(list(medians.values())))
    value = 1.0 / mean
    parts = {"scatter": _standard_error(values), "branches": 0.0}
    if len(medians) == 2:
        parts["branches"] = abs(medians["approach"] - medians["retract"]) / (2.0 * mean)
    peak = float(np.nanmedian(np.concatenate(peaks)))
    notes: dict[str, float | str] = {"from": volume.path, "peak_volts": peak}
    share = _compliance(volume, sample or HardSample(), value * peak)
    if share is not None:
        value *= 1.0 - share
        parts["compliance"] = share / 2.0
    else:
        notes["compliance"] = "not corrected: spring constant or tip radius unknown"
    before = volume.calibration.deflection_sensitivity
    if before is not None:
        notes["before"] = before.value
    return Calibrated("deflection_sensitivity", value, parts, int(np.isfinite(slopes["retract"]).sum()), notes)


def _slopes(volume: ForceVolume, raw: RawTile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return dV/dz (1/m·V) in contact less that of the baseline, and the peak (V), of each curve; NaN without."""
    branch, part = getattr(volume, name), getattr(raw, name)
    channel = branch.deflection
    volts = part.deflection.astype(float) * channel.scale + channel.offset
    if channel.unit == "m":
        setting = volume.calibration.deflection_sensitivity
        if setting is None:
            raise CalibrationError(
                f"{volume.path}: the deflection is stored in metres, and the file does not tell the sensitivity that"
                " made them: the volts are lost, and no run of it would take another one; choose a measurement whose"
                " deflection is in V, or whose file keeps the sensitivity"
            )
        volts /= setting.value
    scale, offset = volume.z_scale(name)
    z = np.broadcast_to(np.atleast_2d(part.z).astype(float) * scale + offset, volts.shape).copy()
    bad = ~np.isfinite(volts) | ~np.isfinite(z)
    if channel.invalid is not None:
        bad |= part.deflection == channel.invalid
    if part.valid_length is not None:
        bad |= np.arange(volts.shape[1]) >= part.valid_length[:, None]
    volts[bad] = z[bad] = np.nan
    with np.errstate(all="ignore"):
        low, high = np.nanmin(z, axis=1, keepdims=True), np.nanmax(z, axis=1, keepdims=True)
        _, tilt, offset_volts = _line(z, volts, z < low + _FAR * (high - low))
        volts -= offset_volts[:, None] + tilt[:, None] * z
        peak = np.nanmax(volts, axis=1)
        noise = 6.0 * np.nanstd(np.where(z < low + _FAR * (high - low), volts, np.nan), axis=1)
        inside = (volts > WINDOW[0] * peak[:, None]) & (volts < WINDOW[1] * peak[:, None])
        count, slope, _ = _line(z, volts, inside)
    good = (count >= _LEAST_SAMPLES) & (slope > 0.0) & (peak > noise)
    return np.where(good, slope, np.nan), np.where(good, peak, np.nan)


def _line(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, slope and offset of a straight line by least squares through the chosen samples of each row."""
    count = chosen.sum(axis=1)
    middle_x, middle_y = (np.nanmean(np.where(chosen, values, np.nan), axis=1) for values in (x, y))
    dx = np.where(chosen, x - middle_x[:, None], 0.0)
    dy = np.where(chosen, y - middle_y[:, None], 0.0)
    slope = np.sum(dx * dy, axis=1) / np.sum(dx * dx, axis=1)
    return count, slope, middle_y - slope * middle_x


def _compliance(volume: ForceVolume, sample: HardSample, deflection: float) -> float | None:
    """Return the share of the piezo's way that goes into the contact, k/k_contact at the window's middle."""
    stiffness, radius = volume.calibration.spring_constant, volume.tip_radius
    if stiffness is None or radius is None:
        return None
    reduced = sample.modulus / (1.0 - sample.poisson_ratio**2)
    force = stiffness.value * deflection * sum(WINDOW) / 2.0
    return stiffness.value / (6.0 * reduced**2 * radius.value * force) ** (1.0 / 3.0)


# ---- the tip


def calibrate_tip(
    volume: ForceVolume, modulus: float, *, modulus_rel_std: float = 0.0, recipe: Recipe | None = None
) -> Calibrated:
    """Return the effective length of the tip from a sample of known modulus: the relative method.

    The radius of a sphere, or the half angle of a cone, with which the median modulus of the curves is that of the
    sample, found by secants in ln length. It takes up errors of spring constant and sensitivity; used with the same
    two, these cancel in the modulus of the next sample, which is why the result says how it depends on them.

    Parameters
    ----------
    volume : ForceVolume
        A map, or curves, on the reference sample; complete calibration.
    modulus, modulus_rel_std : float
        Of the reference sample: Young's modulus in Pa and its relative standard uncertainty.
    recipe : Recipe, optional
        Contact model and Poisson's ratio; the length of its tip is where the search begins.

    Returns
    -------
    Calibrated
        Parts: ``scatter`` (of the curves), ``reference`` (of its modulus), ``estimator`` (the bias that is left in the
        median modulus: up to a quarter of one curve's standard error, see bench/RESULTS.md).

    Raises
    ------
    CalibrationError
        If the modulus is not finite and positive, or no length brings it about.
    RecipeError
        If the tip is a punch, or a value is missing.
    """
    if not (math.isfinite(modulus) and modulus > 0.0):
        raise CalibrationError(f"modulus of the reference sample = {modulus!r} Pa: must be finite and above zero")
    if not (math.isfinite(modulus_rel_std) and 0.0 <= modulus_rel_std < 1.0):
        raise CalibrationError(f"its relative uncertainty = {modulus_rel_std!r}: expected 0 to 1, as 0.1 for 10 %")
    volume.require_calibration()
    recipe = _begun(volume, recipe or Recipe())
    length = "half_angle" if recipe.tip.shape == "cone" else "radius"
    curves = [(engine.read_tile(volume, tile), engine.film_thickness(volume, recipe, tile)) for tile in _blocks(volume)]

    def misfit(settings: _core.KernelSettings) -> tuple[float, np.ndarray]:
        records = np.concatenate([_core.fit_tile(raw, settings, thickness=film) for raw, film in curves])
        good = _good(volume, records)
        return float(np.median(np.log(good["modulus"].astype(float) / modulus))), good

    def at(logarithm: float) -> Recipe:
        assert recipe is not None
        return replace(recipe, tip=replace(recipe.tip, **{length: math.exp(logarithm)}))  # type: ignore[arg-type]

    here = math.log(getattr(recipe.tip, length))
    slope = -0.5 if length == "radius" else -1.0  # where it begins: that of Hertz, that of Sneddon
    value, _ = misfit(_core.kernel_settings(volume, at(here)))
    for _ in range(_STEPS):
        there = here - min(max(value / slope, -1.0), 1.0)
        if length == "half_angle":
            there = min(there, math.log(math.radians(89.0)))
        next_value, records = misfit(_core.kernel_settings(volume, at(there)))
        if there != here and abs(next_value - value) > 0.0:
            slope = (next_value - value) / (there - here)
        here, value = there, next_value
        if abs(value) < _CLOSE:
            break
    if abs(value) > 1e-3 or slope >= 0.0:
        raise CalibrationError(
            f"{volume.path}: no {length.replace('_', ' ')} of the tip makes the median modulus {modulus:g} Pa:"
            f" at {math.exp(here):.3g} it is {modulus * math.exp(value):.4g} Pa; see model, spring constant and sample"
        )
    final = at(here)
    found_with, depends = {}, {}
    for source in ("spring_constant", "deflection_sensitivity"):
        setting = getattr(volume.calibration, source)
        if setting is None:
            continue  # the file holds metres, and nothing that could be told of them later
        found_with[source] = setting.value
        high, low = (misfit(systematic.off(replace(volume, tip_depends={}), final, source, step))[0] for step in _BOTH)
        depends[source] = -(high - low) / (2.0 * math.log(systematic.STEP)) / slope
    one = float(np.median(records["modulus_std"] / records["modulus"]))
    parts = {
        "scatter": _standard_error(records["modulus"].astype(float)) / abs(slope),
        "reference": modulus_rel_std / abs(slope),
        "estimator": _BIAS * one / abs(slope),
    }
    notes = {"from": volume.path, "modulus": modulus, "model": recipe.fit.model, "poisson_ratio": recipe.poisson_ratio}
    return Calibrated(f"tip_{length}", math.exp(here), parts, len(records), notes, depends, found_with)


_BOTH = (systematic.STEP, 1.0 / systematic.STEP)


def _begun(volume: ForceVolume, recipe: Recipe) -> Recipe:
    """Return the recipe, for all maps, with a length of the tip to begin with: its own, the file's, or a guess."""
    shape = recipe.tip.shape
    if shape == "punch":
        raise RecipeError(
            "tip.shape = 'punch': only the radius of a sphere and the half angle of a cone are calibrated"
        )
    length, guess = ("half_angle", math.radians(20.0)) if shape == "cone" else ("radius", _GUESS)
    if getattr(recipe.tip, length) is None and getattr(volume, f"tip_{length}") is None:
        recipe = replace(recipe, tip=replace(recipe.tip, **{length: guess}))  # type: ignore[arg-type]
    recipe = replace(recipe, maps=Maps()).completed(volume)
    return replace(recipe, noise=noise.measured(volume, recipe))


def _good(volume: ForceVolume, records: np.ndarray) -> np.ndarray:
    """Return the records of ordinary curves, or of all that have a modulus where these are few."""
    valued = np.isfinite(records["modulus"])
    clean = valued & ordinary(records["flags"])
    chosen = clean if clean.sum() * 2 >= valued.sum() else valued
    if not chosen.any():
        tally: Mapping[str, int] = {
            str(flag.name).lower(): int(((records["flags"] & np.uint32(flag)) != 0).sum()) for flag in Flag
        }
        told = ", ".join(f"{name} {count}" for name, count in tally.items() if count)
        raise CalibrationError(f"{volume.path}: none of {len(records)} curves has a modulus: {told}")
    return records[chosen]


# ---- of both


def _blocks(volume: ForceVolume) -> list[Tile]:
    """Return tiles of up to `MOST_CURVES` curves, spread evenly over the map."""
    total = volume.grid.curves
    if total <= MOST_CURVES:
        return [Tile(0, total)]
    each = MOST_CURVES // _BLOCKS
    return [Tile(int(start), int(start) + each) for start in np.linspace(0, total - each, _BLOCKS)]


def _any(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _standard_error(values: np.ndarray) -> float:
    """Return the relative standard error of the median of values, from their quartiles; 0 of one value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(_MEDIAN * (high - low) / 1.349 / middle / math.sqrt(len(values)))
