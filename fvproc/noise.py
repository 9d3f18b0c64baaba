"""The noise of a map: how its samples follow one another, measured once on some of its curves for all of them.

One curve has too few samples far from the surface to tell how slow its noise is, and standard errors stand or fall with
that. One instrument has made all curves: a few hundred of them tell it well. docs/estimators.md says what follows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np

from fvproc import _core, sampling
from fvproc.errors import FileFormatError
from fvproc.recipe import Noise, Recipe
from fvproc.volume import ForceVolume, RawTile

CURVES = 240
PLACES = 6
FEWEST = 32  # curves that tell it; of fewer each tells its own
_GROUPS = 64
_PASSES = 3
_WHITE = (1.0, *(0.0 for _ in _core.NOISE_CORRELATIONS[1:]))
_RHO = np.array(_core.NOISE_CORRELATIONS)
# slow noise that errors must allow for: so many standard errors, and such a part, above that of white noise
_PLAIN = 5.0
_MATTERS = 0.1
# the components explain other noise than sums of exponentials to about this
_MODEL = 0.003
_COST = 6.0


def measured(volume: ForceVolume, recipe: Recipe) -> Noise:
    """Return the recipe's noise with its components, measured on some curves of the volume.

    Parameters
    ----------
    volume : ForceVolume
        With a complete calibration.
    recipe : Recipe
        As returned by `Recipe.completed`.

    Returns
    -------
    Noise
        As it was where it is known already, where the recipe leaves it to each curve, and where fewer than `FEWEST`
        curves can be read and have a contact.
    """
    if not _wanted(recipe.noise) or volume.grid.curves < FEWEST:
        return recipe.noise
    for last, its_recipe, found in _last[:]:
        if last is volume and its_recipe == recipe:
            return found
    tiles = []
    for run in sampling.runs(sampling.spread(volume.grid.curves, PLACES, CURVES // PLACES)):
        with suppress(OSError, FileFormatError):  # the run will say so, and flag them
            tiles.append(sampling.read(volume, run))
    found = measured_on(sampling.together(tiles), volume, recipe) if tiles else recipe.noise
    if volume.format != "arrays":  # which would stay in memory with it
        _last[:] = [(volume, recipe, found)]
    return found


# who looks at one curve after another asks for the same each time
_last: list[tuple[ForceVolume, Recipe, Noise]] = []


def measured_on(raw: RawTile, volume: ForceVolume, recipe: Recipe) -> Noise:
    """Return the recipe's noise with its components, measured on some curves of a tile; as `measured`."""
    curves = len(raw.approach.deflection)
    if not _wanted(recipe.noise) or curves < FEWEST:
        return recipe.noise
    if curves > CURVES:
        raw = sampling.taken(raw, sampling.spread(curves, PLACES, CURVES // PLACES))
    settings = _core.kernel_settings(volume, recipe)
    settings = replace(settings, law=replace(settings.law, film=False))  # curves count on a film of any thickness
    found: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    # slow noise that is not known of looks like contact, and ends the baseline early: what is left of it is too little
    for _ in range(_PASSES):
        variances, samples = _core.allan_variances(raw, settings)
        with np.errstate(all="ignore"):  # a scale that no instrument has: what is not finite is no noise
            approach, retract = (
                _components(raw, which, variances[:, which], samples[:, which], settings) for which in range(2)
            )
        if approach is None or retract is None:
            break
        found = approach, retract
        if found == (_WHITE, _WHITE):
            break
        settings = replace(settings, noise=found)
    return recipe.noise if found is None else replace(recipe.noise, approach=found[0], retract=found[1])


def _wanted(noise: Noise) -> bool:
    return noise.correlation == "map" and noise.approach is None


def _components(
    raw: RawTile, which: int, variances: np.ndarray, samples: np.ndarray, settings: _core.KernelSettings
) -> tuple[float, ...] | None:
    """Return the variances of the noise's components on one branch, per Allan variance of neighbours; None if unknown.

    `variances` and `samples` are those of `_core.allan_variances`. Curves with about as many free samples as most are
    taken together. To four digits: the same on any machine, whatever the order of its sums.
    """
    chosen = _alike(samples) & (variances[:, 0] > 0.0) & np.isfinite(variances).all(1)
    if np.count_nonzero(chosen) < FEWEST:
        return None
    # a curve apart from all others tells of itself only; of noise, one width in 5000 is so far from the median
    chosen[chosen] = np.all(variances[chosen] <= 30.0 * np.median(variances[chosen], axis=0), axis=1)
    if np.count_nonzero(chosen) < FEWEST:
        return None
    each = variances[chosen][:, np.all(variances[chosen] > 0.0, axis=0)]
    level = float(each[:, 0].mean())
    mean = each.mean(0) / level
    error = np.hypot(each.std(0) / (level * np.sqrt(len(each))), _MODEL * mean)
    made = _allan_of_components(_places(raw, which, chosen, int(samples[chosen].mean())), len(mean), settings)
    white = made[:, 0] / made[0, 0]
    if not np.any(mean - white > np.maximum(_PLAIN * error, _MATTERS * white)):
        return _WHITE
    found = _least_squares(made / error[:, None], mean / error)
    return tuple(float(f"{value:.4g}") for value in found)


def _alike(samples: np.ndarray) -> np.ndarray:
    """Return which curves have free samples within a quarter of a number that as many as possible have."""
    usual = np.unique(samples[samples > 0])[:, None]
    near = (samples > 0.8 * usual) & (samples < 1.25 * usual)
    return near[np.argmax(near.sum(1))] if len(usual) else np.zeros(len(samples), bool)


def _places(raw: RawTile, which: int, chosen: np.ndarray, count: int) -> np.ndarray:
    """Return z of so many free samples of a branch, in any unit, in the order of time."""
    branch = (raw.approach, raw.retract)[which]
    curve = int(np.argmax(chosen))
    z = (branch.z if branch.z.ndim == 1 else branch.z[curve]).astype(float)
    if branch.valid_length is not None:
        z = z[: branch.valid_length[curve]]
    z = z[:count] if which == 0 else z[-count:]
    if not np.isfinite(z).all() or np.ptp(z) == 0.0:
        z = np.arange(len(z), dtype=float)
    return (z - z.mean()) / np.ptp(z)


def _allan_of_components(z: np.ndarray, widths: int, settings: _core.KernelSettings) -> np.ndarray:
    """Return the Allan variances, (widths, components), of components of unit variance about a line in z.

    In groups of samples as wide as the line hardly rises over; what it takes from narrower means is left out.
    """
    bits = 0
    while len(z) >> bits > _GROUPS:
        bits += 1
    size, groups = 1 << bits, len(z) >> bits
    at = z[: groups * size].reshape(groups, size).mean(1)
    line = np.stack([np.ones(groups), at - at.mean()][: 1 + settings.baseline_order], 1)
    rest = np.eye(groups) - line @ np.linalg.pinv(line)
    across, variance = _sum_of_neighbours(size)
    lag = np.abs(np.subtract.outer(np.arange(groups), np.arange(groups)))[..., None]
    between = across**2 * _RHO * (_RHO ** float(size)) ** np.maximum(lag - 1, 0)
    covariance = np.where(lag == 0, variance, between) / size**2
    made = np.empty((widths, len(_RHO)))
    for level in range(widths):
        if level < bits:
            across, variance = _sum_of_neighbours(1 << level)
            made[level] = (variance - _RHO * across**2) / 4.0**level
        else:
            of_groups = _differences(groups, 1 << (level - bits)) @ rest
            made[level] = 0.5 * np.einsum("ab,abj->j", of_groups.T @ of_groups, covariance) / len(of_groups)
    return made


def _sum_of_neighbours(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a sum of neighbours: h = (1 − ρ^count)/(1 − ρ), and its variance; two such sums have ρ^gap·h₁·h₂ in common."""
    across = (1.0 - _RHO**count) / (1.0 - _RHO)
    return across, (count * (1.0 + _RHO) - 2.0 * _RHO * across) / (1.0 - _RHO)


def _differences(groups: int, width: int) -> np.ndarray:
    """Return what takes groups to differences of neighbouring means of `width` of them, which start at every half."""
    step = max(width // 2, 1)
    start = np.arange(0, groups - 2 * width + 1, step)[:, None]
    place = np.arange(groups) - start
    return np.where((place >= 0) & (place < 2 * width), np.where(place < width, -1.0, 1.0), 0.0) / width


def _least_squares(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return x >= 0 of least |matrix·x − right|², of unit variance, where each column that is used costs `_COST`.

    The best of the unconstrained answers for all choices of columns. A very slow component hardly differs from a line:
    without a cost, what chance leaves in the widest means makes a large one of it.
    """
    columns = matrix.shape[1]
    best, least = np.zeros(columns), np.inf
    for count in range(1, columns + 1):
        chosen = np.array(list(combinations(range(columns), count)))
        parts = np.moveaxis(matrix[:, chosen], 1, 0)  # (choices, widths, count)
        x = np.linalg.pinv(parts) @ right
        cost = np.sum((np.einsum("cwk,ck->cw", parts, x) - right) ** 2, axis=1) + _COST * count
        cost[np.any(x < 0.0, axis=1)] = np.inf
        at = int(np.argmin(cost))
        if cost[at] < least:
            least, best = float(cost[at]), np.zeros(columns)
            best[chosen[at]] = x[at]
    return best
