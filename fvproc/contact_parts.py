"""What contact-point methods share: their result, the pull before contact, running sums, the way back to zero load."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fvproc.errors import FvprocError

Array = NDArray[np.float64]

SIGNIFICANT = 5.0
FEWEST = 5
_NEWTON = 4


@dataclass(frozen=True, slots=True)
class ContactPoint:
    """Where an approach branch meets the surface.

    Parameters
    ----------
    position : float
        z at the contact point, nm; NaN where none was found.
    std : float
        Standard error from white noise, nm; NaN where the method gives none. Multiply by the square root of the
        noise's inflation where neighbouring samples are correlated.
    sample : int
        Number of samples nearer to the surface than the place where the method found the contact; 0 for none.
    """

    position: float = math.nan
    std: float = math.nan
    sample: int = 0

    @property
    def found(self) -> bool:
        """Whether there is a position."""
        return not math.isnan(self.position)


NOT_FOUND = ContactPoint()


def usable(z: Array, d: Array, noise: float, exponent: float) -> bool:
    """Return whether a branch has samples enough and a way; refuse arguments that no branch can have.

    Raises
    ------
    FvprocError
        Shapes that do not go together, a noise that is not positive, an exponent of no contact model.
    """
    if z.ndim != 1:
        raise FvprocError(f"z has shape {z.shape}: give one branch, (n,)")
    if d.shape != z.shape:
        raise FvprocError(f"d has shape {d.shape}, z {z.shape}: give one deflection for each position")
    if not 0.0 < noise < math.inf:
        raise FvprocError(f"noise = {noise}: give the standard deviation of d in nm, above 0")
    if exponent not in (1.5, 2.0):
        raise FvprocError(f"exponent = {exponent}: choose from 1.5 (sphere), 2.0 (cone)")
    return len(z) >= 4 * FEWEST and bool(z[0] > z[-1])


def window_of(samples: int, window: float) -> int:
    """Return the window in samples.

    Parameters
    ----------
    samples : int
        Of the branch.
    window : float
        Below 1 a part of the branch, otherwise samples.

    Returns
    -------
    int
        At least `FEWEST`, at most a quarter of the branch.
    """
    wanted = window * samples if window < 1.0 else window
    return max(min(int(wanted), samples // 4), FEWEST)


# ---- parts that several methods share


def load_at(exponent: float, compliance: float, travel: Array) -> Array:
    """Solve q + B·q^(1/m) = c: four Newton steps for the sphere, as in the kernel, a square root for the cone."""
    c = np.maximum(travel, 0.0)
    if exponent == 2.0:
        p = 0.5 * (np.sqrt(compliance * compliance + 4.0 * c) - compliance)
        return p * p
    p = np.cbrt(c)
    if compliance > 0.0:
        p = np.minimum(p, np.sqrt(c / compliance))
    for _ in range(_NEWTON):
        p = p - (p * p * (p + compliance) - c) / (p * (3.0 * p + 2.0 * compliance) + 1e-300)
    return p * p * p


def first_below(values: Array, level: Array | float, start: int) -> int:
    """Return the first sample from `start` outward whose value is below the level; their number where there is none."""
    below = np.flatnonzero(values[start:] < level)
    return start + int(below[0]) if below.size else len(values)


def attraction(d: Array, noise: float) -> tuple[float, int, int]:
    """Return the pull before contact as a deflection, where it is largest and where it ends.

    Parameters
    ----------
    d : ndarray, (n,)
        Deflection in surface order, nm.
    noise : float
        Its standard deviation, nm.

    Returns
    -------
    pull : float
        Depth of the dip beyond the first zero crossing, nm: the mean of its lowest sample and the neighbours on the
        side of the surface that lie within two σ of it. 0 where it does not stand `SIGNIFICANT` σ out of the noise, or
        has not gone back by half within a sixteenth of the branch (a drift rather than a jump to contact), or a sample
        between it and the zero crossing stands 3 σ above zero (ringing: a contact falls all the way).
    lowest : int
        Lowest sample; the zero crossing where there is no dip.
    quiet : int
        First sample of the baseline beyond: from the dip outward, blocks of 8 whose mean is 3 standard errors below
        zero belong to the attraction.
    """
    start = int(np.argmax(d))
    zero = first_below(d, 0.0, start)
    if zero == len(d):
        return 0.0, zero, zero
    lowest = zero + int(np.argmin(d[zero:]))
    depth = -float(d[lowest])
    recovery = d[lowest + 1 : lowest + 1 + max(len(d) // 16, 8)]
    ringing = np.any(d[zero:lowest] > 3.0 * noise)
    if depth < SIGNIFICANT * noise or ringing or not np.any(recovery > -0.5 * depth):
        return 0.0, zero, zero
    first = lowest
    while first > zero and lowest - first < 2 and d[first - 1] < -depth + 2.0 * noise:
        first -= 1
    beyond = d[lowest + 1 :]
    blocks = beyond[: len(beyond) // 8 * 8].reshape(-1, 8).mean(1)
    pulled = 8 * first_below(-blocks, 3.0 / math.sqrt(8.0) * noise, 0)
    return -float(d[first : lowest + 1].mean()), lowest, lowest + 1 + pulled


def least_squares(
    z: Array,
    d: Array,
    noise: float,
    stop: int,
    z0: float,
    exponent: float,
    *,
    pull: float = 0.0,
    free_pull: bool = False,
    baseline_order: int = -1,
    steps: int = 12,
) -> ContactPoint:
    """Gauss-Newton on Σ (d − q(z) + a − offset − tilt·z)², q + B·q^(1/m) = z − z0 + a, from the contact point `z0`.

    Parameters
    ----------
    z, d : ndarray, (n,)
        Samples to fit, in surface order, nm; the first one is in contact.
    noise : float
        Standard deviation of d, nm.
    stop : int
        With attraction, samples from here on are out of contact. Without, the model itself says which are.
    z0 : float
        Start, nm; B starts from it and the mean of the four samples nearest to the surface.
    exponent : {1.5, 2.0}
        m.
    pull : float
        a, or its start, nm.
    free_pull : bool
        Whether a is fitted. In stiff contacts z0, B and a are hard to tell apart; z0 is then held within the dip's
        depth of the jump, by one observation of that standard error.
    baseline_order : {-1, 0, 1}
        Of the line fitted along.
    steps : int
        At most; ends when z0 moves by less than a hundredth of its error.

    Returns
    -------
    ContactPoint
        Its error is that of the inverse normal matrix times the residuals' variance, or that of those in contact where
        it is plainly larger. Not found where z0 leaves the samples or the normal equations are singular.

    Notes
    -----
    ∂d/∂z0 = −S, ∂d/∂B = −q^(1/m)·S, ∂d/∂a = S − 1, S = 1/(1 + B·dq^(1/m)/dq). B >= 0: at its bound (rigid contact) the
    others move without it. In a kernel each sample keeps its root from step to step, so that one Newton step each
    is enough after the first; samples out of contact enter by sums.
    """
    near = min(4, len(z))
    load = max(float(d[:near].mean()) + pull, noise)
    compliance = max((float(z[:near].mean()) - z0 + pull - load) / load ** (1.0 / exponent), 0.0)
    free = np.array([True, True, free_pull, baseline_order >= 0, baseline_order >= 1])
    weight, expected = 0.0, 0.0
    if free_pull and stop > 1:
        # the jump lies between the last sample in contact and the next one out, about as far as from the one before
        step = float(z[stop - 2] - z[stop - 1])
        expected = float(z[stop - 1]) - 0.5 * step
        weight = noise / math.sqrt(step * step / 12.0 + pull * pull)
    theta = np.array([z0, compliance, pull, 0.0, 0.0])
    zeta = z - float(z.mean())
    ones = np.ones(len(z))
    for _ in range(steps):
        z0, compliance, pull, offset, tilt = theta
        travel = z - z0 + pull
        if pull > 0.0:
            travel[stop:] = 0.0
        q = load_at(exponent, compliance, travel)
        touching = q > 0.0
        g = q ** (1.0 / exponent)
        with np.errstate(divide="ignore", invalid="ignore"):
            s = np.where(touching, exponent * q / (exponent * q + compliance * g), 0.0)
        residual = d - np.where(touching, q - pull, 0.0) - offset - tilt * zeta
        jacobian = np.stack([-s, -g * s, np.where(touching, s - 1.0, 0.0), ones, zeta], 1)[:, free]
        scale = np.sqrt(np.sum(jacobian**2, 0))
        if not np.all(scale > 0.0):
            return NOT_FOUND
        jacobian = jacobian / scale
        normal, right = jacobian.T @ jacobian, jacobian.T @ residual
        normal[0, 0] += (weight / scale[0]) ** 2
        right[0] += weight * weight * (expected - z0) / scale[0]
        normal[np.diag_indices(len(normal))] *= 1.0 + 1e-12
        try:
            inverse = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return NOT_FOUND
        change = inverse @ right
        if compliance * scale[1] + change[1] < 0.0:
            held = np.delete(np.arange(len(change)), 1)
            change[1] = -compliance * scale[1]
            change[held] = np.linalg.solve(normal[np.ix_(held, held)], right[held] - normal[held, 1] * change[1])
        theta[free] += change / scale
        variance = noise * noise * float(inverse[0, 0]) / float(scale[0]) ** 2
        if not (z[-1] < theta[0] < z[0] and variance > 0.0):
            return NOT_FOUND
        if (change[0] / scale[0]) ** 2 < 1e-4 * variance:
            break
    # the residuals tell the noise better than a short baseline, and those in contact whether the law holds
    pooled = float(residual @ residual) / max(len(z) - int(free.sum()), 1)
    degrees = int(touching.sum()) - 3
    own = float(residual[touching] @ residual[touching]) / degrees if degrees > 0 else 0.0
    if own > pooled * (1.0 + 4.0 * math.sqrt(2.0 / max(degrees, 1))):
        pooled = own
    if len(z) > int(free.sum()):
        variance *= pooled / (noise * noise)
    return ContactPoint(float(theta[0]), math.sqrt(variance), int(np.count_nonzero(z > theta[0])))


def carried_back(
    z: Array, d: Array, noise: float, window: int, exponent: float, order: int, detected: ContactPoint
) -> ContactPoint:
    """Fit the contact from `window` samples before the one detected on, and the baseline beyond.

    The samples beyond keep the selection out: the last sample above a level is too high, the first one below too low.
    """
    start = max(detected.sample - window, 0)
    pull, lowest, quiet = attraction(d, noise)
    stop = len(d)
    kept = np.arange(start, stop)
    if pull > 0.0 and lowest > start:
        stop = lowest + 1 - start
        kept = np.r_[start : lowest + 1, quiet : len(d)]
    fit = least_squares(z[kept], d[kept], noise, stop, detected.position, exponent, pull=pull, baseline_order=order)
    return replace(fit, sample=detected.sample) if fit.found else NOT_FOUND


def local_slope(z: Array, d: Array, window: int) -> tuple[Array, Array, Array]:
    """Return centre, least-squares slope and Σ(z − z̄)² of each run of `window` samples.

    Parameters
    ----------
    z, d : ndarray, (n,)
        nm.
    window : int
        Samples of a run.

    Returns
    -------
    centre, slope, spread : ndarray, (n − window + 1,)
        nm, 1, nm². The standard error of a slope is σ/√spread.

    Notes
    -----
    Five running sums (z, z², d, zd), from which a run's sums are differences: O(n), whatever the window.
    """
    x = z - z[len(z) // 2]
    sums = np.zeros((4, len(z) + 1))
    np.cumsum(np.stack([x, x * x, d, x * d]), axis=1, out=sums[:, 1:])
    sx, sxx, sd, sxd = sums[:, window:] - sums[:, :-window]
    spread = np.maximum(sxx - sx * sx / window, 1e-300)
    return sx / window + z[len(z) // 2], (sxd - sx * sd / window) / spread, spread


def peak_of_three(before: float, top: float, after: float) -> tuple[float, float]:
    """Place of a parabola's maximum from the middle one of three values, in samples, and its second derivative."""
    bend = before - 2.0 * top + after
    return (0.5 * (before - after) / bend, bend) if bend < 0.0 else (0.0, 0.0)


def between(z: Array, at: int, shift: float) -> float:
    """Return z at the place `at` + `shift`, |shift| <= 1, by linear interpolation."""
    neighbour = at + (1 if shift > 0.0 else -1)
    return float(z[at] + abs(shift) * (z[neighbour] - z[at]))


def best_break(z: Array, d: Array, first: int, last: int) -> int:
    """Return the break b in [first, last] with the least Σ over i < b of (d − αx − γx²)² + Σ over i >= b of d².

    Parameters
    ----------
    z, d : ndarray, (n,)
        nm.
    first, last : int
        Breaks to look at.

    Returns
    -------
    int
        The sample b.

    Notes
    -----
    x = z − z_b. The parabola stands for every exponent between 1 (rigid) and 2 (soft cone). Its normal equations at
    any break follow from running sums of z^p and d·z^p by a shift of the origin: one pass, whatever the number of
    breaks; Lin, Dimitriadis & Horkay (J. Biomech. Eng. 129 (2007) 430) fit at each break anew. As the parabola is not
    the contact's law, the break of a curve far above the noise is one of those in contact rather than the first one.
    """
    x = (z[: last + 1] - z[0]) / (z[0] - z[last])
    dd = d[: last + 1]
    m = [np.concatenate([[0.0], np.cumsum(x**p)[:-1]])[first:] for p in range(5)]
    r = [np.concatenate([[0.0], np.cumsum(dd * x**p)[:-1]])[first:] for p in range(3)]
    t = x[first:]
    s2 = m[2] - 2 * t * m[1] + t * t * m[0]
    s3 = m[3] - 3 * t * m[2] + 3 * t * t * m[1] - t**3 * m[0]
    s4 = m[4] - 4 * t * m[3] + 6 * t * t * m[2] - 4 * t**3 * m[1] + t**4 * m[0]
    t1 = r[1] - t * r[0]
    t2 = r[2] - 2 * t * r[1] + t * t * r[0]
    determinant = s2 * s4 - s3 * s3
    usable = determinant > 1e-12 * s2 * s4
    safe = np.where(usable, determinant, 1.0)
    alpha, gamma = (t1 * s4 - t2 * s3) / safe, (t2 * s2 - t1 * s3) / safe
    gamma = np.where(alpha < 0.0, t2 / np.maximum(s4, 1e-300), gamma)
    alpha = np.maximum(alpha, 0.0)
    explained = np.where(usable, alpha * t1 + gamma * t2, -np.inf)
    return first + int(np.argmax(explained))
