"""A sensitivity for deflection in metres: the metres are made again, or the value is refused, never passed over."""

from __future__ import annotations

from pathlib import Path

import ardf_files
import asylum_files
import h5py
import nanosurf_files
import numpy as np
import pytest
from real_data import opened, real_file

import fvproc as fv
from fvproc import calibration_file, engine, simulate
from fvproc.calibration_file import Calibrated
from fvproc.cli import main
from fvproc.errors import CalibrationError
from fvproc.volume import ForceVolume, Tile

OLD, NEW = 5e-8, 4e-8
RECIPE = fv.Recipe(tip=fv.Tip.sphere(radius=30e-9))
INPUTS = (
    "[DataSet\\Calibration\\Scanhead]\r\nInCount=4\r\nIn0=0,Channel0,Deflection,N,2.5e-06,0\r\n"
    "In5=5,TipSignalDC,Deflection,m,1e-06,0\r\nIn15=16,TipSignalDC1,Deflection,V,10,0\r\n"
    "In16=17,TipSignalDC2,Deflection,N,1,0\r\n\r\n"
)
CANTILEVER = "[DataSet\\Calibration\\Cantilever]"


def in_volts(**settings: float) -> ForceVolume:
    """Curves of 300 MPa whose deflection is in V."""
    probe = simulate.Probe(5.0, 30e-9)
    sample = simulate.Sample(3e8 * np.ones(6), 20e-9 * np.ones(6), 2e-9 * np.ones(6))
    z = simulate.ramp(256, 100e-9, "linear")
    z0 = sample.contact_point(probe, 100e-9)
    noise = np.random.default_rng(0)
    volts = [
        (simulate.deflection(way, sample, probe, z0, retract=back) + noise.normal(0, 2e-11, (6, 256))) / OLD
        for way, back in zip(z, (False, True), strict=True)
    ]
    return fv.from_arrays(
        volts[0],
        volts[1],
        z=z,
        units="V",
        z_units="m",
        spring_constant=5.0,
        **{"deflection_sensitivity": OLD} | settings,
    )


@pytest.fixture
def metres(tmp_path: Path) -> Path:
    """The same curves in a file whose deflection is in m, made with the sensitivity that it tells."""
    fv.convert(in_volts(), tmp_path / "metres.h5")
    with h5py.File(tmp_path / "metres.h5", "r+") as file:
        for branch in ("approach", "retract"):
            file[f"{branch}/deflection"].attrs.update(units="m", scale_factor=OLD)
        del file["calibration"].attrs["deflection_sensitivity_source"]
    return tmp_path / "metres.h5"


def calibrated(folder: Path, name: str, value: float) -> Path:
    calibration_file.write(folder / "cal.toml", Calibrated(name, value, {"scatter": 0.03}))
    return folder / "cal.toml"


def deflection(volume: ForceVolume) -> np.ndarray:
    scale, offset = volume.deflection_scale("retract")
    return engine.read_tile(volume, Tile(0, 1)).retract.deflection[0].astype(float) * scale + offset


def test_metres_are_made_again_as_volts_would_be(metres: Path, tmp_path: Path) -> None:
    truth = fv.process(in_volts(deflection_sensitivity=NEW), RECIPE)["modulus"].ravel()
    before = fv.process(fv.open(metres), RECIPE)["modulus"].ravel()
    for given in (
        {"deflection_sensitivity": NEW},
        {"calibration": calibrated(tmp_path, "deflection_sensitivity", NEW)},
    ):
        volume = fv.open(metres, **given)
        assert volume.calibration.deflection_sensitivity.value == NEW
        assert volume.calibration.deflection_sensitivity.source == "user"
        found = fv.process(volume, RECIPE)["modulus"].ravel()
        np.testing.assert_allclose(found, truth, rtol=1e-3)
        assert (abs(found / before - 1.0) > 0.1).all()


def test_the_uncertainty_of_the_sensitivity_is_what_the_sensitivity_does(metres: Path) -> None:
    given = {"deflection_sensitivity": 0.01}
    maps = fv.process(fv.open(metres, deflection_sensitivity=NEW, rel_std=given), RECIPE)
    part = maps.provenance["systematic"]["quantities"]["modulus"]["parts"]["deflection_sensitivity"]
    off = [fv.process(fv.open(metres, deflection_sensitivity=NEW * by), RECIPE)["modulus"] for by in (1.01, 1 / 1.01)]
    assert part == pytest.approx(abs(np.median(np.log(off[0] / off[1]))) / 2, rel=0.05)


@pytest.mark.parametrize("given", [{}, {"deflection_sensitivity": NEW}])
def test_a_copy_gives_the_bytes_of_the_original(metres: Path, tmp_path: Path, given: dict[str, float]) -> None:
    volume = fv.open(metres, **given)
    fv.convert(volume, tmp_path / "copy.h5")
    copy = fv.open(tmp_path / "copy.h5")
    assert copy.calibration == volume.calibration
    assert fv.process(copy, RECIPE).records.tobytes() == fv.process(volume, RECIPE).records.tobytes()
    np.testing.assert_allclose(
        deflection(fv.open(tmp_path / "copy.h5", deflection_sensitivity=7e-8)),
        deflection(fv.open(metres, deflection_sensitivity=7e-8)),
        rtol=1e-14,
    )


def test_readers_that_know_what_made_their_metres(tmp_path: Path) -> None:
    asylum = asylum_files.folder(tmp_path / "map", 2, 3)
    ardf = ardf_files.write(tmp_path / "map.ardf", ardf_files.volumes_of("map"))
    nid = nanosurf_files.write(
        tmp_path / "map.nid", nanosurf_files.counts(2, 3, 64), replace=(CANTILEVER, INPUTS + CANTILEVER)
    )
    for path, old in ((asylum, 5e-8), (ardf, 5e-8), (nid, 1e-7)):
        volume = fv.open(path)
        assert volume.calibration.deflection_sensitivity.value == pytest.approx(old), path
        assert volume.calibration.deflection_sensitivity.source == "file"
        np.testing.assert_allclose(
            deflection(fv.open(path, deflection_sensitivity=NEW)), deflection(volume) * NEW / old, rtol=1e-12
        )


@pytest.mark.parametrize(
    "change",
    [
        ("Deflection,V,10,0", "Deflection,V,0,0"),
        ("Deflection,V,10,0", "Deflection,V,ten,0"),
        ("Deflection,N,2.5e-06,0", "Deflection,N,2.6e-06,0"),  # not what the spring constant makes of the metres
        ("In16=17,TipSignalDC2,Deflection,N", "In16=17,TipSignalDC2,Deflection,V"),
    ],
)
def test_inputs_that_do_not_fit_together_tell_nothing(tmp_path: Path, change: tuple[str, str]) -> None:
    data = nanosurf_files.counts(2, 3, 64)
    path = nanosurf_files.write(tmp_path / "map.nid", data, replace=(CANTILEVER, INPUTS.replace(*change) + CANTILEVER))
    assert fv.open(path).calibration.deflection_sensitivity is None
    with pytest.raises(CalibrationError, match=r"map\.nid: deflection_sensitivity = 4e-08 m/V: .*leave it out"):
        fv.open(path, deflection_sensitivity=NEW)


def test_a_sensitivity_that_would_do_nothing_is_refused(curves_file: Path, tmp_path: Path) -> None:
    for name, part in (("deflection_sensitivity", "deflection"), ("z_sensitivity", "z")):
        said = rf"{name} = 4e-08 m/V: {part} is stored in metres.*leave it out"
        with pytest.raises(CalibrationError, match=rf"homogeneous\.h5: {said}"):
            fv.open(curves_file, **{name: NEW})
        with pytest.raises(CalibrationError, match=rf"cal\.toml: .*homogeneous\.h5: {said}"):
            fv.open(curves_file, calibration=calibrated(tmp_path, name, NEW))
        (tmp_path / "cal.toml").unlink()
        with pytest.raises(CalibrationError, match=f"mine: {said}"):
            flat, z = np.zeros((3, 64), np.float32), np.linspace(0, 1e-7, 64)
            fv.from_arrays(
                flat, flat, z=(z, z[::-1]), units="nm", z_units="m", spring_constant=1.0, label="mine", **{name: NEW}
            )


def test_the_command_line_calibrates_nothing_that_a_run_refuses(
    curves_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Curves in metres that nobody knows the volts of."""
    output = tmp_path / "cal.toml"
    arguments = ["calibrate", "sensitivity", str(curves_file), "-o", str(output)]
    for more, said in (([], "the volts are lost"), (["--deflection-sensitivity", "50nm/V"], "leave it out")):
        assert main([*arguments, *more]) == 2
        assert said in capsys.readouterr().err
        assert not output.exists()


def test_real_files_in_metres(tmp_path: Path) -> None:
    """Asylum's map with its own sensitivity calibrated on itself: the slope in contact is then that of the piezo."""
    volume = opened("asylum/sofa_map2.tar.gz", tmp_path)
    found = fv.calibrate_sensitivity(volume)
    calibration_file.write(tmp_path / "cal.toml", found)
    again = fv.open(volume.path, calibration=tmp_path / "cal.toml")
    np.testing.assert_allclose(
        deflection(again) / deflection(volume), found.value / volume.calibration.deflection_sensitivity.value, rtol=1e-9
    )
    assert fv.calibrate_sensitivity(again).value == pytest.approx(found.value, rel=1e-6)
    nanosurf = fv.open(real_file("nanosurf/spectroscopy.nid"))
    assert nanosurf.calibration.deflection_sensitivity.value == pytest.approx(73.0723e-9)
