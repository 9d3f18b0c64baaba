"""The twin's fits: the contact model, maximum likelihood by SciPy, the instruments' window."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fvproc.quantities import Flag
from fvproc.reference.branch import Branch

FEWEST = 5
MOST_POINTS, SINGLE = 48, 16
_DONE = Flag(0)


@dataclass
class Fit:
    """Result of a fit; see `ContactFit` in `_core/types.pxd`."""

    status: Flag = _DONE
    compliance: float = 0.0
    compliance_std: float = 0.0
    z0: float = 0.0
    z0_std: float = 0.0
    adhesion: float = 0.0
    adhesion_std: float = 0.0
    rmse: float = 0.0
    r_squared: float = 0.0
    slope: float = 0.0
    start: int = 0
    stop: int = 0
    samples: int = 0


# ---- contact model


def root_load(model: int, compliance: float, travel: np.ndarray) -> np.ndarray:
    """Solve p^m + B·p = c for p (sphere: p³ + B·p² = c) at c > 0; 0 elsewhere. The load is p³ or p²."""
    c = np.maximum(np.asarray(travel, float), 0.0)
    if model == 1:
        return 0.5 * (np.sqrt(compliance**2 + 4.0 * c) - compliance)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.minimum(np.cbrt(c), np.sqrt(c / compliance))
        for _ in range(50):
            p = np.where(c > 0, p - (p * p * (p + compliance) - c) / (p * (3 * p + 2 * compliance)), 0.0)
    return p


def indentation_shape(model: int, q: np.ndarray | float) -> np.ndarray:
    """q^(1/m), 0 for q <= 0."""
    q = np.maximum(q, 0.0)
    return np.sqrt(q) if model == 1 else np.cbrt(q) ** 2


def model_load(model: int, compliance: float, travel: np.ndarray | float) -> np.ndarray:
    """Load q at the travel c = z − z0 + a."""
    p = root_load(model, compliance, np.asarray(travel))
    return p * p if model == 1 else p**3


def points_of(branch: Branch, begin: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (y, ζ, weight) of samples [begin, count): means of neighbours, the last ones single; see `pose`."""
    d, z = branch.d[begin:count], branch.z[begin:count]
    count -= begin
    single = count if count <= MOST_POINTS else SINGLE
    group = 1 if count == single else 1 + (count - single - 1) // (MOST_POINTS - SINGLE)
    edges = np.concatenate([np.arange(0, count - single, group), np.arange(count - single, count + 1)])
    weight = np.diff(edges)
    starts = edges[:-1]
    y = np.add.reduceat(d, starts) / weight
    zeta = np.add.reduceat(z, starts) / weight - branch.centre
    return y, zeta, weight.astype(float)


def _anchor(branch: Branch, retract: bool) -> tuple[float, tuple[float, float], float]:
    """What is known of the place of the jump: (expected, its derivatives by z0 and a, weight); see `set_anchor`."""
    i = min(branch.end, branch.n - 1)
    spacing = float(branch.z[i - 1] - branch.z[i])
    if not branch.pulled:
        return 0.0, (0.0, 1.0), 0.0
    expected = 0.5 * float(branch.z[i - 1] + branch.z[i]) - branch.centre
    if retract:
        return expected, (1.0, -1.0), branch.noise / (0.3 * spacing + 0.4 * branch.noise)
    return expected, (1.0, 0.0), branch.noise / (spacing + branch.noise - branch.lowest)


def fit_contact(
    model: int,
    branch: Branch,
    count: int,
    free_adhesion: bool,
    adhesion: float,
    baseline_parameters: int,
    retract: bool,
    quantum: float,
    begin: int = 0,
) -> Fit:
    """Maximum-likelihood fit of samples [begin, count) and those free of contact; see `_core/fit.pxd`."""
    from scipy.optimize import least_squares

    if branch.end - begin < FEWEST:
        return Fit(Flag.TOO_FEW_POINTS)
    y, zeta, weight = points_of(branch, begin, count)
    # start: ζ − d against q^(1/m), above a tenth of the load
    top = (float(branch.d[begin:count].max()) if begin else branch.peak) + adhesion
    chosen = y + adhesion > 0.1 * top
    if weight[chosen].sum() < 2.5 or not top > 0:
        return Fit(Flag.FIT_FAILED)
    g = indentation_shape(model, y[chosen] + adhesion)
    if np.ptp(g) == 0:
        return Fit(Flag.FIT_FAILED)
    slope, intercept = np.polyfit(g, zeta[chosen] - y[chosen], 1, w=np.sqrt(weight[chosen]))
    least = top / 30.0 / float(indentation_shape(model, top))
    if not slope > least:
        slope = least
        intercept = float(np.average(zeta[chosen] - y[chosen] - slope * g, weights=weight[chosen]))

    i = min(branch.end, branch.n - 1)
    hidden = free_adhesion and not branch.pulled
    reach = float(branch.z[i - 1] - branch.z[i]) + 3.0 * branch.noise
    expected, anchor, pull = _anchor(branch, retract)
    with_free = baseline_parameters > 0 or not branch.pulled
    far_zeta, far_d = branch.zeta[branch.free :], branch.d[branch.free :]
    free = np.array([True, True, free_adhesion, baseline_parameters >= 1, baseline_parameters >= 2])
    scale = np.array([slope, 1.0, 1.0, 1.0, 1.0 / max(np.ptp(branch.z), 1e-9)])
    start = np.array([slope, intercept, adhesion, 0.0, 0.0]) / scale
    root = np.sqrt(weight)

    def parts(reduced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta = start.copy()
        theta[free] = reduced
        b, z0, a, offset, tilt = theta * scale
        c = zeta - z0 + a
        p = root_load(model, b, c)
        with np.errstate(invalid="ignore", divide="ignore"):
            if model == 1:
                s = np.where(p > 0, 2 * p / (2 * p + b), 0.0)
                load, shape = p * p, p
            else:
                s = np.where(p > 0, 3 * p / (3 * p + 2 * b), 0.0)
                load, shape = p**3, p * p
        force, of_b, h = load - a, -shape * s, np.ones_like(c)
        if hidden:
            x = np.clip(c / reach, -1.0, 1.0)
            h = 0.5 + x * (0.75 - 0.25 * x * x)
            s = h * s + (0.75 - 0.75 * x * x) / reach * force
            of_b, force = h * of_b, h * force
        rows = [root * (y - force - offset - tilt * zeta)]
        jacobian = [-root[:, None] * np.stack([of_b, -s, s - h, np.ones_like(c), zeta], 1)]
        if with_free:
            rows.append(far_d - offset - tilt * far_zeta)
            block = np.zeros((len(far_d), 5))
            block[:, 3], block[:, 4] = -1.0, -far_zeta
            jacobian.append(block)
        if free_adhesion:
            rows.append(np.array([pull * (expected - anchor[0] * z0 - anchor[1] * a)]))
            jacobian.append(-pull * np.array([[0.0, *anchor, 0.0, 0.0]]))
        return np.concatenate(rows), (np.concatenate(jacobian) * scale)[:, free]

    lower = np.where(np.arange(5) == 0, 1e-6, -np.inf)[free]
    result = least_squares(
        lambda x: parts(x)[0],
        start[free],
        jac=lambda x: parts(x)[1],
        bounds=(lower, np.inf),
        ftol=1e-14,
        xtol=1e-14,
        gtol=1e-14,
        x_scale="jac",
        max_nfev=500,
    )
    theta = start.copy()
    theta[free] = result.x
    theta = theta * scale
    residuals, jacobian = parts(result.x)
    contact_sse = float(residuals[: len(y)] @ residuals[: len(y)])
    cost = float(residuals @ residuals)
    inside = int(weight[(zeta > theta[1] - theta[2]) | branch.pulled].sum())
    if inside < FEWEST:
        return Fit(Flag.TOO_FEW_POINTS)
    degrees = len(y) - 2 - free_adhesion
    variance = branch.noise**2
    if with_free:
        variance = cost / (len(y) + len(far_d) - 2 - free_adhesion - baseline_parameters)
    variance = max(variance, quantum**2 / 12.0)
    if degrees >= 1 and contact_sse / degrees > variance * (1.0 + 4.0 * math.sqrt(2.0 / degrees)):
        variance = contact_sse / degrees
    try:
        inverse = np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError:
        return Fit(Flag.FIT_FAILED)
    stds = np.zeros(5)
    with np.errstate(invalid="ignore"):
        stds[free] = np.sqrt(variance * branch.inflation * np.diag(inverse))
    stds *= scale
    mean = np.average(y, weights=weight)
    sst = float(np.sum(weight * (y - mean) ** 2))
    return Fit(
        compliance=float(theta[0]),
        compliance_std=float(stds[0]),
        z0=float(theta[1]) + branch.centre,
        z0_std=float(stds[1]),
        adhesion=float(theta[2]),
        adhesion_std=float(stds[2]) if free_adhesion else branch.noise,
        rmse=math.sqrt(contact_sse / len(y)),
        r_squared=1.0 - contact_sse / sst if sst > 0 else 0.0,
        start=begin,
        stop=begin + inside,
        samples=inside,
    )


def fit_window(model: int, branch: Branch, adhesion: float, adhesion_std: float, low: float, high: float) -> Fit:
    """Straight line through q^(1/m) against separation within the window; see `_core/window.pxd`."""
    floor = -adhesion if adhesion > 0 else branch.lowest
    bottom, top = (floor + part * (branch.peak - floor) for part in (low, high))
    below = np.flatnonzero(branch.d[branch.peak_at : branch.end] <= top)
    first = branch.peak_at + int(below[0]) if below.size else branch.end
    under = np.flatnonzero(branch.d[first : branch.end] <= bottom)
    stop = first + int(under[0]) if under.size else branch.end
    chosen = first + np.flatnonzero(branch.d[first:stop] <= top)
    used = len(chosen)
    if used < 3:
        return Fit(Flag.TOO_FEW_POINTS)
    d = branch.d[chosen]
    reference = branch.z[0] - branch.d[0]
    s = branch.z[chosen] - d - reference
    y = indentation_shape(model, d + adhesion)
    centred = s - s.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread if spread > 0 else 0.0
    if not slope > 0:
        return Fit(Flag.FIT_FAILED)
    intercept = float(y.mean() - slope * s.mean())
    rest = y - intercept - slope * s
    residual = float(rest @ rest)
    error = residual / (used - 2) if used > 2 else 0.0
    # the residual in force, to first order: that of y divided by the rate at which y leaves the line with d
    root = np.sqrt(d + adhesion) if model == 1 else np.cbrt(d + adhesion)
    force = rest / ((0.5 / root if model == 1 else 2.0 / 3.0 / root) + slope)
    sse, sst = float(force @ force), float(np.sum((d - d.mean()) ** 2))
    return Fit(
        compliance=1.0 / slope,
        compliance_std=math.sqrt(error / spread) / slope**2,
        z0=reference - intercept / slope,
        z0_std=math.sqrt(error * (1.0 / used + (s.mean() + intercept / slope) ** 2 / spread)) / slope,
        adhesion=adhesion,
        adhesion_std=adhesion_std,
        slope=float(centred @ d) / spread,
        start=first,
        stop=stop,
        samples=used,
        rmse=math.sqrt(sse / used),
        r_squared=1.0 - sse / sst if sst > 0 else 0.0,
    )
