"""The curves file: what is written is what is read, and what is wrong is refused by name."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from curves_files import edit, write, write_with_h5py
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.readers.curves import CurvesWriter
from fvproc.readers.curves_layout import chunk_shape, hyperslabs
from fvproc.volume import Branch, Channel, Grid, RawBranch, RawTile, Setting, Tile


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


# ---- what is written is what is read

STORAGE = st.one_of(
    st.just({}),
    st.builds(lambda curves: {"chunk_curves": curves}, st.integers(1, 40)),
    st.builds(lambda curves: {"chunk_curves": curves, "compression": "gzip"}, st.integers(1, 40)),
    st.just({"compression": "gzip"}),
)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    ny=st.integers(1, 5),
    nx=st.integers(1, 6),
    samples=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    dtype=st.sampled_from(["int16", "int32", "float32"]),
    z_dtype=st.sampled_from(["int16", "int32", "float32", "float64"]),
    shared=st.booleans(),
    ragged=st.booleans(),
    storage=STORAGE,
)
def test_any_tile_of_any_layout_is_the_slice_that_was_written(
    data: st.DataObject,
    ny: int,
    nx: int,
    samples: tuple,
    dtype: str,
    z_dtype: str,
    shared: bool,
    ragged: bool,
    storage: dict,
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    grid = Grid(ny, nx, 1e-6, 2e-6, 12.5)
    invalid = -32768 if dtype.startswith("int") else None
    branches = [
        Branch(n, Channel(dtype, "m", 1e-12, 3e-9, invalid), Channel(z_dtype, "m", 1e-10 * sign, -1e-8), shared)
        for n, sign in zip(samples, (1, 1), strict=True)
    ]
    deflection = [generator.integers(-30000, 30000, (grid.curves, n)).astype(dtype) for n in samples]
    shared_z = (np.arange(samples[0]).astype(z_dtype), np.arange(samples[1])[::-1].astype(z_dtype))
    z = [np.tile(part, (grid.curves, 1)) for part in shared_z] if not shared else list(shared_z)
    if not shared:
        z = [part + generator.integers(0, 1000, part.shape).astype(z_dtype) for part in z]
    lengths = [generator.integers(0, n + 1, grid.curves).astype(np.int32) for n in samples]
    height = generator.normal(0, 1e-8, grid.curves)

    def raw(tile: Tile) -> RawTile:
        part = slice(tile.start, tile.stop)
        return RawTile(
            *(
                RawBranch(deflection[i][part], z[i] if shared else z[i][part], lengths[i][part] if ragged else None)
                for i in (0, 1)
            ),
            height=height[part],
        )

    cuts = sorted(data.draw(st.sets(st.integers(1, grid.curves - 1), max_size=4)) if grid.curves > 1 else set())
    tiles = [Tile(a, b) for a, b in zip([0, *cuts], [*cuts, grid.curves], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.h5"
        with CurvesWriter(
            path, grid, *branches, shared_z=shared_z if shared else None, has_height=True, **storage
        ) as writer:
            for tile in data.draw(st.permutations(tiles)):
                writer.write(tile, raw(tile))
        volume = readers.open_volume(path)
        assert volume.grid == grid
        assert (volume.approach, volume.retract) == tuple(branches)
        for _ in range(4):
            start = data.draw(st.integers(0, grid.curves - 1))
            tile = Tile(start, data.draw(st.integers(start + 1, grid.curves)))
            found, expected = readers.read_tile(volume, tile), raw(tile)
            assert same(found.height, expected.height)
            for one, other in ((found.approach, expected.approach), (found.retract, expected.retract)):
                assert same(one.deflection, other.deflection)
                assert same(one.z, other.z)
                assert (one.valid_length is None) == (other.valid_length is None)
                if ragged:
                    assert same(one.valid_length, other.valid_length)


@given(start=st.integers(0, 60), count=st.integers(1, 60), nx=st.integers(1, 9))
def test_a_run_is_at_most_three_rectangles(start: int, count: int, nx: int) -> None:
    tile = Tile(start, start + count)
    slabs = list(hyperslabs(tile, nx))
    numbers = np.arange((tile.stop // nx + 2) * nx).reshape(-1, nx)
    assert np.array_equal(
        np.concatenate([numbers[rows, columns].ravel() for rows, columns, _ in slabs]), np.arange(start, start + count)
    )
    assert [part.start for _, _, part in slabs] == [0, *(part.stop for _, _, part in slabs[:-1])]
    assert len(slabs) <= 3


@settings(max_examples=40, deadline=None)
@example(ny=2, nx=3, cy=1, cx=2)
@example(ny=4, nx=3, cy=2, cx=2)
@given(ny=st.integers(1, 7), nx=st.integers(1, 7), cy=st.integers(1, 7), cx=st.integers(1, 7))
def test_aligned_tiles_share_no_chunk(ny: int, nx: int, cy: int, cx: int) -> None:
    chunks = (min(cy, ny), min(cx, nx), 8)
    with tempfile.TemporaryDirectory() as folder:
        path = write_with_h5py(Path(folder) / "c.h5", ny=ny, nx=nx, chunks=chunks)
        step = readers.open_volume(path).tile_alignment
    rows, columns = np.divmod(np.arange(ny * nx), nx)
    chunk = rows // chunks[0] * 100 + columns // chunks[1]
    owners = [set(chunk[start : start + step]) for start in range(0, ny * nx, step)]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_a_chunk_is_whole_rows_or_an_even_part_of_one() -> None:
    assert chunk_shape(Grid(10, 6), 13, 5) == (2, 6, 5)
    assert chunk_shape(Grid(10, 6), 5, 5) == (1, 3, 5)
    assert chunk_shape(Grid(2, 6), 100, 5) == (2, 6, 5)


def test_a_file_of_another_writer_is_read_in_si(tmp_path: Path) -> None:
    path = write_with_h5py(tmp_path / "c.h5", dtype=">i4")
    edit(path, lambda f: f["approach/deflection"].attrs.update(add_offset=0.25))
    volume = readers.open_volume(path)
    raw = readers.read_tile(volume, Tile(2, 9))
    assert raw.approach.deflection.dtype == np.dtype("=i4")
    assert same(raw.approach.deflection, np.arange(96, dtype="i4").reshape(12, 8)[2:9])
    scale, offset = volume.deflection_scale("approach")
    metres = raw.approach.deflection * scale + offset
    np.testing.assert_allclose(metres, (np.arange(96.0).reshape(12, 8)[2:9] * 3e-4 + 0.25) * 5e-8, rtol=1e-12)
    assert volume.calibration.spring_constant == Setting(0.4, "file", 0.1)
    assert volume.tip_radius == Setting(1e-8)
    assert volume.grid == Grid(3, 4, 1e-6, 2e-6, 15.0)
    assert not volume.missing()
    assert raw.height is None


def test_invalid_samples_are_the_fill_value_its_writer_chose(tmp_path: Path) -> None:
    assert readers.open_volume(write_with_h5py(tmp_path / "a.h5")).approach.deflection.invalid is None
    assert readers.open_volume(write_with_h5py(tmp_path / "b.h5", fillvalue=-7)).approach.deflection.invalid == -7
    path = write_with_h5py(tmp_path / "c.h5", dtype="<f4", fillvalue=5.0)
    found = readers.read_tile(readers.open_volume(path), Tile(0, 2)).approach.deflection
    expected = np.arange(16, dtype="f4").reshape(2, 8)
    expected[0, 5] = np.nan
    assert same(found, expected)


def test_valid_length_at_the_root_holds_for_both_branches(tmp_path: Path) -> None:
    path = write_with_h5py(tmp_path / "c.h5")
    edit(path, lambda f: f.create_dataset("valid_length", data=np.arange(12, dtype="u1").reshape(3, 4) % 9))
    raw = readers.read_tile(readers.open_volume(path), Tile(3, 11))
    expected = (np.arange(12, dtype=np.int32) % 9)[3:11]
    assert same(raw.approach.valid_length, expected)
    assert same(raw.retract.valid_length, expected)
    edit(path, lambda f: f["valid_length"].__setitem__((0, 0), 9))
    with pytest.raises(FileFormatError, match="8 samples"):
        readers.read_tile(readers.open_volume(path), Tile(0, 1))


def test_heights_are_brought_to_metres(tmp_path: Path) -> None:
    path = write_with_h5py(tmp_path / "c.h5")

    def change(file: h5py.File) -> None:
        height = file["scan"].create_dataset("height", data=np.arange(12, dtype=">i2").reshape(3, 4))
        height.attrs.update(scale_factor=1e-9, add_offset=5e-9)

    volume = readers.open_volume(edit(path, change))
    assert volume.has_height
    np.testing.assert_allclose(readers.read_tile(volume, Tile(3, 5)).height, [8e-9, 9e-9], rtol=1e-12)


def test_provenance_and_vendor_recipe_come_back_and_stay_small(tmp_path: Path) -> None:
    volume = write(
        tmp_path / "c.h5",
        attributes={
            "Version": "9.2",
            "gain": 3,
            "list": [1, 2],
            "note": "x" * 50000,
            "vendor_recipe": {"fit": {"model": "hertz"}},
        },
    )
    assert volume.header == {"Version": "9.2", "gain": 3, "list": "[1, 2]"}
    assert volume.vendor_recipe == {"fit": {"model": "hertz"}}
    assert len(pickle.dumps(volume)) < 10_000


def test_the_digest_tells_files_apart_and_not_their_names(tmp_path: Path) -> None:
    first = readers.open_volume(write_with_h5py(tmp_path / "a.h5")).header_digest
    assert first == readers.open_volume(write_with_h5py(tmp_path / "b.h5")).header_digest
    changed = edit(tmp_path / "b.h5", lambda f: f["calibration"].attrs.update(spring_constant=0.41))
    assert first != readers.open_volume(changed).header_digest
    changed = edit(tmp_path / "a.h5", lambda f: f["approach/z"].__setitem__(0, -1e-9))
    assert first != readers.open_volume(changed).header_digest


# ---- what is wrong is refused by name


def attribute(where: str, key: str, value: object) -> object:
    return lambda file: file[where].attrs.__setitem__(key, value)


def replaced(where: str, **options: object) -> object:
    """Put another dataset in the place of one, its attributes kept."""

    def change(file: h5py.File) -> None:
        attributes = dict(file[where].attrs) if where in file else {}
        if where in file:
            del file[where]
        file.create_dataset(where, **options).attrs.update(attributes)

    return change


REFUSALS = {
    "newer version": (attribute("/", "format_version", 2), "format_version = 2"),
    "no version": (lambda f: f.attrs.__delitem__("format_version"), "format_version = None"),
    "no units": (lambda f: f["retract/deflection"].attrs.__delitem__("units"), "/retract/deflection: attribute units"),
    "wrong units": (attribute("approach/z", "units", "nm"), "/approach/z: attribute units = 'nm'"),
    "scale not finite": (attribute("approach/deflection", "scale_factor", np.inf), "scale_factor = .*inf"),
    "scale zero": (attribute("approach/deflection", "scale_factor", 0), "scale_factor = 0"),
    "scale no number": (attribute("approach/deflection", "scale_factor", "big"), "scale_factor = 'big'"),
    "scale two numbers": (attribute("approach/deflection", "add_offset", [1.0, 2.0]), "add_offset"),
    "no deflection": (lambda f: f.__delitem__("approach/deflection"), "/approach/deflection: the dataset is missing"),
    "group for dataset": (
        lambda f: (f.__delitem__("retract/z"), f.create_group("retract/z")),
        "/retract/z: the dataset is missing",
    ),
    "no retract": (lambda f: f.__delitem__("retract"), "/retract/deflection: the dataset is missing"),
    "flat": (replaced("approach/deflection", data=np.zeros((12, 8), "i2")), r"shape \(12, 8\)"),
    "empty": (replaced("approach/deflection", data=np.zeros((0, 4, 8), "i2")), r"shape \(0, 4, 8\)"),
    "other grid": (replaced("retract/deflection", data=np.zeros((4, 4, 8), "i2")), r"expected \(3, 4, 'samples'\)"),
    "doubles": (replaced("approach/deflection", data=np.zeros((3, 4, 8))), "dtype float64: allowed are int16"),
    "unsigned": (replaced("approach/deflection", data=np.zeros((3, 4, 8), "u2")), "dtype uint16"),
    "z of other length": (replaced("approach/z", data=np.zeros(7)), r"/approach/z: shape \(7,\)"),
    "z backward": (replaced("approach/z", data=np.linspace(1e-7, 0, 8)), "growing along approach"),
    "z forward on retract": (replaced("retract/z", data=np.linspace(0, 1e-7, 8)), "falling along retract"),
    "z with a hole": (replaced("approach/z", data=np.r_[0, np.nan, np.arange(6.0)]), "1 values are not finite"),
    "spring constant zero": (attribute("calibration", "spring_constant", 0.0), "spring_constant: .* above zero"),
    "spring constant text": (attribute("calibration", "spring_constant", "stiff"), "spring_constant = 'stiff'"),
    "spread negative": (attribute("calibration", "spring_constant_rel_std", -0.1), "spring_constant"),
    "half angle in degrees": (attribute("calibration", "tip_half_angle", 18.0), "rad"),
    "poisson ratio": (attribute("calibration", "poisson_ratio", 0.7), "poisson_ratio = 0.7"),
    "poisson ratio's spread": (attribute("calibration", "poisson_ratio_rel_std", 1.5), "poisson_ratio_rel_std = 1.5"),
    "scan size": (attribute("scan", "size_x", -1.0), "size_x"),
    "height shape": (replaced("scan/height", data=np.zeros((4, 3))), r"/scan/height: float64 of shape \(4, 3\)"),
    "height unit": (
        lambda f: f.create_dataset("scan/height", data=np.zeros((3, 4))).attrs.__setitem__("units", "nm"),
        "/scan/height: attribute units = 'nm'",
    ),
    "valid_length shape": (replaced("valid_length", data=np.zeros(12, "i4")), "/valid_length: int32"),
    "valid_length floats": (
        replaced("approach/valid_length", data=np.zeros((3, 4))),
        "/approach/valid_length: float64",
    ),
    "vendor recipe": (attribute("/", "vendor_recipe", "{"), "vendor_recipe"),
}


@pytest.mark.parametrize("change, message", REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_file_and_place(tmp_path: Path, change: object, message: str) -> None:
    path = edit(write_with_h5py(tmp_path / "c.h5"), change)
    with pytest.raises(FileFormatError, match=message) as caught:
        readers.open_volume(path)
    assert str(caught.value).startswith(f"{path}: /")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = write_with_h5py(tmp_path / "c.h5", n=500)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FileFormatError, match=r"c\.h5: .*truncated"):
        readers.open_volume(path)


def test_maps_of_the_instrument_are_read_from_this_very_file_only(tmp_path: Path) -> None:
    path = write_with_h5py(tmp_path / "c.h5")
    other = write_with_h5py(tmp_path / "other.h5")

    def change(file: h5py.File) -> None:
        file.create_dataset("vendor/adhesion", data=np.arange(12, dtype=">f4").reshape(3, 4)).attrs["units"] = "N"
        file["vendor/other shape"] = np.zeros((4, 3))
        file["vendor/text"] = np.full((3, 4), b"x")
        file["vendor/a group/map"] = np.zeros((3, 4))
        file["vendor/outside"] = h5py.ExternalLink(str(other), "/approach/deflection")
        file["vendor/soft"] = h5py.SoftLink("/vendor/adhesion")
        file["vendor"].create_dataset("raw", (3, 4), "f8", external=[(str(other), 0, 96)])

    found = readers.vendor_maps(readers.open_volume(edit(path, change)))
    assert list(found) == ["adhesion"]
    assert (found["adhesion"].unit, found["adhesion"].label) == ("N", "")
    np.testing.assert_array_equal(found["adhesion"].values, np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("/", "vendor_recipe", "[1]", "attribute vendor_recipe: not the JSON"),
        ("/", "source_warnings", "{", "attribute source_warnings: not the JSON"),
        ("/calibration", "spring_constant_source", "hearsay", "attribute spring_constant.*'hearsay'"),
    ],
)
def test_what_convert_keeps_is_checked(tmp_path: Path, where: str, key: str, value: str, message: str) -> None:
    path = edit(write_with_h5py(tmp_path / "c.h5"), lambda file: file[where].attrs.update({key: value}))
    with pytest.raises(FileFormatError, match=message):
        readers.open_volume(path)
