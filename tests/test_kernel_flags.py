"""Every flag: a curve that makes the kernel raise it, and what then is NaN; or the run that raises it."""

from __future__ import annotations

import inspect
from dataclasses import replace

import artefacts
import numpy as np
import pytest
import test_domain
import test_schedule
from simulated import CASES, Case, measure

from fvproc import _core, reference
from fvproc.quantities import QUANTITIES, Flag

FITS = {"kernel": _core.fit_tile, "reference": reference.fit_tile}
SOFT = Case(45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9)


def _few_points():
    return measure(Case(70e9, 200.0, 40e-9, 600e-9, 60e-9, 80e-9), samples=128, drive="linear", curves=4)


def _no_adhesion():
    return measure(Case(45e6, 0.4, 30e-9, 5e-9, 0.0, 150e-9), curves=4)


def _poor_fit():
    measured = measure(SOFT, curves=4)
    for branch in (measured.raw.retract,):
        ripple = np.rint(2e-10 / measured.settings.retract_deflection.scale * 1e9 * np.sin(np.arange(256) * 0.9))
        branch.deflection[:, :60] += ripple[:60].astype(np.int16)
    return measured


def _tilted():
    return measure(SOFT, curves=4, tilt=0.05)


def _correlated():
    return measure(SOFT, curves=4, correlation=0.7)


def _snap_in():
    return measure(SOFT, curves=4)


def _invalid_samples():
    measured = measure(SOFT, curves=4, dtype="float32")
    measured.raw.retract.deflection[:, 100:104] = np.nan
    return measured


def _disagree():
    measured = measure(SOFT, curves=4)
    measured.raw.approach.deflection[:, -30:] = (measured.raw.approach.deflection[:, -30:] * 0.6).astype(np.int16)
    return measured


def _beyond_tip():
    return measure(CASES["0.7 MPa"], curves=4)


def _invalid_curve():
    measured = measure(SOFT, curves=4, dtype="float32")
    measured.raw.approach.deflection[:, 20:] = np.nan
    return measured


def _short_baseline():
    return measure(SOFT, curves=4, samples=40, baseline={"fraction": 0.1})


def _no_contact():
    measured = measure(SOFT, curves=4)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[:] = np.random.default_rng(1).integers(-3, 4, branch.deflection.shape)
    return measured


def _never_left():
    measured = measure(SOFT, curves=4)
    for branch in (measured.raw.approach, measured.raw.retract):
        slope = branch.z / np.ptp(branch.z)
        branch.deflection[:] = np.rint(20_000 * slope**1.3)
    return measured


def _saturated():
    measured = measure(SOFT, curves=4)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection[branch.deflection > 15_000] = 32767
    return measured


def _too_few():
    return measure(Case(70e9, 200.0, 40e-9, 300e-9, 60e-9, 200e-9), samples=128, drive="linear", curves=6)


def _unbounded():
    return measure(Case(300e9, 40.0, 60e-9, 60e-9, 8e-9, 60e-9), curves=6, sigma=1e-10, samples=128)


def _absurd_deflection():
    """Deflection ten orders of magnitude beyond the piezo's travel: separation and force rise together."""
    measured = measure(SOFT, curves=4, dtype="float32", fit={"method": "qnm"}, contact={"method": "threshold"})
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.deflection *= np.float32(1e10)
    return measured


def _beyond_float():
    """Forces beyond the range of float32."""
    measured = measure(SOFT, curves=4)
    measured.settings = replace(measured.settings, spring_constant=1e48)
    return measured


def _spikes():
    measured = measure(SOFT, curves=4)
    artefacts.add(measured, "retract", np.arange(120, 122), 3.0)
    return measured


def _tether():
    measured = measure(SOFT, curves=4)
    artefacts.tether(measured, 1.3, 12)
    return measured


def _blunt():
    measured = measure(SOFT, curves=4, samples=512)
    artefacts.blunt(measured, 14)
    return measured


def _wrong_sensitivity():
    """Deflection told twice as large as it is: nothing that a contact on this cantilever could do."""
    measured = measure(CASES["1.5 GPa"], curves=4)
    sides = {name: getattr(measured.settings, name) for name in ("approach_deflection", "retract_deflection")}
    doubled = {name: replace(side, scale=2.0 * side.scale) for name, side in sides.items()}
    measured.settings = replace(measured.settings, **doubled)
    return measured


def _small_tabor():
    """A contact so stiff that attraction reaches beyond it."""
    return measure(CASES["10.7 GPa"], curves=4, fit={"model": "jkr"})


def _film(thickness):
    measured = measure(SOFT, curves=4, film={"thickness": 1e-6})
    measured.thickness = np.full(4, thickness)
    return measured


def _thin_film():
    return _film(2e-9)


def _no_film():
    return _film(np.nan)


RAISED_BY = {
    Flag.FEW_POINTS: _few_points,
    Flag.NO_ADHESION: _no_adhesion,
    Flag.POOR_FIT: _poor_fit,
    Flag.BASELINE_TILTED: _tilted,
    Flag.NOISE_CORRELATED: _correlated,
    Flag.SNAP_IN: _snap_in,
    Flag.INVALID_SAMPLES: _invalid_samples,
    Flag.BRANCHES_DISAGREE: _disagree,
    Flag.BEYOND_TIP_SHAPE: _beyond_tip,
    Flag.DMT_DOUBTFUL: _snap_in,
    Flag.SPIKES: _spikes,
    Flag.MULTIPLE_PULL_OFFS: _tether,
    Flag.BLUNT_PULL_OFF: _blunt,
    Flag.PULL_OFF_DISAGREES: _wrong_sensitivity,
    Flag.JKR_DOUBTFUL: _small_tabor,
    Flag.FILM_DOUBTFUL: _thin_film,
    Flag.INVALID_CURVE: _invalid_curve,
    Flag.BASELINE_TOO_SHORT: _short_baseline,
    Flag.NO_CONTACT: _no_contact,
    Flag.CONTACT_NOT_LEFT: _never_left,
    Flag.SATURATED: _saturated,
    Flag.TOO_FEW_POINTS: _too_few,
    Flag.MODULUS_UNBOUNDED: _unbounded,
    Flag.FIT_FAILED: _absurd_deflection,
    Flag.CONTACT_NOT_FOUND: _too_few,
    Flag.NO_THICKNESS: _no_film,
    Flag.NOT_FINITE: _beyond_float,
}
# what no curve can raise, by the test of the run that does
RAISED_IN = {
    Flag.NOT_COMPUTED: test_domain.test_maps_start_as_not_computed_and_are_filled_by_tiles,
    Flag.READ_ERROR: test_schedule.test_a_tile_that_cannot_be_read_is_flagged_and_the_rest_goes_on,
    Flag.WORKER_LOST: test_schedule.test_a_tile_that_kills_its_workers_is_flagged_and_no_more_than_that,
}


def test_every_flag_has_a_situation_that_raises_it():
    assert set(RAISED_BY) | set(RAISED_IN) == set(Flag)
    for flag, test in RAISED_IN.items():
        assert f"== Flag.{flag.name}" in inspect.getsource(test), f"{test.__name__} does not demand {flag.name}"


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
@pytest.mark.parametrize("flag", RAISED_BY, ids=lambda flag: flag.name.lower())
def test_flag(flag, fit):
    measured = RAISED_BY[flag]()
    records = fit(measured.raw, measured.settings, thickness=measured.thickness)
    raised = (records["flags"] & np.uint32(flag)) != 0
    assert raised.mean() >= 0.5, [str(Flag(int(f))) for f in records["flags"]]
    for name, quantity in QUANTITIES.items():
        assert np.all(np.isnan(records[name]) == ((records["flags"] & np.uint32(quantity.fatal)) != 0)), name
    # the same curves without the fault do not raise it
    if flag in (Flag.SNAP_IN, Flag.DMT_DOUBTFUL):
        return
    sound = measure(
        Case(10.7e9, 40.0, 30e-9, 100e-9, 40e-9, 60e-9) if flag == Flag.BEYOND_TIP_SHAPE else SOFT, curves=4
    )
    assert not np.any(fit(sound.raw, sound.settings)["flags"] & np.uint32(flag))
