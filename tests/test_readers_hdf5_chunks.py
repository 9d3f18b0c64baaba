"""Chunks read past HDF5: the values of h5py to the bit, and damage is an error that names the file."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import tracemalloc
import zlib
from math import prod
from pathlib import Path

import h5py
import numpy as np
import pytest
from curves_files import write_with_h5py
from hypothesis import given, settings
from hypothesis import strategies as st

import fvproc as fv
from fvproc import readers, schedule
from fvproc.errors import FileFormatError
from fvproc.readers import hdf5_chunks
from fvproc.readers.hdf5_chunks import chunks_of
from fvproc.volume import Tile

TYPES = [f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u2", "f2", "f4", "f8")] + ["i1", "u1"]


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return any bytes as numbers: every pattern of a float, NaN with its payload too."""
    generator = np.random.default_rng(seed)
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return generator.integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def octets(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("=")).tobytes()


def read(chunks: hdf5_chunks.Chunks, selection: tuple[slice, ...]) -> np.ndarray:
    values = np.empty([part.stop - part.start for part in selection], chunks.dtype.newbyteorder("="))
    chunks.read_direct(values, selection)
    return values


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(TYPES),
    shuffle=st.booleans(),
    level=st.sampled_from([None, 0, 1, 9]),
    fill=st.sampled_from([None, 0, 7]),
    latest=st.booleans(),
)
def test_any_part_of_any_chunks_is_what_h5py_reads(
    data: st.DataObject,
    shape: tuple[int, ...],
    dtype: str,
    shuffle: bool,
    level: int | None,
    fill: int | None,
    latest: bool,
) -> None:
    chunk = tuple(data.draw(st.integers(1, length)) for length in shape)
    part = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, length), min_size=2, max_size=2, unique=True))))
        for length in shape
    )
    written = tuple(slice(0, data.draw(st.integers(0, length))) for length in shape)  # the other chunks do not exist
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chunks.h5")
        with h5py.File(path, "w", libver="latest" if latest else None) as file:
            dataset = file.create_dataset(
                "numbers",
                shape,
                dtype,
                chunks=chunk,
                shuffle=shuffle,
                fillvalue=fill,
                compression=None if level is None else "gzip",
                compression_opts=level,
            )
            dataset[written] = noise(shape, dtype)[written]
        chunks = chunks_of(path, "numbers")
        with h5py.File(path) as file:
            numbers = file["numbers"]
            expected = numbers[part]
            stored = [numbers.id.get_chunk_info(n).size for n in range(numbers.id.get_num_chunks())]
            as_large = prod(chunk) * numbers.dtype.itemsize in stored  # as chunks without filters are
        overhang = any(length % size for length, size in zip(shape, chunk, strict=True))
        if chunks is None:  # nothing tells whether chunks at the edge have been through the filters
            assert as_large and overhang
        else:
            assert octets(read(chunks, part)) == octets(expected)


@pytest.mark.parametrize("mask", [0b00, 0b01, 0b10, 0b11])
def test_filters_that_a_chunk_skipped_are_not_undone(tmp_path, mask):
    numbers = noise((4, 8), "<i4")
    content = numbers.tobytes()
    if not mask & 0b01:
        content = numbers.view(np.uint8).reshape(-1, 4).T.tobytes()
    if not mask & 0b10:
        content = zlib.compress(content)
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        dataset = file.create_dataset("numbers", (4, 8), "<i4", chunks=(4, 8), shuffle=True, compression="gzip")
        dataset.id.write_direct_chunk((0, 0), content, mask)
    chunks = chunks_of(str(tmp_path / "mask.h5"), "numbers")
    assert chunks is not None and chunks.filters == ("shuffle", "gzip")
    assert octets(read(chunks, np.s_[0:4, 0:8])) == octets(numbers)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzf"},
        {"compression": "gzip", "fletcher32": True},
        {"scaleoffset": 4},
        {"dtype": h5py.enum_dtype({"a": 0, "b": 1}, basetype="i2"), "compression": "gzip"},
        {"dtype": "?", "compression": "gzip"},
        {"chunks": None},
    ],
    ids=["lzf", "fletcher32", "scale and offset", "enumeration", "truth values", "contiguous"],
)
def test_what_is_not_gzip_of_plain_numbers_is_left_to_hdf5(tmp_path, options):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        options = {"dtype": "i2", "chunks": (4, 8)} | options
        file.create_dataset("numbers", (8, 8), **options)[...] = 1
    assert chunks_of(str(tmp_path / "other.h5"), "numbers") is None


@pytest.mark.parametrize("chunk", [None, (1, 4, 8)])
def test_numbers_of_twelve_bits_are_left_to_hdf5(tmp_path, chunk):
    """Four bits of each number in the file belong to nobody, and are not zero."""
    path = write_with_h5py(tmp_path / "twelve.h5")
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    kind.set_offset(4)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunk:
        layout.set_chunk(chunk)
    with h5py.File(path, "r+") as file:
        numbers = file["approach/deflection"][...]
        attributes = dict(file["approach/deflection"].attrs)
        del file["approach/deflection"]
        space = h5py.h5s.create_simple(numbers.shape)
        made = h5py.h5d.create(file["approach"].id, b"deflection", kind, space, layout)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers)
        file["approach/deflection"].attrs.update(attributes)
    assert chunks_of(str(path), "approach/deflection") is None
    raw = readers.read_tile(readers.open_volume(path), Tile(0, 12))
    assert np.array_equal(raw.approach.deflection, numbers.reshape(12, -1))


def test_a_file_with_a_user_block_is_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file.create_dataset("numbers", data=np.arange(64), chunks=(8,), compression="gzip")
    assert chunks_of(str(tmp_path / "block.h5"), "numbers") is None


# ---- damage


@pytest.fixture
def packed(tmp_path):
    """Return a curves file in gzip chunks."""
    return write_with_h5py(
        tmp_path / "packed.h5", ny=8, nx=8, n=64, chunks=(2, 8, 64), compression="gzip", shuffle=True
    )


def places(path: Path, where: str = "approach/deflection") -> hdf5_chunks.Chunks:
    chunks = chunks_of(str(path), where)
    assert chunks is not None
    return chunks


def test_no_flipped_byte_of_a_chunk_becomes_a_number(packed):
    """Each byte of a stream in turn: zlib's checksum, or the stream itself, tells; a few bits mean nothing."""
    chunks = places(packed)
    begin, size = int(chunks.offset[1, 0, 0]), int(chunks.size[1, 0, 0])
    sound = packed.read_bytes()
    part = np.s_[2:4, 0:8, 0:64]
    expected = octets(read(chunks, part))
    refused = 0
    for at in range(begin, begin + size):
        damaged = bytearray(sound)
        damaged[at] ^= 0x10
        packed.write_bytes(damaged)
        try:
            assert octets(read(chunks, part)) == expected, f"byte {at - begin} of {size}"
        except FileFormatError as error:
            assert str(packed) in str(error) and "(2, 0, 0)" in str(error)
            refused += 1
    assert refused > 0.9 * size


def test_a_damaged_chunk_is_told_by_the_reader_with_file_and_dataset(packed):
    volume = readers.open_volume(packed)
    chunks = places(packed)
    content = bytearray(packed.read_bytes())
    middle = int(chunks.offset[1, 0, 0] + chunks.size[1, 0, 0] // 2)
    content[middle] ^= 0xFF
    status = packed.stat()
    packed.write_bytes(content)
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(FileFormatError, match=r"packed\.h5: /approach/deflection: the chunk at \(2, 0, 0\)"):
        readers.read_tile(volume, Tile(16, 32))
    assert readers.read_tile(volume, Tile(0, 16)).approach.deflection.shape == (16, 64)


def test_a_file_that_ends_within_a_chunk_is_truncated(packed):
    chunks = places(packed)
    last = int(chunks.offset.max())
    content = packed.read_bytes()
    packed.write_bytes(content[: last + 3])
    with pytest.raises(FileFormatError, match="beyond the end of the file"):
        for row in range(0, 8, 2):
            read(chunks, np.s_[row : row + 2, 0:8, 0:64])


def test_a_chunk_that_decompresses_to_more_than_it_holds_takes_no_memory(tmp_path):
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        dataset = file.create_dataset("numbers", (64, 64), "i2", chunks=(64, 64), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 26)))
    chunks = places(tmp_path / "bomb.h5", "numbers")
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="holds more than a chunk"):
        read(chunks, np.s_[0:64, 0:64])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_chunk_that_claims_gigabytes_is_refused_before_any_is_allocated(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        dataset = file.create_dataset("numbers", (1 << 30,), "i2", chunks=(1 << 30,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(b"12"))
    with pytest.raises(FileFormatError, match=r"huge\.h5: /numbers: a chunk .* takes 2147483648 bytes.*h5repack"):
        chunks_of(str(tmp_path / "huge.h5"), "numbers")


def test_a_chunk_that_decompresses_to_less_is_refused(tmp_path):
    with h5py.File(tmp_path / "short.h5", "w") as file:
        dataset = file.create_dataset("numbers", (64,), "i2", chunks=(64,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(bytes(100)))
    with pytest.raises(FileFormatError, match=r"at \(0,\) holds 100 bytes in place of 128"):
        read(places(tmp_path / "short.h5", "numbers"), (slice(0, 64),))


# ---- threads


def test_threads_read_while_another_holds_the_lock_of_hdf5(packed):
    """What scales: once the places are known, HDF5 is not asked again."""
    volume = readers.open_volume(packed)
    expected = readers.read_tile(volume, Tile(0, 64))
    found = []
    with h5py._objects.phil:
        thread = threading.Thread(target=lambda: found.append(readers.read_tile(volume, Tile(0, 64))), daemon=True)
        thread.start()
        thread.join(10)
    assert found, "the read waited for HDF5"
    assert np.array_equal(found[0].approach.deflection, expected.approach.deflection)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Return a list that grows by each chunk that is read."""
    seen = []
    stored = hdf5_chunks.Chunks._stored
    monkeypatch.setattr(
        hdf5_chunks.Chunks,
        "_stored",
        lambda self, file, place: seen.append((self.where, place)) or stored(self, file, place),
    )
    return seen


def test_no_chunk_is_decompressed_twice_in_a_run(packed, monkeypatch):
    volume = readers.open_volume(packed)
    seen = watch(monkeypatch)
    for tile in schedule.cut(volume, tile_bytes=1):
        readers.read_tile(volume, tile)
    assert len(seen) == len(set(seen)) == 2 * 4


@pytest.mark.parametrize("rows", ["up", "down"])
@pytest.mark.parametrize("axes", [*itertools.permutations(("y", "x", "sample")), ("curve", "sample")])
@pytest.mark.parametrize("packing", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf"}, {}])
def test_a_mapping_reads_chunks_of_any_axes_once(tmp_path, monkeypatch, rows, axes, packing):
    """Both branches in one dataset whose chunks hold samples of both."""
    ny, nx, samples = 6, 4, 20
    numbers = noise((ny, nx, samples), "<i2", 1)
    order = [("y", "x", "sample").index(axis) for axis in axes] if "curve" not in axes else None
    stored = numbers.transpose(order) if order else numbers.reshape(-1, samples)
    lengths = {"y": 2, "x": 3, "curve": 6, "sample": 15}
    chunks = tuple(lengths[axis] for axis in axes) if packing else None
    with h5py.File(tmp_path / "map.h5", "w") as file:
        file.create_dataset("force", data=stored, chunks=chunks, **packing)
        file["z"] = np.arange(10.0)
    deflection = {"dataset": "force", "units": "nm"}
    z = {"dataset": "z", "units": "nm", "axes": "sample"}
    told = {
        "version": 1,
        "axes": " ".join(axes),
        "rows": rows,
        "shape": [ny, nx],
        "approach": {"deflection": deflection | {"samples": [0, 10]}, "z": z},
        "retract": {"deflection": deflection | {"samples": [10, 20]}, "z": z | {"reversed": True}},
        "calibration": {"spring_constant": 0.4},
    }
    volume = fv.open(tmp_path / "map.h5", mapping=told)
    seen = watch(monkeypatch)
    curves = (numbers if rows == "up" else numbers[::-1]).reshape(-1, samples)
    tiles = schedule.cut(volume, tile_bytes=1)
    assert len(tiles) > 1
    for tile in tiles:
        raw = readers.read_tile(volume, tile)
        assert np.array_equal(raw.approach.deflection, curves[tile.start : tile.stop, :10])
        assert np.array_equal(raw.retract.deflection, curves[tile.start : tile.stop, 10:])
    assert len(seen) == len(set(seen))
    assert bool(seen) == (packing.get("compression") == "gzip")
