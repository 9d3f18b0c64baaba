"""Exports: some quantities, the rotated frame, the cloud's layout; and writing without a copy of the maps."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.transform import Affine
from test_writers_samples import ramp_maps, random_maps

import fvproc as fv
from fvproc import writers
from fvproc.cli import main
from fvproc.errors import OutputError
from fvproc.maps import ParameterMaps
from fvproc.quantities import RECORD
from fvproc.volume import Grid
from fvproc.writers import geotiff, hdf5, ometiff


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_chosen_quantities_are_written_with_the_flags(tmp_path, suffix):
    maps = ramp_maps(7, 9)
    path = tmp_path / f"m{suffix}"
    fv.export(maps, path, quantities=["adhesion", "modulus"])
    if suffix == ".tif":
        with rasterio.open(path) as file:
            assert file.descriptions == ("modulus", "adhesion", "flags_warning", "flags_fatal")
            assert file.units[:2] == ("Pa", "N")
            stack = file.read()
    else:
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "CYX"
            stack = file.asarray()
    assert stack.shape == (4, 7, 9)
    np.testing.assert_array_equal(stack[1], maps["adhesion"][::-1])


def test_the_rotated_frame_turns_about_the_lower_left_corner(tmp_path):
    maps = ramp_maps(6, 8)
    maps.grid = Grid(6, 8, 600e-9, 1600e-9, 30.0)
    fv.export(maps, tmp_path / "r.tif", rotated=True)
    with rasterio.open(tmp_path / "r.tif") as file:
        transform = file.transform
        np.testing.assert_array_equal(file.read(1), maps["modulus"][::-1])
    assert transform @ (0, 6) == pytest.approx((0, 0), abs=1e-9)
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    assert transform @ (8, 6) == pytest.approx((1600 * cosine, 1600 * sine))  # along a line of the scan
    assert transform @ (0, 0) == pytest.approx((-600 * sine, 600 * cosine))
    fv.export(maps, tmp_path / "u.tif", quantities=["modulus"])
    with rasterio.open(tmp_path / "u.tif") as file:
        assert file.transform == Affine(200, 0, 0, 0, -100, 600)


def test_the_cloud_layout_keeps_values_names_and_units(tmp_path):
    maps = random_maps(700, 600, size_y=7e-6, size_x=6e-6)
    fv.export(maps, tmp_path / "c.tif", quantities=["modulus", "height"], cloud=True)
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions[:2] == ("modulus", "height")
        assert file.overviews(1)
        assert (
            np.ascontiguousarray(file.read(2), "<f4").tobytes() == np.ascontiguousarray(maps["height"][::-1]).tobytes()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["c.tif"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x.h5", "--rotated"], ".tif"),
        (["x.ome.tif", "--cloud"], ".tif"),
        (["x.csv", "--quantity", "modulus"], ".ome.tif"),
        (["x.tif", "--quantity", "modulos"], "modulus"),
        (["x.xyz"], "no output format"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(tmp_path, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    fv.save(ramp_maps(3, 4), "in.h5")
    assert main(["export", "in.h5", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def test_the_command_exports_and_asks_before_it_replaces(tmp_path, capsys):
    fv.save(ramp_maps(3, 4), tmp_path / "in.h5")
    for name in ("o.csv", "o.tif"):
        arguments = ["export", str(tmp_path / "in.h5"), str(tmp_path / name)]
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / name)
        assert main(arguments) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert main([*arguments, "--overwrite"]) == 0
        capsys.readouterr()


@pytest.mark.parametrize("writer", [geotiff, ometiff, hdf5])
def test_writing_takes_no_more_memory_for_more_rows(tmp_path, writer):
    def most(rows: int) -> int:
        records = np.memmap(tmp_path / "records", RECORD, "w+", shape=(rows, 512))
        maps = ParameterMaps(Grid(rows, 512), records)
        tracemalloc.start()
        writer.write(maps, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(300)  # imports
    small, large = most(512), most(4096)
    plane = 4096 * 512 * 4
    assert large < small + plane / 4


def test_files_of_one_map_each_are_called_by_their_names(tmp_path, curves_file, capsys):
    """No file is called X.gsf, so none is told of."""
    assert main(["run", str(curves_file), "-o", str(tmp_path / "x.gsf"), "-o", str(tmp_path / "x.h5")]) == 0
    told = capsys.readouterr().out
    assert f"-> {tmp_path / 'x_*.gsf'}\n" in told and f"-> {tmp_path / 'x.h5'}\n" in told
    assert main(["export", str(tmp_path / "x.h5"), str(tmp_path / "y.gsf")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'y_*.gsf'}\n"
    assert len(list(tmp_path.glob("y_*.gsf"))) == len(list(tmp_path.glob("x_*.gsf"))) > 20


def test_an_error_of_files_of_one_map_each_names_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"y_\*\.gsf: .*is a file"):
        writers.check_writable(tmp_path / "file" / "y.gsf")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"y_[a-z_]+\.gsf: cannot be written: No space"):
        fv.save(ramp_maps(2, 3), tmp_path / "y.gsf")


def test_what_a_killed_run_left_of_files_of_one_map_each_is_swept(tmp_path):
    left = tmp_path / ".x_modulus.0123abcd.tmp.gsf"
    left.write_text("")
    writers.sweep(tmp_path / "x.gsf")
    assert not left.exists()
