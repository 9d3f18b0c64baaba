"""The twin's covariance of noise: a sum of exponentials, of samples and of the means of their blocks."""

from __future__ import annotations

import numpy as np
from scipy.linalg import toeplitz

# of neighbours: noise that is white, and noise with so many samples of memory; see `_core/noise.pxd`
CORRELATIONS = np.array([0.0, *np.exp(-1.0 / np.array([1.1, 2.5, 6.0, 18.0, 70.0, 350.0, 2000.0]))])


def of_samples(components: np.ndarray, n: int) -> np.ndarray:
    """Return the covariance of n samples, (n, n), from the variances of the components."""
    lag = np.arange(n)[:, None]
    return np.asarray(toeplitz((components * CORRELATIONS**lag).sum(1)))


def of_means(components: np.ndarray, blocks: int, width: int) -> np.ndarray:
    """Return the covariance of the means of blocks of samples, (blocks, blocks)."""
    whole = of_samples(components, blocks * width)
    return np.asarray(whole.reshape(blocks, width, blocks, width).mean((1, 3)))
