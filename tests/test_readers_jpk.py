"""The JPK reader on synthetic archives: values, grids, segments, what is missing, and what is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from jpk_files import METRES, VOLTS, JpkFile, example

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers import jpk_directory, jpk_entries
from fvproc.volume import ForceVolume, Tile

SUFFIX = {"quantitative-imaging-map": ".jpk-qi-data", "force-scan-map": ".jpk-force-map"}


def made(tmp_path: Path, **content: object) -> ForceVolume:
    file = JpkFile(**content)
    return fv.open(file.write(tmp_path / f"file{SUFFIX.get(file.kind, '.jpk-force')}"))


def physical(volume: ForceVolume, tile: Tile, branch: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return volts and z (curves, samples) and the valid lengths of a tile."""
    raw = getattr(readers.read_tile(volume, tile), branch)
    channel = getattr(volume, branch).deflection
    scale, offset = volume.z_scale(branch)
    return raw.deflection * channel.scale + channel.offset, raw.z * scale + offset, raw.valid_length


def everything(volume: ForceVolume) -> Tile:
    return Tile(0, volume.grid.curves)


# ---- values


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("headers", ["shared", "own"])
def test_values_are_those_written(tmp_path: Path, headers: str, compression: int) -> None:
    volume = made(tmp_path, headers=headers, compression=compression, samples=(200, 100))
    for segment, branch in enumerate(("approach", "retract")):
        volts, z, valid = physical(volume, everything(volume), branch)
        assert volts.shape == (6, (200, 100)[segment]) and valid is None
        for number in range(6):
            want = example(number, segment, volts.shape[1])
            # half a step of the encoder, and that of float32 where each curve has its own
            steps = (VOLTS, -METRES) if headers == "shared" else (0.4 / 60000, 1e-6 / 60000)
            np.testing.assert_allclose(volts[number], want[0], rtol=1e-7, atol=0.51 * steps[0])
            np.testing.assert_allclose(z[number], want[1], rtol=0, atol=0.51 * steps[1])
    assert volume.calibration.spring_constant == fv.open(volume.path).calibration.spring_constant
    assert volume.calibration.spring_constant is not None and volume.calibration.spring_constant.value == 0.4
    assert volume.calibration.deflection_sensitivity.value == 5e-8
    assert volume.calibration.spring_constant.source == "file"


def test_shared_encoders_leave_the_integers_as_they_are(tmp_path: Path) -> None:
    volume = made(tmp_path)
    raw = readers.read_tile(volume, everything(volume))
    assert raw.approach.deflection.dtype == raw.approach.z.dtype == np.int32
    assert raw.approach.deflection.dtype.isnative and raw.approach.deflection.flags.c_contiguous


def test_each_curve_counts_with_its_own_encoder(tmp_path: Path) -> None:
    """Motor stages give each curve a height offset of its own, by the number of a shared description."""
    volume = made(tmp_path, height_offsets=lambda number: -1e-5 * (1 + number // 2))
    assert volume.approach.z.dtype == "float64" and volume.approach.deflection.dtype == "int32"
    _, z, _ = physical(volume, everything(volume), "approach")
    for number in range(6):
        np.testing.assert_allclose(z[number], example(number, 0, 256)[1], rtol=0, atol=1e-14)


def test_tiles_of_any_cut_hold_the_same(tmp_path: Path) -> None:
    volume = made(tmp_path, ny=3, nx=4, kind="force-scan-map", back_and_forth="true", missing=frozenset({5}))
    whole = physical(volume, everything(volume), "retract")
    for size in (1, 5, 7):
        parts = [physical(volume, Tile(i, min(i + size, 12)), "retract") for i in range(0, 12, size)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), whole[0])
        lengths = [len(p[0]) * [256] if p[2] is None else p[2] for p in parts]
        np.testing.assert_array_equal(np.concatenate(lengths), whole[2])


def test_a_volume_pickles_small_and_reads_elsewhere(tmp_path: Path) -> None:
    volume = made(tmp_path, ny=20, nx=20, samples=(8, 8), images={"height": (np.zeros((20, 20)), "m", 1e-9, 0.0)})
    content = pickle.dumps(volume)
    assert len(content) < 10_000
    again = pickle.loads(content)
    jpk_directory._CACHE.__init__()  # as in a process that has not opened it
    np.testing.assert_array_equal(
        readers.read_tile(again, Tile(390, 400)).approach.z, readers.read_tile(volume, Tile(390, 400)).approach.z
    )


# ---- grid and order


def numbers_on_grid(volume: ForceVolume) -> np.ndarray:
    """Return the curve number that each pixel holds, from its first deflection."""
    volts, _, _ = physical(volume, everything(volume), "approach")
    return np.rint(volts[:, 0] / 0.01).astype(int).reshape(volume.shape)


def test_rows_go_from_left_to_right(tmp_path: Path) -> None:
    volume = made(tmp_path)
    np.testing.assert_array_equal(numbers_on_grid(volume), [[0, 1, 2], [3, 4, 5]])
    assert (volume.grid.size_x, volume.grid.size_y, volume.grid.rotation) == (3e-6, 2e-6, 0.0)


@pytest.mark.parametrize("word", [{"back_and_forth": "true"}, {"back_and_forth": None, "numbering": "back-and-forth"}])
def test_back_and_forth(tmp_path: Path, word: dict) -> None:
    volume = made(tmp_path, kind="force-scan-map", ny=3, **word)
    np.testing.assert_array_equal(numbers_on_grid(volume), [[0, 1, 2], [5, 4, 3], [6, 7, 8]])


def test_a_reflected_grid_counts_rows_from_the_top(tmp_path: Path) -> None:
    image = {"height": (np.arange(6).reshape(2, 3), "m", 1e-9, 0.0)}
    volume = made(tmp_path, reflect=True, theta=np.pi / 2, images=image)
    np.testing.assert_array_equal(numbers_on_grid(volume), [[3, 4, 5], [0, 1, 2]])
    np.testing.assert_allclose(readers.vendor_maps(volume)["height"].values * 1e9, [[3, 4, 5], [0, 1, 2]])
    assert volume.grid.rotation == pytest.approx(90.0)


def test_numbers_need_not_start_at_zero(tmp_path: Path) -> None:
    np.testing.assert_array_equal(numbers_on_grid(made(tmp_path, first=1)), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    "word", [{"numbering": "spiral"}, {"back_and_forth": None}, {"back_and_forth": "perhaps"}], ids=str
)
def test_an_unknown_order_is_refused(tmp_path: Path, word: dict) -> None:
    with pytest.raises(FileFormatError, match=r"position-pattern\.(numbering|back-and-forth) = "):
        made(tmp_path, **word)


@pytest.mark.parametrize("first", ["99999999999999999999", "-3", "1e400", "2"])
def test_a_first_number_that_no_curve_has_is_refused(tmp_path: Path, first: str) -> None:
    file = JpkFile()
    honest = file.header
    file.header = lambda: {**honest(), f"{file.kind}.indexes.min": first}  # type: ignore[method-assign]
    with pytest.raises(FileFormatError, match=r"map\.jpk-qi-data.*indexes\.min"):
        readers.open_volume(file.write(tmp_path / "map.jpk-qi-data"))


def test_more_curves_than_the_grid_holds_are_refused(tmp_path: Path) -> None:
    file = JpkFile()
    path = file.write(tmp_path / "a.jpk-qi-data")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("index/6/segments/0/channels/vDeflection.dat", bytes(8))
    with pytest.raises(FileFormatError, match=r"do not hold curve index/6"):
        fv.open(path)


# ---- segments


def test_a_single_curve(tmp_path: Path) -> None:
    for headers in ("shared", "own"):
        volume = made(tmp_path, kind="force-scan-series", headers=headers)
        assert volume.shape == (1, 1) and volume.grid.size_x is None
        volts, z, _ = physical(volume, Tile(0, 1), "retract")
        np.testing.assert_allclose(volts[0], example(0, 1, 256)[0], atol=0.51 * 0.4 / 60000)
        assert z[0, 0] > z[0, -1]
        assert volume.approach.deflection.dtype == ("int32" if headers == "shared" else "int16")


@pytest.mark.parametrize(
    ("styles", "chosen"),
    [
        (("extend", "pause", "retract"), (0, 2)),
        (("pause", "extend", "pause", "pause", "retract", "pause"), (1, 4)),
        (("extend", "extend", "retract", "extend", "retract"), (1, 2)),
        (("retract", "extend", "retract"), (1, 2)),
    ],
    ids=str,
)
def test_pauses_and_repeats_are_kept_out(tmp_path: Path, styles: tuple, chosen: tuple) -> None:
    samples = tuple(50 + 10 * i for i in range(len(styles)))

    def volts(number: int, segment: int, count: int) -> np.ndarray:
        return np.full(count, 0.1 * segment)

    for headers in ("shared", "own"):
        volume = made(tmp_path, styles=styles, samples=samples, headers=headers, deflection=volts)
        assert (volume.approach.samples, volume.retract.samples) == tuple(samples[i] for i in chosen)
        for branch, segment in zip(("approach", "retract"), chosen, strict=True):
            np.testing.assert_allclose(
                physical(volume, everything(volume), branch)[0], 0.1 * segment, rtol=1e-6, atol=VOLTS
            )
        assert f"{chosen[0]} (approach) and {chosen[1]} (retract) are read" in " ".join(volume.warnings)


def test_the_direction_tells_where_no_style_does(tmp_path: Path) -> None:
    volume = made(tmp_path, styles=("", ""))
    assert volume.header["segments"] == "extend retract"


@pytest.mark.parametrize("styles", [("extend",), ("retract", "extend"), ("pause", "pause")])
def test_a_curve_without_both_branches_is_refused(tmp_path: Path, styles: tuple) -> None:
    with pytest.raises(FileFormatError, match="an extend segment with a retract segment after it is needed"):
        made(tmp_path, styles=styles, samples=(64,) * len(styles))


# ---- what is missing


@pytest.mark.parametrize("headers", ["shared", "own"])
def test_missing_curves_have_no_valid_samples(tmp_path: Path, headers: str) -> None:
    volume = made(tmp_path, headers=headers, missing=frozenset({0, 4}))
    assert volume.warnings == ("2 of the 6 curves of the grid are not in the file",)
    for branch in ("approach", "retract"):
        valid = physical(volume, everything(volume), branch)[2]
        np.testing.assert_array_equal(valid, [0, 256, 256, 256, 0, 256])
    np.testing.assert_array_equal(physical(volume, Tile(4, 5), "approach")[2], [0])
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=1e-6))
    maps = fv.process(volume, recipe)
    assert np.isnan(maps["modulus"].ravel()[[0, 4]]).all()
    assert all(fv.Flag.INVALID_CURVE in fv.Flag(int(flags)) for flags in maps.flags.ravel()[[0, 4]])
    assert np.isfinite(maps["peak_force"].ravel()[[1, 2, 3, 5]]).all()


@pytest.mark.parametrize("headers", ["shared", "own"])
def test_ragged_curves_tell_how_much_is_valid(tmp_path: Path, headers: str) -> None:
    lengths = {0: (100, 90), 1: (80, 90), 2: (100, 0), 3: (70, 60), 4: (100, -1), 5: (1, 90)}
    volume = made(tmp_path, headers=headers, samples=(100, 90), length=lambda n, s: lengths[n][s])
    for segment, branch in enumerate(("approach", "retract")):
        volts, z, valid = physical(volume, everything(volume), branch)
        np.testing.assert_array_equal(valid, [max(lengths[n][segment], 0) for n in range(6)])
        for number, count in enumerate(valid):
            want = example(number, segment, int(count))
            np.testing.assert_allclose(volts[number, :count], want[0], atol=0.51 * 0.4 / 60000)
            np.testing.assert_allclose(z[number, :count], want[1], atol=0.51 * 1e-6 / 60000)


def test_a_missing_calibration_names_the_option(tmp_path: Path) -> None:
    volume = made(tmp_path, spring_constant=None)
    assert volume.missing() == ["spring_constant"]
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.process(volume, fv.Recipe(tip=fv.Tip.sphere(radius=1e-6)))
    assert fv.open(volume.path, spring_constant=0.1).missing() == []
    bare = made(tmp_path, sensitivity=None)
    assert bare.missing() == ["spring_constant", "deflection_sensitivity"]


def test_one_calibration_for_all_curves_or_none(tmp_path: Path) -> None:
    volume = made(tmp_path, headers="own", own_spring_constant={3: "0.5"})
    readers.read_tile(volume, Tile(0, 3))
    with pytest.raises(FileFormatError, match=r"spring_constant = 0\.5: other curves have 0\.4"):
        readers.read_tile(volume, Tile(3, 4))
    readers.read_tile(fv.open(volume.path, spring_constant=0.45), Tile(3, 4))


# ---- maps of the instrument


def test_images_become_maps_in_si_units(tmp_path: Path) -> None:
    stored = np.arange(6).reshape(2, 3) - 2
    images = {
        "adhesion": (stored, "N", 1e-12, 5e-9),
        "odd": (stored, "furlong", 1.0, 0.0),
        "small": (np.zeros((1, 1)), "m", 1.0, 0.0),
    }
    maps = readers.vendor_maps(made(tmp_path, images=images))
    assert list(maps) == ["adhesion"]
    assert (maps["adhesion"].unit, maps["adhesion"].label) == ("N", "Adhesion")
    np.testing.assert_allclose(maps["adhesion"].values, stored * 1e-12 + 5e-9)
    assert readers.vendor_maps(made(tmp_path)) == {}


# ---- the archive


def test_every_entry_is_found_as_zipfile_finds_it(tmp_path: Path) -> None:
    path = JpkFile(ny=3, nx=5, missing=frozenset({2})).write(tmp_path / "a.jpk-qi-data")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("index/7/odd PK\x01\x02 name", b"x" * 100)
        archive.writestr("index/x/no number", b"y")
    found = jpk_directory.directory(str(path))
    known = {f"index/{n}/{name}": e for name, (ns, es) in found.curves.items() for n, e in zip(ns, es, strict=True)}
    known |= found.plain
    with zipfile.ZipFile(path) as archive:
        assert set(known) == set(archive.namelist())
        entries = np.array([known[name] for name in archive.namelist()])
        rng = np.random.default_rng(0)
        for order in (np.arange(len(entries)), rng.permutation(len(entries))):
            contents = jpk_entries.read_entries(str(path), found, entries[order])
            for place, content in zip(order, contents, strict=True):
                assert bytes(content) == archive.read(archive.namelist()[place])


def test_an_end_record_in_the_comment_is_none(tmp_path: Path) -> None:
    path = JpkFile().write(tmp_path / "a.jpk-qi-data")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(40)  # zipfile itself does not open this
    assert fv.open(path).shape == (2, 3)


def test_zip64_sizes_and_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = JpkFile(compression=zipfile.ZIP_STORED).write(tmp_path / "a.jpk-qi-data")
    assert b"PK\x06\x06" in path.read_bytes()
    monkeypatch.undo()
    np.testing.assert_array_equal(numbers_on_grid(fv.open(path)), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, part: float) -> None:
    path = JpkFile().write(tmp_path / "a.jpk-qi-data")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(FileFormatError, match=r"a\.jpk-qi-data: the ZIP archive .* fetch it again"):
        fv.open(path)


def test_flipped_bits_never_pass(tmp_path: Path) -> None:
    """Any damaged byte gives a clear error or the same numbers; nothing else, and no other exception."""
    path = JpkFile(ny=2, nx=2, samples=(32, 32)).write(tmp_path / "a.jpk-qi-data")
    content = path.read_bytes()
    volume = fv.open(path)
    want = physical(volume, everything(volume), "approach")[:2]
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(0, len(content), 400):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        jpk_directory._CACHE.__init__()
        try:
            volume = fv.open(path)
            got = physical(volume, everything(volume), "approach")
        except FileFormatError as error:
            refused += 1
            assert str(path) in str(error)
        else:
            if volume.shape == (2, 2) and got[2] is None:  # else an entry has lost its name: curves that are missing
                np.testing.assert_array_equal(got[0], want[0])
                np.testing.assert_array_equal(got[1], want[1])
    assert refused > 150  # most of the rest hits headers of entries that are not read, names, or times


@pytest.mark.parametrize("how", ["encrypted", "compressed by method 12"])
def test_other_ways_of_storing_are_named(tmp_path: Path, how: str) -> None:
    compression = zipfile.ZIP_BZIP2 if "12" in how else zipfile.ZIP_DEFLATED
    path = JpkFile(compression=compression).write(tmp_path / "a.jpk-qi-data")
    if how == "encrypted":
        content = path.read_bytes()
        place = content.index(b"PK\x01\x02")
        path.write_bytes(content[: place + 8] + b"\x01" + content[place + 9 :])
    with pytest.raises(FileFormatError, match=how):
        fv.open(path)


def test_other_archives_are_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(FileFormatError, match="no known format"):
        fv.open(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "empty.jpk-force", "w") as archive:
        archive.writestr("header.properties", b"type=nothing\n")
    with pytest.raises(FileFormatError, match="no force curves"):
        fv.open(tmp_path / "empty.jpk-force")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"multiplier=0.4\n", b"multiplier=nan\n", r"lcd-info\.0.*force\.scaling\.multiplier = nan: must be a finite"),
        (b"multiplier=0.4\n", b"multiplier=-0.4\n", r"= -0\.4: a spring constant must be above zero"),
        (b"encoder.type=signedinteger", b"encoder.type=packed", r"encoder\.type = .*must be one of"),
        (b"style=offsetmultiplier", b"style=table", r"scaling\.style = linear table: only linear"),
        (b"unit.unit=m\n", b"unit.unit=V\n", r"no conversion of this height into metres"),
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    source = JpkFile().write(tmp_path / "a.jpk-qi-data")
    target = tmp_path / "b.jpk-qi-data"
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content.replace(old, new) if name.startswith("shared") else content)
    with pytest.raises(FileFormatError, match=message):
        fv.open(target)
