"""The yardsticks of bench/truth.py: its noise is what it says, its bounds are those of an independent calculation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fvproc import simulate

BENCH = Path(__file__).parents[1] / "bench"
if not BENCH.exists():
    pytest.skip("an installed package has no bench folder", allow_module_level=True)
sys.path.insert(0, str(BENCH))
bounds = pytest.importorskip("bounds")
materials = pytest.importorskip("materials")
truth = pytest.importorskip("truth")

MATERIALS = {m.name: m for m in materials.MATERIALS}


@pytest.mark.parametrize("kind", bounds.KINDS)
def test_noise_has_the_covariance_that_the_bound_is_computed_with(kind):
    made = bounds.noise(np.random.default_rng(0), kind, 8000, 64).astype(float)
    assert made.shape == (8000, 2, 64)
    assert made.var() == pytest.approx(1.0, abs=0.02)
    covariance = made[:, 1].T @ made[:, 1] / len(made)
    expected = np.eye(64)
    if kind != "white":
        lower = bounds.factor(kind, 64)
        expected = lower @ lower.T
    np.testing.assert_allclose(covariance, expected, atol=6 / np.sqrt(len(made)))


def test_power_law_noise_falls_as_one_over_frequency():
    made = bounds.noise(np.random.default_rng(0), "1/f", 64, 1024).reshape(-1, 32 * 2048 // 2)
    power = np.mean(np.abs(np.fft.rfft(made, axis=1)) ** 2, axis=0)
    low, high = power[64:128].mean(), power[4096:8192].mean()  # a branch is 32 periods here
    assert low / high == pytest.approx(64, rel=0.1)
    assert power[1:16].mean() / power[16:32].mean() == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("name", ["0.7 MPa", "45 MPa", "1.5 GPa", "75 GPa"])
def test_jacobian_is_the_derivative_of_the_forward_model(name):
    drive = truth.driven(MATERIALS[name], "sine", 256)
    z, z0, probe, sample = drive.z[1], float(drive.z0[3]), drive.probe, drive.sample
    reach = float(sample.adhesion[0]) / probe.spring_constant
    inside = z > z0 - reach
    compliance = float(sample.compliance(probe)[0])

    def model(shift):
        own = reach + shift[2]
        load = simulate.load_at(np.float64(compliance * np.exp(-2 / 3 * shift[0])), z - z0 - shift[1] + own, 1.5)
        return np.where(inside, load - own, 0.0)

    columns = bounds.jacobian(z, sample, probe, z0)
    for j, h in enumerate((1e-4, 1e-13, 1e-13)):
        step = np.eye(3)[j] * h
        numeric = (model(step) - model(-step)) / (2 * h)
        # the last sample before the jump has hardly any load, where the derivative turns sharply
        np.testing.assert_allclose(
            columns[:-1, j][inside[1:]], numeric[:-1][inside[1:]], atol=2e-3 * np.abs(numeric).max()
        )


@pytest.mark.parametrize("kind", bounds.KINDS)
def test_bounds_agree_with_the_covariance_written_out(kind):
    drive = truth.driven(MATERIALS["916 MPa"], "linear", 128)
    sigmas = (2e-11, 1e-10)
    found = bounds.bounds(drive.z[1], drive.sample, drive.probe, drive.z0, kind, sigmas, drive.step)
    covariance = np.eye(128)
    if kind != "white":
        covariance = bounds.factor(kind, 128) @ bounds.factor(kind, 128).T
    inverse = np.linalg.inv(covariance)
    best, plain = [], []
    for place in drive.z0:
        j = bounds.jacobian(drive.z[1], drive.sample, drive.probe, float(place)) / [1, 1, 1, 1e-9, 1e-9]
        j[:, 3:] *= 1e-9  # columns of one size, for the inverse
        best.append(np.linalg.inv(j.T @ inverse @ j)[0, 0])
        solve = np.linalg.pinv(j)
        plain.append((solve @ covariance @ solve.T)[0, 0])
    for sigma, bound in zip(sigmas, found, strict=True):
        assert bound.best == pytest.approx(sigma * np.sqrt(np.mean(best)), rel=1e-6)
        assert bound.unweighted == pytest.approx(sigma * np.sqrt(np.mean(plain)), rel=1e-6)
        assert bound.with_jump < bound.best <= bound.unweighted * (1 + 1e-9)
        assert bound.with_jump <= bound.unweighted_with_jump * (1 + 1e-9)


def row(**changes):
    values = {
        "material": "a", "drive": "sine", "samples": 256, "kind": "white", "noise_nm": 0.02, "tilt": 0.0,
        "shared_z": True, "curves": 2000, "in_contact": 40.0, "pull_off": 100.0, "jump_seen": 1.0, "bound": 0.05,
        "bound_unweighted": 0.06, "bound_with_jump": 0.05, "unweighted_with_jump": 0.06,
        "error": 0.0, "scatter": 0.05, "stated": 0.05,
        "within_one": 0.683, "within_two": 0.955, "within_one_of_power": 0.683, "within_two_of_power": 0.955,
        "valued": 1.0, "adhesion_error": 0.0,
        "adhesion_within_one": 0.68, "adhesion_within_two": 0.95, "lower_above": 0.05, "failures": "",
        "correlated": 0.0,
    }  # fmt: skip
    return truth.Row(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "misses"),
    [
        ({}, []),
        ({"error": 0.012}, []),
        ({"error": -0.02}, ["bias"]),
        ({"scatter": 0.0575}, []),
        ({"scatter": 0.062}, ["scatter (weights)"]),
        ({"scatter": 0.075}, ["scatter"]),
        ({"scatter": 0.15, "bound": 0.10, "error": 0.02}, []),
        ({"within_one": 0.63}, ["1σ low"]),
        ({"within_one": 0.75, "within_two": 0.99}, ["1σ high", "2σ high"]),
        ({"within_two": 0.92}, ["2σ low"]),
        ({"within_one": 0.63, "curves": 400}, []),
        ({"scatter": float("nan")}, ["no values"]),
    ],
)
def test_a_row_names_the_criteria_that_it_misses(changes, misses):
    assert truth.judged(row(**changes)) == misses


def test_coverage_of_a_power_is_judged_where_it_is_asked_for():
    skewed = row(within_two=0.92, within_one_of_power=0.60)
    assert truth.judged(skewed) == ["2σ low"]
    assert truth.judged(skewed, of_power=True) == ["1σ low"]


def test_errors_are_symmetric_in_the_power_that_the_compliance_has():
    """E = B^(−3/2) of a Gaussian B, with the error that its derivative gives."""
    compliance = 1.0 + 0.2 * np.random.default_rng(0).standard_normal(200_000)
    compliance = compliance[compliance > 0.2]
    records = np.zeros(len(compliance), [("modulus", float), ("modulus_std", float)])
    records["modulus"] = 1e9 * compliance**-1.5
    records["modulus_std"] = 1.5 * records["modulus"] * 0.2 / compliance
    every = np.ones(len(records), bool)
    assert truth.within(records, "modulus", 1e9, every, -2.0 / 3.0) == pytest.approx((0.683, 0.955), abs=0.005)
    assert truth.within(records, "modulus", 1e9, every)[1] < 0.93


def test_compare_tells_what_got_slower(tmp_path):
    compare = pytest.importorskip("compare")

    def result(name, ratio):
        case = {"recipe": "ml", "samples": 512}
        rows = [{"case": case, "ratio_of_least": ratio}, {"case": {**case, "samples": 64}, "ratio_of_least": 9.0}]
        path = tmp_path / name
        path.write_text(json.dumps({"machine": {"model": "A"}, "timings": rows}), encoding="utf-8")
        return path

    before, same, worse = result("a.json", 10.0), result("b.json", 10.5), result("c.json", 12.0)
    for after, status, words in ((same, 0, "0 of 2 slower"), (worse, 1, "1 of 2 slower")):
        command = [sys.executable, compare.__file__, before, after]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status and words in done.stdout, done.stdout + done.stderr
    assert compare.cost_of({"curves_per_second": 4.0}) == 0.25
    with pytest.raises(KeyError, match="without any of"):
        compare.cost_of({"name": "x"})


@pytest.mark.parametrize("name", ["0.7 MPa", "45 MPa", "1.5 GPa"])
@pytest.mark.parametrize("kind", ["AR(1)", "1/f"])
def test_scatter_under_slow_noise_is_near_the_bound(name, kind):
    """With weights by the number of samples it was up to 1.26 of the bound; the errors must know of the weights."""
    drive = truth.driven(MATERIALS[name], "sine", 1024)
    made = bounds.noise(np.random.default_rng(3), kind, 1600, 1024)
    args = (drive.z[1], drive.sample, drive.probe, drive.z0, kind, (1e-11,), drive.step)
    (limit,) = bounds.bounds(*args)
    row = truth.row_of(drive, made, kind, 1e-11, limit, 0, "ml")
    assert row.scatter < 1.10 * (1 + 2 / np.sqrt(0.74 * 1600)) * row.bound
    assert 0.65 < row.within_one < 0.72 and 0.93 < row.within_two < 0.975
    assert abs(row.error) < max(0.01, row.bound / 4)
