"""Curves written in the layout of afmformats: that package, and nanite where it is, read what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import readers
from fvproc.cli import main
from fvproc.errors import CalibrationError, OutputError
from fvproc.readers import afmformats_writer
from fvproc.readers.afmformats_writer import AfmformatsWriter
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile

SINGLE = "jpk/fmt-jpk-fd_spot3-0192.jpk-force"
MAP = "jpk/map-data-2022.10.29-12.27.34.564.jpk-force-map"
COLUMNS = ("force", "height (measured)", "segment")


def arrays(ny: int, nx: int, samples: int, **settings: float) -> ForceVolume:
    """Return a volume of arrays in which every sample has its own number."""
    numbers = np.arange(ny * nx * samples, dtype=np.float32).reshape(ny, nx, samples) * 1e-12
    z = np.linspace(0, 1e-7, samples)
    return fv.from_arrays(numbers, -numbers, z=(z, z[::-1]), units="m", z_units="m", **settings)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compress", [False, True])
def test_a_single_curve_is_the_one_that_afmformats_reads_itself(tmp_path: Path, compress: bool) -> None:
    afmformats = pytest.importorskip("afmformats")
    fv.convert(real_file(SINGLE), tmp_path / "out.h5", layout="afmformats", compress=compress)
    (ours,), (theirs,) = (afmformats.load_data(path) for path in (tmp_path / "out.h5", real_file(SINGLE)))
    for column in COLUMNS:
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-12, atol=1e-22)
        assert ours[column].dtype == theirs[column].dtype
    assert ours.metadata["imaging mode"] == theirs.metadata["imaging mode"] == ours.modality
    for key in ("spring constant", "sensitivity", "point count", "segment count"):
        assert ours.metadata[key] == pytest.approx(theirs.metadata[key], rel=1e-12), key
    assert ours.metadata["z range"] == pytest.approx(np.ptp(theirs["height (measured)"]))


@pytest.mark.filterwarnings("ignore")
def test_a_map_lies_on_its_grid_as_afmformats_has_it(tmp_path: Path) -> None:
    afmformats = pytest.importorskip("afmformats")
    assert main(["convert", str(real_file(MAP)), str(tmp_path / "out.h5"), "--as", "afmformats"]) == 0
    place = ("grid index x", "grid index y")
    theirs = {tuple(data.metadata[key] for key in place): data for data in afmformats.load_data(real_file(MAP))}
    ours = {tuple(data.metadata[key] for key in place): data for data in afmformats.load_data(tmp_path / "out.h5")}
    assert ours.keys() == theirs.keys() and len(ours) == 16
    for pixel, data in ours.items():
        other = theirs[pixel]
        for segment in ("appr", "retr"):
            for column in ("force", "height (measured)"):
                mine, whole = getattr(data, segment)[column], getattr(other, segment)[column]
                np.testing.assert_allclose(mine, whole, rtol=1e-9, atol=1e-18)
        for key in ("spring constant", "sensitivity", "grid shape x", "grid shape y", "grid size x", "grid size y"):
            assert data.metadata[key] == pytest.approx(other.metadata[key], rel=1e-9), key
    steps = [ours[3, 2].metadata[f"position {axis}"] - ours[0, 0].metadata[f"position {axis}"] for axis in "xy"]
    want = [theirs[3, 2].metadata[f"position {axis}"] - theirs[0, 0].metadata[f"position {axis}"] for axis in "xy"]
    assert steps == pytest.approx(want, rel=1e-6)
    feature = afmformats.afm_qmap.AFMQMap(tmp_path / "out.h5")  # which asks for all metadata of a grid
    assert feature.shape == (4, 4) and len(feature.group) == 16


@pytest.mark.filterwarnings("ignore")
def test_nanite_fits_the_same_modulus(tmp_path: Path) -> None:
    nanite = pytest.importorskip("nanite")
    fv.convert(real_file(SINGLE), tmp_path / "out.h5", layout="afmformats")
    found = []
    for path in (real_file(SINGLE), tmp_path / "out.h5"):
        (curve,) = nanite.load_group(path)
        curve.apply_preprocessing(["compute_tip_position"])
        start = curve.get_initial_fit_parameters(model_key="hertz_para")
        start["R"].value, start["nu"].value = 10e-6, 0.5
        curve.fit_model(model_key="hertz_para", params_initial=start, weight_cp=False)
        found.append(curve.fit_properties["params_fitted"]["E"].value)
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[1] == pytest.approx(14741.958, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_samples_that_do_not_count_are_left_out_and_curves_without_any(tmp_path: Path) -> None:
    afmformats = pytest.importorskip("afmformats")
    channel = Channel("int16", "V", 1e-3, 0.5, invalid=-32768)
    branch = Branch(5, channel, Channel("float32", "m"), False)
    volume = ForceVolume(
        "map.mine", "mine", Grid(1, 3), branch, branch, calibration=Calibration(Setting(0.4), Setting(5e-8))
    )
    numbers = np.array([[1, 2, -32768, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]], np.int16)
    z = np.arange(15, dtype=np.float32).reshape(3, 5)
    z[0, 3] = np.nan
    lengths = np.array([5, 0, 2], np.int32)
    with AfmformatsWriter(tmp_path / "out.h5", volume) as writer:
        for tile in (Tile(0, 2), Tile(2, 3)):
            part = slice(tile.start, tile.stop)
            approach = RawBranch(numbers[part], z[part], lengths[part])
            writer.write(tile, RawTile(approach, RawBranch(numbers[part], -z[part])))
    first, second = sorted(afmformats.load_data(tmp_path / "out.h5"), key=lambda data: data.enum)
    newtons = np.array([1, 2, 5, 1, 2, 5]) * 1e-3 * 5e-8 * 0.4 + 0.5 * 5e-8 * 0.4
    np.testing.assert_allclose(first["force"], newtons, rtol=1e-12)
    np.testing.assert_array_equal(first["height (measured)"], [-0.0, -1, -4, 0, 1, 4])
    np.testing.assert_array_equal(first["segment"], [0, 0, 0, 1, 1, 1])
    assert (second.metadata["grid index x"], second.metadata["point count"], second.enum) == (2, 2 + 5, 1)
    np.testing.assert_array_equal(second.appr["height (measured)"], [-10, -11])


def test_fvproc_reads_it_back(tmp_path: Path) -> None:
    pytest.importorskip("afmformats")
    volume = arrays(2, 3, 20, spring_constant=0.4, size_x=3e-6, size_y=2e-6)
    fv.convert(volume, tmp_path / "out.h5", layout="afmformats")
    back = fv.open(tmp_path / "out.h5")
    assert (back.grid, back.calibration.spring_constant) == (volume.grid, Setting(0.4, "file"))
    for one, other in ((back.approach, volume.approach), (back.retract, volume.retract)):
        assert one.samples == other.samples
    ours, theirs = (readers.read_tile(v, Tile(0, 6)) for v in (back, volume))
    np.testing.assert_allclose(ours.retract.deflection, theirs.retract.deflection, rtol=1e-6)
    np.testing.assert_array_equal(ours.approach.z[4], theirs.approach.z)


def test_where_the_curves_come_from_is_told(curves_file: Path, tmp_path: Path) -> None:
    fv.convert(curves_file, tmp_path / "out.h5", layout="afmformats")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["source_name"] == curves_file.name
        assert file.attrs["source_header_sha256"] == fv.open(curves_file).header_digest
        assert file["0"].attrs["session id"] == curves_file.name


# ---- refusals, after which nothing is left


def test_too_many_curves_are_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    volume = arrays(1, afmformats_writer.MOST_CURVES + 1, 2, spring_constant=0.4)
    with pytest.raises(OutputError, match=r"10001 curves.*10000 at most: write a curves file"):
        fv.convert(volume, tmp_path / "out.h5", layout="afmformats")
    assert not list(tmp_path.iterdir())


def test_without_a_calibration_there_is_no_force(bare_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.convert(bare_file, tmp_path / "out.h5", layout="afmformats")
    assert not list(tmp_path.iterdir())
    command = [sys.executable, "-m", "fvproc", "convert", str(bare_file), "out.h5", "--as", "afmformats"]
    given = ["--spring-constant", "0.4", "--deflection-sensitivity", "30nm/V"]
    done = [
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        for more in ([], given)
    ]
    assert done[0].returncode == 2 and "--deflection-sensitivity" in done[0].stderr
    assert done[1].returncode == 0, done[1].stderr
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["0"].attrs["sensitivity"] == pytest.approx(3e-8)


def test_an_unknown_layout_and_a_map_without_curves_are_refused(curves_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"layout 'tab': choose from curves, afmformats"):
        fv.convert(curves_file, tmp_path / "out.h5", layout="tab")
    volume = arrays(1, 2, 4, spring_constant=0.4)
    (tmp_path / "out.h5").write_text("precious")
    none = RawBranch(np.zeros((2, 4), np.float32), np.arange(4.0), np.zeros(2, np.int32))
    with (
        pytest.raises(OutputError, match="no curve of the input has samples"),
        AfmformatsWriter(tmp_path / "out.h5", volume) as writer,
    ):
        writer.write(Tile(0, 2), RawTile(none, none))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.h5", "precious")]
