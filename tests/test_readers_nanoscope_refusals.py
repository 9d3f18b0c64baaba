"""NanoScope files that contradict themselves are refused, naming file, field and value."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanoscope_files import DATA_OFFSET, LSB, RAMP_VOLTS, File, Image, numbers, replaced, write_ramps

from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.recipe import Recipe
from fvproc.volume import Tile


def edited(old: str, new: str) -> dict:
    return {"edit": replaced(old, new)}


SAMPLES = "Samps/line: 10 10\n\\Spring"
FIRST = f"Data offset: {DATA_OFFSET}"
REFUSALS = {
    "beyond the file": (edited(FIRST, "Data offset: 99999999"), r"Data offset \+ Data length = 99999999"),
    "within the header": (edited(FIRST, "Data offset: 12"), "Data offset = 12: lies within the header"),
    "offset no number": (edited(FIRST, "Data offset: x"), "Data offset = 'x'"),
    "length zero": (edited("Data length: 480", "Data length: 0"), "Data length = '0'"),
    "length negative": (edited("Data length: 480", "Data length: -480"), "Data length = '-480'"),
    "length missing": (edited("\\Data length: 480\n", ""), "Data length = None"),
    "length does not divide": (edited("Data length: 480", "Data length: 478"), "Data length = 478"),
    "overlap": (
        edited(f"Data offset: {DATA_OFFSET + 480}", f"Data offset: {DATA_OFFSET + 400}"),
        "begins within 'Deflection Error'",
    ),
    "no samples": (edited(SAMPLES, "Samps/line: 0 0\n\\Spring"), "Samps/line = 0 0"),
    "negative samples": (edited(SAMPLES, "Samps/line: -10 10\n\\Spring"), "Samps/line = -10 10"),
    "other samples": (edited(SAMPLES, "Samps/line: 11 10\n\\Spring"), "Data length = 480: is not 2 or 4 bytes"),
    "no V/LSB": (edited(f"({LSB:.10f} V/LSB)", "(\\Data length V/LSB)"), "Z scale = "),
    "no ramp size": (edited(f"{RAMP_VOLTS} V", "0 V"), "Ramp Size = "),
    "ramp of a bias": (edited('[Zsweep] "Z"', '[Bias] "Tip Bias"'), "Ramp channel = 'Tip Bias'"),
    "no deflection": (
        edited('[DeflectionError] "Deflection Error"', '[Friction] "Friction"'),
        "Image Data = 'Friction'",
    ),
    "no curves": (edited("Ciao force image list", "Ciao image list"), "no force curves"),
    "hold": (
        {"force": ["\\Hold Samples: 3"], **edited("Data length: 480", "Data length: 476")},
        "hold cannot be read",
    ),
}


def six_curves(path: Path, **options: object) -> Path:
    """Write 2 × 3 curves of 10 + 10 int32 samples: 480 bytes; and an image."""
    approach, retract = numbers(6, 10, 10)
    options.setdefault("images", [Image("Height", np.zeros((2, 3), "<i4"))])
    return write_ramps(path, approach, retract, File(2, 3, **options))


@pytest.mark.parametrize("options, message", REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_file_field_and_value(tmp_path: Path, options: dict, message: str) -> None:
    path = six_curves(tmp_path / "a.spm", **options)
    with pytest.raises(FileFormatError, match=message) as caught:
        readers.open_volume(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_sensor_that_disagrees_with_the_deflection_is_refused(tmp_path: Path) -> None:
    approach, retract = numbers(6, 10, 10)
    sensor = np.ones((6, 2, 20), "<i2")
    path = write_ramps(tmp_path / "a.spm", approach, retract, File(2, 3), sensor_slots=sensor)
    text = path.read_bytes()
    first = text.index(b"Samps/line: 10 10", text.index(b"ZsensSens] (") - 400)
    assert b"ZSensor" in text[first : first + 200]
    path.write_bytes(text[:first] + b"Samps/line: 20 20" + text[first + 17 :])
    with pytest.raises(FileFormatError, match="'Height Sensor' disagrees"):
        readers.open_volume(path)


@pytest.mark.parametrize("left", [100, 3000, DATA_OFFSET + 1, DATA_OFFSET + 479, DATA_OFFSET + 480 + 23])
def test_a_truncated_file_is_refused(tmp_path: Path, left: int) -> None:
    path = six_curves(tmp_path / "a.spm")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(FileFormatError, match="truncated"):
        readers.open_volume(path)


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = six_curves(tmp_path / "a.spm")
    path.write_bytes(path.read_bytes().replace(b"\x1a", b"\n"))
    with pytest.raises(FileFormatError, match="no byte 0x1A"):
        readers.open_volume(path)


@pytest.mark.parametrize("trailing", [0, 3])
@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("grown", [-8, -3, -2, -1, 1, 2, 4, 7, 24])
def test_a_header_that_was_edited_moves_the_data_and_is_noticed(
    tmp_path: Path, grown: int, images: bool, trailing: int
) -> None:
    """Bytes that come or go in the header leave every declared offset wrong by as many."""
    image = np.zeros((20, 20), "<i4")
    approach, retract = numbers(400, 10, 10)
    trailers = [image] * trailing if images else []
    file = File(20, 20, images=[Image("Height", image)] if images else [], trailing=trailers)
    path = write_ramps(tmp_path / "a.spm", approach, retract, file)
    readers.open_volume(path)
    whole = path.read_bytes()
    place = whole.index(b"MultiMode 8")
    path.write_bytes(whole[:place] + (b"x" * grown if grown > 0 else b"") + whole[place - min(grown, 0) :])
    with pytest.raises(FileFormatError, match="edited"):
        readers.open_volume(path)


def test_bytes_of_no_known_kind_at_the_end_are_a_warning(tmp_path: Path) -> None:
    approach, retract = numbers(400, 10, 10)
    file = File(20, 20, images=[Image("Height", np.zeros((20, 20), "<i4"))])
    path = write_ramps(tmp_path / "a.spm", approach, retract, file)
    path.write_bytes(path.read_bytes() + bytes(800))
    volume = readers.open_volume(path)
    assert volume.warnings == ("800 bytes after the declared data are of no known kind",)
    assert list(readers.vendor_maps(volume)) == ["height"]


def test_an_image_file_is_told_from_a_force_volume(tmp_path: Path) -> None:
    (tmp_path / "a.spm").write_bytes(
        b"\\*File list\r\n\\Version: 0x09200000\r\n\\*Ciao image list\r\n\\*File list end\r\n\x1a"
    )
    with pytest.raises(FileFormatError, match="no force curves"):
        readers.open_volume(tmp_path / "a.spm")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_number_of_the_header_may_be_nonsense(data: st.DataObject) -> None:
    """A wrong number is refused by name or read as it stands; nothing else happens."""
    with tempfile.TemporaryDirectory() as folder:
        path = six_curves(Path(folder) / "a.spm")
        whole = path.read_bytes()
        end = whole.index(b"\x1a")
        first, last = data.draw(st.sampled_from([match.span() for match in re.finditer(rb"-?\d[\d.]*", whole[:end])]))
        nonsense = data.draw(
            st.sampled_from([b"", b"0", b"-1", b"1e999", b"nan", b"x", b"9" * 30, b"1e-300", b"2 3 4"])
        )
        header = whole[:first] + nonsense + whole[last:end] + b"\x1a"
        path.write_bytes(header.ljust(DATA_OFFSET, b"\0") + whole[DATA_OFFSET:])
        try:
            volume = readers.open_volume(path)
        except FileFormatError as refusal:
            assert str(refusal).startswith(f"{path}: ")
        else:
            raw = readers.read_tile(volume, Tile(0, volume.grid.curves))
            assert np.isfinite(raw.approach.z).all()
            assert all(np.isfinite(vendor.values).all() for vendor in readers.vendor_maps(volume).values())
            if volume.vendor_recipe:
                Recipe.vendor(volume)
