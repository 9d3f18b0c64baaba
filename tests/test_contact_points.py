"""Contact point on approach: the four methods against known truth, their own errors, symmetries and a real curve."""

from __future__ import annotations

import numpy as np
import pytest
from real_data import real_file
from simulated import CASES, Case

from fvproc import simulate
from fvproc.contact_parts import FEWEST, attraction, best_break, local_slope, window_of
from fvproc.contact_points import METHODS, gradient, piecewise, ratio_of_variances, threshold
from fvproc.errors import FvprocError

CURVES = 150
methods = pytest.mark.parametrize("name", METHODS)
detectors = pytest.mark.parametrize("detector", [threshold, gradient, ratio_of_variances])


def approaches(
    case: Case,
    curves: int = CURVES,
    *,
    samples: int = 256,
    drive: str = "sine",
    sigma: float = 0.02,
    attraction: bool = False,
    half_angle: float | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Approach branches in surface order and nm: z (n,), d (curves, n), z0 (curves,); contact anywhere in a step."""
    probe = simulate.Probe(case.spring_constant, None if half_angle else case.tip_radius, half_angle)
    z = simulate.ramp(samples, case.travel, drive)[0]
    adhesion = case.adhesion if attraction else 0.0
    sample = simulate.Sample(*(np.full(curves, v) for v in (case.modulus, adhesion, case.peak_force)))
    generator = np.random.default_rng(seed)
    z0 = sample.contact_point(probe, float(z.max())) + generator.random(curves) * np.abs(np.diff(z)).max()
    d = simulate.deflection(z, sample, probe, z0, retract=False) * 1e9
    d = d + simulate.noise(generator, d.shape, sigma)
    return z[::-1] * 1e9, d[:, ::-1], z0 * 1e9


def bound(case: Case, z: np.ndarray, z0: np.ndarray, sigma: float) -> float:
    """Cramér-Rao bound of z0 in nm with modulus, baseline offset and tilt unknown, root mean square over contacts."""
    probe = simulate.Probe(case.spring_constant, case.tip_radius)
    compliance = float((case.spring_constant / probe.stiffness_factor(case.modulus)) ** (2 / 3)) * 1e3
    variances = []
    h = 1e-4
    for point in z0:
        nearer, farther = (simulate.load_at(compliance, z - point + shift, 1.5) for shift in (-h, h))
        softer, stiffer = (simulate.load_at(compliance * part, z - point, 1.5) for part in (1 + h, 1 - h))
        jacobian = np.stack([nearer - farther, softer - stiffer, np.ones_like(z), z - z.mean()], 1)
        jacobian[:, :2] /= 2 * h
        variances.append(np.linalg.inv(jacobian.T @ jacobian)[0, 0])
    return float(sigma * np.sqrt(np.mean(variances)))


def robust(values: np.ndarray) -> tuple[float, float]:
    """Median and scatter (interquartile range over that of a Gaussian)."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low) / 1.349


@methods
@pytest.mark.parametrize("sigma", [0.02, 0.1])
@pytest.mark.parametrize("drive", ["sine", "linear"])
@pytest.mark.parametrize("material", CASES)
def test_position_is_unbiased_and_its_error_is_true(name, material, drive, sigma):
    z, d, z0 = approaches(CASES[material], drive=drive, sigma=sigma)
    points = [METHODS[name](z, row, sigma) for row in d]
    error = np.array([point.position for point in points]) - z0
    std = np.array([point.std for point in points])
    assert np.isfinite(error).mean() > 0.98
    error, std = error[np.isfinite(error)], std[np.isfinite(error)]
    middle, scatter = robust(error)
    # four standard errors of a median, besides a quarter of the scatter
    assert abs(middle) < (0.25 + 4 * 1.2533 / np.sqrt(len(error))) * scatter
    pull = np.abs(error) / std
    # four standard deviations of a binomial fraction about 68.3 and 95.4 %
    assert abs(np.mean(pull < 1) - 0.683) < 4 * np.sqrt(0.683 * 0.317 / len(error))
    assert np.mean(pull < 2) > 0.954 - 4 * np.sqrt(0.954 * 0.046 / len(error))
    assert np.max(pull) < 6


@pytest.mark.parametrize("samples, sigma", [(64, 0.02), (256, 0.1), (1024, 0.02)])
@pytest.mark.parametrize("material", CASES)
def test_piecewise_meets_the_bound(material, samples, sigma):
    z, d, z0 = approaches(CASES[material], samples=samples, sigma=sigma, drive="linear")
    points = [piecewise(z, row, sigma) for row in d]
    best = bound(CASES[material], z, z0[:32], sigma)
    middle, scatter = robust(np.array([point.position for point in points]) - z0)
    # the scatter of 150 curves is known to 10 per cent
    assert scatter < 1.3 * best
    assert abs(middle) < 0.25 * best + 4 * 1.2533 * best / np.sqrt(CURVES)
    assert np.median([point.std for point in points]) == pytest.approx(best, rel=0.15)


@detectors
@pytest.mark.parametrize("material", ["0.7 MPa", "45 MPa"])
def test_the_fit_takes_off_what_the_bare_detection_errs_by(detector, material):
    z, d, z0 = approaches(CASES[material], 40, drive="linear")
    bare = np.array([detector(z, row, 0.02, extrapolate=False).position for row in d]) - z0
    fitted = np.array([detector(z, row, 0.02).position for row in d]) - z0
    assert np.median(np.abs(fitted)) < 0.5 * np.median(np.abs(bare))


def test_a_threshold_is_late_and_the_later_the_higher():
    z, d, z0 = approaches(CASES["45 MPa"], 40)
    late = [
        np.median([threshold(z, row, 0.02, level=level, extrapolate=False).position for row in d] - z0)
        for level in (3.0, 5.0, 10.0, 30.0)
    ]
    assert late[0] > 0
    assert np.all(np.diff(late) > 0)


def test_the_ratio_of_variances_is_centred():
    z = np.arange(400.0)[::-1] * 0.1
    d = np.maximum(z - 30.03, 0.0) + 1e-4 * np.random.default_rng(1).standard_normal(400)
    for window in (10, 20, 40):
        point = ratio_of_variances(z, d, 1e-4, window=window, extrapolate=False)
        # a rigid contact: within one step, where half a window would be five to twenty
        assert abs(point.position - 30.03) < 0.1


@methods
def test_a_shift_of_z_shifts_the_answer(name):
    z, d, _ = approaches(CASES["916 MPa"], 5)
    for row in d:
        here, there = METHODS[name](z, row, 0.02), METHODS[name](z + 1234.5, row, 0.02)
        assert there.position - 1234.5 == pytest.approx(here.position, abs=1e-6)
        assert there.std == pytest.approx(here.std, rel=1e-5)
        assert there.sample == here.sample


@methods
def test_a_change_of_the_unit_of_length_changes_nothing_else(name):
    z, d, _ = approaches(CASES["10.7 GPa"], 5)
    for row in d:
        here, there = METHODS[name](z, row, 0.02), METHODS[name](10.0 * z, 10.0 * row, 0.2)
        assert there.position == pytest.approx(10.0 * here.position, abs=1e-5)
        assert there.std == pytest.approx(10.0 * here.std, rel=1e-5)


@methods
def test_a_tilt_left_in_the_baseline_is_fitted_along(name):
    z, d, _ = approaches(CASES["916 MPa"], 5)
    for row in d:
        level, tilted = METHODS[name](z, row, 0.02), METHODS[name](z, row + 1e-4 * (z - z.mean()), 0.02)
        assert abs(tilted.position - level.position) < level.std


@methods
def test_a_cone_has_its_own_exponent(name):
    case = Case(45e6, 0.4, 0.0, 5e-9, 0.0, 150e-9)
    z, d, z0 = approaches(case, 60, half_angle=np.deg2rad(20))
    right = [METHODS[name](z, row, 0.02, exponent=2.0) for row in d]
    error = np.array([point.position for point in right]) - z0
    std = np.median([point.std for point in right])
    assert abs(np.median(error)) < (0.25 + 4 * 1.2533 / np.sqrt(60)) * std
    wrong = np.array([METHODS[name](z, row, 0.02).position for row in d]) - z0
    assert np.median(wrong) > 3 * std


@pytest.mark.parametrize("material", ["0.7 MPa", "45 MPa", "916 MPa"])
def test_attraction_is_fitted_along_by_piecewise(material):
    z, d, z0 = approaches(CASES[material], attraction=True)
    points = [piecewise(z, row, 0.02) for row in d]
    error = np.array([point.position for point in points]) - z0
    pull = np.abs(error) / np.array([point.std for point in points])
    assert np.isfinite(error).all()
    assert np.mean(pull < 2) > 0.85
    assert abs(np.median(error)) < 0.5 * robust(error)[1]


@detectors
@pytest.mark.parametrize("material", ["0.7 MPa", "45 MPa", "916 MPa"])
def test_attraction_makes_the_others_late_by_less_than_to_zero_force(detector, material):
    z, d, z0 = approaches(CASES[material], 40, attraction=True)
    positions = np.array([detector(z, row, 0.02).position for row in d])
    found = np.isfinite(positions)
    assert found.mean() > 0.7
    crossing = np.array([z[np.flatnonzero(row < 0)[0]] for row in d])
    assert np.mean((positions > z0 - 0.1)[found]) > 0.95
    assert np.mean((positions < crossing + 0.3)[found]) > 0.95


def test_a_dip_is_told_from_drift_and_ringing():
    z, d, _ = approaches(CASES["916 MPa"], 1, attraction=True, sigma=1e-6)
    pull, lowest, quiet = attraction(d[0], 0.02)
    assert pull == pytest.approx(-d[0].min(), abs=0.03)
    assert d[0, lowest] == d[0].min()
    assert lowest < quiet <= lowest + 1 + 8
    z, d, _ = approaches(CASES["916 MPa"], 1, sigma=1e-6)
    contact = int(np.flatnonzero(d[0] < 1e-3)[0])
    drift, ringing = d[0].copy(), d[0].copy()
    drift[contact:] -= 0.5 * np.sin(np.linspace(0.0, np.pi, len(z) - contact))
    ringing[contact:] += 0.5 * np.sin(2.5 * np.arange(len(z) - contact)) * np.exp(-np.arange(len(z) - contact) / 40)
    for spoiled in (drift, ringing):
        assert spoiled[contact:].min() < -0.3
        assert attraction(spoiled, 0.02)[0] == 0.0


@methods
def test_no_contact_is_not_found(name):
    generator = np.random.default_rng(3)
    z = simulate.ramp(512, 100.0, "sine")[0][::-1]
    for _ in range(20):
        point = METHODS[name](z, 0.05 * generator.standard_normal(512), 0.05)
        assert not point.found
        assert point.sample == 0
        assert np.isnan(point.std)


@methods
def test_a_branch_that_is_all_contact_is_not_found(name):
    z = np.linspace(100.0, 60.0, 128)
    assert not METHODS[name](z, z - 50.0, 0.02).found


@methods
@pytest.mark.parametrize(
    "change, said",
    [
        ({"d": np.zeros(99)}, r"d has shape \(99,\)"),
        ({"z": np.zeros((2, 100))}, r"z has shape \(2, 100\)"),
        ({"noise": 0.0}, r"noise = 0\.0"),
        ({"noise": float("nan")}, "noise = nan"),
        ({"exponent": 1.0}, r"exponent = 1\.0"),
    ],
)
def test_a_bad_request_is_refused_with_the_remedy(name, change, said):
    good = {"z": np.linspace(100.0, 0.0, 100), "d": np.zeros(100), "noise": 0.02}
    with pytest.raises(FvprocError, match=said):
        METHODS[name](**{**good, **change})


@methods
@pytest.mark.parametrize("samples", [3, 12, 19])
def test_a_short_or_standing_branch_has_no_contact(name, samples):
    z = np.linspace(100.0, 0.0, samples)
    assert not METHODS[name](z, np.maximum(z - 50.0, 0.0), 0.02).found
    assert not METHODS[name](np.full(100, 5.0), np.linspace(1.0, 0.0, 100), 0.02).found


@methods
def test_steps_of_z_that_stand_still_do_no_harm(name):
    z, d, _ = approaches(CASES["916 MPa"], 5)
    for row in d:
        once, twice = METHODS[name](z, row, 0.02), METHODS[name](np.repeat(z, 2), np.repeat(row, 2), 0.02)
        assert abs(once.position - twice.position) < 2 * once.std


def test_window_in_samples_or_as_a_part():
    assert window_of(256, 1 / 16) == 16
    assert window_of(256, 24) == 24
    assert window_of(32, 1 / 16) == FEWEST
    assert window_of(256, 0.9) == 64


def test_best_break_is_that_of_a_search_over_all():
    z, d, _ = approaches(CASES["916 MPa"], 3, samples=64, sigma=0.3, drive="linear")
    for row in d:
        costs = []
        for b in range(4, 60):
            x = z[:b] - z[b]
            (alpha, gamma), *_ = np.linalg.lstsq(np.stack([x, x * x], 1), row[:b], rcond=None)
            if alpha < 0:
                alpha, gamma = 0.0, float(row[:b] @ x**2) / float(x**2 @ x**2)
            costs.append(np.sum((row[:b] - alpha * x - gamma * x * x) ** 2) + np.sum(row[b:] ** 2))
        assert best_break(z, row, 4, 59) == 4 + int(np.argmin(costs))


def test_local_slope_is_that_of_a_fit_to_each_run():
    z, d, _ = approaches(CASES["45 MPa"], 1, samples=64)
    centre, slope, spread = local_slope(z, d[0], 9)
    for i in range(len(slope)):
        run = z[i : i + 9]
        assert slope[i] == pytest.approx(np.polyfit(run - run.mean(), d[0, i : i + 9], 1)[0], abs=1e-9)
        assert centre[i] == pytest.approx(run.mean())
        assert spread[i] == pytest.approx(np.sum((run - run.mean()) ** 2))


@methods
def test_contact_index_of_a_real_curve(name):
    """Six methods of other programs put the contact of this curve between samples 1895 and 1919 of 2000."""
    path = real_file("jpk/fmt-jpk-fd_spot3-0192.jpk-force")
    afmformats = pytest.importorskip("afmformats", reason="afmformats reads the JPK file")
    curve = afmformats.load_data(path)[0]
    approach = np.asarray(curve["segment"]) == 0
    z = -np.asarray(curve["height (measured)"])[approach][::-1] * 1e9
    d = np.asarray(curve["force"])[approach][::-1] / curve.metadata["spring constant"] * 1e9
    far = slice(1400, None)
    line = np.polyfit(z[far] - z[0], d[far], 1)
    d = d - np.polyval(line, z - z[0])
    point = METHODS[name](z, d, float(d[far].std()))
    assert 1895 <= len(z) - np.count_nonzero(z > point.position) <= 1919
