"""Files that only the package afmformats reads: its numbers, what it cannot know, and what is said without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.volume import Tile

TAB = "other/fmt-tab-fd_version_0.13.3.tab"
HDF5 = "other/fmt-hdf5-fd_version_0.13.3.h5"
NTMDT = "other/fmt-ntmdt-txt-fd_2015_01_17_gel4-0,1_mQ_adh_6B_Curve_DFL_Height_51.txt"
WORKSHOP_MAP = "other/fmt-afm-workshop-fd_mapping_16_2018-08-01_13.07.zip"
WORKSHOP_SINGLE = "other/fmt-afm-workshop-fd_single_2021-10-22_14.16.csv"
RECIPE = fv.Recipe(tip=fv.Tip.sphere(radius=1e-6))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [TAB, HDF5])
def test_samples_are_those_of_afmformats(name: str) -> None:
    afmformats = pytest.importorskip("afmformats")
    path = real_file(name)
    volume = fv.open(path)
    assert (volume.format, volume.shape) == ("afmformats", (1, 1))
    (data,) = afmformats.load_data(path)
    tile = readers.read_tile(volume, Tile(0, 1))
    for raw, segment in ((tile.approach, data.appr), (tile.retract, data.retr)):
        newtons = raw.deflection[0] * volume.calibration.spring_constant.value
        np.testing.assert_allclose(newtons, segment["force"], rtol=1e-6, atol=1e-16)
        np.testing.assert_array_equal(raw.z[0], -segment["height (measured)"])


def test_volts_need_the_users_calibration() -> None:
    pytest.importorskip("afmformats")
    volume = fv.open(real_file(WORKSHOP_MAP))
    with pytest.raises(CalibrationError, match=r"--spring-constant.*--deflection-sensitivity"):
        fv.process(volume, RECIPE)
    given = fv.open(real_file(WORKSHOP_MAP), spring_constant=0.3, deflection_sensitivity=5e-8)
    afmformats = pytest.importorskip("afmformats")
    told = {"spring constant": 0.3, "sensitivity": 5e-8}
    (data, *_) = afmformats.load_data(real_file(WORKSHOP_MAP), meta_override=told)
    pixel = data.metadata["grid index y"] * 4 + data.metadata["grid index x"]
    raw = readers.read_tile(given, Tile(pixel, pixel + 1)).approach
    newtons = raw.deflection[0, : len(data.appr["force"])] * given.deflection_scale("approach")[0] * 0.3
    np.testing.assert_allclose(newtons, data.appr["force"], rtol=1e-6, atol=1e-15)


def test_amperes_are_not_taken_for_volts(tmp_path: Path) -> None:
    pytest.importorskip("afmformats")
    path = tmp_path / "nova.txt"  # z (nm), deflection (nA) of approach and retract
    path.write_text("".join(f"-{z},5\t1,{z % 7}\t1,1\n" for z in range(99, 9, -1)))
    for which in (path, real_file(NTMDT)):
        with pytest.raises(FileFormatError, match=r"NT-MDT.*nanoamperes.*m/V.*from_arrays"):
            fv.open(which, spring_constant=0.3, deflection_sensitivity=5e-8)


def test_z_of_a_chiaro_is_its_piezo_and_not_the_indentation(tmp_path: Path) -> None:
    pytest.importorskip("afmformats")
    piezo = np.concatenate([np.linspace(0, 8000, 200), np.linspace(8000, 0, 200)[1:]])
    depth = np.maximum(piezo - 4000, 0) * 0.75
    bend = np.maximum(piezo - 4000, 0) * 0.25  # nm
    header = (
        "Date\t01/02/2020\tTime\t10:00:00\nDevice:\tChiaro\nSoftware version\t1\nk (N/m)\t0.5\n"
        "Max load (µN)\t0.5\nPiezo position (nm) (Measured)\t8000\nPiezo speed  (µm/s)\t1\n"
        "Time (s)\tLoad (uN)\tIndentation (nm)\tCantilever (nm)\tPiezo (nm)\n"
    )
    rows = np.column_stack([np.arange(len(piezo)) * 1e-3, bend * 0.5e-3, depth, bend, piezo])
    path = tmp_path / "chiaro.txt"
    path.write_text(
        header + "\n".join("\t".join(f"{value:.6f}" for value in row) for row in rows) + "\n", encoding="iso-8859-1"
    )
    curve = fv.curve(fv.open(path), 0, 0)
    np.testing.assert_allclose(curve["approach_z"], piezo[: len(curve["approach_z"])] * 1e-9, atol=1e-14)
    np.testing.assert_allclose(curve["approach_deflection"], bend[: len(curve["approach_z"])] * 1e-9, atol=2e-12)


def test_a_map_lies_on_its_grid() -> None:
    afmformats = pytest.importorskip("afmformats")
    path = real_file(WORKSHOP_MAP)
    volume = fv.open(path, spring_constant=0.3, deflection_sensitivity=5e-8)
    assert volume.shape == (4, 4)
    tile = readers.read_tile(volume, Tile(0, 16))
    for data in afmformats.load_data(path, meta_override={"spring constant": 0.3, "sensitivity": 5e-8}):
        pixel = data.metadata["grid index y"] * 4 + data.metadata["grid index x"]
        want = -data.appr["height (measured)"]
        np.testing.assert_array_equal(tile.approach.z[pixel, : len(want)], want)
    assert len(fv.process(volume, RECIPE)["adhesion"].ravel()) == 16


def test_force_without_its_spring_constant_is_refused() -> None:
    pytest.importorskip("afmformats")
    with pytest.raises(FileFormatError, match=r"not the spring constant that made it.*from_arrays"):
        fv.open(real_file(WORKSHOP_SINGLE))


def test_where_the_package_is_missing_the_error_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "curve.tab"
    path.write_text("# a curve\n1\t2\n")
    code = (
        "import sys; sys.modules['afmformats'] = None; sys.modules['afmformats.formats'] = None\n"
        "import fvproc\n"
        "try:\n    fvproc.open(sys.argv[1])\n"
        "except fvproc.FileFormatError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=tmp_path,  # a checkout in the current folder would come before the installed package
        capture_output=True,
        text=True,
        check=True,
    )
    assert "curve.tab" in done.stdout and "pip install 'fvproc[afmformats]'" in done.stdout


def test_what_it_does_not_know_is_no_known_format(tmp_path: Path) -> None:
    pytest.importorskip("afmformats")
    for name, content in (("a.txt", b"hello\n"), ("a.csv", b"1,2\n"), ("a.zip", b"PK\x03\x04 and no more")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            fv.open(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_changed_files_are_refused_or_read(tmp_path: Path) -> None:
    pytest.importorskip("afmformats")
    content = b"".join(real_file(TAB).read_bytes().splitlines(keepends=True)[:300])
    for number, changed in enumerate(hostile.mutations(content, 500, 4000)):
        path = tmp_path / f"changed{number % 8}.tab"
        path.write_bytes(changed)
        hostile.survives(path)
