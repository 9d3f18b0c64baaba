"""The Nanosurf .nhf reader on written files: numbers, order, calibrations, what is not told, lies."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import hostile
import nhf_files
import numpy as np
import pytest
from nhf_files import SENSITIVITY, SPRING_CONSTANT, curves, physical, write

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.volume import Tile

EVEN = np.full(6, 40)
RAGGED = np.array([40, 7, 0, 33, 40, 1])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (16,), "compression": "gzip", "shuffle": True}], ids=["plain", "gzip"]
)
@pytest.mark.parametrize("counts", [EVEN, RAGGED], ids=["even", "ragged"])
def test_numbers_come_back_curve_by_curve(
    tmp_path: Path, version: int, storage: dict[str, Any], counts: np.ndarray
) -> None:
    data = curves(counts)
    volume = fv.open(write(tmp_path / "map.nhf", data, version=version, storage=storage))
    assert (volume.format, volume.shape, len(pickle.dumps(volume)) < 3000) == ("nhf", (2, 3), True)
    assert (volume.grid.size_y, volume.grid.size_x) == (2e-6, pytest.approx(6e-6))
    for tile in (Tile(0, 6), Tile(1, 4), Tile(5, 6)):
        raw = readers.read_tile(volume, tile)
        for number, branch in enumerate(("approach", "retract")):
            part = getattr(raw, branch)
            deflection, height = (getattr(getattr(volume, branch), channel) for channel in ("deflection", "z"))
            assert (deflection.unit, height.unit) == ("V", "m")
            for row, curve in enumerate(range(tile.start, tile.stop)):
                count = counts[curve]
                if part.valid_length is not None:
                    assert part.valid_length[row] == count
                volts = physical(data[f"{number} Deflection"][curve], "Deflection", version)
                z = physical(data[f"{number} Position Z"][curve], "Position Z", version)
                got = part.deflection[row, :count] * deflection.scale + deflection.offset
                np.testing.assert_allclose(got, volts, atol=1e-14)
                np.testing.assert_allclose(part.z[row, :count] * height.scale + height.offset, z, atol=1e-20)


@pytest.mark.parametrize("way", ["two_way", "left", "right"])
def test_sensitivity_and_spring_constant_follow_from_the_calibrations(tmp_path: Path, way: str) -> None:
    # "left" states a line from the sink back to the source: of volts per raw number, and so on
    volume = fv.open(write(tmp_path / "map.nhf", curves(EVEN), calibrations=way))
    assert volume.calibration.deflection_sensitivity.value == pytest.approx(SENSITIVITY)
    assert volume.calibration.spring_constant.value == pytest.approx(SPRING_CONSTANT)
    assert volume.grid.rotation == 15.0


def test_what_the_calibrations_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    volume = fv.open(write(tmp_path / "map.nhf", curves(EVEN), calibrations=""))
    with pytest.raises(CalibrationError, match=r"map\.nhf.*--spring-constant.*--deflection-sensitivity"):
        fv.process(volume)


def test_z_is_turned_to_grow_toward_the_sample(tmp_path: Path) -> None:
    data = curves(EVEN)
    turned = {key: [-part if key.endswith("Z") else part for part in parts] for key, parts in data.items()}
    for content in (data, turned):
        volume = fv.open(write(tmp_path / "map.nhf", content))
        raw = readers.read_tile(volume, Tile(0, 1))
        for branch, sign in (("approach", 1), ("retract", -1)):
            scale, offset = volume.z_scale(branch)
            z = getattr(raw, branch).z[0] * scale + offset
            assert sign * (z[-1] - z[0]) == pytest.approx(2e-6, rel=1e-6)


def test_invalid_samples_are_marked_and_pauses_left_out(tmp_path: Path) -> None:
    data = curves(EVEN)
    data["1 Deflection"][2][5] = -(2**31)
    volume = fv.open(write(tmp_path / "map.nhf", data))
    assert volume.retract.deflection.invalid == -(2**31)
    assert any("'Pause' is left out" in warning for warning in volume.warnings)
    assert any("row by row from the bottom" in warning for warning in volume.warnings)


def test_a_known_contact_is_fitted(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dtype": "float32", "sigma": 1e-11}
    fv.simulate.write_map(tmp_path / "curves.h5", ny=2, nx=3, samples=300, seed=5, **settings)
    known = fv.open(tmp_path / "curves.h5")
    raw = readers.read_tile(known, Tile(0, 6))
    data: dict[str, list[np.ndarray]] = {}
    for number, branch in enumerate(("approach", "retract")):
        part = getattr(raw, branch)
        volts = part.deflection * getattr(known, branch).deflection.scale / SENSITIVITY
        z = np.broadcast_to(part.z * getattr(known, branch).z.scale, volts.shape)
        data[f"{number} Deflection"] = list(nhf_files.raw_of(volts.astype(float), "Deflection"))
        data[f"{number} Position Z"] = list(nhf_files.raw_of(z, "Position Z"))
    path = write(tmp_path / "map.nhf", data)
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=known.tip_radius.value))
    got = fv.process(fv.open(path, spring_constant=known.calibration.spring_constant.value), recipe)
    np.testing.assert_allclose(got["modulus"], fv.process(known, recipe)["modulus"], rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"names": ("Advance", "Pause")}, "segments: Advance, Pause: no approach and retract"),
        ({"deflection": "Friction"}, "Deflection: 0 channels"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FileFormatError, match=rf"map\.nhf.*{told}"):
        fv.open(write(tmp_path / "map.nhf", curves(EVEN), **changes))


def test_a_grid_that_is_not_that_of_the_curves_gives_a_row(tmp_path: Path) -> None:
    volume = fv.open(write(tmp_path / "map.nhf", curves(EVEN), grid=(5, 5)))
    assert volume.shape == (1, 6) and any("one row" in warning for warning in volume.warnings)


def test_one_curve_that_would_make_all_others_as_long_is_refused(tmp_path: Path) -> None:
    counts = np.array([40, 40, 6_000_000, 40, 40, 40])
    path = write(tmp_path / "map.nhf", curves(counts), storage={"chunks": (1 << 16,), "compression": "gzip"})
    with pytest.raises(FileFormatError, match=r"map\.nhf.*6000000 samples: a row of curves may take"):
        fv.open(path)


def test_images_alone_and_other_versions_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "map.nhf", curves(EVEN))
    with h5py.File(path, "a") as file:
        del file["group_0001"]
    with pytest.raises(FileFormatError, match="0 measurements"):
        fv.open(path)
    with h5py.File(path, "a") as file:
        file.attrs["nsf_file_version_major"] = 3
    with pytest.raises(FileFormatError, match=r"nsf_file_version.*3.*1\.1 and 2\.x"):
        fv.open(path)


@pytest.mark.filterwarnings("ignore")
def test_changed_files_are_refused_or_read(tmp_path: Path) -> None:
    content = write(tmp_path / "map.nhf", curves(RAGGED)).read_bytes()
    for number, changed in enumerate(hostile.mutations(content, 300, len(content))):
        path = tmp_path / f"changed{number % 4}.nhf"
        path.write_bytes(changed)
        try:
            volume = fv.open(path, spring_constant=1.0, deflection_sensitivity=1e-8)
            readers.read_tile(volume, Tile(0, 1))
        except fv.FvprocError:
            continue
