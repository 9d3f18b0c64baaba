"""Adhesion where the fit does not tell it, or tells another than the samples: held, measured, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import CASES, Case, measure

from fvproc import _core, reference
from fvproc.quantities import Flag

twins = pytest.mark.parametrize("fit", [_core.fit_tile, reference.fit_tile], ids=["kernel", "reference"])
SOFT = Case(45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9)
PLAIN = replace(SOFT, adhesion=0.0)


def flagged(records, flag):
    return (records["flags"] & np.uint32(flag)) != 0


def scaled(measured, factor):
    """The measurement with a deflection told so many times as large."""
    sides = {name: getattr(measured.settings, name) for name in ("approach_deflection", "retract_deflection")}
    measured.settings = replace(
        measured.settings, **{name: replace(side, scale=factor * side.scale) for name, side in sides.items()}
    )
    return measured


@twins
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_a_model_that_does_not_hold_bends_no_adhesion(fit, factor):
    """A free adhesion took what bent the model to the upper part of the contact: many times what the samples show."""
    measured = scaled(measure(CASES["1.5 GPa"], curves=8), factor)
    records = fit(measured.raw, measured.settings)
    depths = fit(measured.raw, replace(measured.settings, adhesion_minimum=True))["adhesion"]
    held = flagged(records, Flag.PULL_OFF_DISAGREES)
    assert held.mean() >= 0.8
    noise = records["baseline_noise"]
    assert np.all(np.abs(records["adhesion"] - depths)[held] < 3.5 * noise[held])
    assert np.all(records["adhesion_std"][held] == noise[held])


@twins
@pytest.mark.parametrize("name", CASES)
def test_a_model_that_holds_is_believed(fit, name):
    for drive, samples in (("sine", 64), ("linear", 256)):
        measured = measure(CASES[name], curves=24, drive=drive, samples=samples, sigma=1e-11)
        assert not flagged(fit(measured.raw, measured.settings), Flag.PULL_OFF_DISAGREES).any()


def test_a_compliance_as_good_as_zero_leaves_the_others_their_minimum():
    """The kernel went as soon as the compliance was at its end, wherever the other parameters were."""
    measured = scaled(measure(CASES["1.5 GPa"], curves=8), 1.4)
    kernel, twin = (fit(measured.raw, measured.settings) for fit in (_core.fit_tile, reference.fit_tile))
    assert flagged(kernel, Flag.MODULUS_UNBOUNDED).all()
    both = ~flagged(kernel, Flag.PULL_OFF_DISAGREES) & ~flagged(twin, Flag.PULL_OFF_DISAGREES)
    assert both.any()
    np.testing.assert_allclose(kernel["adhesion"][both], twin["adhesion"][both], rtol=0.02)
    np.testing.assert_allclose(kernel["fit_rmse"][both], twin["fit_rmse"][both], rtol=0.02)


@twins
@pytest.mark.parametrize("method", ["ml", "qnm"])
@pytest.mark.parametrize("branch", ["approach", "retract"])
def test_adhesion_is_of_the_retract_whatever_is_fitted(fit, method, branch):
    """It was 0 with a model that has none, and that of the snap-in where the approach is fitted."""
    for model in ("hertz", "dmt"):
        measured = measure(SOFT, curves=12, samples=1024, fit={"model": model, "branch": branch, "method": method})
        records = fit(measured.raw, measured.settings)
        assert np.median(records["adhesion"]) == pytest.approx(1e-9, rel=0.02)
        assert np.all(records["adhesion_std"] > 0.0)
        if model == "hertz":
            assert not flagged(records, Flag.NO_ADHESION).any()


@twins
def test_the_line_through_the_lowest_samples_gives_way_to_them(fit):
    """Where the force comes back in two samples, or bends, five are no line: it lay far above the lowest."""
    measured = measure(SOFT, curves=12, fit={"method": "qnm"}, tilt=0.0)
    for row in measured.raw.retract.deflection:
        lowest, rest = int(np.argmin(row)), float(np.median(row[-60:]))
        row[lowest + 1] = round(rest + 0.7 * (row[lowest] - rest))
    records = fit(measured.raw, measured.settings)
    lowest = fit(measured.raw, replace(measured.settings, adhesion_minimum=True))["adhesion"]
    assert np.all(np.abs(records["adhesion"] - lowest) <= 3.01 * records["baseline_noise"])


@twins
@pytest.mark.parametrize("branch", ["approach", "retract"])
@pytest.mark.parametrize("samples", [256, 512])
def test_jkr_without_a_pull_off_to_be_seen_has_values(fit, branch, samples):
    """Up to 99 % did not converge, and the rest had an adhesion of 0 ± 0: its root has no derivative there."""
    case = replace(PLAIN, modulus=50e6)
    curves = 60 if fit is _core.fit_tile else 6
    measured = measure(case, curves=curves, samples=samples, sigma=5e-11, fit={"model": "jkr", "branch": branch})
    records = fit(measured.raw, measured.settings)
    assert np.isfinite(records["modulus"]).mean() > 0.95
    assert np.all(records["adhesion_std"][np.isfinite(records["adhesion"])] > 0.0)
    pull = np.abs(records["modulus"] / 50e6 - 1.0) / (records["modulus_std"] / records["modulus"])
    assert np.nanmean(pull < 2.5) > 0.9


@twins
@pytest.mark.parametrize("ramp", [100e-9, 1000e-9])
def test_the_work_of_adhesion_is_none_where_there_is_none(fit, ramp):
    """It was the noise of half the ramp, each sample below zero counted: as much as of a real pull-off."""
    case = replace(PLAIN, travel=ramp)
    measured = measure(case, curves=30, samples=512, drive="linear", sigma=5e-11, fit={"model": "hertz"}, tilt=0.0)
    energy = fit(measured.raw, measured.settings)["adhesion_energy"]
    step, noise = ramp / 511, 0.4 * 5e-11
    assert np.all(energy >= 0.0)
    assert np.median(energy) < 10 * step * noise


@pytest.mark.parametrize("step", [0.23e-9, 0.5e-9])
@twins
def test_a_coarse_z_hides_no_pull_off(fit, step):
    """Two samples about it at the same z had infinite weight: every such fit failed."""
    measured = measure(CASES["916 MPa"], curves=40 if fit is _core.fit_tile else 8, samples=1024, drive="linear")
    generator = np.random.default_rng(2)
    for branch in (measured.raw.approach, measured.raw.retract):
        z = branch.z + generator.uniform(0, step, (branch.deflection.shape[0], 1))
        branch.z = np.round(z / step) * step
    records = fit(measured.raw, measured.settings)
    assert np.isfinite(records["modulus"]).all()
    assert not flagged(records, Flag.FIT_FAILED | Flag.PULL_OFF_DISAGREES).any()
    assert np.median(records["modulus"]) == pytest.approx(916e6, rel=0.04)


@pytest.mark.parametrize("branch", ["approach", "retract"])
@pytest.mark.parametrize("factor", [1.4, 2.0])
def test_a_contact_that_is_rigid_to_the_data_has_a_contact_point_all_the_same(factor, branch):
    """Nothing tells the adhesion of a rigid contact on approach: it ran away, and no contact was found."""
    measured = scaled(measure(CASES["1.5 GPa"], curves=300, fit={"branch": branch}), factor)
    records = _core.fit_tile(measured.raw, measured.settings)
    assert flagged(records, Flag.CONTACT_NOT_FOUND | Flag.FIT_FAILED).mean() < 0.01
    assert flagged(records, Flag.MODULUS_UNBOUNDED).mean() > 0.9
