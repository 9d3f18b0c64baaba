"""The twin's artefacts: spikes bridged, interference and drag taken off, pull-offs in steps; plain arrays."""

from __future__ import annotations

import math

import numpy as np

from fvproc.reference.branch import Branch, block_width

WIDEST, BEFORE, SHARE, BLUNT, QUIET = 3, 8, 64, 4, 25.0


# ---- spikes; see `_core/spikes.pxd`


def bridge_spikes(d: np.ndarray, quantum: float) -> tuple[np.ndarray, bool, bool]:
    """Return d (nm, surface order) without spikes of up to three samples, whether there were any, and too many."""
    n = len(d)
    if n < 32:
        return d, False, False
    second = np.abs(2.0 * d[2:-2] - d[:-4] - d[4:])
    bend = second - 2.0 * np.abs(d[4:] - d[:-4])
    limit = 8.0 * float(second.mean()) + 4.0 * quantum + abs(float(d[0] - d[-1])) / 1024.0
    found: list[tuple[int, int]] = []
    behind = 0
    for i in (np.flatnonzero(bend > limit) + 2).tolist():
        if i < behind:
            continue
        group = next(
            (
                (i - back, i - back + width - 1)
                for width in range(1, WIDEST + 1)
                for back in range(width)
                if i - back >= 2 and i - back + width <= n - 2 and _side(d, i - back, i - back + width - 1, limit / 3.0)
            ),
            None,
        )
        if group is None:
            continue
        behind = group[1] + 1
        if _side(d, *group, limit / 3.0) < 0 and _is_pull_off(d, *group, limit / 3.0):
            continue
        found.append(group)
        if sum(last - first + 1 for first, last in found) * SHARE > n:
            return d, True, True
    d = d.copy()
    for first, last in found:
        d[first : last + 1] = np.linspace(d[first - 1], d[last + 1], last - first + 3)[1:-1]
    return d, bool(found), False


def _side(d: np.ndarray, first: int, last: int, limit: float) -> int:
    """1 or -1: the side of the line between its neighbours to which all of [first, last] stand far off; else 0."""
    off = d[first : last + 1] - np.linspace(d[first - 1], d[last + 1], last - first + 3)[1:-1]
    side = 1 if off[0] > 0 else -1
    least = float((off * side).min())
    slope = (d[last + 1] - d[first - 1]) / (last - first + 2)
    apart = max(
        abs(d[last + 1] - d[first - 1]),
        abs(d[first - 1] - d[first - 2] - slope),
        abs(d[last + 2] - d[last + 1] - slope),
    )
    return side if least > limit and least > 2.0 * apart else 0


def _is_pull_off(d: np.ndarray, first: int, last: int, limit: float) -> bool:
    """Whether there is force before and rest behind."""
    rest = d[last + 1 : last + 4]
    if np.any(np.abs(rest - rest.mean()) > limit):
        return False
    if float(rest.mean() - d[last + 1 : last + len(d) // 4].min()) > max(float(rest.mean() - d[first]), limit):
        return False
    return first > 0 and float(d[max(first - BEFORE, 0) : first].max() - rest.mean()) > limit


# ---- interference and drag; see `_core/background.pxd`


def without_background(
    branch: Branch, fraction: float, period: float, drag: bool, bow: bool, quantum: float
) -> np.ndarray:
    """Return d of a branch (nm) less interference of that period (nm; 0: none), drag, bow, fitted where it is quiet."""
    z, d, n = branch.z, branch.d, branch.n
    count = int(fraction * n)
    width = block_width(n, count)
    far = -(-(n - count) // width)
    if n < 32 or far >= n // width:
        return d
    zeta = z - z[n - 1 - count // 2]
    columns = [np.ones(n), zeta / abs(zeta[0])]
    if period > 0:
        columns += [np.cos(2.0 * np.pi * zeta / period), np.sin(2.0 * np.pi * zeta / period)]
    if drag:
        velocity = np.zeros(n)
        # samples that were left out took their time
        times = np.arange(n) if branch.times is None else branch.times
        velocity[1:-1] = (z[:-2] - z[2:]) / (times[2:] - times[:-2])
        velocity /= np.abs(velocity).max()
        velocity[0], velocity[-1] = 2 * velocity[1] - velocity[2], 2 * velocity[-2] - velocity[-3]
        # with a constant velocity the offset says it all
        if np.ptp(velocity) > 1e-3:
            columns.append(velocity)
    if bow:
        columns.append(4.0 * (z[0] - z) * (z - z[-1]) / (z[0] - z[-1]) ** 2)
    basis = np.stack(columns, 1)
    theta, *_ = np.linalg.lstsq(basis[far * width :], d[far * width :], rcond=None)
    r = d[far * width :] - basis[far * width :] @ theta
    squares = float(r @ r)
    rho = min(max(float(r[1:] @ r[:-1]) / squares, 0.0), 0.9) if squares > 0 else 0.0
    variance = max(squares / (len(r) - 6), quantum**2 / 12.0) * (1 + rho) / (1 - rho)
    block = far
    while block > 0:
        inverse = np.linalg.pinv(basis[block * width :].T @ basis[block * width :])
        mean = basis[(block - 1) * width : block * width].mean(0)
        off = float(d[(block - 1) * width : block * width].mean() - mean @ theta)
        if off**2 > QUIET * variance * (1.0 / width + float(mean @ inverse @ mean)):
            break
        block -= 1
        theta, *_ = np.linalg.lstsq(basis[block * width :], d[block * width :], rcond=None)
    return np.asarray(d - basis[:, 2:] @ theta[2:])


# ---- pull-offs; see `find_steps` in `_core/edges.pxd`


def find_steps(branch: Branch, noise: float, doubt: float, move: bool) -> None:
    """Set several and jump_width, and let end, lowest and back follow where the fit asks for it."""
    d, n = branch.d, branch.n
    depth = -branch.lowest
    if not branch.pulled or branch.end >= n:
        return
    rise = max(6.0 * math.sqrt(2.0) * noise, 0.15 * depth)
    level = max(6.0 * noise + doubt, 0.1 * depth)
    step = None
    for i in range(branch.zero, branch.end):
        if d[i + 1] - d[i] > rise and d[i] < -level:
            rest = i + 2 < n and d[i + 1] < -max(level, 0.2 * depth) and d[i + 2] - d[i + 1] < rise
            if i < branch.lowest_at or rest:
                step = i
            break
    lower = _first(d >= 0.0, branch.end)
    back = branch.end if step is None else lower
    branch.several = step is not None
    while lower < n and (upper := _first(d <= -level, lower)) < n:
        branch.several = True
        back = lower = _first(d >= 0.0, upper)
    if branch.several:
        if move:
            branch.back = back
            if step is not None:
                branch.end = branch.off = step + 1
                branch.holds = float(branch.z[step])
                branch.lowest_at = branch.zero + int(np.argmin(d[branch.zero : step + 1]))
                branch.lowest = float(d[branch.lowest_at])
        return
    if depth < 12.0 * noise + 4.0 * doubt:
        return
    lower = _first(d >= 0.25 * branch.lowest, branch.lowest_at + 1)
    upper = lower - 1
    while upper > branch.lowest_at and d[upper] > 0.75 * branch.lowest:
        upper -= 1
    if lower - upper < BLUNT or lower >= n:
        return
    branch.jump_width = float(branch.z[branch.lowest_at - 1] - branch.z[lower])
    if move:
        branch.end = branch.off = branch.lowest_at
        branch.holds = float(branch.z[branch.end - 1])
        branch.back = _first(d >= 0.0, lower)


def _first(true: np.ndarray, start: int) -> int:
    """First place from `start` on; the length where there is none."""
    found = np.flatnonzero(true[start:])
    return start + int(found[0]) if found.size else len(true)
