"""The Nanosurf .nid reader: numbers, order and refusals on written files; real ones against NSFopen and the vendor."""

from __future__ import annotations

import pickle
from pathlib import Path

import nanosurf_files
import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.nanosurf_header import header
from fvproc.volume import Tile

REAL = "nanosurf/spectroscopy.nid"
RECIPE = fv.Recipe.from_dict(
    {
        "tip": {"shape": "sphere", "radius": 10e-9},
        "baseline": {"order": 0, "fraction": 0.1},
        "fit": {"adhesion": "minimum"},
    }
)


def physical(raw: np.ndarray, reach: float, low: float) -> np.ndarray:
    return (raw / 2.0**32 + 0.5) * reach + low


# ---- written files


def test_numbers_come_back_in_metres_and_in_the_order_of_time(tmp_path: Path) -> None:
    data = nanosurf_files.counts(2, 3, 50)
    volume = fv.open(nanosurf_files.write(tmp_path / "a.nid", data))
    assert (volume.format, volume.shape, volume.grid.size_x) == ("nanosurf", (2, 3), pytest.approx(3e-6))
    assert volume.calibration.spring_constant.value == 2.5 and len(pickle.dumps(volume)) < 3000
    lines = nanosurf_files.line_of(2, 3).ravel()
    tile = readers.read_tile(volume, Tile(0, 6))
    for branch, group, step in (("approach", "0", 1), ("retract", "1", -1)):
        raw = getattr(tile, branch)
        (scale, offset), (z_scale, z_offset) = volume.deflection_scale(branch), volume.z_scale(branch)
        force = (raw.deflection * scale + offset) * 2.5
        want = physical(data[f"{group}:0"], *nanosurf_files.FORCE)[lines, ::step]
        np.testing.assert_allclose(force, want, rtol=1e-12, atol=1e-20)
        want = physical(data[f"{group}:7"], *nanosurf_files.SENSOR)[lines, ::step]
        np.testing.assert_allclose(raw.z * z_scale + z_offset, want, rtol=1e-12, atol=1e-20)


def test_tiles_agree_with_the_whole(tmp_path: Path) -> None:
    volume = fv.open(nanosurf_files.write(tmp_path / "a.nid", nanosurf_files.counts(4, 5, 9), grid=(4, 5)))
    whole = readers.read_tile(volume, Tile(0, 20))
    for start, stop in ((0, 1), (3, 8), (7, 8), (5, 20)):
        part = readers.read_tile(volume, Tile(start, stop))
        for branch in ("approach", "retract"):
            np.testing.assert_array_equal(getattr(part, branch).z, getattr(whole, branch).z[start:stop])
            np.testing.assert_array_equal(
                getattr(part, branch).deflection, getattr(whole, branch).deflection[start:stop]
            )


def test_rows_that_end_early_have_fewer_samples(tmp_path: Path) -> None:
    data = nanosurf_files.counts(1, 3, 20)
    path = nanosurf_files.write(tmp_path / "a.nid", data, grid=(1, 3), valid=np.array([20, 7, 0]), current=1)
    volume = fv.open(path)
    tile = readers.read_tile(volume, Tile(0, 3))
    np.testing.assert_array_equal(tile.approach.valid_length, [20, 7, 0])
    np.testing.assert_array_equal(tile.retract.valid_length, [20, 20, 0])
    assert "CurLine = 1" in volume.warnings[0]


def test_short_retract_rows_are_reversed_within_what_was_measured(tmp_path: Path) -> None:
    data = nanosurf_files.counts(1, 2, 10)
    path = nanosurf_files.write(tmp_path / "a.nid", data, grid=(1, 2), valid=np.array([10, 10]))
    text = path.read_bytes()
    at = text.index(b"[DataSet-1:0]")
    path.write_bytes(text[:at] + text[at:].replace(b"Version=3\r\n", b"Version=3\r\nLineDim1Points=4\r\n", 1))
    raw = readers.read_tile(fv.open(path), Tile(0, 2)).retract
    np.testing.assert_array_equal(raw.valid_length, [10, 4])
    np.testing.assert_array_equal(raw.deflection[1, :4], data["1:0"][1, 3::-1])
    np.testing.assert_array_equal(raw.z[1, :4], data["1:7"][1, 3::-1])


def test_without_a_sensor_z_is_the_driven_axis(tmp_path: Path) -> None:
    data = {key: values for key, values in nanosurf_files.counts(1, 2, 11).items() if key.endswith("0")}
    path = nanosurf_files.write(tmp_path / "a.nid", data, grid=(1, 2), valid=np.array([11, 6]))
    raw = readers.read_tile(fv.open(path), Tile(0, 2))
    np.testing.assert_allclose(raw.approach.z[0], 1e-6 + 1e-7 * np.arange(11))
    np.testing.assert_allclose(raw.approach.z[1, :6], 1.01e-6 + 2e-7 * np.arange(6))
    np.testing.assert_allclose(raw.retract.z[0], 2e-6 - 1e-7 * np.arange(11))


def test_a_missing_spring_constant_names_the_option(tmp_path: Path) -> None:
    data = nanosurf_files.counts(1, 1, 20)
    volume = fv.open(nanosurf_files.write(tmp_path / "m.nid", data, grid=None, unit="m", spring_constant=None))
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.process(volume, RECIPE)
    volume = fv.open(nanosurf_files.write(tmp_path / "v.nid", data, grid=None, unit="V"))
    with pytest.raises(CalibrationError, match="--deflection-sensitivity"):
        fv.process(volume, RECIPE)
    newtons = nanosurf_files.write(tmp_path / "n.nid", data, grid=None, spring_constant=None)
    with pytest.raises(FileFormatError, match=r"n\.nid.*Prop0.*--spring-constant"):
        fv.open(newtons)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("SaveBits=32", "SaveBits=24", "SaveBits: 24"),
        ("SaveOrder=Intel", "SaveOrder=Motorola", "SaveOrder: Motorola"),
        ("Lines=6", "Lines=999999999", "truncated"),
        ("Points=50", "Points=-5", "whole number"),
        ("Dim2Name=Deflection", "Dim2Name=Amplitude", "Spec forward: Deflection: missing"),
        ("Dim2Unit=N", "Dim2Unit=A", "expected N, m or V"),
        ("Dim2Range=4e-06", "Dim2Range=nan", "finite number"),
        ("Dim2Range=4e-06", "Dim2Range=0", "scale"),
        ("[DataSet-1:0]", "[DataSet-9:0]", r"\[DataSet-1:0\]: missing"),
        ("#!", "", "ends the header"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = nanosurf_files.write(tmp_path / "a.nid", nanosurf_files.counts(2, 3, 50), replace=(old, new))
    with pytest.raises(FileFormatError, match=says) as caught:
        fv.open(path)
    assert "a.nid" in str(caught.value)


def test_curves_off_the_grid_come_as_one_row(tmp_path: Path) -> None:
    volume = fv.open(nanosurf_files.write(tmp_path / "a.nid", nanosurf_files.counts(2, 3, 50), grid=(3, 3)))
    assert volume.shape == (1, 6) and "one row" in volume.warnings[0]


# ---- the real file


def force(volume: fv.ForceVolume, branch: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw = getattr(readers.read_tile(volume, Tile(0, volume.grid.curves)), branch)
    (scale, offset), (z_scale, z_offset) = volume.deflection_scale(branch), volume.z_scale(branch)
    valid = np.full(len(raw.z), raw.z.shape[1]) if raw.valid_length is None else raw.valid_length
    newtons = (raw.deflection * scale + offset) * volume.calibration.spring_constant.value
    return raw.z * z_scale + z_offset, newtons, valid


@pytest.mark.filterwarnings("ignore")
def test_samples_are_those_of_nsfopen() -> None:
    judge = pytest.importorskip("NSFopen.read")
    path = real_file(REAL)
    data = judge.read(str(path)).data
    volume = fv.open(path)
    lines = nanosurf_files.line_of(10, 10).ravel()
    for branch, group, step in (("approach", "Forward", 1), ("retract", "Backward", -1)):
        z, newtons, valid = force(volume, branch)
        for pixel, line in enumerate(lines):
            count = valid[pixel]
            want = np.asarray(data["Spec"][group]["Deflection"][line])[:count][::step]
            np.testing.assert_allclose(newtons[pixel, :count], want, rtol=1e-9, atol=1e-18)
            want = np.asarray(data["Spec"][group]["Z-Axis Sensor"][line])[:count][::step]
            np.testing.assert_allclose(z[pixel, :count], want, rtol=1e-9, atol=1e-18)


def test_adhesion_is_the_vendors_in_99_of_100() -> None:
    """The instrument's software takes the smallest force of the backward branch, with no baseline taken off."""
    volume = fv.open(real_file(REAL))
    table = np.loadtxt(
        real_file("reference/spectroscopy_vendor_results.csv"), delimiter=",", skiprows=1, usecols=(0, 1)
    )
    smallest = force(volume, "retract")[1].min(axis=1)
    lines = nanosurf_files.line_of(10, 10).ravel()
    equal = np.isclose(smallest, table[lines, 1], rtol=0, atol=5e-13)
    assert equal[1:].all()  # curve 0 holds the result of another
    vendor = readers.vendor_maps(volume)["adhesion"].values.ravel()
    np.testing.assert_allclose(vendor[1:], -table[lines[1:], 1], rtol=1e-5)
    adhesion = fv.process(volume, RECIPE)["adhesion"].ravel()
    assert np.corrcoef(adhesion[1:], vendor[1:])[0, 1] > 0.99  # less the baseline of each


def test_separation_is_the_vendors() -> None:
    """Separation = z − F/k, which the software left for the forward branch; printed ranges cost up to 2e-12 m."""
    path = real_file(REAL)
    volume = fv.open(path)
    found = header(str(path))
    block = next(one for one in found.data_sets if one.group == "IndentationZSensorFwd0")
    raw = np.fromfile(path, block.dtype, block.lines * block.points, offset=block.offset)
    vendor = raw.reshape(block.lines, block.points) * block.scale + block.shift
    z, newtons, _ = force(volume, "approach")
    separation = z - newtons / volume.calibration.spring_constant.value
    compared = 0
    for pixel, line in enumerate(nanosurf_files.line_of(10, 10).ravel()):
        start = vendor[line, : min(900, block.valid[line])]
        if line == 0:
            continue  # left over from another curve
        difference = start - separation[pixel, : len(start)]
        assert np.abs(difference).max() < 2.5e-12
        assert np.ptp(difference) < 1e-12
        compared += len(start)
    assert compared > 50_000


def test_the_map_goes_back_and_forth_from_the_bottom() -> None:
    """Height at the end of the approach against the image at the same points, as good as drift lets.

    The image is another measurement of the same area, 0.955; every other order of the same heights is worse.
    """
    path = real_file(REAL)
    volume = fv.open(path)
    z, newtons, valid = force(volume, "approach")
    last = valid - 1
    every = np.arange(100)
    height = (-(z[every, last] - newtons[every, last] / 2.72436)).reshape(10, 10)
    found = header(str(path))
    block = next(one for one in found.data_sets if one.group == "Scan forward" and one.name == "Z-Axis Sensor")
    raw = np.fromfile(path, block.dtype, 256 * 256, offset=block.offset).reshape(256, 256)
    places = np.round((np.linspace(-2.25e-6, 2.25e-6, 10) / 5e-6 + 0.5) * 256 - 0.5).astype(int)
    image = (raw * block.scale + block.shift)[np.ix_(places, places)]

    def alike(values: np.ndarray) -> float:
        return float(np.corrcoef(values.ravel(), image.ravel())[0, 1])

    unrolled = height.copy()
    unrolled[1::2] = unrolled[1::2, ::-1].copy()
    assert alike(height) > 0.95
    for other in (unrolled, height[::-1], height[:, ::-1], height.T, height[::-1, ::-1]):
        assert alike(other) < alike(height) - 0.1
