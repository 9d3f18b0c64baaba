"""The Asylum Research reader: curves and map folders, written and real, against igor2 and the vendor's maps."""

from __future__ import annotations

import pickle
import shutil
import tarfile
from pathlib import Path

import asylum_files
import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.volume import Tile

MAP = "asylum/sofa_map2.tar.gz"
SINGLES = ["asylum/IgorIBWReader_ForceCurve.ibw", "asylum/fmt-igor-fd_SiN_FD_plot.ibw"]


@pytest.fixture(scope="module")
def real_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asylum")
    with tarfile.open(real_file(MAP)) as archive:
        archive.extractall(path, filter="data")
    return path


def recipe(fraction: float = 0.2) -> fv.Recipe:
    return fv.Recipe.from_dict(
        {
            "tip": {"shape": "sphere", "radius": 10e-9},
            "baseline": {"order": 0, "fraction": fraction},
            "fit": {"adhesion": "minimum"},
        }
    )


# ---- written files


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_single_curve_comes_back(tmp_path: Path, order: str) -> None:
    values = asylum_files.curve(40, 30, 5)
    path = asylum_files.single(
        tmp_path / "a.ibw",
        values,
        asylum_files.indexes(40, 30, 5),
        direction="Direction: NaN,1,-1,0\r",
        order=order,
    )
    volume = fv.open(path)
    assert (volume.format, volume.shape) == ("asylum", (1, 1))
    assert volume.calibration.spring_constant.value == 0.5 and volume.missing() == []
    tile = readers.read_tile(volume, Tile(0, 1))
    np.testing.assert_array_equal(tile.approach.deflection[0], values[:40, 0])
    np.testing.assert_array_equal(tile.approach.z[0], values[:40, 1])
    np.testing.assert_array_equal(tile.retract.deflection[0], values[40:70, 0])
    np.testing.assert_array_equal(tile.retract.z[0], values[40:70, 1])


def test_a_pause_before_the_retract_is_left_out(tmp_path: Path) -> None:
    rise, fall = asylum_files.curve(40, 30)[:40], asylum_files.curve(40, 30)[40:]
    values = np.concatenate([rise, np.repeat(rise[-1:], 9, axis=0), fall])
    for direction in ("Direction: NaN,1,0,-1\r", ""):  # told, or to be seen in z
        path = asylum_files.single(tmp_path / "a.ibw", values, "Indexes: 0,39,48,78,\r", direction=direction)
        tile = readers.read_tile(fv.open(path), Tile(0, 1))
        np.testing.assert_array_equal(tile.approach.z[0], rise[:, 1])
        np.testing.assert_array_equal(tile.retract.z[0], fall[:, 1])
        path.unlink()


def test_a_folder_is_a_map(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 2, 5)
    volume = fv.open(path)
    assert volume.shape == (2, 5) and volume.calibration.spring_constant.value == 0.5
    assert volume.grid.size_x == pytest.approx(1e-6 * 5 / 4) and volume.grid.size_y == pytest.approx(2e-6 * 2)
    assert len(pickle.dumps(volume)) < 3000
    whole = readers.read_tile(volume, Tile(0, 10))
    np.testing.assert_array_equal(whole.approach.valid_length, 60 + np.arange(10) % 3)
    for number in range(10):
        count = 60 + number % 3
        values = asylum_files.curve(count, 50, 7, seed=number) + np.float32(1e-8 * number)
        np.testing.assert_array_equal(whole.approach.deflection[number, :count], values[:count, 0])
        np.testing.assert_array_equal(whole.retract.z[number], values[count : count + 50, 1])
    part = readers.read_tile(volume, Tile(3, 8))
    np.testing.assert_array_equal(part.retract.deflection, whole.retract.deflection[3:8])
    height = readers.vendor_maps(volume)["height"]
    np.testing.assert_array_equal(height.values, np.arange(10.0).reshape(2, 5))


def test_missing_and_damaged_curves_have_no_samples(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 3, 3)
    (path / "data/Line0001/Line0001Point0001ZSnsr.ibw").unlink()
    damaged = path / "data/Line0002/Line0002Point0000Defl.ibw"
    damaged.write_bytes(damaged.read_bytes()[:300])
    shutil.rmtree(path / "data/Line0000")
    volume = fv.open(path)
    valid = readers.read_tile(volume, Tile(0, 9)).approach.valid_length
    np.testing.assert_array_equal(valid > 0, [False] * 3 + [True, False, True] + [False, True, True])
    assert "2 curves cannot be read" in volume.warnings[0]
    maps = fv.process(volume, recipe())
    assert np.isnan(maps["adhesion"].ravel()[[0, 1, 2, 4, 6]]).all()


def test_without_the_image_the_spring_constant_is_missing(tmp_path: Path) -> None:
    volume = fv.open(asylum_files.folder(tmp_path / "map", 2, 2, image=False))
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.process(volume, recipe())
    assert fv.open(volume.path, spring_constant=2.0).missing() == []


def test_volts_take_the_sensitivity_of_the_note(tmp_path: Path) -> None:
    values = asylum_files.curve(40, 30)
    path = tmp_path / "a.ibw"
    note = asylum_files.NOTE + asylum_files.indexes(40, 30)
    path.write_bytes(asylum_files.wave(values, note, ["DeflV", "ZSnsr"], unit=""))
    volume = fv.open(path)
    assert volume.deflection_scale("approach") == (5e-8, 0.0)
    path.write_bytes(asylum_files.wave(values, asylum_files.indexes(40, 30), ["DeflV", "ZSnsr"], unit=""))
    assert fv.open(path).missing() == ["spring_constant", "deflection_sensitivity"]


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("", "Indexes: missing"),
        ("Indexes: 0,39,9999,\r", "rising numbers below 70"),
        ("Indexes: 0,39,20,\r", "rising numbers"),
        ("Indexes: 0,a,69,\r", "expected whole numbers"),
        ("Indexes: 0,39,69,\rDirection: NaN,-1,1\r", "no force curve"),
    ],
)
def test_a_note_that_makes_no_sense_is_refused(tmp_path: Path, ends: str, says: str) -> None:
    path = asylum_files.single(tmp_path / "a.ibw", asylum_files.curve(40, 30), ends)
    with pytest.raises(FileFormatError, match=f"a.ibw.*{says}"):
        fv.open(path)


def test_folders_that_are_no_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no known format"):
        fv.open(tmp_path)
    path = asylum_files.folder(tmp_path / "map", 1, 2)
    shutil.copytree(path / "data", path / "copy")
    with pytest.raises(FileFormatError, match="same curve"):
        fv.open(path)


def test_a_name_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 1, 2, image=False)
    for channel in ("Defl", "ZSnsr"):
        source = path / f"data/Line0000/Line0000Point0001{channel}.ibw"
        source.rename(path / f"Line999999Point999999{channel}.ibw")
    with pytest.raises(FileFormatError, match="not the curves of one map"):
        fv.open(path)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = asylum_files.folder(tmp_path / "outside", 1, 2)
    (tmp_path / "map").mkdir()
    (tmp_path / "map/data").symlink_to(outside / "data")
    with pytest.raises(FileFormatError, match="no known format"):
        fv.open(tmp_path / "map")


# ---- real files


@pytest.mark.parametrize("name", SINGLES)
def test_samples_are_those_of_igor2(name: str) -> None:
    judge = pytest.importorskip("igor2.binarywave")
    path = real_file(name)
    values = judge.load(str(path))["wave"]["wData"]
    tile = readers.read_tile(fv.open(path), Tile(0, 1))
    for column, channel in ((1, "deflection"), (2, "z")):
        ours = np.concatenate([getattr(tile.approach, channel)[0], getattr(tile.retract, channel)[0]])
        np.testing.assert_array_equal(ours, values[: len(ours), column])
    assert len(values) - len(ours) <= 30  # no more than the pause at the end


def test_samples_of_a_map_are_those_of_igor2(real_map: Path) -> None:
    judge = pytest.importorskip("igor2.binarywave")
    volume = fv.open(real_map)
    for number in (0, 19, 20, 207, 399):
        tile = readers.read_tile(volume, Tile(number, number + 1))
        stem = f"Line{number // 20:04d}"
        for suffix, channel in (("Defl", "deflection"), ("ZSnsr", "z")):
            source = real_map / f"fdc_data_2/{stem}/{stem}Point{number % 20:04d}{suffix}.ibw"
            values = judge.load(str(source))["wave"]["wData"]
            ours = []
            for branch in ("approach", "retract"):
                raw = getattr(tile, branch)
                count = None if raw.valid_length is None else raw.valid_length[0]
                ours.append(getattr(raw, channel)[0, :count])
            ours = np.concatenate(ours)
            assert len(ours) > 1900
            np.testing.assert_array_equal(ours, values[: len(ours)])


def test_adhesion_and_height_are_the_vendors(real_map: Path) -> None:
    """Adhesion from the baseline of the farthest fifth; neither flipped nor transposed."""
    volume = fv.open(real_map)
    assert volume.shape == (20, 20) and volume.calibration.spring_constant.value == pytest.approx(15.904)
    maps, vendor = fv.process(volume, recipe()), readers.vendor_maps(volume)

    def alike(values: np.ndarray, quantity: str) -> float:
        return float(np.corrcoef(values.ravel(), vendor[quantity].values.ravel())[0, 1])

    assert alike(maps["adhesion"], "adhesion") > 0.9999
    np.testing.assert_allclose(maps["adhesion"], vendor["adhesion"].values, rtol=5e-3)
    for quantity in ("adhesion", "height"):
        assert alike(maps[quantity], quantity) > 0.9999
        for other in (np.flipud(maps[quantity]), np.fliplr(maps[quantity]), maps[quantity].T):
            assert alike(other, quantity) < 0.9
