"""The kernel again in plain NumPy and SciPy, one curve at a time: the executable definition of every quantity.

Slow on purpose. Steps, names and thresholds are those of `fvproc/_core`; one body of tests runs over both. Where the
kernel has a trick (running sums, its own Levenberg-Marquardt, a few Newton steps from the bits of a float), this file
has the plain thing (sums over arrays, `scipy.optimize.least_squares`, Newton to the end). Inside, lengths are in nm and
forces are the deflections they cause, in nm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fvproc._core.settings import Conversion, KernelSettings
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.volume import RawBranch, RawTile

SIGNIFICANT = 5.0
FEWEST = 5
_NM = 1e-9
_DONE = Flag(0)
_NEAREST_APPROACH = 0.16e-9


@dataclass
class Branch:
    """One branch in surface order: sample 0 at the turning point. See `Branch` in `_core/types.pxd`."""

    z: np.ndarray
    d: np.ndarray
    offset: float = 0.0
    tilt: float = 0.0
    centre: float = 0.0
    noise: float = 0.0
    inflation: float = 1.0
    correlated: bool = False
    far: int = 0
    peak: float = 0.0
    peak_at: int = 0
    lowest: float = 0.0
    lowest_at: int = 0
    zero: int = 0
    end: int = 0
    pulled: bool = False

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.z)


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
    sse: float = 0.0
    sst: float = 0.0
    slope: float = 0.0
    start: int = 0
    stop: int = 0
    samples: int = 0


# ---- from raw numbers


def load_branch(raw: RawBranch, curve: int, d_of: Conversion, z_of: Conversion, reverse: bool) -> Branch:
    """Convert to nm, leave out invalid samples, put the surface first."""
    row = raw.deflection[curve]
    z_row = raw.z if raw.z.ndim == 1 else raw.z[curve]
    valid = len(row) if raw.valid_length is None else int(raw.valid_length[curve])
    row, z_row = row[:valid], z_row[:valid]
    keep = np.isfinite(row)
    if d_of.invalid is not None:
        keep &= row != d_of.invalid
    if raw.z.ndim == 2:
        keep &= np.isfinite(z_row)
        if z_of.invalid is not None:
            keep &= z_row != z_of.invalid
    d = row[keep].astype(float) * d_of.scale + d_of.offset
    z = z_row[keep].astype(float) * z_of.scale + z_of.offset
    return Branch(z[::-1], d[::-1]) if reverse else Branch(z, d)


def saturated(row: np.ndarray, invalid: int | None) -> bool:
    """Whether two neighbouring samples stand at the same limit of an integer type."""
    if row.dtype.kind != "i":
        return False
    limits = np.iinfo(row.dtype)
    for limit in (limits.min, limits.max):
        at_limit = row == limit
        if limit != invalid and np.any(at_limit[1:] & at_limit[:-1]):
            return True
    return False


# ---- baseline


def line(zeta: np.ndarray, d: np.ndarray, order: int) -> tuple[float, float]:
    """Least-squares (offset, tilt); order 0 keeps the tilt at zero."""
    if order == 0:
        return float(d.mean()), 0.0
    (offset, tilt), *_ = np.linalg.lstsq(np.stack([np.ones_like(zeta), zeta], 1), d, rcond=None)
    return float(offset), float(tilt)


def prepare(branch: Branch, settings: KernelSettings, quantum: float) -> None:
    """Fit and subtract the baseline of the far part; measure its noise."""
    count = int(settings.baseline_fraction * branch.n)
    branch.far = branch.n - count
    branch.centre = float(branch.z[branch.far + count // 2])
    zeta = branch.z - branch.centre
    branch.offset, branch.tilt = line(zeta[branch.far :], branch.d[branch.far :], settings.baseline_order)
    branch.d = branch.d - (branch.offset + branch.tilt * zeta)
    measure_noise(branch, settings.baseline_order, quantum)


def measure_noise(branch: Branch, order: int, quantum: float) -> None:
    """Noise about the own line of [far, n), inflation by first-order autocorrelation."""
    zeta, d = branch.z[branch.far :] - branch.centre, branch.d[branch.far :]
    offset, tilt = line(zeta, d, order)
    r = d - offset - tilt * zeta
    squares = float(r @ r)
    variance = max(squares / (len(r) - 1 - order), quantum**2 / 12.0)
    rho = float(r[1:] @ r[:-1]) / squares if squares > 0 else 0.0
    branch.noise = math.sqrt(variance)
    branch.correlated = rho > 0 and rho * rho * len(r) > 9.0
    rho = min(rho, 0.98)
    branch.inflation = (1 + rho) / (1 - rho) if branch.correlated else 1.0


def extend_baseline(branch: Branch, limit: int, order: int) -> int:
    """First sample of the non-contact part; see the kernel's function of the same name."""
    width = branch.n // 32 if branch.n >= 256 else 8
    stop = branch.far
    if limit >= stop:
        return stop
    zeta = branch.z - branch.centre
    far = zeta[stop:]
    spread = float(np.sum((far - far.mean()) ** 2))
    variance = branch.noise**2 * branch.inflation
    count, middle = len(far), far.mean()
    while stop > limit:
        start = max(stop - width, limit)
        at = zeta[start:stop].mean() - middle
        allowed = variance * (1.0 / (stop - start) + 1.0 / count + (at * at / spread if order and spread > 0 else 0.0))
        if branch.d[start:stop].mean() ** 2 > 16.0 * allowed:
            break
        stop = start
    return stop


def refine(branch: Branch, settings: KernelSettings, quantum: float) -> None:
    """Fit the baseline again over all of the non-contact part."""
    start = extend_baseline(branch, branch.end + branch.pulled, settings.baseline_order)
    if start >= branch.far:
        return
    zeta = branch.z - branch.centre
    offset, tilt = line(zeta[start:], branch.d[start:], settings.baseline_order)
    branch.d = branch.d - (offset + tilt * zeta)
    branch.offset += offset
    branch.tilt += tilt
    branch.far = start
    measure_noise(branch, settings.baseline_order, quantum)
    find_edges(branch)


# ---- edges


def find_edges(branch: Branch) -> None:
    """Peak, zero crossing, lowest sample, end of contact."""
    d, n = branch.d, branch.n
    branch.peak_at = int(np.argmax(d))
    branch.peak = float(d[branch.peak_at])
    below = np.flatnonzero(d[branch.peak_at :] <= 0.0)
    branch.zero = branch.peak_at + int(below[0]) if below.size else n
    branch.end, branch.pulled = branch.zero, False
    branch.lowest, branch.lowest_at = 0.0, branch.zero
    if branch.zero == n:
        return
    branch.lowest_at = branch.zero + int(np.argmin(d[branch.zero :]))
    branch.lowest = float(d[branch.lowest_at])
    branch.pulled = branch.lowest < -SIGNIFICANT * branch.noise
    if branch.pulled:
        back = np.flatnonzero(d[branch.lowest_at + 1 :] > 0.5 * branch.lowest)
        branch.end = branch.lowest_at + 1 + int(back[0]) if back.size else n


def smoothed_minimum(branch: Branch) -> float:
    """Straight line through the lowest sample and two neighbours on either side, at the lowest sample."""
    first, last = max(branch.lowest_at - 2, branch.zero), min(branch.lowest_at + 3, branch.n)
    if branch.pulled:
        last = min(last, branch.end)
    if last - first < 1:
        return branch.lowest
    z, d = branch.z[first:last], branch.d[first:last]
    szz = float(np.sum((z - z.mean()) ** 2))
    if len(z) < 3 or szz <= 0:
        return float(d.mean())
    return float(d.mean() + np.sum((z - z.mean()) * (d - d.mean())) / szz * (branch.z[branch.lowest_at] - z.mean()))


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


def fit_contact(
    model: int,
    branch: Branch,
    free_adhesion: bool,
    adhesion: float,
    baseline_parameters: int,
    baseline_from: int,
    retract: bool,
    quantum: float,
) -> Fit:
    """Maximum-likelihood fit; see `_core/fit.pxd`."""
    from scipy.optimize import least_squares

    count = branch.end
    baseline_from = max(baseline_from, count)
    if count < FEWEST and not branch.pulled and baseline_from >= FEWEST:
        count = FEWEST
    if count < FEWEST:
        return Fit(Flag.TOO_FEW_POINTS)
    # start: z − d against q^(1/m), above a tenth of the load
    top = branch.peak + adhesion
    chosen = np.flatnonzero(branch.d[:count] + adhesion >= 0.1 * top)
    if len(chosen) < 3:
        return Fit(Flag.FIT_FAILED)
    g = indentation_shape(model, branch.d[chosen] + adhesion)
    slope, intercept = np.polyfit(g, branch.z[chosen] - branch.d[chosen], 1)
    largest = float(indentation_shape(model, top))
    if not slope * largest > top / 30.0:
        slope = top / 30.0 / largest
        intercept = float(np.mean(branch.z[chosen] - branch.d[chosen] - slope * g))

    zeta = branch.z - branch.centre
    i = min(count, branch.n - 1)
    spacing = branch.z[i - 1] - branch.z[i]
    expected = 0.5 * (branch.z[i - 1] + branch.z[i]) if branch.pulled else 0.0
    if not branch.pulled:
        anchor, allowance = (0.0, 1.0), spacing + 5.0 * branch.noise
    elif retract:
        anchor, allowance = (1.0, -1.0), spacing + branch.noise
    else:
        anchor, allowance = (1.0, 0.0), spacing + branch.noise - branch.lowest
    weight = branch.noise / allowance
    free = np.array([True, True, free_adhesion, baseline_parameters >= 1, baseline_parameters >= 2])
    with_baseline = baseline_parameters > 0 or not branch.pulled
    scale = np.array([slope, 1.0, 1.0, 1.0, 1.0 / max(np.ptp(branch.z), 1e-9)])
    reference = branch.z[0]
    start = np.array([slope, intercept - reference, adhesion, 0.0, 0.0]) / scale

    def parts(reduced: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        theta = start.copy()
        theta[free] = reduced
        theta = theta * scale
        b, z0, a, offset, tilt = theta[0], theta[1] + reference, theta[2], theta[3], theta[4]
        p = root_load(model, b, branch.z[:count] - z0 + a)
        with np.errstate(invalid="ignore", divide="ignore"):
            if model == 1:
                s = np.where(p > 0, 2 * p / (2 * p + b), 0.0)
                load, shape = p * p, p
            else:
                s = np.where(p > 0, 3 * p / (3 * p + 2 * b), 0.0)
                load, shape = p**3, p * p
        rows = [branch.d[:count] - (load - a + offset + tilt * zeta[:count])]
        jacobian = [-np.stack([-shape * s, -s, s - 1.0, np.ones(count), zeta[:count]], 1)]
        if with_baseline:
            first = baseline_from if branch.pulled else count
            rows.append(branch.d[first:] - offset - tilt * zeta[first:])
            block = np.zeros((branch.n - first, 5))
            block[:, 3], block[:, 4] = -1.0, -zeta[first:]
            jacobian.append(block)
        if free_adhesion:
            rows.append(np.array([weight * (expected - anchor[0] * z0 - anchor[1] * a)]))
            jacobian.append(-weight * np.array([[0.0, *anchor, 0.0, 0.0]]))
        return np.concatenate(rows), (np.concatenate(jacobian) * scale)[:, free]

    lower = np.where(np.arange(5) == 0, 1e-6, -np.inf)[free]
    reduced = start[free]
    for moves in range(4):
        result = least_squares(
            lambda x, c=count: parts(x, c)[0],
            reduced,
            jac=lambda x, c=count: parts(x, c)[1],
            bounds=(lower, np.inf),
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
            x_scale="jac",
            max_nfev=500,
        )
        reduced = result.x
        theta = start.copy()
        theta[free] = reduced
        theta = theta * scale
        theta[1] += reference
        if branch.pulled or moves == 3:
            break
        nearer = np.flatnonzero(~(branch.z[:baseline_from] > theta[1] - theta[2]))
        agreeing = max(int(nearer[0]) if nearer.size else baseline_from, FEWEST)
        if agreeing == count:
            break
        count = agreeing
    residuals, jacobian = parts(reduced, count)
    contact_sse = float(residuals[:count] @ residuals[:count])
    cost = float(residuals @ residuals)
    samples = count + ((branch.n - (baseline_from if branch.pulled else count)) if with_baseline else 0)
    contact_degrees = count - 2 - free_adhesion
    contact_variance = contact_sse / contact_degrees
    variance = branch.noise**2 if samples == count else cost / (samples - int(free.sum()))
    variance = max(variance, quantum**2 / 12.0)
    if contact_variance > variance * (1.0 + 4.0 * math.sqrt(2.0 / contact_degrees)):
        variance = contact_variance
    try:
        inverse = np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError:
        return Fit(Flag.FIT_FAILED)
    stds = np.zeros(5)
    with np.errstate(invalid="ignore"):
        stds[free] = np.sqrt(variance * branch.inflation * np.diag(inverse))
    stds *= scale
    return Fit(
        compliance=float(theta[0]),
        compliance_std=float(stds[0]),
        z0=float(theta[1]),
        z0_std=float(stds[1]),
        adhesion=float(theta[2]),
        adhesion_std=float(stds[2]) if free_adhesion else branch.noise,
        sse=contact_sse,
        sst=float(np.sum((branch.d[:count] - branch.d[:count].mean()) ** 2)),
        stop=count,
        samples=count,
    )


def fit_window(model: int, branch: Branch, adhesion: float, adhesion_std: float, low: float, high: float) -> Fit:
    """Straight line through q^(1/m) against separation within the window; see `_core/window.pxd`."""
    floor = -adhesion if adhesion > 0 else branch.lowest
    bottom, top = (floor + part * (branch.peak - floor) for part in (low, high))
    d = branch.d[branch.peak_at : branch.end]
    starts = np.flatnonzero((d <= top) & (d >= bottom))
    if not starts.size:
        return Fit(Flag.TOO_FEW_POINTS)
    after = np.flatnonzero(d[starts[0] :] < bottom)
    stop = starts[0] + (int(after[0]) if after.size else len(d) - starts[0])
    chosen = branch.peak_at + starts[starts < stop]
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
    residual = float(np.sum((y - intercept - slope * s) ** 2))
    error = residual / (used - 2)
    return Fit(
        compliance=1.0 / slope,
        compliance_std=math.sqrt(error / spread) / slope**2,
        z0=reference - intercept / slope,
        z0_std=math.sqrt(error * (1.0 / used + (s.mean() + intercept / slope) ** 2 / spread)) / slope,
        adhesion=adhesion,
        adhesion_std=adhesion_std,
        slope=float(centred @ d) / spread,
        start=int(chosen[0]),
        stop=int(chosen[-1]) + 1,
        samples=used,
        sst=float(np.sum((d - d.mean()) ** 2)),
    )


# ---- contact point on approach


def threshold_contact(branch: Branch, level: float) -> Fit:
    """Where the force first exceeds `level` for good."""
    below = np.flatnonzero(branch.d[branch.peak_at + 1 :] < level)
    if not below.size:
        return Fit(Flag.CONTACT_NOT_FOUND)
    i = branch.peak_at + 1 + int(below[0])
    slope = (branch.d[i - 1] - branch.d[i]) / (branch.z[i - 1] - branch.z[i])
    if not slope > 0:
        return Fit(Flag.CONTACT_NOT_FOUND)
    return Fit(z0=float(branch.z[i] + (level - branch.d[i]) / slope), z0_std=float(branch.noise / slope))


def best_break(branch: Branch, first: int, last: int) -> int:
    """Break at which zero force, then a parabola from the break, leaves the least residual."""
    best, at = -1.0, first
    scale = 1.0 / (branch.z[0] - branch.z[last])
    for b in range(first, last + 1):
        x = (branch.z[:b] - branch.z[b]) * scale
        d = branch.d[:b]
        s2, s3, s4, t1, t2 = np.sum(x**2), np.sum(x**3), np.sum(x**4), np.sum(d * x), np.sum(d * x**2)
        determinant = s2 * s4 - s3 * s3
        if not determinant > 1e-12 * s2 * s4:
            continue
        alpha, gamma = (t1 * s4 - t2 * s3) / determinant, (t2 * s2 - t1 * s3) / determinant
        if alpha < 0:
            alpha, gamma = 0.0, t2 / s4
        explained = alpha * t1 + gamma * t2
        if explained > best:
            best, at = explained, b
    return at


def piecewise_contact(model: int, branch: Branch, baseline_parameters: int, quantum: float) -> Fit:
    """Break by `best_break`, then least squares of the contact model from there."""
    if branch.zero >= branch.n:
        return Fit(Flag.CONTACT_NOT_FOUND)
    quiet = extend_baseline(branch, branch.end, max(baseline_parameters - 1, 0))
    last = min(quiet, branch.n - 1)
    weak = np.flatnonzero(branch.d[branch.peak_at : last] < 10.0 * branch.noise)
    first = max(branch.peak_at + int(weak[0]) if weak.size else 2, FEWEST)
    if not branch.pulled and first < last:
        branch.end = best_break(branch, first, last)
    fit = fit_contact(
        model,
        branch,
        branch.pulled,
        -branch.lowest if branch.pulled else 0.0,
        baseline_parameters,
        quiet,
        False,
        quantum,
    )
    if fit.status or not branch.z[-1] < fit.z0 < branch.z[0]:
        return replace(fit, status=Flag.CONTACT_NOT_FOUND)
    return fit


# ---- areas and lengths


def area(branch: Branch, low: float, high: float) -> float:
    """∫ d dz over [low, high] by trapezia, the ends interpolated."""
    z, d = branch.z[::-1], branch.d[::-1]
    inside = z[(z > low) & (z < high)]
    at = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(at, z, d), at))


def lost_work(approach: Branch, retract: Branch) -> float:
    """∮ d dz over the common range."""
    low, high = max(approach.z[-1], retract.z[-1]), min(approach.z[0], retract.z[0])
    return area(approach, low, high) - area(retract, low, high) if high > low else 0.0


def adhesion_work(branch: Branch) -> float:
    """Area below the baseline about the lowest sample."""
    if branch.zero >= branch.n:
        return 0.0
    back = np.flatnonzero(branch.d[branch.lowest_at + 1 :] >= 0.0)
    stop = branch.lowest_at + 1 + int(back[0]) + 1 if back.size else branch.n
    z, d = branch.z[branch.zero : stop], np.minimum(branch.d[branch.zero : stop], 0.0)
    return float(-np.sum(0.5 * (z[:-1] - z[1:]) * (d[:-1] + d[1:])))


def deformation(branch: Branch, region: float) -> float:
    """Separation at (1 − region) of the peak minus separation at the peak; noise may make it negative."""
    level = (1.0 - region) * branch.peak
    below = np.flatnonzero(branch.d[branch.peak_at + 1 :] < level)
    i = branch.peak_at + 1 + int(below[0])
    part = (level - branch.d[i]) / (branch.d[i - 1] - branch.d[i])
    z = branch.z[i] + part * (branch.z[i - 1] - branch.z[i])
    return float((level - z) - (branch.peak - branch.z[branch.peak_at]))


# ---- one curve


def reduced_modulus(settings: KernelSettings, compliance: float) -> float:
    """E* from the compliance in nm^(1 − 1/m)."""
    m = 2.0 if settings.model == 1 else 1.5
    return settings.reduced_per_stiffness * settings.spring_constant / (compliance**m * 1e-9 ** (m - 1.0))


def young(settings: KernelSettings, reduced: float) -> tuple[float, float]:
    """E and dE/dE* from E*."""
    left = 1.0 / reduced - settings.tip_compliance
    if left <= 0:
        return math.inf, math.inf
    return settings.one_minus_nu2 / left, settings.one_minus_nu2 / (left * reduced) ** 2


def judge_contact(branch: Branch, fraction: float) -> Flag:
    """Fatal flags of a branch without measurable contact, or with nothing else."""
    if not branch.peak > (SIGNIFICANT + 1) * branch.noise:
        return Flag.NO_CONTACT
    far = branch.n - int(fraction * branch.n)
    if branch.zero >= branch.n or branch.end >= branch.n or branch.d[far - 8 : far].mean() > 0.1 * branch.peak:
        return Flag.CONTACT_NOT_LEFT
    top = branch.tilt + branch.peak / (branch.z[branch.peak_at] - branch.z[branch.zero])
    return Flag.CONTACT_NOT_LEFT if branch.tilt > 0.2 * top else Flag(0)


def fit_curve(raw: RawTile, curve: int, settings: KernelSettings) -> np.ndarray:
    """Return the record of one curve, shape ()."""
    s, k = settings, settings.spring_constant
    values = dict.fromkeys(QUANTITIES, 0.0)
    retract_row = raw.retract.deflection[curve]
    quantum = abs(s.retract_deflection.scale) if retract_row.dtype.kind == "i" else 0.0
    approach = load_branch(raw.approach, curve, s.approach_deflection, s.approach_z, True)
    retract = load_branch(raw.retract, curve, s.retract_deflection, s.retract_z, False)
    flags = Flag(0)
    if approach.n < raw.approach.deflection.shape[1] or retract.n < raw.retract.deflection.shape[1]:
        flags |= Flag.INVALID_SAMPLES
    for branch_raw, conversion in ((raw.approach, s.approach_deflection), (raw.retract, s.retract_deflection)):
        row = branch_raw.deflection[curve]
        if branch_raw.valid_length is not None:
            row = row[: branch_raw.valid_length[curve]]
        if saturated(row, conversion.invalid):
            flags |= Flag.SATURATED
    if approach.n < 32 or retract.n < 32:
        return _sealed(values, flags | Flag.INVALID_CURVE)
    if min(int(s.baseline_fraction * b.n) for b in (approach, retract)) < 8:
        return _sealed(values, flags | Flag.BASELINE_TOO_SHORT)
    for branch in (approach, retract):
        prepare(branch, s, quantum)
    if s.baseline_of_approach:
        shift = approach.offset + approach.tilt * (retract.centre - approach.centre)
        zeta = retract.z - retract.centre
        retract.d = retract.d + (retract.offset + retract.tilt * zeta) - (shift + approach.tilt * zeta)
        retract.offset, retract.tilt = shift, approach.tilt
    for branch in (approach, retract):
        find_edges(branch)
        if s.maximum_likelihood and not s.baseline_of_approach:
            refine(branch, s, quantum)
    noise, top = retract.noise, max(approach.peak, retract.peak)
    values["baseline_noise"], values["peak_force"] = k * noise * _NM, k * top * _NM
    if approach.correlated or retract.correlated:
        flags |= Flag.NOISE_CORRELATED
    flags |= judge_contact(approach, s.baseline_fraction) | judge_contact(retract, s.baseline_fraction)
    if flags & (Flag.NO_CONTACT | Flag.CONTACT_NOT_LEFT):
        return _sealed(values, flags)
    if any(abs(b.tilt) * (b.z[0] - b.z[-1]) > 0.2 * b.peak for b in (approach, retract)):
        flags |= Flag.BASELINE_TILTED
    if abs(approach.d[0] - retract.d[0]) > 0.1 * top + 6.0 * noise:
        flags |= Flag.BRANCHES_DISAGREE
    if s.adhesive and not retract.pulled:
        flags |= Flag.NO_ADHESION
    values["dissipation"] = k * lost_work(approach, retract) * _NM**2
    values["adhesion_energy"] = k * adhesion_work(retract) * _NM**2
    height = float(raw.height[curve]) if raw.height is not None else math.nan
    if math.isnan(height):
        height = (approach.peak - approach.z[approach.peak_at]) * _NM
    values["height"] = height
    if flags & Flag.SATURATED:
        return _sealed(values, flags)

    fitted = approach if s.fit_approach else retract
    adhesion = 0.0
    if s.adhesive:
        adhesion = -fitted.lowest if fitted.pulled else 0.0
        if s.adhesion_minimum:
            adhesion = -fitted.lowest
        elif not s.maximum_likelihood:
            adhesion = -smoothed_minimum(fitted)
    if s.maximum_likelihood:
        fit = fit_contact(
            s.model,
            fitted,
            s.adhesive and not s.adhesion_minimum,
            adhesion,
            0 if s.baseline_of_approach else 1 + s.baseline_order,
            extend_baseline(fitted, fitted.end + fitted.pulled, s.baseline_order),
            not s.fit_approach,
            quantum,
        )
    else:
        fit = fit_window(s.model, fitted, adhesion, fitted.noise, s.window_low, s.window_high)
    if fit.status:
        flags |= fit.status
    else:
        flags = _fill_fit(values, flags, s, fit, fitted)
        values["contact_height"] = height + values["indentation"]

    if s.contact_by_threshold:
        contact = threshold_contact(approach, s.contact_threshold * approach.noise)
    else:
        parameters = 0 if s.baseline_of_approach else 1 + s.baseline_order
        contact = piecewise_contact(s.model, approach, parameters, quantum)
    if contact.status:
        flags |= Flag.CONTACT_NOT_FOUND
    else:
        values["approach_contact_point"] = contact.z0 * _NM
        values["approach_contact_point_std"] = contact.z0_std * _NM
        values["snap_in"] = -k * smoothed_minimum(approach) * _NM
    if approach.pulled:
        flags |= Flag.SNAP_IN
    values["deformation"] = deformation(approach, s.deformation_region) * _NM
    return _sealed(values, flags)


def _fill_fit(values: dict[str, float], flags: Flag, s: KernelSettings, fit: Fit, branch: Branch) -> Flag:
    """Put in what follows from the fit of the contact model; return the flags."""
    k, m = s.spring_constant, (2.0 if s.model == 1 else 1.5)
    load = float(model_load(s.model, fit.compliance, branch.z[0] - fit.z0 + fit.adhesion))
    depth = fit.compliance * float(indentation_shape(s.model, load))
    if not s.maximum_likelihood:
        z = branch.z[fit.start : fit.stop]
        r = branch.d[fit.start : fit.stop] + fit.adhesion
        r = r - model_load(s.model, fit.compliance, z - fit.z0 + fit.adhesion)
        fit.sse = float(r @ r)
    values["contact_point"], values["contact_point_std"] = fit.z0 * _NM, fit.z0_std * _NM
    values["adhesion"], values["adhesion_std"] = k * fit.adhesion * _NM, k * fit.adhesion_std * _NM
    values["indentation"] = depth * _NM
    values["fit_rmse"] = k * math.sqrt(fit.sse / fit.samples) * _NM
    values["r_squared"] = 1.0 - fit.sse / fit.sst if fit.sst > 0 else 0.0
    values["n_fit"] = fit.samples
    if fit.samples < 8:
        flags |= Flag.FEW_POINTS
    if fit.sse > 4.0 * fit.samples * branch.noise**2:
        flags |= Flag.POOR_FIT
    if not fit.compliance > 3.0 * fit.compliance_std:
        flags |= Flag.MODULUS_UNBOUNDED
    values["modulus_lower"] = young(s, reduced_modulus(s, fit.compliance + 1.6448536269514722 * fit.compliance_std))[0]
    if flags & Flag.MODULUS_UNBOUNDED:
        return flags
    reduced = reduced_modulus(s, fit.compliance)
    modulus, derivative = young(s, reduced)
    values["reduced_modulus"], values["modulus"] = reduced, modulus
    values["modulus_std"] = derivative * reduced * m * fit.compliance_std / fit.compliance
    values["stiffness"] = k * fit.slope if s.stiffness_of_window else k * m * load / depth
    if s.tip_radius > 0 and depth > 0.5 * s.tip_radius:
        flags |= Flag.BEYOND_TIP_SHAPE
    if s.tabor and fit.adhesion > 0:
        radius = s.tip_radius * _NM
        work = k * fit.adhesion * _NM / (2.0 * math.pi * radius)
        if radius * work**2 / (reduced**2 * _NEAREST_APPROACH**3) > 1.0:
            flags |= Flag.DMT_DOUBTFUL
    return flags


def _sealed(values: dict[str, float], flags: Flag) -> np.ndarray:
    """NaN exactly where a fatal flag says so; anything else not finite is a fault."""
    record = np.zeros((), RECORD)
    with np.errstate(over="ignore"):
        for name, value in values.items():
            record[name] = value
    for name, quantity in QUANTITIES.items():
        if not flags & quantity.fatal and not np.isfinite(record[name]):
            flags |= Flag.NOT_FINITE
    for name, quantity in QUANTITIES.items():
        if flags & quantity.fatal:
            record[name] = np.nan
    record["flags"] = int(flags)
    return record


def fit_tile(raw: RawTile, settings: KernelSettings) -> np.ndarray:
    """Return records (curves,) of a tile: same arguments and meaning as `fvproc._core.fit_tile`."""
    return np.array([fit_curve(raw, i, settings) for i in range(len(raw.approach.deflection))], RECORD)
