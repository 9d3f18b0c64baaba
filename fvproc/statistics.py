"""Numbers of a region: mean, median, robust spread, percentiles, histogram with Gaussian and log-normal fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES
from fvproc.region_options import DEFAULT_QUANTITIES
from fvproc.regions import RegionError

PERCENTILES = (5, 25, 75, 95)
MEDIAN_TO_SIGMA = 1.4826022185056018  # σ over the median absolute deviation of a normal distribution
CLIP = 3.0  # in σ: values further off are another material, or a fault
# variance of a normal distribution cut off at ±CLIP σ, over that of the whole one: 1 − 2kφ(k) / (2Φ(k) − 1)
_CLIPPED_VARIANCE = 1 - CLIP * math.sqrt(2 / math.pi) * math.exp(-(CLIP**2) / 2) / math.erf(CLIP / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Fit:
    """A distribution fitted to the bulk of the values.

    Parameters
    ----------
    law : str
        ``"gaussian"`` or ``"lognormal"``.
    centre, width : float
        Gaussian: mean and standard deviation, in the unit of the values. Log-normal: median, in their unit, and the
        standard deviation of the natural logarithm, a number.
    left_out : int
        How many values lie further than 3 σ from the centre (or are not positive, under a logarithm).
    distance : float
        Largest distance between the cumulative distributions of all values and of the fit, after Kolmogorov and
        Smirnov: 0 for a perfect fit, at most 1.
    """

    law: str
    centre: float
    width: float
    left_out: int
    distance: float

    def density(self, values: np.ndarray) -> np.ndarray:
        """Return the density at `values`, per unit of the values, normalised to one."""
        values = np.asarray(values, np.float64)
        if self.law == "gaussian":
            return _normal((values - self.centre) / self.width) / self.width
        inner = np.where(values > 0, values, self.centre)
        return np.where(values > 0, _normal(np.log(inner / self.centre) / self.width) / (inner * self.width), 0.0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The values of one quantity in one region; all in the SI unit of the quantity.

    Parameters
    ----------
    region, quantity, unit : str
        Which region, quantity and unit.
    pixels, count : int
        Pixels of the region, and how many of them hold a value; all else is about these.
    mean, std, minimum, maximum : float
        Ordinary ones; the standard deviation is that of a sample (n − 1).
    median, spread : float
        The median, and 1.4826 times the median absolute deviation: the standard deviation of a normal distribution,
        but not moved by stray values.
    percentiles : dict of int to float
        At 5, 25, 75 and 95 %.
    noise : float
        Median of the standard errors of the values, where the quantity has them, else NaN: what of the spread is noise.
    edges, counts : ndarray, shape (bins + 1,) and (bins,)
        Histogram from the smallest to the largest value within 5 spreads of the median, in equal steps, or equal steps
        of the logarithm where the quantity spans decades; values beyond are in no bin.
    fits : tuple of Fit
        Gaussian and, where all values in the fit can be positive, log-normal; the better one first. Empty for fewer
        than 8 values or values all alike.
    """

    region: str
    quantity: str
    unit: str
    pixels: int
    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    median: float
    spread: float
    percentiles: dict[int, float]
    noise: float
    edges: np.ndarray
    counts: np.ndarray
    fits: tuple[Fit, ...]


def statistics(
    maps: ParameterMaps,
    regions: Mapping[str, np.ndarray],
    quantities: Sequence[str] | None = None,
    *,
    bins: int | None = None,
) -> list[Statistics]:
    """Return the statistics of quantities in regions, region by region.

    Parameters
    ----------
    maps : ParameterMaps
        On the (ny, nx) grid.
    regions : mapping of str to ndarray of bool, shape (ny, nx)
        What `fvproc.regions` makes, by name.
    quantities : sequence of str, optional
        Names of the registry; by default those of `DEFAULT_QUANTITIES` that the maps hold, or all maps without any.
    bins : int, optional
        Of the histogram; by default about twice the cube root of the count (Rice's rule), 8 to 200.

    Raises
    ------
    RegionError
        If a mask does not fit the map, or a quantity is not among the maps.
    """
    found = []
    if quantities is None:
        quantities = [name for name in DEFAULT_QUANTITIES if name in maps] or list(maps)
    for name in quantities:
        if name not in maps.quantities:
            raise RegionError(f"quantity {name!r}: not among the maps; choose from {', '.join(maps)}")
    for region, mask in regions.items():
        if mask.shape != maps.shape or mask.dtype != bool:
            raise RegionError(f"region {region!r}: {mask.dtype} {mask.shape}, expected bool {maps.shape}")
        found += [_of_one(maps, region, mask, name, bins) for name in quantities]
    return found


def _of_one(maps: ParameterMaps, region: str, mask: np.ndarray, name: str, bins: int | None) -> Statistics:
    quantity = QUANTITIES[name]
    valued = mask & np.isfinite(maps[name])
    values = maps[name][valued].astype(np.float64)
    nan = math.nan
    noise = nan
    errors = maps.errors(name)
    if errors is not None and values.size:
        errors = errors[valued]
        errors = errors[np.isfinite(errors)]
        noise = float(np.median(errors)) if errors.size else nan
    if not values.size:
        return Statistics(
            *(region, name, quantity.unit, int(mask.sum()), 0),
            *(nan, nan, nan, nan, nan, nan),
            dict.fromkeys(PERCENTILES, nan),
            noise,
            *(np.empty(0), np.empty(0, int), ()),
        )
    median, spread = robust(values)
    edges, counts = histogram(values, median, spread, quantity.log, bins)
    return Statistics(
        region,
        name,
        quantity.unit,
        int(mask.sum()),
        int(values.size),
        float(values.mean()),
        float(values.std(ddof=1)) if values.size > 1 else nan,
        float(values.min()),
        float(values.max()),
        median,
        spread,
        dict(zip(PERCENTILES, (float(p) for p in np.percentile(values, PERCENTILES)), strict=True)),
        noise,
        edges,
        counts,
        fits(values),
    )


def robust(values: np.ndarray) -> tuple[float, float]:
    """Return median and spread (1.4826 times the median absolute deviation) of finite values."""
    median = float(np.median(values))
    return median, MEDIAN_TO_SIGMA * float(np.median(np.abs(values - median)))


def histogram(
    values: np.ndarray, median: float, spread: float, log: bool, bins: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (edges, counts) over what lies within 5 spreads of the median; see `Statistics`."""
    if bins is None:
        bins = int(min(max(8.0, 2 * values.size ** (1 / 3)), 200))
    # without a spread more than half of the values are one number
    kept = values[np.abs(values - median) <= 5 * spread] if spread > 0 else values
    if log and (positive := values[values > 0]).size > values.size / 2:
        logarithms = np.log(positive)
        centre = np.median(logarithms)
        width = MEDIAN_TO_SIGMA * np.median(np.abs(logarithms - centre))
        wide = positive[np.abs(logarithms - centre) <= 5 * width] if width > 0 else positive
        if wide.max() > 10 * wide.min():
            edges = np.geomspace(wide.min(), wide.max(), bins + 1)
            edges[0], edges[-1] = wide.min(), wide.max()  # geomspace rounds
            return edges, np.histogram(positive, edges)[0]
    low, high = float(kept.min()), float(kept.max())
    if low == high:
        margin = abs(low) * 0.01 or 1e-30
        low, high = low - margin, high + margin
    edges = np.linspace(low, high, bins + 1)
    return edges, np.histogram(values, edges)[0]


def fits(values: np.ndarray) -> tuple[Fit, ...]:
    """Return the Gaussian and the log-normal fit to finite values, float64 of any shape, the better one first.

    Maximum likelihood on the values within 3 σ of the centre, which is found by iteration from the median; the
    variance is corrected for the cut. For values that are normal (or whose logarithms are) that is the ordinary mean
    and standard deviation but for noise, and 10 % of strays far off do not move it.
    """
    values = np.sort(values, axis=None)
    if values.size < 8:
        return ()
    found = []
    if (fit := _clipped(values)) is not None:
        centre, width, left_out = fit
        found.append(Fit("gaussian", centre, width, left_out, _distance(values, (values - centre) / width)))
    positive = values[values > 0]
    if positive.size >= 0.5 * values.size and positive.size >= 8 and (fit := _clipped(np.log(positive))) is not None:
        centre, width, left_out = fit
        standard = np.full(values.shape, -np.inf)
        standard[values.size - positive.size :] = (np.log(positive) - centre) / width
        left_out += values.size - positive.size
        found.append(Fit("lognormal", math.exp(centre), width, left_out, _distance(values, standard)))
    return tuple(sorted(found, key=lambda fit: fit.distance))


def _clipped(values: np.ndarray) -> tuple[float, float, int] | None:
    """Return (mean, standard deviation, values left out) of sorted values; None where they are all alike."""
    centre, width = robust(values)
    start, stop = -1, -1
    for _ in range(50):  # each pass is a fixed point's; a handful does
        if not width > 1e-12 * abs(centre):
            return None
        bounds = np.searchsorted(values, (centre - CLIP * width, centre + CLIP * width), side="left")
        if (bounds[0], bounds[1]) == (start, stop):
            break
        start, stop = int(bounds[0]), int(bounds[1])
        kept = values[start:stop]
        centre = float(kept.mean())
        width = float(kept.std()) / math.sqrt(_CLIPPED_VARIANCE)
    return centre, width, values.size - (stop - start)


def _normal(standard: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * standard**2) / math.sqrt(2 * math.pi)


def _distance(values: np.ndarray, standard: np.ndarray) -> float:
    """Return Kolmogorov and Smirnov's distance of sorted values from a normal law, given their standard scores."""
    # a million values tell no more of a distance than ten thousand of their quantiles
    chosen = np.unique(np.linspace(0, values.size - 1, min(values.size, 10_000)).astype(int))
    law = np.array([0.5 * math.erfc(-score / math.sqrt(2)) for score in standard[chosen].tolist()])
    return float(max(np.max((chosen + 1) / values.size - law), np.max(law - chosen / values.size)))
