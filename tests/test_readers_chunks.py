"""Compressed chunks unpacked past HDF5's lock: the same numbers as HDF5's own, or an error, never others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fvproc as fv
from fvproc import simulate
from fvproc.errors import FileFormatError
from fvproc.readers import hdf5_chunks

DTYPES = ("<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", "|i1", "<u2")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_numbers_are_those_of_hdf5(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=3), label="shape"))
    chunks = tuple(data.draw(st.integers(1, size), label="chunk") for size in shape)
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES), label="dtype"))
    options = {
        "shuffle": data.draw(st.booleans(), label="shuffle"),
        "fletcher32": data.draw(st.booleans(), label="fletcher32"),
        "compression": data.draw(st.sampled_from([None, "gzip"]), label="gzip"),
    }
    fill = data.draw(st.sampled_from([0, 7]), label="fill")
    part = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        part.append(slice(start, data.draw(st.integers(start + 1, size))))
    selection = tuple(part)
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "a.h5", "w") as file:
        dataset = file.create_dataset("a", shape, dtype, chunks=chunks, fillvalue=fill, **options)
        values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        if data.draw(st.booleans(), label="all written"):
            dataset[...] = values
        else:
            dataset[selection] = values[selection]  # the other chunks stay unwritten
        file.flush()
        packed = hdf5_chunks.pipeline(dataset)
        if options["fletcher32"] or not (options["shuffle"] or options["compression"]):
            assert packed is None  # HDF5's own affair
            return
        assume(packed is not None)
        out = np.empty(tuple(p.stop - p.start for p in selection), dtype.newbyteorder("="))
        hdf5_chunks.read_into(dataset, packed, selection, out)
        np.testing.assert_array_equal(out, dataset[selection])
        whole = np.empty(shape, dtype.newbyteorder("="))
        hdf5_chunks.read_into(dataset, packed, tuple(slice(0, size) for size in shape), whole)
        np.testing.assert_array_equal(whole, dataset[()])


def test_chunks_written_without_a_filter_are_read(tmp_path):
    """HDF5 leaves a filter out where it fails, and notes it in the chunk's mask."""
    values = np.arange(12, dtype="<i2").reshape(3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (3, 4), "<i2", chunks=(3, 4), compression="gzip", shuffle=True)
        dataset.id.write_direct_chunk((0, 0), values.tobytes(), filter_mask=3)
        out = np.empty((3, 4), np.int16)
        hdf5_chunks.read_into(dataset, hdf5_chunks.pipeline(dataset), (slice(0, 3), slice(0, 4)), out)
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize("dtype", [bool, "S3", [("a", "<i2")], h5py.enum_dtype({"A": 1}, "i2"), "c8"], ids=str)
def test_what_is_no_plain_number_is_left_to_hdf5(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (4,), dtype, chunks=(2,), compression="gzip")
        assert hdf5_chunks.pipeline(dataset) is None
        assert hdf5_chunks.pipeline(file.create_dataset("plain", (4,), "i2")) is None
        assert hdf5_chunks.pipeline(file.create_dataset("lzf", (4,), "i2", chunks=(2,), compression="lzf")) is None
        huge = file.create_dataset("huge", (1 << 29,), "i2", chunks=(1 << 28,), compression="gzip")
        assert hdf5_chunks.pipeline(huge) is None


@pytest.fixture(scope="module")
def packed_map(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    simulate.write_map(folder / "plain.h5", ny=12, nx=17, samples=64)
    fv.convert(folder / "plain.h5", folder / "packed.h5", compress=True)
    return folder


def test_a_compressed_curves_file_gives_the_same_maps(packed_map):
    plain, packed = (fv.process(packed_map / name, threads=2, tile_bytes=5000) for name in ("plain.h5", "packed.h5"))
    assert packed.records.tobytes() == plain.records.tobytes()


def test_a_damaged_chunk_is_an_error_that_names_the_file(packed_map, tmp_path):
    path = tmp_path / "damaged.h5"
    content = bytearray((packed_map / "packed.h5").read_bytes())
    with h5py.File(packed_map / "packed.h5") as file:
        place = file["retract/deflection"].id.get_chunk_info(0)
    content[place.byte_offset + place.size // 2] ^= 0x55
    path.write_bytes(content)
    volume = fv.open(path)
    with pytest.raises(FileFormatError, match=r"damaged\.h5: /retract/deflection cannot be read: a compressed chunk"):
        fv.curve(volume, 0, 0)


@pytest.mark.parametrize("length", [0, 5, 100_000_000])
def test_a_chunk_that_unpacks_to_more_or_less_than_it_should_is_refused(tmp_path, length):
    """A bomb of 100 MB in a chunk of 24 bytes is not unpacked."""
    import tracemalloc
    import zlib

    bomb = zlib.compress(bytes(length))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (3, 4), "<i2", chunks=(3, 4), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), bomb)
        packed = hdf5_chunks.pipeline(dataset)
        tracemalloc.start()
        with pytest.raises(OSError, match="chunk holds"):
            hdf5_chunks.read_into(dataset, packed, (slice(0, 3), slice(0, 4)), np.empty((3, 4), np.int16))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
