"""Contact point on approach from one branch: four methods, their sub-sample position and their standard error.

All of them take one approach branch in surface order (sample 0 at the turning point, z falling), with the baseline
subtracted and the noise known; lengths in nm, deflection d = F/k. The contact obeys

    z − d = z0 + B·q^(1/m),   q = d + a,   m = 3/2 (sphere) or 2 (cone)

with z0 the contact point, q the load over the spring constant, a that of the attraction, B the contact's compliance
against the cantilever's; see docs/estimators.md, `Contact point on approach`.

`threshold`, `gradient` and `ratio_of_variances` say which sample is the first in contact. Each does so at a force that
stands out of the noise, so that the bare answer is late by what the contact has been pressed until then; `piecewise`
finds the break of all samples at once, of a parabola that is not the contact's law. With ``extrapolate`` (the default)
least squares of the equation above go on from there: over `window` samples toward the surface and all beyond, or, for
`piecewise`, over all. z0 then is late only by an attraction that does not stand out of the noise, or that the samples
taken do not show.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fvproc.contact_parts import (
    FEWEST,
    NOT_FOUND,
    SIGNIFICANT,
    Array,
    ContactPoint,
    attraction,
    best_break,
    between,
    carried_back,
    first_below,
    least_squares,
    local_slope,
    peak_of_three,
    usable,
    window_of,
)


def threshold(
    z: Array,
    d: Array,
    noise: float,
    *,
    level: float = 5.0,
    window: float = 1.0 / 16.0,
    exponent: float = 1.5,
    baseline_order: int = 1,
    extrapolate: bool = True,
) -> ContactPoint:
    """Where the force leaves `level`·σ for good, carried back to zero load.

    In a kernel: one scan from the turning point outward to the first sample below the level, then `least_squares` over
    `window` samples in contact, with the sums of those beyond.

    Parameters
    ----------
    z, d : ndarray, (n,)
        Position and baseline-corrected deflection in surface order, nm.
    noise : float
        Standard deviation of d, nm.
    level : float
        In units of the noise.
    window : float
        Samples in contact to extrapolate from; see `window_of`.
    exponent : {1.5, 2.0}
        Of the contact model: sphere or cone.
    baseline_order : {-1, 0, 1}
        Of the line that is fitted along, since the one subtracted has an error; −1 where the baseline is exact.
    extrapolate : bool
        False for the bare crossing of the level, by linear interpolation.

    Returns
    -------
    ContactPoint
        Not found where no sample lies below the level or none above it, or the fit leaves the samples.

    Raises
    ------
    FvprocError
        As `usable` of `contact_parts`: shapes, noise or exponent that no branch can have.
    """
    if not usable(z, d, noise, exponent):
        return NOT_FOUND
    start = int(np.argmax(d))
    i = first_below(d, level * noise, start)
    if i >= len(d) or i == start:
        return NOT_FOUND
    part = float((level * noise - d[i]) / (d[i - 1] - d[i]))
    step = max(float(z[i - 1] - z[i]), 0.0)
    raw = ContactPoint(float(z[i]) + part * step, noise * step / float(d[i - 1] - d[i]), i)
    if not extrapolate:
        return raw
    return carried_back(z, d, noise, window_of(len(z), window), exponent, baseline_order, raw)


def gradient(
    z: Array,
    d: Array,
    noise: float,
    *,
    level: float = 5.0,
    window: float = 1.0 / 16.0,
    exponent: float = 1.5,
    baseline_order: int = 1,
    extrapolate: bool = True,
) -> ContactPoint:
    """Where the local slope leaves `level` of its standard errors for good, carried back to zero load.

    Local slope: least squares over `window` samples, from running sums, with the standard error σ/√Σ(z − z̄)². In a
    kernel: running sums of z, z², d, zd and one comparison a sample, then as for `threshold`.

    Parameters
    ----------
    z, d, noise, window, exponent, baseline_order
        As for `threshold`; the window is that of the slope.
    level : float
        In standard errors of the slope, or root mean squares of the slopes of the farthest quarter where these are
        larger.
    extrapolate : bool
        False for the bare crossing of the level by the slope, by linear interpolation between centres of windows.

    Returns
    -------
    ContactPoint
        Not found where the slope never falls below the level or never rises above it, or the fit leaves the samples.
    """
    if not usable(z, d, noise, exponent):
        return NOT_FOUND
    n, size = len(z), window_of(len(z), window)
    centre, slope, spread = local_slope(z, d, size)
    significance = slope * np.sqrt(spread) / noise
    # from where it is largest: at the turning point of a sine z stands still, and the slope says nothing
    start = int(np.argmax(significance))
    # drift and correlated noise bend a baseline more than white noise does: its farthest quarter tells how much
    far = significance[-max(len(slope) // 4, 1) :]
    level = level * max(math.sqrt(float(np.mean(far * far))), 1.0)
    at = first_below(significance, level, start)
    if at in (start, len(slope)):
        return NOT_FOUND
    part = (significance[at - 1] - level) / (significance[at - 1] - significance[at])
    steepness = (slope[at - 1] - slope[at]) / max(float(centre[at - 1] - centre[at]), 1e-300)
    position = float(centre[at - 1] + part * (centre[at] - centre[at - 1]))
    error = float(noise / math.sqrt(spread[at]) / steepness) if steepness > 0 else math.nan
    raw = ContactPoint(position, error, min(at + size // 2, n))
    if not extrapolate:
        return raw
    return carried_back(z, d, noise, size, exponent, baseline_order, raw)


def ratio_of_variances(
    z: Array,
    d: Array,
    noise: float,
    *,
    window: float = 1.0 / 16.0,
    exponent: float = 1.5,
    baseline_order: int = 1,
    extrapolate: bool = True,
) -> ContactPoint:
    """Where the variance ahead is largest against the variance behind, carried back to zero load.

    Ratio at sample i: variance of the `window` samples nearer to the surface over that of the `window` samples farther
    from it; sample i itself is in neither, so that the ratio is centred (Gavara, Sci. Rep. 6 (2016) 21267). In a
    kernel: running sums of d and d², one division a sample, then as for `threshold`.

    Where the contact stands far out of the noise the maximum lies where its force is about 1.5 σ (sphere) or 1.9 σ
    (cone): with d = A·x^p beyond the contact, ln(variance ahead) grows as c·x/L, L the length of the window, c = 20/9
    (p = 3/2) or 15/4 (p = 2), and the variance behind as A²·x^(2p+1)/((2p+1)·L·σ²); the two rates are equal where
    d = √c·σ. A rigid contact (p = 1) has c = 0.

    Parameters
    ----------
    z, d, noise, window, exponent, baseline_order
        As for `threshold`; the window is that of the variances.
    extrapolate : bool
        False for the bare maximum, by a parabola through the logarithms of three ratios; it has no standard error.

    Returns
    -------
    ContactPoint
        Not found where the samples ahead of the maximum are within `SIGNIFICANT` σ of noise alone, no sample lies
        below it, or the fit leaves the samples.
    """
    if not usable(z, d, noise, exponent):
        return NOT_FOUND
    n, size = len(z), window_of(len(z), window)
    sums = np.zeros((2, n + 1))
    np.cumsum(np.stack([d, d * d]), axis=1, out=sums[:, 1:])
    first, second = sums[:, size:] - sums[:, :-size]
    variance = np.maximum(second - first * first / size, 0.0) / (size - 1) + (0.01 * noise) ** 2
    ratio = variance[: n - 2 * size] / variance[size + 1 : n - size + 1]
    at = int(np.argmax(ratio))
    # Σd² of noise alone follows χ²; its quantile by Wilson and Hilferty
    part = 2.0 / (9.0 * size)
    if first_below(d, SIGNIFICANT * noise, int(np.argmax(d))) == n:
        return NOT_FOUND
    if not float(second[at]) > size * (1.0 - part + SIGNIFICANT * math.sqrt(part)) ** 3 * noise * noise:
        return NOT_FOUND
    shift = 0.0
    if 0 < at < len(ratio) - 1:
        shift, _ = peak_of_three(*(math.log(value) for value in ratio[at - 1 : at + 2]))
    raw = ContactPoint(between(z, at + size, shift), math.nan, at + size)
    if not extrapolate:
        return raw
    return carried_back(z, d, noise, size, exponent, baseline_order, raw)


def piecewise(
    z: Array,
    d: Array,
    noise: float,
    *,
    exponent: float = 1.5,
    baseline_order: int = 1,
) -> ContactPoint:
    """Line, then line plus contact: least squares over every break, then Gauss and Newton on the contact's own law.

    `best_break` says which sample is the first in contact, whatever the stiffness. From there `least_squares` over all
    samples; with attraction that stands out of the noise, from its lowest sample and with a free. In a kernel: running
    sums for the break, two to four steps over the contact samples only, the baseline by six sums.

    Parameters
    ----------
    z, d, noise, exponent, baseline_order
        As for `threshold`.

    Returns
    -------
    ContactPoint
        Not found where no sample rises above `SIGNIFICANT` σ, none lies below it, or the fit leaves the samples.
    """
    if not usable(z, d, noise, exponent):
        return NOT_FOUND
    n, start = len(z), int(np.argmax(d))
    if not d[start] > SIGNIFICANT * noise or first_below(d, SIGNIFICANT * noise, start) == n:
        return NOT_FOUND
    pull, lowest, quiet = attraction(d, noise)
    first = max(first_below(d, 10.0 * noise, start), FEWEST)
    fit = NOT_FOUND
    if pull > 0.0 and lowest >= 3 and quiet < n - FEWEST:
        kept = np.r_[: lowest + 1, quiet:n]
        fit = least_squares(
            z[kept],
            d[kept],
            noise,
            lowest + 1,
            float(z[lowest]),
            exponent,
            pull=pull,
            free_pull=True,
            baseline_order=baseline_order,
        )
    if not fit.found and first < n - FEWEST:
        at = best_break(z, d, first, n - FEWEST)
        fit = least_squares(z, d, noise, n, float(z[at]), exponent, baseline_order=baseline_order)
    if not fit.found:
        # a baseline that errs by many σ hides the break; half of the peak is surely in contact
        half = min(max(first_below(d, 0.5 * float(d[start]), start), FEWEST), n - FEWEST)
        fit = least_squares(z, d, noise, n, float(z[half]), exponent, baseline_order=baseline_order)
    return fit


METHODS: dict[str, Callable[..., ContactPoint]] = {
    "threshold": threshold,
    "gradient": gradient,
    "ratio_of_variances": ratio_of_variances,
    "piecewise": piecewise,
}
