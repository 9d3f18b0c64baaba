"""The twin's correlated noise: its covariance from the free samples, and the variances that it gives a fit."""

from __future__ import annotations

import itertools

import numpy as np

from fvproc.reference.branch import Branch, line
from fvproc.reference.covariance import CORRELATIONS, of_samples

FEWEST_BLOCKS = 8
SWEEPS = 30
MOST_DEGREES = 30.0


def allan_variances(residuals: np.ndarray, fewest: int = FEWEST_BLOCKS) -> np.ndarray:
    """Half the mean square of the difference of neighbouring means of 1, 2, 4 … samples, blocks half overlapping."""
    values = [0.5 * float(np.mean(np.diff(residuals) ** 2))]
    halves, width = residuals, 2
    while len(residuals) // width >= fewest:
        blocks = halves[:-1] + halves[1:]
        values.append(0.5 * float(np.mean((blocks[2:] - blocks[:-2]) ** 2)) / width**2)
        halves = halves[: len(halves) // 2 * 2].reshape(-1, 2).sum(1)
        width *= 2
    return np.array(values)


def allan_of_components(levels: int) -> np.ndarray:
    """Allan variance of components of unit variance, (levels, components), from their covariance sample by sample."""
    made = np.empty((levels, len(CORRELATIONS)))
    r = CORRELATIONS
    for level in range(levels):
        width = 2**level
        # covariance at each lag, times how often it occurs within one block and between two neighbours
        lag = np.arange(2 * width)[:, None]
        covariance = r**lag
        within = np.where(lag == 0, width, 2.0 * np.maximum(width - lag, 0))
        between = width - np.abs(lag - width)
        made[level] = ((within - between * (lag > 0)) * covariance).sum(0) / width**2
    return made


def slope_variances(length: int) -> np.ndarray:
    """Variance of the least-squares slope through so many samples of each component, (components,), per sample²."""
    place = np.arange(length) - 0.5 * (length - 1)
    weight = place / float(place @ place)
    at_lag = np.correlate(weight, weight, "full")[length - 1 :]
    at_lag[1:] *= 2.0
    return np.asarray(at_lag @ CORRELATIONS ** np.arange(length)[:, None])


def fit_components(measured: np.ndarray, samples: float, length: float = 0.0) -> np.ndarray:
    """Variances of the components, none negative, that explain Allan variances; see `fit_components` of the kernel."""
    made = allan_of_components(len(measured))
    if length > 0:
        made -= 0.5 * slope_variances(int(length)) * 4.0 ** np.arange(len(measured))[:, None]
    degrees = np.minimum(samples / 2.0 ** np.arange(len(measured)), MOST_DEGREES)
    variances, model = np.zeros(len(CORRELATIONS)), measured
    for _ in range(2):
        weight = np.divide(degrees, model**2, out=np.zeros_like(model), where=model > 0)
        normal, right = made.T @ (weight[:, None] * made), made.T @ (weight * measured)
        for _ in range(SWEEPS):
            for i in reversed(range(len(variances))):
                if normal[i, i] > 0:
                    variances[i] = max(0.0, variances[i] + (right[i] - normal[i] @ variances) / normal[i, i])
        model = np.maximum(made @ variances, 1e-3 * measured)
    return variances


def take_components(branch: Branch, shape: tuple[float, ...]) -> None:
    """Set the components of the noise of a branch: those of the map, at the level that its own neighbours tell."""
    branch.correlated = True
    branch.components = np.array(shape) * branch.allan


def set_components(one: Branch, other: Branch, order: int, least: float) -> None:
    """Set the components of the noise of both branches of a curve; see `set_components` of the kernel."""
    branches = one, other
    measured = []
    for branch in branches:
        zeta, d = branch.zeta[branch.free :], branch.d[branch.free :]
        offset, tilt = line(zeta, d, order)
        measured.append(allan_variances(d - offset - tilt * zeta))
        branch.correlated = True
    for i, branch in enumerate(branches):
        chosen = range(2) if one.n == other.n else (i,)
        # what has no noise at all tells nothing of it
        kept = [j for j in chosen if measured[j][0] > 0]
        pooled = np.zeros(max(len(measured[j]) for j in chosen))
        weight = np.zeros(len(pooled))
        for j in kept:
            count = branches[j].n - branches[j].free
            pooled[: len(measured[j])] += count * measured[j] / measured[j][0]
            weight[: len(measured[j])] += count
        pooled = np.divide(pooled, weight, out=np.zeros_like(pooled), where=weight > 0)
        total = float(weight.max())
        length = total / len(chosen) if order > 0 else 0.0
        components = fit_components(pooled, total, length) * measured[i][0]
        components[0] += max(0.0, least - float(components.sum()))
        branch.components = components


def correlated_variances(
    branch: Branch,
    begin: int,
    counts: np.ndarray,
    weight: np.ndarray,
    influence: np.ndarray,
    free_influence: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Return the variances of the parameters by the samples' noise, and the expected cost of the points.

    Parameters
    ----------
    branch : Branch
        With its components.
    begin : int
        First sample of the fit; the points follow one another from there.
    counts, weight : ndarray of float64, (points,)
        Samples of each point, and its weight.
    influence, free_influence : ndarray of float64, (parameters, points), (parameters, free samples)
        By how much the parameters follow one sample.
    """
    sizes = counts.astype(int)
    covariance = of_samples(branch.components, branch.n - begin)
    used = np.zeros((len(influence), branch.n - begin))
    used[:, : sizes.sum()] = np.repeat(influence, sizes, axis=1)
    used[:, branch.free - begin :] += free_influence
    variances = np.einsum("ki,ij,kj->k", used, covariance, used, optimize=True)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    means = np.array([float(covariance[a:b, a:b].mean()) for a, b in itertools.pairwise(edges)])
    expected = float(np.sum(weight * means))
    return variances, expected
