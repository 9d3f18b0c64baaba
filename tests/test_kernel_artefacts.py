"""Artefacts of real curves: each is flagged or taken off, by kernel and twin alike, and ordinary curves are not."""

from __future__ import annotations

from dataclasses import replace

import artefacts
import numpy as np
import pytest
from simulated import CASES, Case, measure

from fvproc import _core, reference, simulate
from fvproc.errors import RecipeError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.volume import RawBranch, RawTile

SOFT = Case(45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9)
LONG = Case(45e6, 0.4, 30e-9, 5e-9, 1e-9, 1e-6)
FITS = {"kernel": _core.fit_tile, "reference": reference.fit_tile}


def flagged(records, flag):
    return (records["flags"] & np.uint32(flag)) != 0


def bias(measured, records):
    return np.median(records["modulus"]) / measured.sample.modulus[0] - 1.0


@pytest.fixture(params=FITS.values(), ids=FITS.keys())
def fit(request):
    return request.param


# ---- spikes


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [-3.0, 3.0])
@pytest.mark.parametrize("where", [20, 120, 200])
def test_a_spike_is_bridged_and_flagged(fit, where, height, width):
    clean, spoilt = measure(SOFT, curves=4), measure(SOFT, curves=4)
    artefacts.add(spoilt, "retract", np.arange(where, where + width), height)
    expected, records = fit(clean.raw, clean.settings), fit(spoilt.raw, spoilt.settings)
    assert not flagged(expected, Flag.SPIKES).any() and flagged(records, Flag.SPIKES).all()
    for name in ("modulus", "adhesion", "baseline_noise", "dissipation"):
        np.testing.assert_allclose(records[name], expected[name], rtol=0.05)


def test_more_spikes_than_one_sample_in_64_stay(fit):
    measured = measure(SOFT, curves=2)
    artefacts.add(measured, "retract", np.arange(100, 250, 20), 3.0)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.SPIKES).all() and flagged(records, Flag.POOR_FIT).all()
    assert np.all(records["baseline_noise"] > 0.4 * 0.2e-9), "the samples are as they were"


def test_a_stiff_pull_off_of_one_sample_is_no_spike(fit):
    measured = measure(CASES["70 GPa"], curves=20, samples=128, drive="linear", sigma=5e-12)
    assert not flagged(fit(measured.raw, measured.settings), Flag.SPIKES).any()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("sigma", [0.0, 1e-13, 1e-12])
def test_a_quiet_converter_makes_no_spikes(sigma, dtype):
    for case in CASES.values():
        measured = measure(case, curves=50, sigma=sigma, dtype=dtype)
        assert not flagged(_core.fit_tile(measured.raw, measured.settings), Flag.SPIKES).any()


@pytest.mark.parametrize("where", [0, 1, 2, 3, 40, 150, 252, 253, 254, 255])
@pytest.mark.parametrize("base, outlier", [(20000, -32768), (-20000, 32767), (10000, -22768)])
def test_integers_farther_apart_than_16_bits_say_what_wider_ones_say(base, outlier, where):
    """Beside spikes of all heights: which of them are flagged depends on the sum of all differences."""
    measured = measure(SOFT, curves=40, samples=256)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[:] = branch.deflection // 8 + base
        branch.deflection[:, 200] -= np.int16(np.sign(base)) * (200 + 120 * np.arange(40, dtype=np.int16))
        branch.deflection[:, where] = outlier
    same_spikes_as_of_wider_integers(measured)


@pytest.mark.parametrize("beside", [0, -1])
def test_second_differences_at_the_limit_of_16_bits_say_what_wider_ones_say(beside):
    """2·16384 is one more than an int16 holds, one less the most that it does."""
    measured = measure(SOFT, curves=3, samples=256)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[:] = branch.deflection // 64
        branch.deflection[1, 148:153] = 0
        branch.deflection[1, 150] = 16384 if beside == 0 else -16384
        branch.deflection[1, 152] = beside
        second = branch.deflection[1].astype(int)
        assert abs(second[148] - 2 * second[150] + second[152]) == 32768 + beside
    same_spikes_as_of_wider_integers(measured)


def same_spikes_as_of_wider_integers(measured):
    branches = (measured.raw.approach, measured.raw.retract)
    wider = RawTile(*(RawBranch(b.deflection.astype(np.int32), b.z) for b in branches))
    expected, records = (_core.fit_tile(raw, measured.settings) for raw in (wider, measured.raw))
    np.testing.assert_array_equal(flagged(records, Flag.SPIKES), flagged(expected, Flag.SPIKES))
    np.testing.assert_allclose(records["baseline_noise"], expected["baseline_noise"], rtol=1e-4)


# ---- pull-offs


def test_a_tether_ends_the_contact_at_the_first_step(fit):
    measured = measure(SOFT, curves=8)
    artefacts.tether(measured, 1.3, 12)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.MULTIPLE_PULL_OFFS).all()
    assert np.all(np.abs(records["modulus"] - 45e6) < 4.5 * records["modulus_std"])
    # without the flag's part in it the contact would go on over the tether
    blind = replace(measured.settings, adhesion_minimum=True)
    assert abs(bias(measured, fit(measured.raw, blind))) > 3.0 * abs(bias(measured, records))


def test_attraction_again_is_a_second_pull_off(fit):
    measured = measure(SOFT, curves=8)
    artefacts.tether(measured, 1.0, 6, gap=20)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.MULTIPLE_PULL_OFFS).all()
    assert np.all(np.abs(records["modulus"] - 45e6) < 4.5 * records["modulus_std"])


def test_a_blunt_pull_off_is_flagged_and_loosened(fit):
    measured = measure(SOFT, curves=8, samples=512)
    artefacts.blunt(measured, 14)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.BLUNT_PULL_OFF).all()
    assert not flagged(records, Flag.MULTIPLE_PULL_OFFS | Flag.SPIKES).any()
    assert np.all(np.abs(records["modulus"] - 45e6) < 4.5 * records["modulus_std"])
    blind = replace(measured.settings, adhesion_minimum=True)
    assert abs(bias(measured, fit(measured.raw, blind))) > 2.0 * abs(bias(measured, records))


def test_no_pull_off_at_all(fit):
    measured = measure(replace(SOFT, adhesion=0.0), curves=8)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.NO_ADHESION).all()
    assert not flagged(records, Flag.MULTIPLE_PULL_OFFS | Flag.BLUNT_PULL_OFF).any()


@pytest.mark.parametrize("method", ["ml", "qnm"])
@pytest.mark.parametrize("sigma", [2e-11, 1e-10])
@pytest.mark.parametrize("name", CASES)
def test_ordinary_curves_are_not_flagged(name, sigma, method):
    for drive in ("sine", "linear"):
        measured = measure(CASES[name], curves=500, sigma=sigma, drive=drive, seed=7, fit={"method": method})
        records = _core.fit_tile(measured.raw, measured.settings)
        wrong = flagged(records, Flag.SPIKES | Flag.MULTIPLE_PULL_OFFS | Flag.BLUNT_PULL_OFF)
        assert wrong.sum() <= 1, [str(Flag(int(f))) for f in records["flags"][wrong]]


# ---- interference and drag


def assert_wrong(modulus, truth):
    """What there is of values is far off."""
    modulus = modulus[np.isfinite(modulus)]
    assert not modulus.size or abs(np.median(modulus) / truth - 1.0) > 0.03


@pytest.mark.parametrize("drive", ["sine", "linear"])
def test_interference_is_taken_off(fit, drive):
    bare = measure(LONG, curves=8, samples=1024, drive=drive)
    spoilt = {"samples": 1024, "drive": drive, "curves": 8, "offset": 3e-9}
    without = measure(LONG, **spoilt)
    mended = measure(LONG, **spoilt, baseline={"interference_period": 350e-9})
    for measured in (without, mended):
        artefacts.interference(measured, 2.0, 350e-9)
    least = abs(bias(bare, fit(bare.raw, bare.settings)))
    assert abs(bias(mended, fit(mended.raw, mended.settings))) < 0.01 + least
    assert_wrong(fit(without.raw, without.settings)["modulus"], LONG.modulus)


def test_drag_is_taken_off(fit):
    bare = measure(LONG, curves=8, samples=1024)
    spoilt = {"samples": 1024, "curves": 8, "offset": 3e-9}
    without = measure(LONG, **spoilt)
    mended = measure(LONG, **spoilt, baseline={"drag": "velocity"})
    for measured in (without, mended):
        artefacts.drag(measured, 3.0)
    least = abs(bias(bare, fit(bare.raw, bare.settings)))
    assert abs(bias(mended, fit(mended.raw, mended.settings))) < 0.01 + least
    assert_wrong(fit(without.raw, without.settings)["modulus"], LONG.modulus)


def test_drag_of_a_linear_drive_is_an_offset(fit):
    plain = measure(SOFT, curves=4, drive="linear")
    mended = measure(SOFT, curves=4, drive="linear", baseline={"drag": "velocity"})
    np.testing.assert_allclose(
        fit(mended.raw, mended.settings)["modulus"], fit(plain.raw, plain.settings)["modulus"], rtol=1e-3
    )


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ({"interference_period": 0.0}, r"baseline\.interference_period = 0\.0"),
        ({"interference_period": "350 V"}, r"baseline\.interference_period"),
        ({"drag": True}, r"baseline\.drag = True: choose from none, velocity"),
    ],
)
def test_what_a_recipe_refuses(baseline, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict({"baseline": baseline})


def test_a_period_with_its_unit():
    assert Recipe.from_dict({"baseline": {"interference_period": "320nm"}}).baseline.interference_period == 320e-9


@pytest.mark.parametrize("marked", [[40], [33, 34, 90], list(range(100, 104))])
def test_drag_knows_the_time_of_samples_that_were_left_out(fit, marked):
    """Beside a gap the velocity was half as large again: false snap-ins, and baselines that seemed to drift."""
    options = {"baseline": {"drag": "velocity"}, "dtype": "float32", "tilt": 0.0, "curves": 24}
    measured = measure(replace(SOFT, adhesion=0.0), fit={"model": "hertz"}, **options)
    whole = measure(replace(SOFT, adhesion=0.0), fit={"model": "hertz"}, **options)
    for one in (measured, whole):
        for branch, sign in ((one.raw.approach, 1.0), (one.raw.retract, -1.0)):
            velocity = np.abs(np.gradient(branch.z))
            branch.deflection += (sign * 1e-9 * velocity / velocity.max()).astype(np.float32)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[:, marked] = np.nan
    records, expected = (fit(one.raw, one.settings) for one in (measured, whole))
    assert not flagged(records, Flag.SNAP_IN | Flag.NOISE_CORRELATED).any()
    pull = (records["approach_contact_point"] - expected["approach_contact_point"]) / records[
        "approach_contact_point_std"
    ]
    assert np.all(np.abs(pull) < 1.0)


def bowed(measured, bow):
    background = simulate.Background(bow=bow)
    for branch, retract in ((measured.raw.approach, False), (measured.raw.retract, True)):
        added = background.added(branch.z, 0.0, 1.0, np.zeros(1), retract=retract)
        assert np.abs(added).max() <= background.largest(branch.z, 1.0)
        branch.deflection += added.astype(np.float32)
    return measured


@pytest.mark.parametrize("drive", ["sine", "linear"])
@pytest.mark.parametrize("bow", [-0.5e-9, 0.5e-9, 2e-9])
def test_a_bow_is_taken_off(fit, bow, drive):
    """A line leaves of ten times the noise no adhesion, no contact point, and moduli off by half and more."""
    curves = 200 if fit is FITS["kernel"] else 12
    options = {"curves": curves, "samples": 512, "drive": drive, "sigma": 5e-11, "dtype": "float32", "tilt": 0.0}
    case = replace(CASES["1.5 GPa"], travel=300e-9)
    measured = bowed(measure(case, baseline={"order": 2}, **options), bow)
    records = fit(measured.raw, measured.settings)
    assert flagged(records, Flag.BASELINE_TILTED | Flag.CONTACT_NOT_FOUND | Flag.FIT_FAILED).mean() < 0.02
    assert flagged(records, Flag.NO_ADHESION | Flag.NOISE_CORRELATED).mean() < 0.1
    stated = np.nanmedian(records["modulus_std"] / records["modulus"])
    assert abs(np.nanmedian(records["modulus"]) / 1.5e9 - 1) < 0.3 * stated + 3 * stated / np.sqrt(curves)
    doubt = 3 * np.nanmedian(records["adhesion_std"]) / np.sqrt(curves)
    assert np.nanmedian(records["adhesion"]) == pytest.approx(4e-9, abs=1.2e-10 + doubt)
    plain = measure(replace(case, adhesion=0.0), baseline={"order": 2}, fit={"model": "hertz"}, **options)
    records = fit(bowed(plain, bow).raw, plain.settings)
    error = (records["approach_contact_point"] - plain.z0) / records["approach_contact_point_std"]
    assert np.nanmean(np.abs(error) < 2) > 0.8
