"""The noise of a map, measured on some of its curves: what is found, and that errors made of it are true."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.linalg import toeplitz
from simulated import CASES, measure
from test_kernel_truth import COLOURS

import fvproc as fv
from fvproc import _core, cli, engine, noise, provenance, quantities, reference, sampling, simulate, writers
from fvproc.recipe import Noise, Recipe
from fvproc.reference.covariance import CORRELATIONS
from fvproc.simulate.noise import power_law_noise

CORRELATED = np.uint32(fv.Flag.NOISE_CORRELATED)
WHITE = (1.0,) + (0.0,) * 7


def known(measured, found=None):
    """The settings of a measurement with the noise of its map."""
    found = found or noise.measured_on(measured.raw, measured.volume, measured.recipe)
    return _core.kernel_settings(measured.volume, replace(measured.recipe, noise=found))


# ---- what is found


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("samples", [24, 64, 200])
def test_allan_variances_of_components_are_those_of_their_whole_covariance(samples, order):
    """Of residuals about a line that runs unevenly in time, as that of a sinusoidal ramp does."""
    z = np.cos(np.linspace(0.1, 1.5, samples))
    settings = replace(measure(CASES["45 MPa"], curves=1).settings, baseline_order=order)
    widths = int(np.log2(samples // 2)) + 1
    made = noise._allan_of_components(z, widths, settings)
    line = np.stack([np.ones(samples), z][: 1 + order], 1)
    rest = np.eye(samples) - line @ np.linalg.pinv(line)
    for j, correlation in enumerate(CORRELATIONS):
        covariance = rest @ toeplitz(correlation ** np.arange(samples)) @ rest
        for level in range(widths):
            width, step = 2**level, max(2**level // 2, 1)
            rows = []
            for start in range(0, samples // step * step - 2 * width + 1, step):
                row = np.zeros(samples)
                row[start : start + width], row[start + width : start + 2 * width] = -1 / width, 1 / width
                rows.append(0.5 * row @ covariance @ row)
            # what the line takes from means narrower than a sixty-fourth of it is left out
            np.testing.assert_allclose(made[level, j], np.mean(rows), rtol=0.05, atol=2e-3)


def test_white_noise_is_found_white():
    measured = measure(CASES["45 MPa"], curves=240)
    found = noise.measured_on(measured.raw, measured.volume, measured.recipe)
    assert found == Noise(approach=WHITE, retract=WHITE)
    assert known(measured).noise is None  # each curve goes on telling its own
    assert known(measured, Noise("curve", found.approach, found.retract)).noise is None


@pytest.mark.parametrize("correlation", [0.4, 0.6, 0.8])
def test_the_variance_of_a_long_mean_is_found(correlation):
    measured = measure(CASES["45 MPa"], curves=240, samples=512, correlation=correlation)
    found = noise.measured_on(measured.raw, measured.volume, measured.recipe)
    for components in (found.approach, found.retract):
        # per Allan variance of neighbours, 1 − ρ of the noise's
        of_long_mean = np.array(components) @ ((1 + CORRELATIONS) / (1 - CORRELATIONS)) * (1 - correlation)
        assert of_long_mean == pytest.approx((1 + correlation) / (1 - correlation), rel=0.2)


def test_curves_apart_from_the_rest_do_not_make_the_noise_of_the_map():
    measured = measure(CASES["45 MPa"], curves=240)
    deflection = measured.raw.retract.deflection
    drift = 400.0 * np.sin(np.linspace(0, 9, deflection.shape[1]))
    deflection[::40] += drift.astype(deflection.dtype)
    assert noise.measured_on(measured.raw, measured.volume, measured.recipe).retract == WHITE


def test_of_few_curves_each_tells_its_own():
    measured = measure(CASES["45 MPa"], curves=noise.FEWEST - 1, correlation=0.6)
    assert noise.measured_on(measured.raw, measured.volume, measured.recipe) == Noise()
    alone = replace(measured.recipe, noise=Noise("curve"))
    many = measure(CASES["45 MPa"], curves=64, correlation=0.6)
    assert noise.measured_on(many.raw, many.volume, alone) == Noise("curve")


def test_curves_without_contact_tell_nothing():
    measured = measure(CASES["45 MPa"], curves=64, correlation=0.6)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[...] = 0
    variances, samples = _core.allan_variances(measured.raw, measured.settings)
    assert not variances.any() and not samples.any()
    assert noise.measured_on(measured.raw, measured.volume, measured.recipe) == Noise()


@pytest.mark.parametrize("scale", [1e-290, 1e280])
def test_a_scale_that_no_instrument_has_tells_nothing(scale):
    measured = measure(CASES["45 MPa"], curves=64, correlation=0.6)
    branches = [
        replace(branch, deflection=replace(branch.deflection, scale=scale))
        for branch in (measured.volume.approach, measured.volume.retract)
    ]
    volume = replace(measured.volume, approach=branches[0], retract=branches[1])
    assert noise.measured_on(measured.raw, volume, measured.recipe) in (Noise(), Noise("map", WHITE, WHITE))


# ---- what is made of it


@pytest.mark.parametrize("samples", [64, 256, 2048])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", ["45 MPa", "1.5 GPa"])
def test_errors_are_true_under_correlated_noise(name, colour, samples):
    """Each curve on its own told its slow noise badly: of 1/f noise 88 to 93 % lay within two errors."""
    case = CASES[name]
    measured = measure(case, curves=3000, samples=samples, **COLOURS[colour])
    records = _core.fit_tile(measured.raw, known(measured))
    assert np.all(records["flags"] & CORRELATED)
    pull = np.abs(records["modulus"] - case.modulus) / records["modulus_std"]
    # some four standard errors of 3000 curves; the map's noise is known to a few per cent
    assert 0.63 < np.mean(pull < 1) < 0.74
    assert 0.93 < np.mean(pull < 2) < 0.975


def test_slow_noise_ends_the_baseline_no_longer():
    """A block of it lies far from the far part's line, and was taken for contact: half of the samples went unused."""
    measured = measure(CASES["45 MPa"], curves=200, samples=2048, **COLOURS["1/f"])
    _, alone = _core.allan_variances(measured.raw, measured.settings)
    _, samples = _core.allan_variances(measured.raw, known(measured))
    assert np.mean(alone[:, 1] < 1200) > 0.25
    assert np.percentile(samples[:, 1], 5) > 1450


def test_contact_still_ends_the_baseline():
    """However far slow noise lets a line be off: a block that leaves its neighbour is contact."""
    case = CASES["70 GPa"]
    measured = measure(case, curves=400, samples=64, sigma=5e-11, correlation=0.6)
    _, samples = _core.allan_variances(measured.raw, known(measured))
    inside = (measured.raw.retract.z[None, :] > measured.z0[:, None]).sum(1)
    assert np.mean(samples[:, 1] > 64 - inside) < 0.02


ERRORS = ("modulus", "modulus_std", "adhesion_std", "contact_point_std", "approach_contact_point_std")


@pytest.mark.parametrize("recipe", [{}, {"fit": {"branch": "approach"}}, {"baseline": {"order": 0}}])
@pytest.mark.parametrize("colour", COLOURS)
def test_kernel_and_reference_agree(colour, recipe):
    many = measure(CASES["45 MPa"], curves=240, tilt=0.0, **COLOURS[colour], **recipe)
    measured = measure(CASES["45 MPa"], curves=40, tilt=0.0, seed=1, **COLOURS[colour], **recipe)
    settings = known(many)
    assert settings.noise is not None
    kernel, twin = (fit(measured.raw, settings) for fit in (_core.fit_tile, reference.fit_tile))
    assert np.all(kernel["flags"] & CORRELATED)
    same = kernel["flags"] == twin["flags"]
    assert same.mean() > 0.9
    for name in ERRORS:
        ratio = kernel[name][same].astype(float) / twin[name][same]
        np.testing.assert_allclose(np.median(ratio), 1.0, atol=5e-4, err_msg=name)
        assert np.mean(np.abs(ratio - 1.0) < 0.01) > 0.85, name


def test_a_z_for_each_curve_changes_nothing():
    measured = measure(CASES["45 MPa"], curves=40, **COLOURS["1/f"])
    settings = known(measured)
    each = [
        type(branch)(branch.deflection, np.ascontiguousarray(np.broadcast_to(branch.z, branch.deflection.shape)))
        for branch in (measured.raw.approach, measured.raw.retract)
    ]
    own = type(measured.raw)(*each)
    assert _core.fit_tile(own, settings).tobytes() == _core.fit_tile(measured.raw, settings).tobytes()
    again = noise.measured_on(own, measured.volume, measured.recipe)
    assert known(measured, again).noise == settings.noise


# ---- whole maps


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory):
    """Curves file of 12 × 10 pixels with 1/f noise."""
    path = tmp_path_factory.mktemp("slow") / "slow.h5"
    simulate.sei_map(path, ny=12, nx=10, samples=128, seed=3)
    generator = np.random.default_rng(1)
    with h5py.File(path, "r+") as file:
        for name in ("approach", "retract"):
            data = file[f"{name}/deflection"]
            made = power_law_noise(generator, data.shape, 300.0)
            data[...] = np.clip(np.rint(data[...] + made), -32767, 32767).astype(data.dtype)
    return path


def test_a_map_keeps_what_was_measured_and_makes_the_same_bytes_again(slow_file, tmp_path):
    volume = fv.open(slow_file)
    maps = fv.process(volume, threads=1, output=tmp_path / "out.h5")
    assert np.mean((maps.flags & CORRELATED) != 0) > 0.9
    kept = provenance.recipe_of(writers.load(tmp_path / "out.h5").provenance)
    assert kept.noise.approach is not None and any(kept.noise.retract[1:])
    # the recipe with its noise, a cluster's way, a graph's way, another size of tile
    assert fv.process(volume, kept, threads=1).records.tobytes() == maps.records.tobytes()
    assert fv.process(volume, threads=2, tile_bytes=4000).records.tobytes() == maps.records.tobytes()
    assert np.asarray(fv.lazy(volume)).tobytes() == maps.records.tobytes()
    y, x = np.argwhere(np.isfinite(maps["modulus"]))[0]
    assert fv.explain(volume, None, int(y), int(x)).record.tobytes() == maps.records[y, x].tobytes()


def test_one_curve_after_another_asks_for_the_noise_once(slow_file, monkeypatch):
    volume, other = fv.open(slow_file), fv.open(slow_file)
    honest, calls = noise.measured_on, []
    monkeypatch.setattr(noise, "measured_on", lambda *of: calls.append(of) or honest(*of))
    first = [fv.explain(volume, None, 1, x).record.tobytes() for x in range(4)]
    assert len(calls) == 1
    fv.explain(volume, Recipe.from_dict({"baseline": {"order": 0}}), 1, 1)
    assert [fv.explain(other, None, 1, x).record.tobytes() for x in range(4)] == first
    assert len(calls) == 3


def test_a_recipe_out_of_an_output_measures_the_noise_of_its_new_file(slow_file, sei_file, tmp_path):
    first, again = tmp_path / "first.h5", tmp_path / "again.h5"
    other = tmp_path / "other.h5"
    assert cli.main(["run", str(slow_file), "-o", str(first), "--quiet"]) == 0
    assert cli.main(["run", str(slow_file), "-o", str(again), "--quiet", "--recipe", str(first)]) == 0
    assert cli.main(["run", str(sei_file), "-o", str(other), "--quiet", "--recipe", str(first)]) == 0
    assert writers.load(again).records.tobytes() == writers.load(first).records.tobytes()
    assert provenance.recipe_of(writers.load(other).provenance).noise == Noise("map", WHITE, WHITE)


def test_each_curve_tells_its_own_noise_where_it_is_asked_to(slow_file, tmp_path):
    out = tmp_path / "out.h5"
    assert cli.main(["run", str(slow_file), "-o", str(out), "--quiet", "--noise-correlation", "curve"]) == 0
    assert provenance.recipe_of(writers.load(out).provenance).noise == Noise("curve")


def test_curves_of_a_map_with_slow_noise_are_ordinary_ones(slow_file):
    """All of them have a flag that says nothing against them: systematic errors and pictures still choose the best."""
    maps = fv.process(slow_file, threads=1)
    usual = quantities.ordinary(maps.flags)
    assert usual.sum() > 5 and not (maps.flags == 0).any()
    y, x = engine.typical_pixel(maps.flags, maps["modulus"])
    assert usual[y, x]


def test_curves_in_memory_tell_it_too():
    measured = measure(CASES["45 MPa"], curves=64, dtype="float32", **COLOURS["1/f"])
    z = measured.raw.approach.z, measured.raw.retract.z
    deflection = measured.raw.approach.deflection, measured.raw.retract.deflection
    recipe = Recipe.from_dict({"tip": {"radius": CASES["45 MPa"].tip_radius}})
    records = fv.fit_curves(z, deflection, calibration=CASES["45 MPa"].spring_constant, recipe=recipe)
    assert np.all(records["flags"] & CORRELATED)
    few = fv.fit_curves(
        z, tuple(each[:8] for each in deflection), calibration=CASES["45 MPa"].spring_constant, recipe=recipe
    )
    assert np.any(few["modulus_std"] != records["modulus_std"][:8])


def test_curves_that_cannot_be_read_are_left_out(slow_file, tmp_path, monkeypatch):
    volume = fv.open(slow_file)
    recipe = Recipe().completed(volume)
    honest, calls = sampling.read, []

    def read(volume, numbers):
        calls.append(len(numbers))
        raise OSError("gone")

    monkeypatch.setattr(noise, "_last", [])
    monkeypatch.setattr(sampling, "read", read)
    assert noise.measured(volume, recipe) == Noise() and calls
    calls.clear()
    few = replace(volume, grid=replace(volume.grid, ny=1, nx=noise.FEWEST - 1))
    assert noise.measured(few, recipe) == Noise() and not calls  # too few to tell: not read for nothing
    monkeypatch.setattr(sampling, "read", honest)
    noise._last.clear()
    assert noise.measured(volume, recipe) != Noise()


# ---- as a setting


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"approach": [1.0] * 7, "retract": [1.0] * 8}, "noise.approach = .*: expected 8 variances"),
        ({"approach": [1.0] * 8}, "give both, or neither"),
        ({"approach": [0.0] * 8, "retract": [1.0] * 8}, "one above zero"),
        ({"approach": [-1.0] * 8, "retract": [1.0] * 8}, "none negative"),
        ({"approach": [float("nan")] * 8, "retract": [1.0] * 8}, "finite"),
        ({"correlation": "none"}, "noise.correlation = 'none': choose from map, curve"),
    ],
)
def test_what_is_no_noise_is_refused(settings, words):
    with pytest.raises(fv.RecipeError, match=words):
        Recipe.from_dict({"noise": settings})


def test_noise_survives_json_and_toml(tmp_path):
    recipe = Recipe.from_dict({"noise": {"approach": WHITE, "retract": [0.1, 0, 0, 0, 0, 0, 0, 2.5]}})
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(comments=True), encoding="utf-8")
    assert Recipe.load(path) == recipe
