"""Damaged global heaps of HDF5 files: refused before the library meets them, since it would not come back."""

from __future__ import annotations

import struct
from pathlib import Path

import curves_files
import h5py
import numpy as np
import pytest

import fvproc as fv
from fvproc.errors import FileFormatError
from fvproc.readers.hdf5_heaps import require_sound_heaps


def objects(content: bytes) -> list[int]:
    """Places of the sizes of all objects in the first collection."""
    at = content.index(b"GCOL\x01")
    length = struct.unpack_from("<Q", content, at + 8)[0]
    places, place = [], 16
    while place + 16 <= length:
        index, size = struct.unpack_from("<H6xQ", content, at + place)
        places.append(at + place + 8)
        place += size if index == 0 else 16 + (size + 7) // 8 * 8
    return places


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 64) - 8])
def test_a_run_of_objects_that_never_ends_is_refused(tmp_path: Path, size: int) -> None:
    path = curves_files.write_with_h5py(tmp_path / "map.h5")
    content = bytearray(path.read_bytes())
    free = objects(bytes(content))[-1]  # what is left of the collection
    content[free : free + 8] = struct.pack("<Q", size)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"map\.h5: the global heap at byte \d+: an object of \d+ bytes.*fetch"):
        fv.open(path)


@pytest.mark.parametrize("library", ["earliest", "v108", "latest"])
def test_sound_heaps_of_every_layout_pass(tmp_path: Path, library: str) -> None:
    path = tmp_path / "texts.h5"
    generator = np.random.default_rng(0)
    with h5py.File(path, "w", libver=(library, library if library != "earliest" else "latest")) as file:
        for number in range(60):
            text = "é" * int(generator.integers(0, 200))
            file.attrs[f"text {number}"] = text
            file.create_dataset(f"texts {number}", data=[text, "a"], dtype=h5py.string_dtype())
        for number in range(0, 60, 3):
            del file.attrs[f"text {number}"], file[f"texts {number}"]
    require_sound_heaps(str(path))
