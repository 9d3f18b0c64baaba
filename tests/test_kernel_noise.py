"""Correlated noise: its components, the errors they make, and the agreement of kernel and reference on both."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import CASES, measure
from test_kernel_truth import COLOURS

from fvproc import _core, reference, simulate
from fvproc.quantities import Flag
from fvproc.reference.noise import CORRELATIONS, allan_of_components, allan_variances, fit_components

ERRORS = ("modulus_std", "adhesion_std", "contact_point_std", "approach_contact_point_std")


def test_allan_variances_of_the_components_are_those_of_such_noise():
    generator = np.random.default_rng(0)
    for j in (0, 2, 4):
        samples = simulate.noise(generator, (400, 512), 1.0, float(CORRELATIONS[j]))
        measured = np.mean([allan_variances(row) for row in samples], 0)
        np.testing.assert_allclose(measured, allan_of_components(len(measured))[:, j], rtol=0.1)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_components_have_the_variance_of_a_long_mean(correlation):
    """Of a first-order autoregression that is none of them: (1 + ρ)/(1 − ρ) times that of white noise.

    Between memories of 6 and 18 samples the components are farther apart than what they are to explain.
    """
    lag = np.arange(512)
    covariance = correlation**lag if correlation else np.where(lag == 0, 1.0, 0.0)
    exact = []
    for width in 2 ** np.arange(8):
        between = width - np.abs(lag[1 : 2 * width] - width)
        within = 2.0 * np.maximum(width - lag[1 : 2 * width], 0)
        exact.append((width + (within - between) @ covariance[1 : 2 * width]) / width**2)
    components = fit_components(np.array(exact), 1024.0)
    assert np.all(components >= 0)
    assert components.sum() == pytest.approx(1.0, abs=0.05)
    of_long_mean = components @ ((1 + CORRELATIONS) / (1 - CORRELATIONS))
    assert of_long_mean == pytest.approx((1 + correlation) / (1 - correlation), rel=0.3 if correlation == 0.9 else 0.08)


@pytest.mark.parametrize("recipe", [{}, {"fit": {"branch": "approach"}}, {"baseline": {"source": "approach"}}])
@pytest.mark.parametrize("colour", COLOURS)
def test_recursion_gives_what_the_whole_covariance_matrix_does(colour, recipe):
    measured = measure(CASES["45 MPa"], curves=24, samples=256, **COLOURS[colour], **recipe)
    kernel, twin = (fit(measured.raw, measured.settings) for fit in (_core.fit_tile, reference.fit_tile))
    both = (kernel["flags"] == twin["flags"]) & ((kernel["flags"] & np.uint32(Flag.NOISE_CORRELATED)) != 0)
    assert both.mean() > 0.8
    for name in ERRORS:
        ratio = kernel[name][both].astype(float) / twin[name][both]
        np.testing.assert_allclose(np.median(ratio), 1.0, atol=5e-4, err_msg=name)
        assert np.mean(np.abs(ratio - 1.0) < 0.01) > 0.85, name


def test_branches_of_unlike_lengths_have_noise_of_their_own():
    """Only branches of as many samples are taken to be sampled at one rate."""
    measured = measure(CASES["45 MPa"], curves=12, samples=256, correlation=0.6)
    cut = 240
    branch = type(measured.raw.approach)(
        np.ascontiguousarray(measured.raw.approach.deflection[:, -cut:]), measured.raw.approach.z[..., -cut:]
    )
    raw = type(measured.raw)(branch, measured.raw.retract)
    whole, kernel, twin = (
        fit(tile, measured.settings)
        for fit, tile in ((_core.fit_tile, measured.raw), (_core.fit_tile, raw), (reference.fit_tile, raw))
    )
    np.testing.assert_allclose(kernel["modulus_std"], twin["modulus_std"], rtol=0.01)
    assert np.all(np.abs(whole["modulus_std"] / kernel["modulus_std"] - 1) > 1e-6)


def test_a_false_alarm_hardly_changes_the_error():
    """White noise is flagged in one curve of some hundreds; the components then say nearly what it is."""
    measured = measure(CASES["45 MPa"], curves=30_000, samples=128)
    records = _core.fit_tile(measured.raw, measured.settings)
    flagged = (records["flags"] & np.uint32(Flag.NOISE_CORRELATED)) != 0
    assert 10 < flagged.sum() < 600
    errors = records["modulus_std"]
    assert 0.9 < np.median(errors[flagged]) / np.median(errors[~flagged]) < 1.4
