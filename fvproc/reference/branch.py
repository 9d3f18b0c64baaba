"""The twin's branch: samples, baseline, noise, edges, areas; plain sums over arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fvproc._core.settings import Conversion, KernelSettings, Law
from fvproc.quantities import Flag
from fvproc.reference.covariance import of_means
from fvproc.volume import RawBranch

SIGNIFICANT = 5.0
FREE = 3.0  # multiples of the noise: a sample below may be free, one nearer to a line may lie on it
FEWEST_BASELINE = 8
HIDEABLE = 8.0  # multiples of the noise: force above zero where it first crosses it, and a pull-off not seen
SHAKY = 0.3  # part of the contact's height that the far part's line may be off by there, four standard errors


@dataclass
class Branch:
    """One branch in surface order: sample 0 at the turning point. See `Branch` in `_core/types.pxd`."""

    z: np.ndarray
    d: np.ndarray
    times: np.ndarray | None = None
    offset: float = 0.0
    tilt: float = 0.0
    centre: float = 0.0
    noise: float = 0.0
    allan: float = 0.0
    inflation: float = 1.0
    correlated: bool = False
    shape: np.ndarray | None = None
    components: np.ndarray = field(default_factory=lambda: np.zeros(8))
    width: int = 1
    far: int = 0
    start: int = 0
    free: int = 0
    peak: float = 0.0
    peak_at: int = 0
    lowest: float = 0.0
    lowest_at: int = 0
    zero: int = 0
    end: int = 0
    pulled: bool = False
    ends: bool = False
    off: int = 0
    holds: float = 0.0
    fitted: int = 0
    back: int = 0
    several: bool = False
    jump_width: float = 0.0
    faint: float = 0.0

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.z)

    @property
    def zeta(self) -> np.ndarray:
        """z from the middle of the far part."""
        return self.z - self.centre


FindSteps = Callable[[Branch, float, float, bool], None]


def load_branch(raw: RawBranch, curve: int, d_of: Conversion, z_of: Conversion, reverse: bool) -> Branch:
    """Convert to nm, leave out invalid samples, put the surface first."""
    row = raw.deflection[curve]
    z_row = raw.z if raw.z.ndim == 1 else raw.z[curve]
    valid = len(row) if raw.valid_length is None else int(raw.valid_length[curve])
    row, z_row = row[:valid], z_row[:valid]
    keep = np.isfinite(row)
    if d_of.invalid is not None:
        keep &= row != d_of.invalid
    keep &= np.isfinite(z_row)
    if z_of.invalid is not None:
        keep &= z_row != z_of.invalid
    d = row[keep].astype(float) * d_of.scale + d_of.offset
    z = z_row[keep].astype(float) * z_of.scale + z_of.offset
    times = np.flatnonzero(keep)
    return Branch(z[::-1], d[::-1], -times[::-1]) if reverse else Branch(z, d, times)


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


def block_width(n: int, far: int) -> int:
    """A power of two: 32 to 63 blocks in the branch, and at least eight in its far part, as samples allow."""
    width = 1
    while 2 * width * 32 <= n and 2 * width * 8 <= far:
        width *= 2
    while n // width > 128:
        width *= 2
    return width


def survey(
    branch: Branch, lender: Branch | None, settings: KernelSettings, quantum: float, steps: FindSteps | None = None
) -> None:
    """Baseline, noise and edges; see `survey_branch` in `_core/survey.pxd`."""
    if settings.noise is not None:
        branch.shape = np.array(settings.noise[0 if steps is None else 1])
    count = int(settings.baseline_fraction * branch.n)
    branch.width = block_width(branch.n, count)
    blocks = branch.n // branch.width
    branch.far = min(-(-(branch.n - count) // branch.width), blocks - 2)
    branch.centre = float(branch.z[branch.n - 1 - count // 2])
    shape = blocks, branch.width
    means = branch.d[: blocks * branch.width].reshape(shape).mean(1)
    places = branch.zeta[: blocks * branch.width].reshape(shape).mean(1)
    order, far = settings.baseline_order, branch.far
    raw = branch.d
    offset, tilt = line(places[far:], means[far:], order)
    branch.d = raw - (offset + tilt * branch.zeta)
    measure_noise(branch, far * branch.width, order, quantum)
    start = far
    if lender is not None:
        offset, tilt = lender.offset + lender.tilt * (branch.centre - lender.centre), lender.tilt
    elif settings.maximum_likelihood:
        rest = means - (offset + tilt * places)
        if branch.shape is None and 16.0 * line_variance(branch, places, order)[0] > (SHAKY * rest[0]) ** 2:
            start = first_block_on_growing_line(branch, places, means, order)
        else:
            start = first_quiet_block(branch, places, rest, order)
        offset, tilt = line(places[start:], means[start:], order)
    branch.offset, branch.tilt = offset, tilt
    branch.d = raw - (offset + tilt * branch.zeta)
    branch.start = start * branch.width
    find_edges(branch, settings.law, steps is not None)
    if steps is not None:
        free = settings.maximum_likelihood and settings.adhesive and not settings.adhesion_minimum
        if free and (branch.shape is not None or not branch.correlated):
            find_faint_jump(branch)
        doubt = 0.0
        if branch.pulled and (lender is not None or not settings.maximum_likelihood):
            variance = line_variance(branch, places, order)[min(branch.end // branch.width, blocks - 1)]
            doubt = 4.0 * math.sqrt(variance)
        noise = branch.noise * math.sqrt(branch.inflation) * (1.0 + 24.0 / (branch.n - far * branch.width))
        steps(branch, noise, doubt, settings.maximum_likelihood and not settings.adhesion_minimum)
    branch.fitted = samples_of_fit(branch)
    branch.start = max(branch.start, min(branch.back, branch.n))
    if settings.maximum_likelihood:
        first = max(branch.back + 1 if branch.ends else branch.fitted, branch.start)
        if first < branch.n - FEWEST_BASELINE:
            measure_noise(branch, first, order, quantum)


def first_block_on_growing_line(branch: Branch, places: np.ndarray, means: np.ndarray, order: int) -> int:
    """As `first_quiet_block`, each block held against the line through all those behind it."""
    white = branch.noise**2 * branch.inflation / branch.width
    for first in range(branch.far, 0, -1):
        offset, tilt = line(places[first:], means[first:], order)
        behind = places[first:] - places[first:].mean()
        of_line = 1.0 / len(behind)
        if order > 0:
            of_line += float((places[first - 1] - places[first:].mean()) ** 2 / (behind @ behind))
        if (means[first - 1] - offset - tilt * places[first - 1]) ** 2 > 16.0 * white * (1.0 + of_line):
            return first
    return 0


def first_quiet_block(branch: Branch, places: np.ndarray, rest: np.ndarray, order: int) -> int:
    """First block from which on all lie on the far part's line within four of their standard errors.

    Under the slow noise of a map they lie within four of their neighbours', too.
    """
    off = rest**2 > 16.0 * line_variance(branch, places, order)
    if branch.shape is not None:
        off[:-1] |= np.diff(rest) ** 2 > 16.0 * step_variance(branch, places, order)
    bad = np.flatnonzero(off[: branch.far])
    return int(bad[-1]) + 1 if bad.size else 0


def line_variance(branch: Branch, places: np.ndarray, order: int) -> np.ndarray:
    """Variance of the means of blocks about the line through the far ones."""
    of_line = _of_far_line(branch, places, order)
    if branch.shape is None:
        white = branch.noise**2 * branch.inflation / branch.width
        return white * (1.0 + np.sum(of_line**2, axis=1))
    covariance = branch.allan * of_means(branch.shape, len(places), branch.width)
    own = np.einsum("bf,fg,bg->b", of_line, covariance[branch.far :, branch.far :], of_line)
    both = np.einsum("bf,bf->b", of_line, covariance[:, branch.far :])
    both[branch.far :] = 0.0
    return np.asarray(np.diag(covariance) + own - 2.0 * both)


def step_variance(branch: Branch, places: np.ndarray, order: int) -> np.ndarray:
    """Variance of the differences of neighbouring blocks' means about the slope of the line through the far ones."""
    assert branch.shape is not None
    covariance = branch.allan * of_means(branch.shape, len(places), branch.width)
    far = places[branch.far :] - places[branch.far :].mean()
    spread = float(far @ far)
    of_slope = 0.0
    if order > 0 and spread > 0:
        of_slope = float(far @ covariance[branch.far :, branch.far :] @ far) / spread**2
    return 2.0 * (covariance[0, 0] - covariance[0, 1]) + np.diff(places) ** 2 * of_slope


def _of_far_line(branch: Branch, places: np.ndarray, order: int) -> np.ndarray:
    """Return how the line through the far blocks follows each of them at every block, (blocks, far blocks)."""
    far = places[branch.far :]
    away, spread = far - far.mean(), float(np.sum((far - far.mean()) ** 2))
    of_line = np.full((len(places), len(far)), 1.0 / len(far))
    if order > 0 and spread > 0:
        of_line = of_line + (places - far.mean())[:, None] * away / spread
    return of_line


def measure_noise(branch: Branch, start: int, order: int, quantum: float) -> None:
    """Noise about the own line of [start, n), inflation by first-order autocorrelation."""
    branch.free = start
    zeta, d = branch.zeta[start:], branch.d[start:]
    offset, tilt = line(zeta, d, order)
    r = d - offset - tilt * zeta
    squares = float(r @ r)
    variance = max(squares / (len(r) - 1 - order), quantum**2 / 12.0)
    rho = float(r[1:] @ r[:-1]) / squares if squares > 0 else 0.0
    branch.noise = math.sqrt(variance)
    branch.allan = max((squares * (1.0 - 1.0 / len(r)) - float(r[1:] @ r[:-1])) / (len(r) - 1), quantum**2 / 12.0)
    branch.correlated = rho > 0 and rho * rho * len(r) > 9.0
    rho = min(rho, 0.98)
    branch.inflation = (1 + rho) / (1 - rho) if branch.correlated else 1.0


def samples_of_fit(branch: Branch) -> int:
    """How many samples from the turning point on the fit looks at: with a hidden end those that may be in contact."""
    if branch.ends or branch.end >= branch.n or not branch.peak > 0:
        return branch.end
    pressed = branch.z[0] - branch.z[branch.end]
    last = branch.z[branch.end] - pressed * math.sqrt(HIDEABLE * branch.noise / branch.peak)
    beyond = branch.z[branch.end + 4 : branch.far * branch.width] <= last
    return min(branch.end + 4 + (int(np.argmax(beyond)) if beyond.any() else len(beyond)), branch.n)


# ---- edges


def find_edges(branch: Branch, law: Law, retract: bool) -> None:
    """Peak, zero crossing, lowest sample, end of contact; see `find_edges` in `_core/edges.pxd`."""
    d, n = branch.d, branch.n
    branch.peak_at = int(np.argmax(d))
    branch.peak = float(d[branch.peak_at])
    below = np.flatnonzero(d[branch.peak_at :] <= 0.0)
    branch.zero = branch.peak_at + int(below[0]) if below.size else n
    branch.end, branch.back, branch.pulled, branch.ends = branch.zero, branch.zero, False, False
    branch.faint = 0.0
    branch.lowest, branch.lowest_at = 0.0, branch.zero
    if branch.zero == n:
        return
    branch.lowest_at = branch.zero + int(np.argmin(d[branch.zero :]))
    branch.lowest = float(d[branch.lowest_at])
    branch.pulled = branch.lowest < -SIGNIFICANT * branch.noise
    if branch.pulled:
        back = np.flatnonzero(d[branch.lowest_at + 1 :] >= 0.5 * branch.lowest)
        branch.end = branch.off = branch.back = branch.lowest_at + 1 + int(back[0]) if back.size else n
        branch.ends, branch.holds = True, float(branch.z[branch.end - 1])
        if not retract and branch.off < n:
            free = np.flatnonzero(d[branch.off :] >= 0.0)
            branch.end, branch.holds = branch.lowest_at + 1, float(branch.z[branch.lowest_at])
            branch.back = branch.off + int(free[0]) if free.size else n
        return
    # samples far apart may all miss the pull-off: would the force, had contact gone on, stand out at one of the next?
    below = np.flatnonzero(d[branch.peak_at :] <= np.float32(3 * branch.noise))
    i = branch.peak_at + int(below[0]) if below.size else n
    if i < branch.peak_at + 3:
        return
    z = branch.z
    slope = (d[i - 2] - d[i - 1]) / (z[i - 2] - z[i - 1])
    for off in range(i, min(i + 3, n)):
        steps = (z[i - 1] - z[off]) / (z[i - 2] - z[i - 1])
        least = min(slope, 1.0) + law.load_power / law.depth_power * max(1.0 - slope, 0.0)
        fall = slope * (0.5 * (z[i - 2] + z[i - 1]) - z[off]) / least
        if 0.5 * (d[i - 2] + d[i - 1]) - fall < -(SIGNIFICANT + 3 * steps) * branch.noise:
            branch.ends, branch.end, branch.off, branch.back = True, i, off, off
            branch.holds = float(z[i - 1] - max(d[i - 1], 0.0) / slope)
            return


def find_faint_jump(branch: Branch) -> None:
    """Pull-off that single samples show badly or not, where they lie densely; see `find_faint_jump` of the kernel."""
    if not 64 <= branch.zero < branch.n:
        return
    if branch.ends and not (branch.pulled and branch.lowest**2 < 81.0 * branch.allan):
        return
    width = 4 * 2 ** int(math.log2(branch.zero // 64))
    at = branch.z[branch.zero :]
    while width >= 4 and (width >= len(at) or at[0] - at[width] > -0.4 * branch.lowest):
        width //= 2
    if width < 4:
        return
    if branch.shape is None:
        variance = branch.noise**2 / width
    else:
        variance = branch.allan * float(of_means(branch.shape, 1, width)[0, 0])
    stop = min(branch.zero + branch.zero // 2 + 2 * width, branch.n - width)
    if stop <= branch.zero:
        return
    means = np.convolve(branch.d[branch.zero : stop + width], np.full(width, 1.0 / width), "valid")
    level = float(means.min())
    if not level < -SIGNIFICANT * math.sqrt(variance):
        return
    first = branch.zero + int(means.argmin()) + width // 2
    last = min(first + width + width // 2, branch.n - 1)
    rest = np.concatenate([[0.0], np.cumsum(branch.d[first:last] - 0.5 * level)])
    end = first + int(rest.argmin())
    branch.pulled = branch.ends = True
    branch.end = branch.off = branch.back = end
    branch.holds, branch.lowest_at, branch.lowest = float(branch.z[end - 1]), end - 1, level
    branch.faint = 4.0 * float(branch.z[end - 1] - branch.z[end]) * variance * width / level**2


def smoothed_minimum(branch: Branch) -> float:
    """Straight line through the lowest sample and two neighbours on either side, there; the sample where it is off."""
    first, last = max(branch.lowest_at - 2, branch.zero), min(branch.lowest_at + 3, branch.n)
    if branch.pulled:
        last = min(last, branch.off)
    if last - first < 1:
        return branch.lowest
    z, d = branch.z[first:last], branch.d[first:last]
    szz = float(np.sum((z - z.mean()) ** 2))
    value = float(d.mean())
    if len(z) >= 3 and szz > 0:
        value += float(np.sum((z - z.mean()) * (d - d.mean())) / szz * (branch.z[branch.lowest_at] - z.mean()))
    return value if abs(value - branch.lowest) <= FREE * branch.noise else branch.lowest


# ---- areas and lengths


def area(branch: Branch, low: float, high: float) -> float:
    """∫ d dz over [low, high] by trapezia, the ends interpolated; z may go back and forth."""
    z, d = branch.z[::-1], branch.d[::-1]
    cut = np.clip(z, low, high)
    step = np.diff(z)
    slope = np.divide(np.diff(d), step, out=np.zeros_like(step), where=step != 0)
    first, last = d[:-1] + slope * (cut[:-1] - z[:-1]), d[1:] + slope * (cut[1:] - z[1:])
    return float(np.sum(0.5 * np.diff(cut) * (first + last)))


def lost_work(approach: Branch, retract: Branch) -> float:
    """∮ d dz over the common range."""
    low, high = max(approach.z[-1], retract.z[-1]), min(approach.z[0], retract.z[0])
    return area(approach, low, high) - area(retract, low, high) if high > low else 0.0


def adhesion_work(branch: Branch) -> float:
    """Area below the baseline about the pull-off; without one, until the force first comes back."""
    if branch.zero >= branch.n:
        return 0.0
    behind = (branch.lowest_at if branch.pulled else branch.zero) + 1
    back = np.flatnonzero(branch.d[behind:] >= 0.0)
    stop = behind + int(back[0]) + 1 if back.size else branch.n
    z, d = branch.z[branch.zero : stop], np.minimum(branch.d[branch.zero : stop], 0.0)
    return float(-np.sum(0.5 * (z[:-1] - z[1:]) * (d[:-1] + d[1:])))


def _line_through(branch: Branch, first: int, last: int) -> tuple[float, float, float] | None:
    """Mean z, mean d and slope of at least four samples [first, last)."""
    if last - first < 4:
        return None
    z, d = branch.z[first:last], branch.d[first:last]
    spread, rise = np.sum((z - z.mean()) ** 2), np.sum((z - z.mean()) * (d - d.mean()))
    return (float(z.mean()), float(d.mean()), float(rise / spread)) if spread > 0 else None


def _first_at_most(branch: Branch, level: float, start: int) -> int:
    below = np.flatnonzero(branch.d[start:] <= np.float32(level))
    return start + int(below[0]) if below.size else branch.n


def turning_point(branch: Branch) -> tuple[float, float]:
    """Return (d, z) at the turning point, by a line through samples of the upper tenth of the force."""
    top, at = branch.peak, float(branch.z[branch.peak_at])
    first = int(np.flatnonzero(branch.d >= np.float32(0.9 * branch.peak))[0])
    last = min(_first_at_most(branch, 0.9 * branch.peak, branch.peak_at), first + 32)
    if line := _line_through(branch, first, last):
        at = max(at, float(branch.z[first]))
        value = line[1] + min(max(line[2], 0.0), 2.0) * (at - line[0])
        top = value if abs(value - branch.peak) <= 0.1 * branch.peak else top
    return top, at


def deformation(branch: Branch, region: float) -> float:
    """Separation at (1 − region) of the force at the turning point minus that there; noise may make it negative."""
    top, at = turning_point(branch)
    level = (1.0 - region) * top
    i = _first_at_most(branch, level, branch.peak_at + 1)
    z = float(branch.z[i])
    # the largest sample may lie below the turning point, and so below a level that is near it
    if branch.d[i - 1] > branch.d[i]:
        z += float((level - branch.d[i]) / (branch.d[i - 1] - branch.d[i]) * (branch.z[i - 1] - branch.z[i]))
    z = min(z, at)
    if branch.d[i - 1] - branch.d[i] < 6.0 * branch.noise:
        about = max(min(0.05 * top, 0.5 * level), min(3.0 * branch.noise, 0.8 * level))
        first = min(_first_at_most(branch, level + about, max(i - 16, branch.peak_at + 1)), i)
        last = min(_first_at_most(branch, level - about, i), i + 16)
        if (line := _line_through(branch, first, last)) and line[2] > 0:
            on_line = line[0] + (level - line[1]) / line[2]
            if branch.z[last - 1] <= on_line <= branch.z[first]:
                z = on_line
    return float((level - z) - (top - at))


def judge_contact(branch: Branch) -> Flag:
    """Fatal flags of a branch without measurable contact, or with nothing else."""
    if not branch.peak > (SIGNIFICANT + 1) * branch.noise:
        return Flag.NO_CONTACT
    far = branch.far * branch.width
    noise_of_edge = branch.noise * math.sqrt(min(branch.inflation, 8.0) / 8.0)
    edge = branch.d[far - 8 : far].mean()
    if branch.zero >= branch.n or branch.end >= branch.n or edge > max(0.1 * branch.peak, 4.0 * noise_of_edge):
        return Flag.CONTACT_NOT_LEFT
    top = branch.tilt + branch.peak / (branch.z[branch.peak_at] - branch.z[branch.zero])
    return Flag.CONTACT_NOT_LEFT if branch.tilt > 0.2 * top else Flag(0)
