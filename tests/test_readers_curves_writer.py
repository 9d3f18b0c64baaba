"""The writer of curves files keeps its word: a whole file or none."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from curves_files import curves, small

from fvproc import readers
from fvproc.errors import OutputError
from fvproc.readers.curves import CurvesWriter
from fvproc.volume import Calibration, RawBranch, Setting, Tile


def test_an_exception_leaves_the_old_file_and_no_partial(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    path.write_text("precious")
    with pytest.raises(RuntimeError), CurvesWriter(path, **small()) as writer:
        writer.write(Tile(0, 4), curves(4))
        raise RuntimeError
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]
    with CurvesWriter(path, **small()) as writer:
        writer.write(Tile(0, 4), curves(4))
    assert readers.open_volume(path).shape == (2, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]


def test_a_file_that_is_not_whole_never_appears(tmp_path: Path) -> None:
    message = "1 of 4 curves were never written, the first is 2"
    with pytest.raises(OutputError, match=message), CurvesWriter(tmp_path / "c.h5", **small()) as writer:
        writer.write(Tile(0, 2), curves(2))
        writer.write(Tile(3, 4), curves(1))
    assert not list(tmp_path.iterdir())


def test_the_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    for tile, raw, message in (
        (Tile(0, 2), curves(1), r"approach/deflection .* shape \(2, 4\)"),
        (Tile(0, 2), curves(2, "int32"), "must be int16"),
        (Tile(3, 5), curves(2), "beyond the 4 curves"),
    ):
        with pytest.raises(ValueError, match=message), CurvesWriter(path, **small()) as writer:
            writer.write(tile, raw)
    with pytest.raises(ValueError, match="no height"), CurvesWriter(path, **small(), has_height=True) as writer:
        writer.write(Tile(0, 4), curves(4))
    with pytest.raises(ValueError, match="truth 'modulus'"), CurvesWriter(path, **small()) as writer:
        writer.write_truth("modulus", "Pa", np.zeros(3))
    with pytest.raises(OutputError, match="shared_z of approach"):
        CurvesWriter(path, **{**small(), "shared_z": None})
    with pytest.raises(OutputError, match="compression"):
        CurvesWriter(path, **small(), compression="zstd")
    with pytest.raises(OutputError, match="chunk_curves"):
        CurvesWriter(path, **small(), chunk_curves=0)
    with pytest.raises(OutputError, match="cannot be created"):
        CurvesWriter(tmp_path / "no folder" / "c.h5", **small())
    assert not list(tmp_path.iterdir())


def test_truth_calibration_and_tip_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    calibration = Calibration(Setting(0.5, rel_std=0.2), Setting(6e-8), Setting(1e-8))
    with CurvesWriter(
        path, **small(), calibration=calibration, tip_half_angle=Setting(0.3, "user", 0.05), poisson_ratio=0.4
    ) as writer:
        writer.write(Tile(0, 4), curves(4))
        writer.write_truth("modulus", "Pa", np.full((2, 2), 1e9))
    volume = readers.open_volume(path)
    assert volume.calibration == calibration
    assert volume.tip_half_angle == Setting(0.3, "user", 0.05)
    assert volume.tip_radius is None
    assert volume.poisson_ratio == 0.4
    assert readers.vendor_maps(volume) == {}
    with h5py.File(path) as file:
        assert file["truth/modulus"].attrs["units"] == "Pa"
        assert (file["truth/modulus"][...] == 1e9).all()


def test_a_tile_without_valid_length_is_whole_among_ragged_ones(tmp_path: Path) -> None:
    whole, ragged = curves(1), curves(2)
    ragged.retract = RawBranch(ragged.retract.deflection, ragged.retract.z, np.array([1, 3], np.int32))
    with CurvesWriter(tmp_path / "c.h5", **small()) as writer:
        writer.write(Tile(0, 1), whole)
        writer.write(Tile(1, 3), ragged)
        writer.write(Tile(3, 4), whole)
    raw = readers.read_tile(readers.open_volume(tmp_path / "c.h5"), Tile(0, 4))
    assert raw.approach.valid_length is None
    assert raw.retract.valid_length is not None
    assert raw.retract.valid_length.tolist() == [4, 1, 3, 4]
