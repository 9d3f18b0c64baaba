"""Both TIFF stacks, judged by rasterio (GDAL) and tifffile: names, units, place, orientation, every bit."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from test_writers_samples import described, ramp_maps, random_maps

from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.volume import Grid
from fvproc.writers import geotiff, ometiff
from fvproc.writers.bands import BANDS, plane

NAMES = [*QUANTITIES, "flags_warning", "flags_fatal"]
UNITS = [*(q.unit if q.unit != "1" else None for q in QUANTITIES.values()), None, None]
SHAPES = [(1, 1), (1, 7), (300, 5), (257, 513)]


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def expected_bits(maps: ParameterMaps, number: int) -> bytes:
    """Return what band `number` has to hold, written down independently of the writers."""
    if number < len(QUANTITIES):
        values = maps.records[NAMES[number]]
    else:
        half = "<u2"
        values = maps.records["flags"].astype("<u4").reshape(maps.shape).copy().view(half)
        values = values.reshape(*maps.shape, 2)[..., number - len(QUANTITIES)].astype("f4")
    return bits(np.flipud(values))


@pytest.mark.parametrize("shape", SHAPES)
def test_bands_hold_every_bit_top_row_first(tmp_path, shape):
    maps = random_maps(*shape, size_y=1e-6, size_x=2e-6)
    geotiff.write(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.count == len(NAMES)
        for number in range(len(NAMES)):
            assert bits(file.read(number + 1)) == expected_bits(maps, number), NAMES[number]
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert len(file.pages) == 1
        stack = file.asarray().reshape(len(NAMES), *shape)
    assert [bits(page) for page in stack] == [expected_bits(maps, number) for number in range(len(NAMES))]


@pytest.mark.parametrize("shape", SHAPES)
def test_stack_holds_every_bit_top_row_first(tmp_path, shape):
    maps = random_maps(*shape, size_y=1e-6, size_x=2e-6)
    path = tmp_path / "m.ome.tif"
    ometiff.write(maps, path)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == len(NAMES)
        for number, page in enumerate(file.pages):
            assert bits(page.asarray()) == expected_bits(maps, number), NAMES[number]
    for number in (0, len(NAMES) - 1):
        with rasterio.open(f"GTIFF_DIR:{number + 1}:{path}") as file:
            assert bits(file.read(1)) == expected_bits(maps, number)


def test_flags_come_back_whole_from_the_two_bands(tmp_path):
    maps = ramp_maps(3, 4)
    maps.records["flags"][0, 0] = Flag.NOT_FINITE | Flag.DMT_DOUBTFUL | Flag.FEW_POINTS
    geotiff.write(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        warning, fatal = (file.read(NAMES.index(name) + 1).astype(np.uint32) for name in NAMES[-2:])
        np.testing.assert_array_equal((warning + 65536 * fatal)[::-1], maps.flags)
        tags = file.tags(NAMES.index("flags_fatal") + 1)
    named = dict(zip(tags["flag_meanings"].split(), map(int, tags["flag_masks"].split()), strict=True))
    assert named["not_finite"] == 2**15
    assert named["not_computed"] == 1
    assert "few_points" not in named


def test_gdal_sees_names_units_nodata_place_and_provenance(tmp_path):
    maps = ramp_maps(5, 7, size_y=5 * 3e-7, size_x=7 * 5e-7)
    geotiff.write(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert list(file.descriptions) == NAMES
        assert list(file.units) == UNITS
        assert set(file.dtypes) == {"float32"}
        assert math.isnan(file.nodata)
        assert set(file.scales) == {1.0}
        assert set(file.offsets) == {0.0}
        assert file.transform == Affine(500.0, 0.0, 0.0, 0.0, -300.0, 1500.0)
        # the pixel of record (1, 2) is where its coordinates say, in nm, with y upward
        y, x = (centres * 1e9 for centres in maps.coordinates())
        assert next(file.sample([(x[2], y[1])]))[0] == maps["modulus"][1, 2]
        wkt = file.crs.to_wkt()
        assert wkt.startswith('LOCAL_CS["AFM scan frame"')
        assert "1E-09" in wkt  # the unit in metres
        assert (file.profile["compress"], file.profile["interleave"]) == ("deflate", "band")
        assert file.block_shapes[0] == (256, 256)
        assert file.tags(1)["long_name"] == "Young's modulus"
        tags = file.tags()
    assert json.loads(tags["FVPROC_RECIPE"]) == maps.provenance["recipe"]
    assert json.loads(tags["FVPROC_HEADER"]) == maps.provenance["header"]
    assert json.loads(tags["FVPROC_CALIBRATION"])["spring_constant"]["source"] == "user"
    assert json.loads(tags["FVPROC_INPUT"])["name"] == "sei & <film>.spm"
    assert tags["FVPROC_DATE"] == maps.provenance["date"]
    assert tags["FVPROC_SCAN_ROTATION"] == "0.0 deg"
    assert tags["AREA_OR_POINT"] == "Area"


def test_gdal_sees_the_stack_as_named_subdatasets(tmp_path):
    maps = ramp_maps(5, 7, size_y=5 * 3e-7, size_x=7 * 5e-7)
    path = tmp_path / "m.ome.tif"
    ometiff.write(maps, path)
    with rasterio.open(path) as file:
        assert len(file.subdatasets) == len(NAMES)
    for number, (name, unit) in enumerate(zip(NAMES, UNITS, strict=True), 1):
        with rasterio.open(f"GTIFF_DIR:{number}:{path}") as file:
            assert file.descriptions == (name,)
            assert file.units == (unit,)
            assert math.isnan(file.nodata)
            assert file.transform == Affine(500.0, 0.0, 0.0, 0.0, -300.0, 1500.0)
            assert json.loads(file.tags()["FVPROC_RECIPE"]) == maps.provenance["recipe"]


def test_tags_of_the_bands(tmp_path):
    geotiff.write(ramp_maps(5, 7, size_y=5e-8, size_x=14e-8), tmp_path / "m.tif")
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert not file.is_bigtiff
        tags = {tag.code: tag.value for tag in file.pages[0].tags}
    assert tags[277] == len(NAMES)  # SamplesPerPixel
    assert tags[284] == 2  # PlanarConfiguration: separate
    assert tags[262] == 1  # Photometric: black is zero
    assert tags[259] == 8  # Compression: deflate, not the older 32946
    assert tuple(tags[338]) == (0,) * (len(NAMES) - 1)  # ExtraSamples: unspecified
    assert set(tags[339]) == {3}  # SampleFormat: IEEE float
    assert (tags[322], tags[323]) == (256, 256)  # tiles
    assert tags.get(317, 1) == 1  # no predictor
    assert 270 not in tags  # no description
    assert tags[296] == 3  # ResolutionUnit: centimetre
    assert (tags[282], tags[283]) == ((500000, 1), (1000000, 1))  # 1e7 / 20 nm and 1e7 / 10 nm
    assert tags[33550] == (20.0, 10.0, 0.0)
    assert tags[33922] == (0.0, 0.0, 0.0, 0.0, 50.0, 0.0)
    assert tags[34735] == (
        *(1, 1, 0, 5),
        *(1025, 0, 1, 1),
        *(1026, 34737, 15, 0),
        *(3073, 34737, 19, 15),
        *(3076, 0, 1, 32767),
        *(3077, 34736, 1, 0),
    )
    assert tags[34736] in (1e-9, (1e-9,))
    assert tags[34737] == "AFM scan frame|LUnits = nanometre|"
    assert tags[42113] == "nan"
    items = ElementTree.fromstring(tags[42112]).findall("Item")
    roles = {(item.get("sample"), item.get("role")): item.text or "" for item in items if item.get("role")}
    assert roles[("0", "description")] == "modulus"
    assert roles[("0", "unittype")] == "Pa"
    assert len(roles) == 2 * len(NAMES)


def test_tags_of_the_stack(tmp_path):
    ometiff.write(ramp_maps(500, 70), tmp_path / "m.ome.tif")
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as file:
        assert not file.is_bigtiff
        for number, page in enumerate(file.pages):
            tags = {tag.code: tag.value for tag in page.tags}
            assert tags[277] == 1
            assert tags[259] == 8
            assert tags[339] == 3
            assert 322 not in tags  # strips, not tiles
            assert 1 < len(tags[273]) < 500
            assert tags.get(317, 1) == 1
            assert tags[296] == 3
            assert tags[285].startswith(NAMES[number])
            assert (270 in tags) == (number == 0)
            assert {33550, 33922, 34735, 34736, 34737, 42112, 42113} <= set(tags)
            items = ElementTree.fromstring(tags[42112]).findall("Item")
            assert {item.get("sample") for item in items} == {"0", None}


def test_tifffile_sees_an_ome_stack_of_named_channels(tmp_path):
    maps = ramp_maps(5, 7, size_y=5 * 3e-7, size_x=7 * 5e-7)
    ometiff.write(maps, tmp_path / "m.ome.tif")
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as file:
        assert file.is_ome
        assert len(file.series) == 1
        assert file.series[0].axes == "CYX"
        assert file.series[0].shape == (len(NAMES), 5, 7)
        np.testing.assert_array_equal(file.series[0].asarray()[0], maps["modulus"][::-1])
        text = file.ome_metadata
    name = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    root = ElementTree.fromstring(text)
    assert [child.tag for child in root] == [f"{name}Image", f"{name}StructuredAnnotations"]
    pixels = root.find(f"{name}Image/{name}Pixels")
    assert float(pixels.get("PhysicalSizeX")) == 500.0
    assert float(pixels.get("PhysicalSizeY")) == 300.0
    assert pixels.get("PhysicalSizeXUnit") == pixels.get("PhysicalSizeYUnit") == "nm"
    channels = [channel.get("Name") for channel in pixels.findall(f"{name}Channel")]
    assert channels == [f"{known} ({unit})" if unit else known for known, unit in zip(NAMES, UNITS, strict=True)]
    planes = pixels.findall(f"{name}TiffData")
    assert [(p.get("IFD"), p.get("FirstC")) for p in planes] == [(str(n), str(n)) for n in range(len(NAMES))]
    annotation = root.find(f"{name}StructuredAnnotations/{name}MapAnnotation")
    assert root.find(f"{name}Image/{name}AnnotationRef").get("ID") == annotation.get("ID")
    facts = {item.get("K"): item.text for item in annotation.iter(f"{name}M")}
    assert json.loads(facts["recipe"]) == maps.provenance["recipe"]
    assert json.loads(facts["input"])["name"] == "sei & <film>.spm"


@pytest.mark.parametrize("writer", [geotiff, ometiff])
def test_unknown_size_of_the_frame_is_said(tmp_path, writer):
    writer.write(random_maps(3, 4), tmp_path / "m.tif")
    name = tmp_path / "m.tif" if writer is geotiff else f"GTIFF_DIR:1:{tmp_path / 'm.tif'}"
    with rasterio.open(name) as file:
        assert file.transform == Affine(1.0, 0.0, 0.0, 0.0, -1.0, 3.0)
        assert file.tags()["FVPROC_PIXEL_SIZE"].startswith("unknown")


@pytest.mark.parametrize("writer", [geotiff, ometiff])
def test_classic_tiff_gives_way_to_bigtiff_beyond_its_limit(tmp_path, monkeypatch, writer):
    maps = ramp_maps(30, 40)
    for limit, big in ((2**22 * len(BANDS), False), (1000, True)):
        monkeypatch.setattr(geotiff, "CLASSIC_LIMIT", limit)
        writer.write(maps, tmp_path / "m.tif")
        with tifffile.TiffFile(tmp_path / "m.tif") as file:
            assert file.is_bigtiff is big
            np.testing.assert_array_equal(file.asarray()[0], maps["modulus"][::-1])


def test_the_limit_of_classic_tiff_leaves_room_for_tags():
    assert 2**31 < geotiff.CLASSIC_LIMIT < 2**32 - 2**24


@given(st.floats(1e-13, 1e-2))
def test_resolution_fits_its_tag_and_is_right(pixel):
    numerator, denominator = geotiff._per_centimetre(pixel)
    assert 0 < numerator < 2**32
    assert 0 < denominator < 2**32
    if pixel > 1e-11:
        assert numerator / denominator == pytest.approx(0.01 / pixel, rel=1e-6)


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_makes_xml_that_can_be_parsed(text):
    maps = random_maps(1, 1)
    maps.provenance = {"note": text}
    _, _, _, xml, _ = geotiff.metadata_tag(maps, BANDS)
    assert xml.isascii()
    items = {item.get("name"): item.text or "" for item in ElementTree.fromstring(xml)}
    found = items["FVPROC_NOTE"]
    expected = text.replace("\r\n", "\n").replace("\r", "\n")  # as XML itself has it
    expected = expected.replace("&", "&amp;")  # GDAL unescapes once more
    assert len(found) == len(expected)
    assert all(a == b or b == "\ufffd" for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("text", ["a & b", "a &amp; b", "<&lt;>\"'", "µ — \\u0026"])
def test_gdal_reads_any_text_as_it_was(tmp_path, text):
    maps = random_maps(1, 1)
    maps.provenance = {"note": text, "nested": [text]}
    geotiff.write(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        tags = file.tags()
    assert tags["FVPROC_NOTE"] == text
    assert json.loads(tags["FVPROC_NESTED"]) == [text]


def test_ordinary_text_stays_what_it_is():
    text = "50 µm — «5 < 6 & 7» \t ν\U0001f600"
    assert geotiff.legal(text) == text


def test_planes_are_contiguous_copies_in_the_order_of_the_registry():
    maps = ramp_maps(3, 4)
    assert [band.name for band in BANDS] == NAMES
    for band in BANDS:
        values = plane(maps, band)
        assert values.flags.c_contiguous
        assert values.dtype == np.dtype("<f4")
        assert not np.shares_memory(values, maps.records)


def test_maps_of_zero_flags_keep_zero(tmp_path):
    maps = described(ParameterMaps(Grid(2, 2), np.zeros((2, 2), RECORD)))
    geotiff.write(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert not file.read().any()
