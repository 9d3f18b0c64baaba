"""Calibration on simulated reference samples of known truth, and what a run makes of the file it writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import calibration_file, engine, simulate, systematic
from fvproc.cli import main
from fvproc.errors import CalibrationError, RecipeError
from fvproc.volume import Setting, Tile

PROBE = simulate.Probe(5.0, 30e-9)
SENSITIVITY = 5e-8


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A map of 300 MPa, R = 30 nm."""
    path = tmp_path_factory.mktemp("reference") / "ps.h5"
    simulate.write_map(path, ny=20, nx=20, modulus=3e8, probe=PROBE, samples=256)
    return path


def hard(modulus=400e9, tilt=0.0, seed=0, friction=0.0, curves=50):
    """A volume in V of curves on a hard sample."""
    random = np.random.default_rng(seed)
    probe = simulate.Probe(40.0, 30e-9)
    ones = np.ones(curves)
    sample = simulate.Sample(modulus * ones, 30e-9 * ones, 2e-6 * ones)
    z = simulate.ramp(512, 200e-9, "linear")
    z0 = sample.contact_point(probe, 200e-9)
    volts = []
    for branch, retract in zip(z, (False, True), strict=True):
        d = simulate.deflection(branch, sample, probe, z0, retract=retract)
        d = d * (1.0 + friction * (1 if retract else -1)) + tilt * branch + random.normal(0, 5e-11, d.shape)
        volts.append(d / SENSITIVITY)
    return fv.from_arrays(*volts, z=z, units="V", z_units="m", spring_constant=40.0)


def test_a_hard_sample_gives_the_sensitivity(tmp_path):
    stiff = replace(hard(modulus=400e12), tip_radius=None)
    found = fv.calibrate_sensitivity(stiff)
    assert found.value == pytest.approx(SENSITIVITY, rel=5e-4)
    assert abs(found.value / SENSITIVITY - 1) < 4 * found.rel_std + 1e-4
    assert found.rel_std < 2e-3 and found.curves == 50
    assert "unknown" in found.notes["compliance"]


def test_a_tilted_baseline_is_taken_off():
    assert fv.calibrate_sensitivity(hard(modulus=400e12, tilt=0.03)).value == pytest.approx(SENSITIVITY, rel=1e-3)


def straight(noise, drive="sine", samples=256, curves=400, contact=10e-9, limit=1.0, seed=1):
    """A volume in V of curves whose deflection is z − z0 in contact, up to a limit, and nothing but noise elsewhere."""
    random = np.random.default_rng(seed)
    volts = []
    z = simulate.ramp(samples, 100e-9, drive)
    z0 = 100e-9 - contact + random.uniform(-0.5e-9, 0.5e-9, (curves, 1))
    for branch in z:
        d = np.clip(branch - z0, 0.0, limit * contact) + random.normal(0.0, noise, (curves, samples))
        volts.append(d / SENSITIVITY)
    return fv.from_arrays(*volts, z=z, units="V", z_units="m", spring_constant=1.0)


@pytest.mark.parametrize(
    ("drive", "samples"), [("sine", 64), ("sine", 256), ("sine", 2048), ("linear", 128), ("linear", 2048)]
)
@pytest.mark.parametrize("noise", [0.02e-9, 0.2e-9, 1e-9])
def test_noise_makes_the_sensitivity_uncertain_and_not_too_large(drive, samples, noise):
    """Samples chosen by their own deflection gave 20 % too much where the noise is a tenth of the peak."""
    found = [fv.calibrate_sensitivity(straight(noise, drive, samples, 200, seed=seed)) for seed in range(4)]
    stated = np.mean([one.rel_std for one in found])
    assert abs(np.mean([one.value / SENSITIVITY - 1 for one in found])) < 1.25 * stated  # 2.5 σ of such a mean
    # 6 nm of z hold about 6 % of the samples, and tell a slope so well; both branches, their difference
    assert stated < 15 * noise / 10e-9 / math.sqrt(samples * 200 * 0.06)


@pytest.mark.parametrize("curves", [1, 3])
def test_a_few_curves_tell_how_little_they_know(curves):
    """Over maps of so few the value is off by its stated uncertainty, or less: of a single one it was 0."""
    found = [fv.calibrate_sensitivity(straight(0.2e-9, curves=curves, seed=seed)) for seed in range(40)]
    off = np.array([abs(one.value / SENSITIVITY - 1) / one.rel_std for one in found])
    assert np.mean(off < 1) > 0.65 and np.mean(off < 2) > 0.94
    assert min(one.parts["scatter"] for one in found) > 2e-3


@pytest.mark.parametrize("limit", [0.9, 0.5, 0.2])
def test_a_photodiode_at_its_end_is_left_out(limit):
    found = fv.calibrate_sensitivity(straight(0.05e-9, "linear", 512, contact=60e-9, limit=limit))
    assert found.value == pytest.approx(SENSITIVITY, rel=1e-3)
    assert found.notes["peak_volts"] == pytest.approx(limit * 60e-9 / SENSITIVITY, rel=0.1)


def test_curves_without_values_or_contact_do_not_count():
    volume = straight(0.1e-9, curves=60)
    raw = engine.read_tile(volume, Tile(0, 60))
    volts = np.stack([raw.approach.deflection, raw.retract.deflection]).astype(float)
    assert fv.calibrate_sensitivity(volume).curves == 60
    volts[:, :20] = np.random.default_rng(0).normal(0.0, 1e-3, volts[:, :20].shape)
    volts[:, 20:25] = np.nan
    z = simulate.ramp(256, 100e-9, "sine")
    mixed = fv.from_arrays(*volts, z=z, units="V", z_units="m", spring_constant=1.0)
    found = fv.calibrate_sensitivity(mixed)
    assert found.curves == 35 and found.value == pytest.approx(SENSITIVITY, rel=5e-3)


def test_the_contact_s_own_compliance_is_corrected():
    volume = replace(hard(), tip_radius=Setting(30e-9, "user"))
    plain, corrected = fv.calibrate_sensitivity(hard()), fv.calibrate_sensitivity(volume)
    assert plain.value / SENSITIVITY - 1 > 0.01  # some of the piezo's way went into the sample
    assert abs(corrected.value / SENSITIVITY - 1) < 0.3 * (plain.value / SENSITIVITY - 1)
    assert abs(corrected.value / SENSITIVITY - 1) < 2 * corrected.rel_std


def test_branches_that_differ_are_told():
    found = fv.calibrate_sensitivity(hard(modulus=400e12, friction=0.02))
    assert found.parts["branches"] == pytest.approx(0.02, rel=0.05)
    assert found.value == pytest.approx(SENSITIVITY, rel=1e-3)


def test_curves_that_press_on_nothing_are_refused():
    volume = hard()
    flat = np.random.default_rng(0).normal(0, 1e-3, (5, 512))
    z = simulate.ramp(512, 200e-9, "linear")
    nothing = fv.from_arrays(flat, flat, z=z, units="V", z_units="m", spring_constant=40.0)
    with pytest.raises(CalibrationError, match="no curve presses on anything"):
        fv.calibrate_sensitivity(nothing)
    metres = fv.from_arrays(flat, flat, z=z, units="m", z_units="m", spring_constant=40.0)
    with pytest.raises(CalibrationError, match="the volts are lost"):
        fv.calibrate_sensitivity(metres)
    assert volume.format == "arrays"


@pytest.mark.parametrize("begin", [5e-9, 30e-9, 4e-7])
def test_a_sample_of_known_modulus_gives_the_radius(reference, begin):
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=begin))
    found = fv.calibrate_tip(fv.open(reference), 3e8, modulus_rel_std=0.03, recipe=recipe)
    assert found.name == "tip_radius"
    assert found.value == pytest.approx(PROBE.tip_radius, rel=0.01)
    assert found.parts["reference"] == pytest.approx(0.06, rel=1e-3)  # E goes as R to the power -1/2
    assert abs(found.value / PROBE.tip_radius - 1) < 2 * math.hypot(found.parts["scatter"], found.parts["estimator"])


def test_a_cone(tmp_path):
    path = tmp_path / "cone.h5"
    simulate.write_map(path, ny=8, nx=8, modulus=3e8, samples=256)
    recipe = fv.Recipe.from_dict({"tip": {"shape": "cone", "half_angle": 0.2}, "fit": {"model": "sneddon_cone"}})
    found = fv.calibrate_tip(fv.open(path), 3e8, recipe=recipe)
    assert found.name == "tip_half_angle"
    again = fv.process(path, replace(recipe, tip=fv.Tip.cone(half_angle=found.value)))
    clean = again["modulus"][np.isfinite(again["modulus"])]
    assert np.median(clean) == pytest.approx(3e8, rel=1e-3)


def noisy(path, sigma):
    """A map of 6 GPa without adhesion, too stiff for a cantilever of 5 N/m at that noise, and the recipe for it."""
    simulate.write_map(
        path, ny=24, nx=24, modulus=6e9, adhesion=0.0, probe=PROBE, samples=256, sigma=sigma, spread=2e-9, seed=3
    )
    return fv.open(path), fv.Recipe.from_dict({"fit": {"model": "hertz"}})


def test_curves_that_noise_leaves_without_a_bound_are_counted_in_the_uncertainty(tmp_path):
    """They say no more than "stiffer than": the median of the others is too low, and so is the radius."""
    volume, recipe = noisy(tmp_path / "noisy.h5", 0.16e-9)
    found = fv.calibrate_tip(volume, 6e9, recipe=recipe)
    assert found.value < 0.9 * PROBE.tip_radius
    assert abs(found.value / PROBE.tip_radius - 1) < found.rel_std
    volume, recipe = noisy(tmp_path / "noisier.h5", 0.4e-9)
    with pytest.raises(CalibrationError, match=r"noise hides how stiff \d+ of 576 curves are.*stiffer cantilever"):
        fv.calibrate_tip(volume, 6e9, recipe=recipe)


def test_errors_of_the_spring_constant_cancel_in_the_next_sample(reference, tmp_path):
    """The relative method: k is 20 % off, the modulus of another sample is right all the same."""
    other = tmp_path / "other.h5"
    simulate.write_map(other, ny=12, nx=12, modulus=1e8, probe=PROBE, samples=256)
    wrong = {"spring_constant": 6.0}
    plain = np.nanmedian(fv.process(fv.open(other, **wrong))["modulus"])
    calibration = tmp_path / "cal.toml"
    calibration_file.write(calibration, fv.calibrate_tip(fv.open(reference, **wrong), 3e8))
    volume = fv.open(other, calibration=calibration, **wrong)
    mended = np.nanmedian(fv.process(volume)["modulus"])
    assert abs(plain / 1e8 - 1) > 0.1
    assert mended == pytest.approx(1e8, rel=0.03)


def test_systematic_errors_know_that_they_cancel(reference, tmp_path):
    calibration = tmp_path / "cal.toml"
    found = fv.calibrate_tip(fv.open(reference), 3e8, modulus_rel_std=0.03)
    calibration_file.write(calibration, found)
    volume = fv.open(reference, calibration=calibration, rel_std={"spring_constant": 0.1})
    maps = fv.process(volume)
    errors = systematic.systematic_errors(volume, fv.Recipe().completed(volume), maps)
    assert errors["modulus"].rel_std == pytest.approx(0.03, rel=0.15)  # that of the reference sample
    assert errors["adhesion"].parts["spring_constant"] == pytest.approx(0.1, rel=0.02)  # no radius in it
    alone = fv.open(reference, rel_std={"spring_constant": 0.1})
    assert systematic.systematic_errors(alone, fv.Recipe().completed(alone), maps)["modulus"].rel_std > 0.08


def test_a_tip_found_with_other_values_is_taken_with_a_warning(reference, tmp_path):
    calibration = tmp_path / "cal.toml"
    calibration_file.write(calibration, fv.calibrate_tip(fv.open(reference), 3e8))
    volume = fv.open(reference, calibration=calibration, spring_constant=5.5)
    assert any("was calibrated with spring_constant = 5 N/m, this file has 5.5" in text for text in volume.warnings)
    assert not volume.tip_depends
    assert fv.open(reference, calibration=calibration).tip_depends["spring_constant"] == pytest.approx(2.0, rel=0.5)


def test_the_file_comes_back_and_keeps_its_other_entries(reference, tmp_path):
    path = tmp_path / "cal.toml"
    first = fv.calibrate_tip(fv.open(reference), 3e8, modulus_rel_std=0.02)
    calibration_file.write(path, first)
    second = fv.calibrate_sensitivity(hard())
    calibration_file.write(path, second)
    entries = calibration_file.read(path)
    assert set(entries) == {"tip_radius", "deflection_sensitivity"}
    assert entries["tip_radius"].to_dict() == first.to_dict()
    assert entries["deflection_sensitivity"].to_dict() == second.to_dict()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no calibration file"),
        ("= 3", "no calibration file can be read"),
        ('format = "fvproc-calibration"\nversion = 9', "version = 9"),
        ('format = "fvproc-calibration"\nversion = 1\n[radius]\nvalue = 1', r"\[radius\] is nothing"),
        ('format = "fvproc-calibration"\nversion = 1\n[tip_radius]\nvalue = -1', r"\[tip_radius\]: .*above zero"),
        ('format = "fvproc-calibration"\nversion = 1\n[tip_radius]', r"\[tip_radius\]: no 'value'"),
        ('format = "fvproc-calibration"\nversion = 1\n[tip_radius]\nvalue = 10\nunit = "nm"', r"unit = 'nm'"),
        ('format = "fvproc-calibration"\nversion = 1\ntip_radius = 3', r"\[tip_radius\]"),
    ],
)
def test_files_that_are_none_are_named(reference, tmp_path, text, words):
    path = tmp_path / "cal.toml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=f"cal.toml: .*{words}"):
        fv.open(reference, calibration=path)


def test_nonsense_is_refused(reference):
    volume = fv.open(reference)
    with pytest.raises(CalibrationError, match="above zero"):
        fv.calibrate_tip(volume, -1.0)
    with pytest.raises(CalibrationError, match="0 to 1"):
        fv.calibrate_tip(volume, 1e9, modulus_rel_std=3.0)
    punch = fv.Recipe.from_dict({"tip": {"shape": "punch", "radius": 1e-8}, "fit": {"model": "punch"}})
    with pytest.raises(RecipeError, match="punch"):
        fv.calibrate_tip(volume, 1e9, recipe=punch)


def test_the_command_line_writes_what_a_run_takes(reference, tmp_path, capsys):
    path = tmp_path / "cal.toml"
    arguments = ["calibrate", "tip", reference, "--modulus", "300MPa", "--modulus-rel-std", "3%", "-o", path]
    assert main([str(argument) for argument in arguments]) == 0
    assert "tip radius: 29.8" in capsys.readouterr().out
    assert main(["run", str(reference), "-o", str(tmp_path / "out.h5"), "--calibration", str(path), "--json"]) == 0
    capsys.readouterr()
    provenance = fv.load(tmp_path / "out.h5").provenance
    assert provenance["recipe"]["tip"]["radius"] == pytest.approx(30e-9, rel=0.01)
    assert provenance["systematic"]["sources"]["tip_radius"] == pytest.approx(0.06, rel=0.05)
    fv.convert(hard(), tmp_path / "hard.h5")
    assert main(["calibrate", "sensitivity", str(tmp_path / "hard.h5"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "deflection_sensitivity" and told["unit"] == "m/V"


def test_a_real_curve_on_sapphire():
    """One curve whose slope in contact is 1.4: the sensitivity in the file is too large by that."""
    volume = fv.open(real_file("bruker/sapphire_single_v8.001"))
    found = fv.calibrate_sensitivity(volume)
    assert found.curves == 1
    assert 45e-9 < found.value < 60e-9 < volume.calibration.deflection_sensitivity.value
    assert 0.1 < found.rel_std < 0.2  # its branches differ, and it says so
    assert math.isclose(found.notes["before"], 7.276923e-08)
