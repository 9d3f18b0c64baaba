"""Damaged and lying Igor waves, alone and in maps: an error that names the file, or numbers; never a crash."""

from __future__ import annotations

from pathlib import Path

import asylum_files
import hostile
import pytest

import fvproc as fv
from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.volume import Tile


def test_changed_curves_are_refused_or_read(tmp_path: Path) -> None:
    """Two of three with a checksum that is right, since otherwise none of the lies would be looked at."""
    values = asylum_files.curve(40, 30, 5)
    whole = asylum_files.single(tmp_path / "whole.ibw", values, asylum_files.indexes(40, 30, 5)).read_bytes()
    read = 0
    for number, changed in enumerate(hostile.mutations(whole, 1200, 384)):
        path = tmp_path / f"changed{number % 8}.ibw"
        path.write_bytes(asylum_files.checksum(changed) if number % 3 and len(changed) > 384 else changed)
        read += hostile.survives(path)
    assert 100 < read < 1100


def test_changed_notes_are_refused_or_read(tmp_path: Path) -> None:
    values = asylum_files.curve(4, 3, 1)
    whole = asylum_files.single(tmp_path / "whole.ibw", values, asylum_files.indexes(4, 3, 1)).read_bytes()
    start = 384 + values.shape[0] * 12
    for number, changed in enumerate(hostile.mutations(whole[start:], 500, 10_000)):
        path = tmp_path / f"changed{number % 8}.ibw"
        path.write_bytes(whole[:start] + changed)
        hostile.survives(path)


def test_maps_with_a_changed_curve_keep_the_others(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 2, 2, lengths=(6, 5, 1))
    target = path / "data/Line0001/Line0001Point0000Defl.ibw"
    whole = target.read_bytes()
    for number, changed in enumerate(hostile.mutations(whole, 300, 384)):
        folder = path.rename(tmp_path / f"map{number}")  # what is known of a folder goes by its name
        (folder / target.relative_to(path)).write_bytes(
            asylum_files.checksum(changed) if number % 3 and len(changed) > 384 else changed
        )
        assert hostile.survives(folder)
        path = folder
        target = folder / "data/Line0001/Line0001Point0000Defl.ibw"


def test_maps_with_a_changed_image_are_refused_or_read(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 2, 2, lengths=(6, 5, 1))
    whole = (path / "image.ibw").read_bytes()
    read = 0
    for number, changed in enumerate(hostile.mutations(whole, 300, len(whole), seed=3)):
        path = path.rename(tmp_path / f"map{number}")
        (path / "image.ibw").write_bytes(
            asylum_files.checksum(changed) if number % 3 and len(changed) > 384 else changed
        )
        read += hostile.survives(path)
    assert read > 200


def test_a_curve_that_shrinks_after_opening_is_an_error(tmp_path: Path) -> None:
    path = asylum_files.folder(tmp_path / "map", 1, 2)
    volume = fv.open(path)
    target = path / "data/Line0000/Line0000Point0001Defl.ibw"
    target.write_bytes(target.read_bytes()[:400])
    with pytest.raises(FileFormatError, match="Line0000Point0001Defl"):
        readers.read_tile(volume, Tile(0, 2))
