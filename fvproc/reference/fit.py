"""The twin's fits: maximum likelihood by SciPy, the instruments' window."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fvproc._core.settings import Law
from fvproc.quantities import Flag
from fvproc.reference.branch import Branch
from fvproc.reference.contact import Contact
from fvproc.reference.covariance import of_means
from fvproc.reference.noise import correlated_variances

FEWEST = 4
MOST_POINTS = 80
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
    offset: float = 0.0
    tilt: float = 0.0
    rmse: float = 0.0
    r_squared: float = 0.0
    slope: float = 0.0
    start: int = 0
    stop: int = 0
    samples: int = 0


def _edges(total: int, ratio: int, most: int = MOST_POINTS) -> list[int]:
    """Edges of points from 0 to `total`: each of one sample and one more for `ratio` samples before it."""
    edges = [0]
    while edges[-1] < total:
        edges.append(total if len(edges) == most else min(edges[-1] + 1 + edges[-1] // ratio, total))
    return edges


def points_of(branch: Branch, begin: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (y, ζ, weight, variance of ζ) of samples [begin, count): means of neighbours; see `take_points`."""
    end = min(branch.end, count)
    inner, outer = _edges(end - begin, 5, MOST_POINTS - 24), _edges(count - end, 2)
    edges = np.array(sorted({end - edge for edge in inner} | {end + edge for edge in outer})) - begin
    weight, starts = np.diff(edges), edges[:-1]
    zetas = branch.zeta[begin:count]
    y, zeta = (np.add.reduceat(values, starts) / weight for values in (branch.d[begin:count], zetas))
    about = zetas - np.repeat(zeta, weight)
    return y, zeta, weight.astype(float), np.add.reduceat(about * about, starts) / weight


def weights_of(branch: Branch, sizes: np.ndarray) -> np.ndarray:
    """Return the variance of a sample over that of the mean of so many; their number under white noise."""
    if not branch.correlated:
        return sizes
    one = float(branch.components.sum())
    variances = {size: float(of_means(branch.components, 1, int(size))[0, 0]) for size in np.unique(sizes)}
    return np.array([one / variances[size] if variances[size] > 0 else size for size in sizes])


def _anchor(branch: Branch, retract: bool) -> tuple[float, tuple[float, float], float]:
    """What is known of the place of the jump: (expected, its derivatives by z0 and end, weight); see `set_anchor`."""
    if not branch.ends:
        return 0.0, (0.0, 0.0), 0.0
    off = float(branch.z[branch.off])
    spacing, expected = branch.holds - off, 0.5 * (branch.holds + off) - branch.centre
    first = last = branch.off
    first -= 1
    while not spacing > 0 and (first > 0 or last < branch.n - 1):
        # a coarse z may be the same on both sides: then the distance of samples here
        first, last = max(first - 1, 0), min(last + 1, branch.n - 1)
        spacing = float(branch.z[first] - branch.z[last]) / (last - first)
    if retract:
        doubt = branch.faint or 0.4 * branch.noise
        if branch.pulled and not branch.faint:
            depth = -branch.lowest / branch.noise
            doubt = 2.0 * branch.noise / depth * min(max((12.0 - depth) / (12.0 - 7.0), 0.0), 1.0)
        return expected, (1.0, 1.0), branch.noise / (math.hypot(0.3 * spacing, doubt) + branch.jump_width)
    return expected, (1.0, 0.0), branch.noise / (spacing + branch.noise - branch.lowest)


def fit_contact(
    law: Law,
    branch: Branch,
    count: int,
    free_adhesion: bool,
    adhesion: float,
    baseline_parameters: int,
    retract: bool,
    quantum: float,
    reach: float = 0.0,
    begin: int = 0,
) -> Fit:
    """Maximum-likelihood fit of samples [begin, count) and those free of contact; see `_core/fit.pxd`."""
    from scipy.optimize import least_squares

    if branch.end - begin < FEWEST:
        return Fit(Flag.TOO_FEW_POINTS)
    y, zeta, sizes, spread = points_of(branch, begin, count)
    weight = weights_of(branch, sizes)
    # start: ζ − d against q^(1/m), above a tenth of the load
    top = (float(branch.d[begin:count].max()) if begin else branch.peak) + adhesion
    chosen = y + adhesion > 0.1 * top
    if weight[chosen].sum() < 2.5 or not top > 0:
        return Fit(Flag.FIT_FAILED)
    free_of_film = Contact(law, 1.0, adhesion)
    g = free_of_film.shape(free_of_film.root_of_load(y[chosen] + adhesion))
    if np.ptp(g) == 0:
        return Fit(Flag.FIT_FAILED)
    slope, intercept = np.polyfit(g, zeta[chosen] - y[chosen], 1, w=np.sqrt(weight[chosen]))
    least = top / 30.0 / float(free_of_film.shape(free_of_film.root_of_load(np.array([top])))[0])
    if not slope > least:
        slope = least
        intercept = float(np.average(zeta[chosen] - y[chosen] - slope * g, weights=weight[chosen]))

    # the mean of a bent curve over a point's samples is not its value at their mean: ½·d″·spread off
    q = np.maximum(y + adhesion, 1e-18)
    roots = free_of_film.root_of_load(q)
    w = slope * free_of_film.shape_rate(roots) / free_of_film.load_rate(roots)
    bend = 0.5 * (1.0 - law.depth_power / law.load_power) * spread * w / (1.0 + w) ** 3 / q
    y = y - np.where(q > 0.05 * top, bend, 0.0)

    i = min(branch.end, branch.n - 1)
    hidden = free_adhesion and not branch.ends
    drawn_out = float(branch.z[i - 1] - branch.z[i]) + 3.0 * branch.noise
    expected, anchor, pull = _anchor(branch, retract)
    with_free = baseline_parameters > 0 or not branch.ends
    far_zeta, far_d = branch.zeta[branch.free :], branch.d[branch.free :]
    free = np.array([True, True, free_adhesion, baseline_parameters >= 1, baseline_parameters >= 2])
    scale = np.array([slope, 1.0, 1.0, 1.0, 1.0 / max(np.ptp(branch.z), 1e-9)])
    # with JKR the root of the adhesion is fitted: it is that by which the adhesion acts
    inside = law.kind == 3
    start = np.array([slope, intercept, math.sqrt(adhesion) if inside else adhesion, 0.0, 0.0]) / scale
    root = np.sqrt(weight)

    def contact_of(theta: np.ndarray) -> Contact:
        a = theta[2] * abs(theta[2]) if inside else theta[2]
        return Contact(law, theta[0], a, reach)

    def parts(reduced: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Residuals of points, free samples, anchor; their derivatives; the end of contact."""
        theta = start.copy()
        theta[free] = reduced
        theta = theta * scale
        contact, z0, offset, tilt = contact_of(theta), theta[1], theta[3], theta[4]
        end, (end_of_b, end_of_a) = contact.end, contact.end_of
        roots = contact.roots(zeta - z0)
        force = contact.load(roots) - (0.0 if inside else contact.adhesion)
        s, of_b, of_a = contact.slope(roots), contact.of_compliance(roots), contact.of_adhesion(roots)
        if hidden:
            x = np.clip((zeta - z0 - end) / drawn_out, -1.0, 1.0)
            h, rate = 0.5 + x * (0.75 - 0.25 * x * x), (0.75 - 0.75 * x * x) / drawn_out * force
            s, of_b, of_a = h * s + rate, h * of_b - rate * end_of_b, h * of_a - rate * end_of_a
            force = h * force
        rows = [root * (y - force - offset - tilt * zeta)]
        jacobian = [-root[:, None] * np.stack([of_b, -s, of_a, np.ones_like(s), zeta], 1)]
        if with_free:
            rows.append(far_d - offset - tilt * far_zeta)
            block = np.zeros((len(far_d), 5))
            block[:, 3], block[:, 4] = -1.0, -far_zeta
            jacobian.append(block)
        if free_adhesion:
            rows.append(np.array([pull * (expected - anchor[0] * z0 - anchor[1] * end)]))
            jacobian.append(-pull * np.array([[anchor[1] * end_of_b, anchor[0], anchor[1] * end_of_a, 0.0, 0.0]]))
        return np.concatenate(rows), (np.concatenate(jacobian) * scale)[:, free], end

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
    residuals, jacobian, end = parts(result.x)
    contact_sse = float(residuals[: len(y)] @ residuals[: len(y)])
    cost = float(residuals @ residuals)
    held = int(sizes[(zeta > theta[1] + end) | branch.ends].sum())
    if held < FEWEST:
        return Fit(Flag.TOO_FEW_POINTS)
    degrees = len(y) - 2 - free_adhesion
    variance = branch.noise**2
    if with_free:
        variance = cost / (len(y) + len(far_d) - 2 - free_adhesion - baseline_parameters)
    variance = max(variance, quantum**2 / 12.0)
    try:
        inverse = np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError:
        return Fit(Flag.FIT_FAILED)
    if branch.correlated:
        influence = inverse @ (jacobian[: len(y)] * (root / sizes)[:, None]).T
        free_influence = np.zeros((len(inverse), branch.n - branch.free))
        if with_free:
            free_influence = inverse @ jacobian[len(y) : len(y) + len(far_d)].T
        variances, likely = correlated_variances(branch, begin, sizes, weight, influence, free_influence)
        ratio = contact_sse * len(y) / (degrees * likely) if degrees >= 1 else 1.0
        if degrees >= 1 and ratio > 1.0 + 4.0 * math.sqrt(2.0 / degrees):
            variances = ratio * variances
        if free_adhesion:
            # what else is known of the pull-off has an error of its own, which is no noise of samples
            variances = variances + branch.noise**2 * (inverse @ jacobian[-1]) ** 2
    else:
        if degrees >= 1 and contact_sse / degrees > variance * (1.0 + 4.0 * math.sqrt(2.0 / degrees)):
            variance = contact_sse / degrees
        variances = variance * np.diag(inverse)
    stds = np.zeros(5)
    with np.errstate(invalid="ignore"):
        stds[free] = np.sqrt(variances)
    stds *= scale
    pull_off, pull_off_std = float(theta[2]), float(stds[2])
    if inside:
        # noise moves the square of its root by 2α·σ and σ²
        pull_off, pull_off_std = theta[2] * abs(theta[2]), stds[2] * math.sqrt(4.0 * theta[2] ** 2 + 2.0 * stds[2] ** 2)
    mean = np.average(y, weights=weight)
    sst = float(np.sum(weight * (y - mean) ** 2))
    return Fit(
        compliance=float(theta[0]),
        compliance_std=float(stds[0]),
        z0=float(theta[1]) + branch.centre,
        z0_std=float(stds[1]),
        adhesion=pull_off,
        adhesion_std=pull_off_std if free_adhesion else branch.noise,
        offset=float(theta[3]),
        tilt=float(theta[4]),
        rmse=math.sqrt(contact_sse / len(y)),
        r_squared=1.0 - contact_sse / sst if sst > 0 else 0.0,
        start=begin,
        stop=begin + held,
        samples=held,
    )


def fit_window(
    law: Law, branch: Branch, adhesion: float, adhesion_std: float, reach: float, low: float, high: float
) -> Fit:
    """Straight line through δ/B against separation within the window; see `_core/window.pxd`."""
    fit = fit_line(Contact(law, 1.0, adhesion), branch, adhesion_std, low, high)
    if law.film:
        for _ in range(60):
            if fit.status:
                return fit
            earlier = fit.compliance
            fit = fit_line(Contact(law, earlier, adhesion, reach), branch, adhesion_std, low, high)
            if abs(fit.compliance - earlier) < 1e-9 * earlier:
                return fit
        return Fit(Flag.FIT_FAILED)
    return fit


def fit_line(contact: Contact, branch: Branch, adhesion_std: float, low: float, high: float) -> Fit:
    """One such line, of the contact as far as it is known."""
    adhesion = contact.adhesion
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
    y = contact.shape(contact.root_of_load(d + adhesion))
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
    root = contact.root_of_load(d + adhesion)
    rate = contact.shape_rate(root) / contact.load_rate(root)
    force = rest / (rate + slope)
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
