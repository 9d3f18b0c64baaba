"""Regions against known truth: thresholds, flags, polygons, mask files, and what is refused."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_writers_samples import ramp_maps

from fvproc import region_tables, regions
from fvproc.errors import FileFormatError
from fvproc.maps import ParameterMaps
from fvproc.quantities import Flag
from fvproc.regions import RegionError
from fvproc.volume import Grid, VendorMap


@pytest.fixture
def maps() -> ParameterMaps:
    """4 × 6 pixels of 500 nm × 500 nm; modulus 0 … 23 GPa along the rows, flags on two pixels, one without value."""
    maps = ramp_maps(4, 6, size_y=2e-6, size_x=3e-6)
    maps.records["modulus"] = np.arange(24).reshape(4, 6) * 1e9
    maps.records["adhesion"] = np.arange(24).reshape(4, 6)[::-1] * 1e-9
    maps.records["dissipation"] = 1.602176634e-19 * np.arange(24).reshape(4, 6)
    maps.records["flags"] = 0
    maps.records["flags"][0, 1] = Flag.SNAP_IN
    maps.records["flags"][3, 5] = Flag.NO_CONTACT
    maps.records["modulus"][3, 5] = np.nan
    maps.vendor_maps = {"DMTModulus": VendorMap("DMTModulus", "Pa", np.arange(24.0).reshape(4, 6) * 1e6)}
    return maps


NUMBER = np.arange(24).reshape(4, 6)
UPSIDE = NUMBER[::-1]


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ("modulus>10GPa", (NUMBER > 10) & (NUMBER < 23)),
        ("modulus >= 10e9", (NUMBER >= 10) & (NUMBER < 23)),
        ("modulus<=3GPa", NUMBER <= 3),
        ("modulus<3GPa & adhesion<19.5nN", (NUMBER < 3) & (UPSIDE < 19.5)),
        ("dissipation>20.5eV", NUMBER > 20),
        ("vendor:DMTModulus>20.5MPa", NUMBER > 20),
        ("unflagged", (NUMBER != 1) & (NUMBER != 23)),
        ("fatal", NUMBER == 23),
        ("warned", NUMBER == 1),
        ("snap_in", NUMBER == 1),
        ("!snap_in & !fatal", (NUMBER != 1) & (NUMBER != 23)),
    ],
)
def test_a_condition_selects_what_it_says(maps, condition, truth):
    np.testing.assert_array_equal(regions.where(maps, condition), truth)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("modulos>1GPa", "modulus"),
        ("modulus>1nN", "'1nN'"),
        ("modulus>", "neither a comparison"),
        ("1GPa", "neither a comparison"),
        ("modulus>1GPa & ", "an empty term"),
        ("vendor:none>1", "vendor:DMTModulus"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_with_the_remedy(maps, condition, told):
    with pytest.raises(RegionError, match=told):
        regions.where(maps, condition)


def test_a_polygon_holds_the_centres_inside_in_pixels_and_in_metres():
    grid = Grid(4, 6, 2e-6, 3e-6)
    truth = np.zeros((4, 6), bool)
    truth[1:3, 2:5] = True
    square = [(0.5, 1.5), (0.5, 4.5), (2.5, 4.5), (2.5, 1.5)]
    np.testing.assert_array_equal(regions.polygon(grid, square), truth)
    np.testing.assert_array_equal(regions.polygon(grid, square[::-1]), truth)
    metres = [(0.5e-6, 1e-6), (0.5e-6, 2.5e-6), (1.5e-6, 2.5e-6), (1.5e-6, 1e-6)]
    np.testing.assert_array_equal(regions.polygon(grid, metres, unit="m"), truth)


def test_a_concave_polygon_leaves_its_notch_out():
    inside = regions.polygon(Grid(7, 7), [(-0.5, -0.5), (6.5, -0.5), (6.5, 6.5), (3.2, 3.2), (-0.5, 6.5)])
    assert inside[0, 0] and inside[6, 0] and inside[0, 5] and inside[3, 3]
    assert not inside[3, 4] and not inside[3, 6] and not inside[2, 5]


def test_polygons_with_a_common_edge_share_no_centre_and_leave_none_out():
    grid, middle = Grid(9, 9), (4, 4)  # the common corner and the diagonals run through centres
    corners = [(-1, -1), (-1, 9), (9, 9), (9, -1)]
    triangles = [regions.polygon(grid, [middle, a, b]) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    np.testing.assert_array_equal(np.sum(triangles, axis=0), 1)


def test_a_polygon_is_refused_where_it_makes_no_sense():
    with pytest.raises(RegionError, match="three corners"):
        regions.polygon(Grid(4, 4), [(0, 0), (1, 1)])
    with pytest.raises(RegionError, match="no pixel"):
        regions.polygon(Grid(4, 4), [(10, 10), (10, 12), (12, 12)])
    with pytest.raises(RegionError, match="in pixels"):
        regions.polygon(Grid(4, 4), [(0, 0), (1, 0), (1, 1)], unit="m")


def test_points_are_read_in_pixels_or_with_units():
    assert regions.points("1,2 3.5,-4", "--polygon") == ([(1, 2), (3.5, -4)], "pixel")
    read, unit = regions.points("100nm,2um; 0.5µm,1e-6m", "--polygon")
    assert unit == "m"
    np.testing.assert_allclose(read, [(1e-7, 2e-6), (5e-7, 1e-6)])
    for wrong in ("1,2 3", "1,2nm", "", "1,x", "1nN,2nN"):
        with pytest.raises(RegionError, match="--polygon"):
            regions.points(wrong, "--polygon")


LABELS = np.array([[0, 0, 2], [0, 7, 7]], np.uint8)  # row 0 at the bottom


def test_mask_files_have_row_zero_where_their_kind_has_it(tmp_path):
    np.save(tmp_path / "a.npy", LABELS)
    tifffile.imwrite(tmp_path / "a.tif", LABELS[::-1])
    Image.fromarray(LABELS[::-1]).save(tmp_path / "a.png")
    for name in ("a.npy", "a.tif", "a.png"):
        found = regions.from_file(tmp_path / name, (2, 3))
        assert list(found) == ["a 2", "a 7"]
        np.testing.assert_array_equal(found["a 2"], LABELS == 2)
        np.testing.assert_array_equal(found["a 7"], LABELS == 7)


def test_a_mask_of_one_value_is_named_by_its_file(tmp_path):
    np.save(tmp_path / "film.npy", LABELS > 0)
    (name, mask), *rest = regions.from_file(tmp_path / "film.npy", (2, 3)).items()
    assert name == "film" and not rest
    np.testing.assert_array_equal(mask, LABELS > 0)
    np.save(tmp_path / "float.npy", np.where(LABELS > 0, 1.0, np.nan))
    np.testing.assert_array_equal(regions.from_file(tmp_path / "float.npy", (2, 3))["float"], LABELS > 0)


def test_painted_colours_are_regions_and_alpha_is_none(tmp_path):
    painted = np.zeros((2, 3, 4), np.uint8)
    painted[..., 3] = 255
    painted[0, 0, :3] = (255, 0, 0)
    painted[1, 2, :3] = (0, 0, 255)
    Image.fromarray(painted).save(tmp_path / "p.png")
    found = regions.from_file(tmp_path / "p.png", (2, 3))
    assert list(found) == ["p #0000ff", "p #ff0000"]
    assert np.argwhere(found["p #ff0000"]).tolist() == [[1, 0]]
    assert np.argwhere(found["p #0000ff"]).tolist() == [[0, 2]]


def test_labels_that_look_alike_stay_apart(tmp_path):
    np.save(tmp_path / "a.npy", LABELS.astype(int) + 10_000_000)
    assert len(regions.from_file(tmp_path / "a.npy", (2, 3))) == np.unique(LABELS).size
    assert "a 10000002" in regions.from_file(tmp_path / "a.npy", (2, 3))
    np.save(tmp_path / "b.npy", np.where(LABELS == 2, 0.12345671, 0.12345672))
    assert list(regions.from_file(tmp_path / "b.npy", (2, 3))) == ["b 0.12345671", "b 0.12345672"]


def test_colours_of_sixteen_bits_are_colours_and_grey_with_alpha_is_grey(tmp_path):
    painted = np.zeros((2, 3, 3), np.uint16)
    painted[0, 0] = (0, 0, 0xFFFF)
    painted[0, 1] = (0, 0xFF, 0xFF)  # which, packed as of 8 bits, is the same
    tifffile.imwrite(tmp_path / "p.tif", painted, photometric="rgb")
    found = regions.from_file(tmp_path / "p.tif", (2, 3))
    assert {name: np.argwhere(mask).tolist() for name, mask in found.items()} == {
        "p #00000000ffff": [[1, 0]],
        "p #000000ff00ff": [[1, 1]],
    }
    tifffile.imwrite(tmp_path / "f.tif", painted.astype("f4"), photometric="rgb")
    with pytest.raises(FileFormatError, match="8 or 16 bits"):
        regions.from_file(tmp_path / "f.tif", (2, 3))
    grey = np.stack([LABELS[::-1], np.full((2, 3), 255)], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "g.tif", grey, photometric="minisblack", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(regions.from_file(tmp_path / "g.tif", (2, 3))["g 7"], LABELS == 7)


def test_a_mask_can_be_named(maps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros(maps.shape, int)
    labels[0], labels[1] = 1, 2
    np.save("lab.npy", labels)
    np.save("one.npy", labels == 1)
    np.save("a: b.npy", labels == 2)
    found = region_tables.collect(maps, [], [], ["lab.npy", "film: lab.npy", "sei: one.npy", "a: b.npy"])
    assert list(found) == ["lab 1", "lab 2", "film 1", "film 2", "sei", "a: b"]
    with pytest.raises(FileFormatError, match="C:"):
        region_tables.collect(maps, [], [], [r"C:\none.npy"])


def test_mask_files_that_are_none_are_refused(tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros((2, 3)))
    np.save(tmp_path / "many.npy", np.arange(100).reshape(10, 10))
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(RegionError, match="zero"):
        regions.from_file(tmp_path / "zero.npy", (2, 3))
    with pytest.raises(RegionError, match="99 values"):
        regions.from_file(tmp_path / "many.npy", (10, 10))
    with pytest.raises(FileFormatError, match=r"\(2, 3\)"):
        regions.from_file(tmp_path / "zero.npy", (3, 2))
    for name in ("no.png", "missing.tif", "mask.jpg"):
        with pytest.raises(FileFormatError, match=name):
            regions.from_file(tmp_path / name, (2, 3))


def test_populations_part_where_the_smoothed_density_is_least():
    """To the cell, by the density summed up point by point: it was one cell off."""
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / 4000) for i in range(4000)])
    values = np.concatenate([scores, 0.5 * scores[::2] + 5.0])
    low, high = np.percentile(values, (0.1, 99.9))
    width = 0.05 * (high - low)
    places = np.linspace(2.0, 4.5, 1001)
    density = np.exp(-0.5 * ((places[:, None] - values) / width) ** 2).sum(axis=1)
    (limit,) = regions._valleys(values, np.full(values.shape, width), 0.005)
    assert limit == pytest.approx(places[density.argmin()], abs=0.6 * (1.3 * (high - low) / 1000))
