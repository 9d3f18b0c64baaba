"""Noise of the deflection: white, of first order, and power laws of the frequency; deterministic with the generator."""

from __future__ import annotations

import math

import numpy as np

from fvproc.errors import FvprocError


def noise(generator: np.random.Generator, shape: tuple[int, ...], sigma: float, correlation: float = 0.0) -> np.ndarray:
    """Return Gaussian noise of standard deviation `sigma`; `correlation` of neighbours (first-order autoregression)."""
    white = generator.standard_normal(shape)
    if correlation:
        innovation = math.sqrt(1.0 - correlation**2)
        for i in range(1, shape[-1]):
            white[..., i] = correlation * white[..., i - 1] + innovation * white[..., i]
    return sigma * white


def power_law_noise(
    generator: np.random.Generator, shape: tuple[int, ...], sigma: float, exponent: float = 1.0
) -> np.ndarray:
    """Return Gaussian noise whose power falls as 1/frequency^exponent along the last axis.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of the noise.
    shape : tuple of int
        Each row along the last axis is a curve of its own, drawn independently.
    sigma : float
        Standard deviation of a sample over many curves, whatever the exponent and the length.
    exponent : float
        0 white, 1 flicker, 2 as a random walk; 0 … 3.

    Returns
    -------
    ndarray
        float64. Every row has mean 0, for the lowest frequency is one period a row: a slower drift is an offset, which
        the baseline takes. The last sample joins the first, as those of a cyclic drive do.

    Raises
    ------
    FvprocError
        For an exponent out of range, or rows of fewer than two samples.
    """
    samples = shape[-1]
    if not 0.0 <= exponent <= 3.0:
        raise FvprocError(f"exponent = {exponent!r}: choose 0 (white) … 3")
    if samples < 2:
        raise FvprocError(f"shape = {shape!r}: power-law noise needs at least two samples a curve")
    frequencies = np.fft.rfftfreq(samples)
    amplitude = np.zeros_like(frequencies)
    amplitude[1:] = frequencies[1:] ** (-0.5 * exponent)
    spectrum = amplitude * np.fft.rfft(generator.standard_normal(shape), axis=-1)
    # each frequency but 0 and Nyquist stands for two lines of the full spectrum
    lines = np.full(len(frequencies), 2.0)
    if samples % 2 == 0:
        lines[-1] = 1.0
    variance = float(np.sum(lines * amplitude**2)) / samples
    return np.fft.irfft(spectrum, n=samples, axis=-1) * (sigma / math.sqrt(variance))
