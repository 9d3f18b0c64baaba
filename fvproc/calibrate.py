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
_PASSES = 12
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
    dz/dV: each branch's slope against z (by least squares, z being the known one) where its line lies between 30 % and
    90 % of its peak, less that of the baseline. The contact of a tip of known radius gives way a little (Hertz 1881;
    its stiffness is (6·E*²·R·F)^(1/3)), for which the value is corrected, with half of the correction as uncertainty.

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
        Parts: ``scatter`` (of the curves, and no less than their lines' residuals tell), ``branches`` (half of the
        difference of approach and retract: friction, creep, hysteresis), ``compliance``.

    Raises
    ------
    CalibrationError
        If the deflection cannot be traced back to V, the z sensitivity is missing, or no curve presses on anything.
    """
    if volume.missing() and "z_sensitivity" in volume.missing():
        volume.require_calibration()
    parts_of: dict[str, list[np.ndarray]] = {"approach": [], "retract": []}
    for tile in _blocks(volume):
        raw = engine.read_tile(volume, tile)
        for name, each in parts_of.items():
            each.append(_slopes(volume, raw, name))
    branches = {name: np.concatenate(each) for name, each in parts_of.items()}
    branches = {name: found[np.isfinite(found).all(axis=1)] for name, found in branches.items()}
    medians = {name: float(np.median(found[:, 0])) for name, found in branches.items() if len(found)}
    if not medians:
        raise CalibrationError(
            f"{volume.path}: no curve presses on anything: of none do {_LEAST_SAMPLES} samples lie between"
            f" {WINDOW[0]:.0%} and {WINDOW[1]:.0%} of the peak; choose a file of curves on a hard sample"
        )
    relative = np.concatenate([branches[name] / median for name, median in medians.items()])
    mean = float(np.mean(list(medians.values())))
    value = 1.0 / mean
    # of a few curves the quartiles tell little, of one nothing: no less than what the residuals of each line tell
    noise_part = _MEDIAN * float(np.median(relative[:, 1])) / math.sqrt(len(relative))
    parts = {"scatter": max(_standard_error(relative[:, 0]), noise_part), "branches": 0.0}
    if len(medians) == 2:
        parts["branches"] = abs(medians["approach"] - medians["retract"]) / (2.0 * mean)
    peak = float(np.median(np.concatenate([found[:, 2] for found in branches.values()])))
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
    return Calibrated("deflection_sensitivity", value, parts, len(branches["retract"]), notes)


def _slopes(volume: ForceVolume, raw: RawTile, name: str) -> np.ndarray:
    """Return dV/dz (1/m·V) in contact less that of the baseline, its error, and the peak (V): (curves, 3), NaN without.

    Which samples count is a matter of z alone: of samples that are chosen by their own deflection more lie low at the
    upper limit and high at the lower one, where noise has brought them in, and the line comes out too flat.
    """
    z, volts = _samples(volume, raw, name)
    with np.errstate(all="ignore"):
        low, high = (end.reduce(z, axis=1, keepdims=True) for end in (np.fmin, np.fmax))
        free = z < low + _FAR * (high - low)
        baseline = _line(z, volts, free)
        noise = np.sqrt(_mean((volts - baseline.at(z)) ** 2, free))
        # where contact is, the usual tilt tells: a curve's own, carried so far, would move slope and window together
        known = baseline.slope[np.isfinite(baseline.slope)]
        own_tilt = baseline.slope - (np.median(known) if known.size else 0.0)
        volts = volts - replace(baseline, slope=baseline.slope - own_tilt).at(z)
        inside = z >= _first_contact(z, volts)[:, None]
        for _ in range(_PASSES):
            line = _line(z, volts, inside)
            usual = line.slope[_pressing(line, line.at(high)[:, 0], noise)]
            # one slope for all: where a curve's own, too steep by noise, leaves too few samples, it would be missing
            line = replace(line, slope=np.full_like(line.slope, np.median(usual))) if usual.size else line
            expected, peak = line.at(z), line.at(high)
            # a photodiode at its end makes less of the top than the line does, and by more than noise may
            top = expected > WINDOW[1] * peak
            most = _mean(volts, top) + 3.0 * noise / np.sqrt(top.sum(axis=1))
            peak = np.fmin(peak, most[:, None] / np.mean([WINDOW[1], 1.0]))
            before, inside = inside, (expected > WINDOW[0] * peak) & (expected < WINDOW[1] * peak)
            if np.array_equal(before, inside):
                break
        line = _line(z, volts, inside)
        good = _pressing(line, peak[:, 0], noise)
    return np.where(good[:, None], np.stack([line.slope - own_tilt, line.std, peak[:, 0]], axis=1), np.nan)


def _pressing(line: _Line, peak: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.asarray((line.count >= _LEAST_SAMPLES) & (line.slope > 0.0) & (peak > 6.0 * noise))


def _samples(volume: ForceVolume, raw: RawTile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return z (m) and deflection (V) of a branch, (curves, samples); both NaN where either is no value."""
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
    return z, volts


def _first_contact(z: np.ndarray, volts: np.ndarray) -> np.ndarray:
    """Return where contact begins, (curves,): with zero below and a line above, least squares are left of `volts`."""
    order = np.argsort(z, axis=1)  # what is no value comes last
    sorted_z, sorted_volts = (np.take_along_axis(values, order, axis=1) for values in (z, volts))
    low, high = (end.reduce(z, axis=1, keepdims=True) for end in (np.fmin, np.fmax))
    x = np.nan_to_num((sorted_z - (low + high) / 2.0) / (high - low))
    y = np.nan_to_num(sorted_volts)

    def above(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]

    count, of_x, of_y = above(np.isfinite(sorted_volts).astype(float)), above(x), above(y)
    common = above(x * y) - of_x * of_y / count
    explained = of_y**2 / count + common**2 / (above(x * x) - of_x**2 / count)
    explained = np.where((count >= _LEAST_SAMPLES) & np.isfinite(explained), explained, -np.inf)
    return np.take_along_axis(sorted_z, explained.argmax(axis=1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True, slots=True)
class _Line:
    """A straight line through some samples of each row: their number, the slope with its error, the centre."""

    count: np.ndarray
    slope: np.ndarray
    std: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """Return the line at x, (rows, any number)."""
        return self.y[:, None] + self.slope[:, None] * (x - self.x[:, None])


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(np.where(chosen, values, 0.0), axis=1) / chosen.sum(axis=1))


def _line(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> _Line:
    """Return the line by least squares through the chosen samples of each row."""
    count = chosen.sum(axis=1)
    middle_x, middle_y = _mean(x, chosen), _mean(y, chosen)
    dx = np.where(chosen, x - middle_x[:, None], 0.0)
    dy = np.where(chosen, y - middle_y[:, None], 0.0)
    moment = np.sum(dx * dx, axis=1)
    slope = np.sum(dx * dy, axis=1) / moment
    rest = np.sum((dy - slope[:, None] * dx) ** 2, axis=1)
    return _Line(count, slope, np.sqrt(rest / (count - 2) / moment), middle_x, middle_y)


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
        median modulus: up to a quarter of one curve's standard error, see bench/RESULTS.md; or what the median would
        move if curves whose noise lets the modulus be anything above a limit had one above it).

    Raises
    ------
    CalibrationError
        If the modulus is not finite and positive, no length brings it about, or half of the curves have only a limit.
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

    def fitted(settings: _core.KernelSettings) -> np.ndarray:
        return np.concatenate([_core.fit_tile(raw, settings, thickness=film) for raw, film in curves])

    def misfit(settings: _core.KernelSettings) -> float:
        return float(np.median(_logarithms(_good(volume, fitted(settings)), modulus)))

    def at(logarithm: float) -> Recipe:
        assert recipe is not None
        return replace(recipe, tip=replace(recipe.tip, **{length: math.exp(logarithm)}))  # type: ignore[arg-type]

    here = math.log(getattr(recipe.tip, length))
    slope = -0.5 if length == "radius" else -1.0  # where it begins: that of Hertz, that of Sneddon
    value = misfit(_core.kernel_settings(volume, at(here)))
    for _ in range(_STEPS):
        there = here - min(max(value / slope, -1.0), 1.0)
        if length == "half_angle":
            there = min(there, math.log(math.radians(89.0)))
        next_value = misfit(_core.kernel_settings(volume, at(there)))
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
        high, low = (misfit(systematic.off(replace(volume, tip_depends={}), final, source, step)) for step in _BOTH)
        depends[source] = -(high - low) / (2.0 * math.log(systematic.STEP)) / slope
    everything = fitted(_core.kernel_settings(volume, final))
    records = _good(volume, everything)
    one = float(np.median(records["modulus_std"] / records["modulus"]))
    bias = max(_BIAS * one, _of_unbounded(volume, everything, records, modulus))
    parts = {
        "scatter": _standard_error(records["modulus"].astype(float)) / abs(slope),
        "reference": modulus_rel_std / abs(slope),
        "estimator": bias / abs(slope),
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


def _logarithms(records: np.ndarray, modulus: float) -> np.ndarray:
    return np.log(records["modulus"].astype(float) / modulus)


def _of_unbounded(volume: ForceVolume, records: np.ndarray, good: np.ndarray, modulus: float) -> float:
    """Return by how much ln of the median modulus grows if curves without an upper bound count as above it.

    Noise has made these stiff, and those with a value are the soft ones: up to a quarter too low by the median.
    """
    count = int(((records["flags"] & np.uint32(Flag.MODULUS_UNBOUNDED)) != 0).sum())
    values = _logarithms(good, modulus)
    moved = np.median(np.append(values, np.full(count, np.inf)))
    if not math.isfinite(moved):
        raise CalibrationError(
            f"{volume.path}: noise hides how stiff {count} of {len(records)} curves are (modulus_unbounded), and a"
            " median of the rest is too low; press harder, or take a stiffer cantilever or a softer sample"
        )
    return float(moved - np.median(values))


# ---- of both


def _blocks(volume: ForceVolume) -> list[Tile]:
    """Return tiles of up to `MOST_CURVES` curves, spread evenly over the map."""
    total = volume.grid.curves
    if total <= MOST_CURVES:
        return [Tile(0, total)]
    each = MOST_CURVES // _BLOCKS
    return [Tile(int(start), int(start) + each) for start in np.linspace(0, total - each, _BLOCKS)]


def _standard_error(values: np.ndarray) -> float:
    """Return the relative standard error of the median of values, from their quartiles; 0 of one value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(_MEDIAN * (high - low) / 1.349 / middle / math.sqrt(len(values)))
