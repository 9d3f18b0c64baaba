"""Noise of known covariance, and the Cramér-Rao bound of ln E under it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import cholesky, solve_triangular, toeplitz
from scipy.signal import lfilter

from fvproc import simulate

KINDS = ("white", "AR(1)", "1/f")
CORRELATION = 0.6  # of neighbouring samples, AR(1)
_BRANCHES = 32  # that one record of 1/f noise holds, one after the other


def _power_law(samples: int) -> np.ndarray:
    """Spectrum of 1/f noise over one record, flat below one period per branch, (record // 2 + 1,), unit variance."""
    record = _BRANCHES * samples
    spectrum = 1.0 / np.maximum(np.arange(record // 2 + 1) / record, 1.0 / samples)
    spectrum[0] = 0.0
    return spectrum / np.fft.irfft(spectrum, record)[0]


def noise(generator: np.random.Generator, kind: str, curves: int, samples: int) -> np.ndarray:
    """Return noise of unit variance in the order of time, (curves, 2, samples), approach before retract.

    Curves follow one another in time as in an instrument, so slow noise passes from one branch to the next.
    """
    size = curves * 2 * samples
    record = _BRANCHES * samples
    if kind == "1/f":
        # the mean of the spectrum over all frequencies is 1: white noise filtered by its root has variance 1
        root = np.sqrt(_power_law(samples)).astype(np.float32)
        made = np.empty((-(-size // record), record), np.float32)
        for i in range(0, len(made), 8):  # a few rows at a time: the transforms are in double precision
            rows = generator.standard_normal(made[i : i + 8].shape, np.float32)
            made[i : i + 8] = np.fft.irfft(np.fft.rfft(rows, axis=1) * root, record, axis=1)
        return made.reshape(-1)[:size].reshape(curves, 2, samples)
    white = generator.standard_normal(size, np.float32)
    if kind == "AR(1)":
        white[1:] *= np.float32(np.sqrt(1.0 - CORRELATION**2))
        white = lfilter(np.ones(1, np.float32), np.array([1.0, -CORRELATION], np.float32), white)
    return white.reshape(curves, 2, samples)


@lru_cache(maxsize=2)
def factor(kind: str, samples: int) -> np.ndarray:
    """Return the lower Cholesky factor of the noise's covariance over one branch, (samples, samples), unit variance."""
    if kind == "AR(1)":
        first = CORRELATION ** np.arange(samples)
    else:
        first = np.fft.irfft(_power_law(samples), _BRANCHES * samples)[:samples]
    return cholesky(toeplitz(first), lower=True, overwrite_a=True, check_finite=False)


@dataclass(frozen=True, slots=True)
class Bound:
    """Smallest scatters of ln E, root mean squares over the contact points.

    `best` is the Cramér-Rao bound, `unweighted` the scatter of least squares that takes the noise for white (the same
    for white noise). `with_jump` and `unweighted_with_jump` are the same where the place of the jump is an observation
    too: between two samples, variance step²/12.
    """

    best: float
    unweighted: float
    with_jump: float
    unweighted_with_jump: float


def jacobian(z: np.ndarray, sample: simulate.Sample, probe: simulate.Probe, z0: float) -> np.ndarray:
    """Return ∂d/∂(ln E, z0, a = F_adh/k, offset, tilt), (samples, 5), d the deflection on retract in m.

    q + B·q^(2/3) = c = z − z0 + a and d = q − a inside the contact (Derjaguin, Muller & Toporov 1975), B ∝ E^(−2/3):
    with S = 1/(1 + (2/3)·B·q^(−1/3)), ∂d/∂ln E = (2/3)·B·q^(2/3)·S, ∂d/∂z0 = −S, ∂d/∂a = S − 1. The end of the
    contact is held at the true one, z = z0 − a: the samples up to the jump, as the data show it where the pull-off
    stands out of the noise. Where it does not, the data know less than that, and the bound is one that no estimator
    has to reach.
    """
    reach = float(sample.adhesion[0]) / probe.spring_constant
    inside = z > z0 - reach
    compliance = float(sample.compliance(probe)[0])
    load = simulate.load_at(np.float64(compliance), np.where(inside, z - z0 + reach, 0.0), 1.5)
    root = np.cbrt(load)
    with np.errstate(divide="ignore"):
        slope = np.where(inside, root / (root + 2.0 / 3.0 * compliance), 0.0)
    columns = (
        2.0 / 3.0 * compliance * root**2 * slope,
        -slope,
        np.where(inside, slope - 1.0, 0.0),
        np.ones_like(z),
        (z - z.mean()) / np.ptp(z),
    )
    return np.stack(columns, 1)


def bounds(
    z: np.ndarray,
    sample: simulate.Sample,
    probe: simulate.Probe,
    z0: np.ndarray,
    kind: str,
    sigmas: tuple[float, ...],
    step: float,
) -> list[Bound]:
    """Return the bounds of σ_E/E on one branch, one for each standard deviation of the noise.

    Parameters
    ----------
    z : ndarray of float64, (samples,)
        Of the retract, m, in the order of time.
    sample, probe : Sample, Probe
        Truth; the first curve's.
    z0 : ndarray of float64, (places,)
        Contact points to average over, m.
    kind, sigmas : str, tuple of float
        Of the noise; standard deviations in m.
    step : float
        Of the ramp where the jump stands, m.
    """
    columns = np.stack([jacobian(z, sample, probe, float(place)) for place in z0])
    lengths = np.sqrt(np.sum(columns**2, 1))
    columns /= lengths[:, None]
    normal = np.swapaxes(columns, 1, 2) @ columns
    plain = np.linalg.inv(normal)
    information = scattered = normal
    if kind != "white":
        lower = factor(kind, len(z))
        side_by_side = np.moveaxis(columns, 0, 1).reshape(len(z), -1)
        whitened, through = (
            np.moveaxis(part.reshape(len(z), len(z0), -1), 1, 0)
            for part in (
                solve_triangular(lower, side_by_side, lower=True, check_finite=False),
                lower.T @ side_by_side,
            )
        )
        information = np.swapaxes(whitened, 1, 2) @ whitened
        scattered = np.swapaxes(through, 1, 2) @ through
    jump = np.array([0.0, 1.0, -1.0, 0.0, 0.0]) / lengths
    squared = jump[:, :, None] * jump[:, None, :]
    found = []
    for sigma in sigmas:
        weight = sigma**2 / (step**2 / 12.0)
        known = information + squared * weight
        both = np.linalg.inv(normal + squared * weight)
        believed = both @ (scattered + squared * weight) @ both
        kinds = (np.linalg.inv(information), plain @ scattered @ plain, np.linalg.inv(known), believed)
        variances = [np.mean(matrix[:, 0, 0] * (sigma / lengths[:, 0]) ** 2) for matrix in kinds]
        found.append(Bound(*(float(np.sqrt(variance)) for variance in variances)))
    return found
