"""The twin's detection of the contact on approach: `threshold`, `gradient`, `ratio_of_variances`; windows as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fvproc._core.settings import KernelSettings
from fvproc.reference.branch import SIGNIFICANT, Branch

FEWEST_OF_WINDOW = 5
FEWEST_CARRIED = 8
NO_EXTENT = 1e-12
PIECEWISE, THRESHOLD, GRADIENT, RATIO_OF_VARIANCES = range(4)


@dataclass(frozen=True)
class Detected:
    """Where a method sees the contact: z and its error in nm, and the number of samples nearer to the surface."""

    z0: float
    std: float
    sample: int


def window_samples(n: int, window: float) -> int:
    """The window in samples: a part of the branch below 1; at least five, at most a quarter of the branch."""
    wanted = window * n if window < 1.0 else window
    return max(int(min(wanted, n // 4)), FEWEST_OF_WINDOW)


def detect_threshold(branch: Branch, level: float) -> Detected | None:
    """Where the force first exceeds `level` for good."""
    below = np.flatnonzero(branch.d[branch.peak_at + 1 :] <= level)
    if not below.size or not branch.peak > level:
        return None
    i = branch.peak_at + 1 + int(below[0])
    slope = (branch.d[i - 1] - branch.d[i]) / (branch.z[i - 1] - branch.z[i])
    if not slope > 0:
        return None
    return Detected(float(branch.z[i] + (level - branch.d[i]) / slope), float(branch.noise / slope), i)


def significance(branch: Branch, size: int) -> np.ndarray:
    """Slope of each run of `size` samples times √Σ(z − z̄)², (n − size + 1,); its standard deviation is the noise's."""
    zeta, d = sliding_window_view(branch.zeta, size), sliding_window_view(branch.d, size)
    at = zeta - zeta.mean(1, keepdims=True)
    spread = np.sum(at * at, 1)
    extended = spread > NO_EXTENT * np.sum(zeta * zeta, 1)
    return np.where(extended, np.sum(at * d, 1) / np.sqrt(np.where(extended, spread, 1.0)), 0.0)


def detect_gradient(branch: Branch, level: float, size: int) -> Detected | None:
    """Where the slope falls below `level` of its standard errors, counted from where it is largest."""
    values = significance(branch, size)
    far = values[-max(len(values) // 4, 1) :]
    level *= max(math.sqrt(float(np.mean(far * far))), branch.noise)
    start = int(np.argmax(values))
    below = np.flatnonzero(values[start:] < level)
    if not below.size or below[0] == 0:
        return None
    i = start + int(below[0])
    here, there = (float(branch.z[j : j + size].mean()) for j in (i - 1, i))
    fall = float(values[i - 1] - values[i])
    if not here > there:
        return None
    position = here + (float(values[i - 1]) - level) / fall * (there - here)
    return Detected(position, branch.noise * (here - there) / fall, min(i + size // 2, branch.n))


def detect_ratio(branch: Branch, size: int) -> Detected | None:
    """Where the variance of `size` samples ahead is largest against that of `size` behind, the sample in neither."""
    n, noise = branch.n, branch.noise
    variance = sliding_window_view(branch.d, size).var(1, ddof=1) + (0.01 * noise) ** 2 + 1e-300
    ratio = variance[: n - 2 * size] / variance[size + 1 :]
    at = int(np.argmax(ratio))
    # Σd² of noise alone follows χ²; its quantile by Wilson and Hilferty
    part = 2.0 / (9.0 * size)
    highest = size * (1.0 - part + SIGNIFICANT * math.sqrt(part)) ** 3 * noise**2
    if not float(np.sum(branch.d[at : at + size] ** 2)) > highest:
        return None
    shift, i = 0.0, at + size
    if 0 < at < len(ratio) - 1:
        before, after = np.log(ratio[[at - 1, at + 1]] / ratio[at])
        if before + after < 0:
            shift = 0.5 * float((before - after) / (before + after))
    neighbour = i + 1 if shift > 0 else i - 1
    position = float(branch.z[i] + abs(shift) * (branch.z[neighbour] - branch.z[i]))
    std = float(branch.z[at] - branch.z[i]) / math.sqrt(12.0)
    return Detected(position, std, i) if std > 0 else None


def detect_contact(branch: Branch, settings: KernelSettings) -> Detected | None:
    """What the recipe's method sees; None where it sees no contact."""
    size = window_samples(branch.n, settings.contact_window)
    if settings.contact_method == THRESHOLD:
        return detect_threshold(branch, settings.contact_threshold * branch.noise)
    if settings.contact_method == GRADIENT:
        return detect_gradient(branch, settings.contact_threshold, size)
    return detect_ratio(branch, size)


def first_of_fit(branch: Branch, settings: KernelSettings, detected: Detected) -> int:
    """First sample of the fit back to zero load: `window` before the one detected, or before the end of contact."""
    size = max(window_samples(branch.n, settings.contact_window), FEWEST_CARRIED)
    return max(min(detected.sample, branch.end) - size, 0)
