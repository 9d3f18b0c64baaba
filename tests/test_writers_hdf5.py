"""HDF5 output: NeXus and CF at once, read back to the bit, refused when it is something else."""

from __future__ import annotations

import json
import zlib

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from test_writers_samples import film_maps, ramp_maps, random_maps

from fvproc.errors import FileFormatError
from fvproc.maps import ParameterMaps
from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, RECORD
from fvproc.volume import Grid, VendorMap
from fvproc.writers import hdf5


def assert_equal(found: ParameterMaps, expected: ParameterMaps) -> None:
    assert found.grid == expected.grid
    assert found.records.dtype == RECORD
    assert found.records.tobytes() == expected.records.tobytes()
    assert found.provenance == expected.provenance
    assert list(found.vendor_maps) == list(expected.vendor_maps)
    for key, vendor in expected.vendor_maps.items():
        again = found.vendor_maps[key]
        assert (again.name, again.unit, again.label) == (vendor.name, vendor.unit, vendor.label)
        assert again.values.dtype == vendor.values.dtype
        assert again.values.tobytes() == vendor.values.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (300, 5), (5, 300), (257, 256)])
def test_any_shape_of_random_bits_comes_back_to_the_bit(tmp_path, shape):
    maps = random_maps(*shape, size_y=1e-6, size_x=3e-7, rotation=-33.3)
    hdf5.write(maps, tmp_path / "m.h5")
    assert_equal(hdf5.read(tmp_path / "m.h5"), maps)


@pytest.mark.parametrize("shape", [(257, 300), (259, 256), (12, 517)])
@pytest.mark.parametrize("asked", [tuple(QUANTITIES), ("modulus", "modulus_std", "height")], ids=["all", "three"])
def test_chunks_hold_the_fill_value_beyond_the_map(tmp_path, shape, asked):
    """As HDF5 itself would leave it: whole chunks are stored, and equal maps must be equal files."""
    whole = random_maps(2 * shape[0], shape[1])
    maps = ParameterMaps(Grid(*shape), whole.records[::2], quantities=asked)  # not contiguous
    hdf5.write(maps, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        for name in (*asked, "flags"):
            dataset = file["entry/maps"][name]
            assert dataset[()].tobytes() == np.ascontiguousarray(maps[name]).tobytes()
            size, chunk = dataset.dtype.itemsize, dataset.chunks
            padded = np.full([-(-n // c) * c for n, c in zip(shape, chunk, strict=True)], dataset.fillvalue)
            padded[: shape[0], : shape[1]] = maps[name]
            for y in range(0, shape[0], chunk[0]):
                for x in range(0, shape[1], chunk[1]):
                    planes = zlib.decompress(dataset.id.read_direct_chunk((y, x))[1])
                    found = np.frombuffer(planes, np.uint8).reshape(size, -1).T.copy().view(dataset.dtype)
                    assert found.tobytes() == padded[y : y + chunk[0], x : x + chunk[1]].tobytes(), name


_size = st.none() | st.floats(1e-12, 1e-2)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2**32),
    _size,
    _size,
    st.floats(-360, 360),
    st.dictionaries(st.text(max_size=6), _json, max_size=4),
    st.dictionaries(_text, st.tuples(_text, _text, _text, st.sampled_from(["f4", "f8", "i2"])), max_size=4),
)
def test_grid_provenance_and_vendor_maps_come_back_equal(
    tmp_path_factory, ny, nx, seed, size_y, size_x, rotation, provenance, vendors
):
    maps = random_maps(ny, nx, seed, size_y=size_y, size_x=size_x, rotation=rotation)
    maps.provenance = provenance
    maps.vendor_maps = {
        key: VendorMap(name, unit, np.arange(ny * nx, dtype=dtype).reshape(ny, nx), label)
        for key, (name, unit, label, dtype) in vendors.items()
    }
    path = tmp_path_factory.mktemp("round") / "m.h5"
    hdf5.write(maps, path)
    assert_equal(hdf5.read(path), maps)


def test_vendor_map_whose_name_hdf5_cannot_hold_is_kept_under_a_clean_one(tmp_path):
    maps = ramp_maps(2, 3)
    maps.vendor_maps = {"a\0b": VendorMap("n\0", "V", np.zeros((2, 3)), "\ud800")}
    hdf5.write(maps, tmp_path / "m.h5")
    found = hdf5.read(tmp_path / "m.h5").vendor_maps
    assert list(found) == ["a\ufffdb"]
    assert (found["a\ufffdb"].name, found["a\ufffdb"].label) == ("n\ufffd", "?")


def test_vendor_map_off_the_grid_is_refused_before_anything_is_written(tmp_path):
    maps = ramp_maps(2, 3)
    maps.vendor_maps = {"Height": VendorMap("Height", "m", np.zeros((3, 2)))}
    with pytest.raises(ValueError, match=r"Height.*3, 2.*2, 3"):
        hdf5.write(maps, tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_maps_that_were_read_give_the_bytes_of_the_run(tmp_path):
    hdf5.write(film_maps(8, 8), tmp_path / "a.h5")
    hdf5.write(hdf5.read(tmp_path / "a.h5"), tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_netcdf_holds_vendor_maps_whose_key_has_a_slash(tmp_path):
    maps = ramp_maps(2, 3)
    maps.vendor_maps = {key: VendorMap(key, "V", np.full((2, 3), n)) for n, key in enumerate(["a/b", "a_b"])}
    maps.to_xarray().to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "m.nc", engine="h5netcdf") as found:
        assert (found["vendor_a_b"].values == 0).all() and (found["vendor_a_b_"].values == 1).all()


@pytest.fixture
def written(tmp_path):
    maps = film_maps(300, 40)
    path = tmp_path / "m.h5"
    hdf5.write(maps, path)
    return maps, path


def test_layout_is_nexus(written):
    maps, path = written
    with h5py.File(path) as file:
        assert file.attrs["NX_class"] == "NXroot"
        assert file.attrs["creator"] == "fvproc"
        assert file.attrs["default"] == "entry"
        entry = file["entry"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "maps"
        group = entry["maps"]
        assert group.attrs["NX_class"] == "NXdata"
        assert group.attrs["signal"] == "modulus"
        assert sorted([*group.attrs["auxiliary_signals"], "modulus"]) == sorted(QUANTITIES)
        assert list(group.attrs["axes"]) == ["y", "x"]
        assert (group.attrs["y_indices"], group.attrs["x_indices"]) == (0, 1)
        assert group.attrs["Conventions"] == "CF-1.11"
        assert "definition" not in entry  # no application definition is claimed
        for name, centres in zip(("y", "x"), maps.coordinates(), strict=True):
            axis = group[name]
            assert axis.dtype == np.float64
            assert axis.attrs["units"] == "m"
            np.testing.assert_array_equal(axis[()], centres)
            assert np.all(np.diff(axis[()]) > 0)
            assert axis.is_scale
        assert set(group) == {*QUANTITIES, "flags", "y", "x"}


def test_each_map_has_unit_label_fill_value_axes_and_compression(written):
    _, path = written
    with h5py.File(path) as file:
        group = file["entry/maps"]
        for name, quantity in QUANTITIES.items():
            dataset = group[name]
            assert dataset.dtype == np.float32
            assert dataset.attrs["units"] == quantity.unit
            assert dataset.attrs["long_name"] == quantity.label
            assert dataset.attrs["_FillValue"].dtype == np.float32
            assert np.isnan(dataset.attrs["_FillValue"])
            assert np.isnan(dataset.fillvalue)
            for related in dataset.attrs["ancillary_variables"].split():
                assert related in group
        for name in (*QUANTITIES, "flags"):
            dataset = group[name]
            assert (dataset.compression, dataset.compression_opts, dataset.shuffle) == ("gzip", 1, True)
            assert dataset.chunks == (256, 40)
            assert dataset.dims[0][0] == group["y"]
            assert dataset.dims[1][0] == group["x"]
        assert group["modulus"].attrs["ancillary_variables"] == "modulus_std flags"


def test_flags_describe_themselves(written):
    maps, path = written
    with h5py.File(path) as file:
        flags = file["entry/maps/flags"]
        assert flags.dtype == np.uint32
        assert flags.attrs["flag_masks"].dtype == np.uint32
        names = flags.attrs["flag_meanings"].split()
        tally = {
            name: int(np.count_nonzero(flags[()] & mask))
            for name, mask in zip(names, flags.attrs["flag_masks"], strict=True)
        }
    assert len(tally) == len(FLAG_MEANINGS)
    assert {name: count for name, count in tally.items() if count} == maps.provenance["flag_counts"]


def test_process_tells_how_the_numbers_came_about(written):
    maps, path = written
    with h5py.File(path) as file:
        process = file["entry/process"]
        assert process.attrs["NX_class"] == "NXprocess"
        text = {name: item.asstr()[()] for name, item in process.items() if isinstance(item, h5py.Dataset)}
        spring = process["calibration/spring_constant"]
        assert spring[()] == 42.0
        assert {key: spring.attrs[key] for key in ("units", "source", "rel_std")} == {
            "units": "N/m",
            "source": "user",
            "rel_std": 0.1,
        }
    assert text["program"] == "fvproc"
    assert text["version"] == maps.provenance["version"]
    assert text["date"] == maps.provenance["date"]
    assert json.loads(text["recipe"]) == maps.provenance["recipe"]
    assert text["recipe_digest"] == maps.provenance["recipe_digest"]
    assert text["input_name"] == maps.provenance["input"]["name"]
    assert text["input_header_digest"] == "ab" * 32


def test_xarray_opens_maps_and_vendor_maps(written):
    maps, path = written
    y, x = maps.coordinates()
    with xarray.open_dataset(path, group="/entry/maps", engine="h5netcdf") as dataset:
        assert set(dataset.data_vars) == {*QUANTITIES, "flags"}
        assert dataset.sizes == {"y": 300, "x": 40}
        np.testing.assert_array_equal(dataset.y, y)
        np.testing.assert_array_equal(dataset.x, x)
        assert dataset.y.attrs["units"] == dataset.x.attrs["units"] == "m"
        for name, quantity in QUANTITIES.items():
            assert dataset[name].dims == ("y", "x")
            assert dataset[name].dtype == np.float32
            assert dataset[name].attrs["units"] == quantity.unit
            np.testing.assert_array_equal(dataset[name], maps[name])
        assert dataset.flags.dtype == np.uint32
        np.testing.assert_array_equal(dataset.flags, maps.flags)
    with xarray.open_dataset(path, group="/entry/vendor", engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset["Height Sensor"], maps.vendor_maps["Height Sensor"].values)
        assert dataset["Height Sensor"].attrs["units"] == "m"
        np.testing.assert_array_equal(dataset.y, y)


def test_unknown_size_of_the_frame_stays_unknown(tmp_path):
    hdf5.write(random_maps(2, 3), tmp_path / "m.h5")
    assert hdf5.read(tmp_path / "m.h5").grid == Grid(2, 3)


def foreign(path, kind):
    if kind == "missing":
        return
    if kind in ("text", "truncated"):
        hdf5.write(ramp_maps(20, 20), path)
        path.write_bytes(b"no HDF5 at all" if kind == "text" else path.read_bytes()[:-3000])
        return
    with h5py.File(path, "w") as file:
        if kind == "curves":
            file.attrs["format"] = "fvproc-curves"
        elif kind == "hollow":
            file.attrs.update(format="fvproc-maps", format_version=1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("text", "not an output of fvproc"),
        ("truncated", "damaged"),
        ("empty", "no maps"),
        ("curves", "process them first"),
        ("hollow", "damaged"),
    ],
)
def test_what_is_no_output_is_refused(tmp_path, kind, message):
    path = tmp_path / "other.h5"
    foreign(path, kind)
    with pytest.raises(FileFormatError, match=message) as caught:
        hdf5.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", ["newer", "lacking", "shape", "dtype", "provenance", "bytes"])
def test_output_that_was_changed_is_refused(tmp_path, change):
    path = tmp_path / "m.h5"
    hdf5.write(ramp_maps(20, 30), path)
    with h5py.File(path, "r+") as file:
        group = file["entry/maps"]
        if change == "newer":
            file.attrs["format_version"] = 2
        elif change == "provenance":
            file["entry/process/provenance/data"][()] = "{"
        elif change == "bytes":
            group["adhesion"].id.write_direct_chunk((0, 0), b"no gzip")
        else:
            del group["adhesion"]
            if change == "shape":
                group["adhesion"] = np.zeros((30, 20), "f4")
            elif change == "dtype":
                group["adhesion"] = np.zeros((20, 30), "f8")
    with pytest.raises(FileFormatError, match=r"m\.h5"):
        hdf5.read(path)
