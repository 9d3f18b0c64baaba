"""The .ARDF reader on written files: numbers, order, what is missing, refusals; magic_afm's reader as a judge."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import ardf_files
import numpy as np
import pytest

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.ardf_curves import Chain, Stride
from fvproc.readers.ardf_index import index
from fvproc.volume import Tile

RECIPE = fv.Recipe.from_dict(
    {
        "tip": {"shape": "sphere", "radius": 30e-9},
        "baseline": {"order": 0, "fraction": 0.2},
        "fit": {"adhesion": "minimum"},
    }
)


def require_equal(volume: fv.ForceVolume, told: ardf_files.Volume) -> None:
    """All samples are those of the curves that were written; curves that were not have none."""
    ny, nx = volume.shape
    tile = readers.read_tile(volume, Tile(0, ny * nx))
    z = next(label for label in ("Raw", "ZSnsr") if label in next(iter(told.curves.values())).channels)
    for number in range(ny * nx):
        one = told.curves.get(divmod(number, nx))
        for branch, place in (("approach", 0), ("retract", 1)):
            raw = getattr(tile, branch)
            count = raw.z.shape[1] if raw.valid_length is None else raw.valid_length[number]
            if one is None:
                assert count == 0
                continue
            first, last = one.offsets[place], one.offsets[place + 1]
            last += last == len(one.channels[z]) - 1
            assert count == last - first
            np.testing.assert_array_equal(raw.deflection[number, :count], one.channels["Defl"][first:last])
            np.testing.assert_array_equal(raw.z[number, :count], one.channels[z][first:last])


# ---- numbers and order


@pytest.mark.parametrize("kind", ardf_files.KINDS)
@pytest.mark.parametrize("down", [False, True])
def test_samples_come_back_whichever_way_was_scanned(tmp_path: Path, kind: str, down: bool) -> None:
    told = ardf_files.volumes_of(kind, down=down)
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", told))
    assert (volume.format, volume.shape) == ("ardf", (3, 5)) and volume.missing() == []
    assert volume.grid.size_x == pytest.approx(1e-6) and volume.grid.size_y == pytest.approx(2e-6)
    assert volume.grid.rotation == 30 and volume.header["experiment"] == "FMAP;Sample"
    assert len(pickle.dumps(volume)) < 3000
    assert type(index(volume.path).curves) is (Chain if "map" in kind else Stride)
    require_equal(volume, told[0])


def test_retrace_alone_is_told_apart_from_trace(tmp_path: Path) -> None:
    retrace = replace(ardf_files.fast_map(3, 5), backward=True)
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [retrace]))
    assert volume.warnings == ()
    require_equal(volume, retrace)
    both = ardf_files.volumes_of("both")
    volume = fv.open(ardf_files.write(tmp_path / "b.ardf", both[::-1]))  # the trace is taken wherever it stands
    assert "retrace: 1" in volume.warnings[0]
    require_equal(volume, both[0])


@pytest.mark.parametrize("kind", ardf_files.KINDS)
def test_tiles_agree_with_the_whole(tmp_path: Path, kind: str) -> None:
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of(kind)))
    whole = readers.read_tile(volume, Tile(0, 15))
    for start, stop in ((0, 1), (4, 6), (7, 8), (3, 15), (5, 10)):
        part = readers.read_tile(volume, Tile(start, stop))
        for branch in ("approach", "retract"):
            one, all_of = getattr(part, branch), getattr(whole, branch)
            told = all_of.z.shape[1] if all_of.valid_length is None else all_of.valid_length[start:stop, None]
            count = one.z.shape[1] if one.valid_length is None else one.valid_length[:, None]
            counts = np.broadcast_to(told, (stop - start, 1)), np.broadcast_to(count, (stop - start, 1))
            np.testing.assert_array_equal(*counts)
            there = np.arange(one.z.shape[1]) < counts[0]
            np.testing.assert_array_equal(one.z[there], all_of.z[start:stop][there])
            np.testing.assert_array_equal(one.deflection[there], all_of.deflection[start:stop][there])


def test_blocks_between_the_curves_and_odd_names_do_not_matter(tmp_path: Path) -> None:
    for kind in ardf_files.KINDS:
        told = [
            replace(one, extra=ardf_files.block(b"XDAT", b"\1" * 20), name_bytes=9)
            for one in ardf_files.volumes_of(kind)
        ]
        require_equal(fv.open(ardf_files.write(tmp_path / f"{kind}.ardf", told)), told[0])


def test_fast_curves_of_different_lengths_are_followed_one_by_one(tmp_path: Path) -> None:
    told = ardf_files.fast_map(3, 5)
    told.curves[1, 2] = ardf_files.curve(30, 30, seed=99, others=("Amp",))
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [told]))
    assert isinstance(index(volume.path).curves, Chain)
    require_equal(volume, told)


@pytest.mark.parametrize("segments", ["Ext;Dwell;Ret;", "Ext;Ret;Dwell;Away;"])
def test_dwells_are_left_out_wherever_they_are(tmp_path: Path, segments: str) -> None:
    ramp = np.concatenate([np.linspace(0, 1e-7, 20), np.linspace(1e-7, 0, 30), np.full(9, 0.0)]).astype(np.float32)
    offsets = (0, 20, 50, 58, 0)
    if segments.startswith("Ext;D"):
        ramp = np.concatenate([ramp[:20], np.full(9, 1e-7, np.float32), ramp[20:50]])
        offsets = (0, 20, 29, 58, 0)
    one = ardf_files.Curve({"ZSnsr": ramp, "Defl": ramp[::-1].copy()}, offsets)
    told = ardf_files.Volume((1, 1), {(0, 0): one}, segments=segments)
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [told]))
    tile = readers.read_tile(volume, Tile(0, 1))
    retract = offsets[segments.split(";").index("Ret")]
    np.testing.assert_array_equal(tile.approach.z[0], ramp[:20])
    np.testing.assert_array_equal(tile.retract.z[0], ramp[retract : retract + 30])


def test_fast_curves_that_tell_of_no_segments_are_halved(tmp_path: Path) -> None:
    told = ardf_files.fast_map(2, 3)
    for one in told.curves.values():
        one.offsets = (0, 79, 0, 0, 0)
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [replace(told, segments="Force;")]))
    assert "second half" in volume.warnings[0]
    for one in told.curves.values():
        one.offsets = (0, 40, 79, 0, 0)
    require_equal(volume, told)


def test_images_become_maps_of_the_instrument(tmp_path: Path) -> None:
    height = np.arange(15, dtype=np.float32).reshape(3, 5)
    stopped = height.copy()
    stopped[2] = np.nan
    images = {
        "MapHeight": ("nm", height),
        "MapAdhesion": ("N", stopped),
        "Odd": ("furlong", height),
        "Other": ("m", height.T),
    }
    maps = readers.vendor_maps(
        fv.open(ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of("trace"), images=images))
    )
    assert sorted(maps) == ["adhesion", "height"]
    np.testing.assert_allclose(maps["height"].values, height * 1e-9)
    np.testing.assert_array_equal(maps["adhesion"].values, stopped)
    assert (maps["height"].unit, maps["adhesion"].unit, maps["height"].label) == ("m", "N", "MapHeight")


def test_volts_take_the_sensitivity_of_the_note(tmp_path: Path) -> None:
    told = replace(ardf_files.fast_map(2, 3), units={"Defl": "V", "Raw": "um"})
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [told]))
    assert volume.deflection_scale("approach") == (5e-8, 0) and volume.z_scale("retract") == (1e-6, 0)
    note = ardf_files.NOTE.replace("InvOLS", "Other")
    with pytest.raises(CalibrationError, match="--deflection-sensitivity"):
        fv.process(fv.open(ardf_files.write(tmp_path / "b.ardf", [told], note=note)), RECIPE)


@pytest.mark.parametrize("unit", ["", "furlong"])
def test_units_are_never_guessed(tmp_path: Path, unit: str) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", [replace(ardf_files.fast_map(2, 3), units={"Raw": unit})])
    with pytest.raises(FileFormatError, match=r"a\.ardf: VCHN, Raw: units = .*never guessed"):
        fv.open(path)
    volume = fv.open(ardf_files.write(path, [replace(ardf_files.fast_map(2, 3), step_unit=unit)]))
    assert volume.grid.size_x == pytest.approx(1e-6 * 3 / 2)  # from the note, from the first to the last point


# ---- what was not measured


@pytest.mark.parametrize("kind", ardf_files.KINDS)
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("last", [1, 4, 5, 8, 10, 14])
def test_a_stopped_scan_has_curves_until_it_was_stopped(tmp_path: Path, kind: str, down: bool, last: int) -> None:
    told = ardf_files.volumes_of(kind, down=down)
    for number, one in enumerate(told):
        order = sorted(one.curves, key=lambda place: (-place[0] if down else place[0], place[1]))
        for place in order[last - number if last > 1 else 1 :]:  # the retrace is behind
            del one.curves[place]
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", told))
    assert f"{15 - last} of 15 curves were not measured" in volume.warnings[0]
    assert isinstance(index(volume.path).curves, Chain if "map" in kind else Stride) or last == 1  # no distance to tell
    require_equal(volume, told[0])
    missing = [divmod(number, 5) not in told[0].curves for number in range(15)]
    assert np.isnan(fv.process(volume, RECIPE)["adhesion"].ravel()[missing]).all()


def test_a_scan_stopped_in_the_retrace_of_a_line(tmp_path: Path) -> None:
    told = replace(ardf_files.fast_map(3, 5), backward=True)
    for point in (0, 1, 2):
        del told.curves[2, point]
    volume = fv.open(ardf_files.write(tmp_path / "a.ardf", [told]))
    require_equal(volume, told)
    tile = readers.read_tile(volume, Tile(12, 15))
    np.testing.assert_array_equal(tile.approach.valid_length, [0, 40, 40])


# ---- processing


def test_the_modulus_is_that_of_the_simulated_curves(tmp_path: Path, curves_file: Path) -> None:
    source = fv.open(curves_file)
    tile = readers.read_tile(source, Tile(0, source.grid.curves))
    want = fv.process(source, RECIPE)["modulus"]
    curves = {}
    for number in range(source.grid.curves):
        values = []
        for branch in ("approach", "retract"):
            raw = getattr(tile, branch)
            (scale, offset), (z_scale, z_offset) = source.deflection_scale(branch), source.z_scale(branch)
            z = raw.z if raw.z.ndim == 1 else raw.z[number]
            values.append((z * z_scale + z_offset, raw.deflection[number] * scale + offset))
        z, deflection = (np.concatenate(parts).astype(np.float32) for parts in zip(*values, strict=True))
        offsets = (0, source.approach.samples, len(z) - 1, 0, 0)
        curves[divmod(number, source.grid.nx)] = ardf_files.Curve({"Raw": z, "Defl": deflection}, offsets)
    note = ardf_files.NOTE.replace("0.5", str(source.calibration.spring_constant.value))
    for kind, segments in ((2, "Ext;Ret;Dwell;"), (5, "Ext;Ret;")):
        told = ardf_files.Volume(source.shape, curves, kind, segments)
        volume = fv.open(ardf_files.write(tmp_path / f"{kind}.ardf", [told], note=note))
        found = fv.process(volume, RECIPE)["modulus"]
        assert np.nanmedian(found) == pytest.approx(916e6, rel=0.03)
        np.testing.assert_allclose(found, want, rtol=1e-3)


# ---- refusals


def test_a_missing_spring_constant_names_the_option(tmp_path: Path) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of("trace"), note="InvOLS: 1e-7\r")
    with pytest.raises(CalibrationError, match=r"a\.ardf.*--spring-constant"):
        fv.process(path, RECIPE)
    assert fv.open(path, spring_constant=2.0).missing() == []
    volume = fv.open(ardf_files.write(path, ardf_files.volumes_of("trace"), note="SpringConstant: -3\r"))
    assert "SpringConstant" in volume.warnings[0] and volume.missing() == ["spring_constant"]


def test_a_file_without_curves_says_so(tmp_path: Path) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", [], images={"Height": ("m", np.zeros((3, 5)))})
    with pytest.raises(FileFormatError, match=r"a\.ardf: FTOC: 1 images, no volume \(VOLM\): .*force map"):
        fv.open(path)
    content = ardf_files.write(path, ardf_files.volumes_of("trace")).read_bytes()
    start = content.index(b"VTOC") + 24
    path.write_bytes(content[:start] + b"\0" * 3 * 40 + content[start + 3 * 40 :])
    with pytest.raises(FileFormatError, match="VTOC: no line has curves: the scan was stopped"):
        fv.open(path)


@pytest.mark.parametrize("kind", ardf_files.KINDS)
def test_a_file_cut_anywhere_is_refused_or_complete(tmp_path: Path, kind: str) -> None:
    told = ardf_files.volumes_of(kind)
    content = ardf_files.write(tmp_path / "whole.ardf", told).read_bytes()
    path = tmp_path / "cut.ardf"
    for length in range(20, len(content) - 1, 97):
        path.write_bytes(content[:length])
        try:
            volume = fv.open(path)
        except FileFormatError as error:
            assert "cut.ardf" in str(error) and ("truncated" in str(error) or length < 40)
            continue
        require_equal(volume, told[0])  # cut within what is not read: another channel, the retrace, a text


@pytest.mark.parametrize("name", [b"ARDF", b"FTOC", b"TTOC", b"TEXT", b"VOLM", b"VDEF", b"VCHN", b"XDEF", b"VSET"])
def test_a_wrong_checksum_is_named(tmp_path: Path, name: bytes) -> None:
    content = bytearray(ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of("trace")).read_bytes())
    head = b"\x20\0\0\0" + name if name == b"VOLM" else b"\0" + name  # not its entry in FTOC
    content[content.index(head) + len(head)] ^= 1  # the flags of the block
    (tmp_path / "a.ardf").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"a\.ardf: .*{name.decode()}.*checksum.*fetch it again"):
        fv.open(tmp_path / "a.ardf")


@pytest.mark.parametrize("kind", ardf_files.KINDS)
def test_damage_within_the_curves_is_an_error_of_the_tile(tmp_path: Path, kind: str) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of(kind))
    content = bytearray(path.read_bytes())
    place = content.index(b"VSET")
    for _ in range(2):  # a curve that opening does not look at
        place = content.index(b"VSET", place + 1)
    place = content.index(b"VDAT", place) - 8
    content[place + 16 + 4] ^= 1  # its line
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.ardf: VDAT .*fetch"):
        readers.read_tile(fv.open(path), Tile(0, 5))


def test_damaged_samples_of_a_force_map_are_noticed(tmp_path: Path) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of("ragged force map"))
    content = bytearray(path.read_bytes())
    content[-60] ^= 1
    path.write_bytes(content)
    volume = fv.open(path)
    readers.read_tile(volume, Tile(0, 14))
    with pytest.raises(FileFormatError, match=r"VDAT at byte .*checksum"):
        readers.read_tile(volume, Tile(14, 15))


@pytest.mark.parametrize(
    ("name", "offset", "form", "value", "says"),
    [
        (b"VDEF", 16, "<I", 0, "0 points"),
        (b"VDEF", 20, "<I", 2**31, "2147483648 lines"),
        (b"VDEF", 168, "32s", b"Up;Down;", "no Ext that a Ret follows"),
        (b"VCHN", 16, "32s", b"Else", "none of Raw, ZSnsr"),
        (b"VTOC", 28, "<I", 41, "expected entries of 40 bytes"),
        (b"VOFF", 20, "<I", 7, "line 7"),
        (b"VOFF", 32, "<Q", 10**9, "truncated"),
        (b"VSET", 20, "<I", 2, "VTOC tells that it is of line 0"),
        (b"VDAT", 28, "<I", 10**6, "does not fit"),
        (b"TEXT", 20, "<I", 10**6, "it is shorter"),
        (b"FTOC", 24, "<I", 10**6, "expected entries of 24 bytes"),
    ],
)
def test_fields_that_lie_are_refused(
    tmp_path: Path, name: bytes, offset: int, form: str, value: object, says: str
) -> None:
    path = ardf_files.write(tmp_path / "a.ardf", ardf_files.volumes_of("ragged force map"))
    path.write_bytes(ardf_files.changed(path.read_bytes(), name, offset, form, value))
    with pytest.raises(FileFormatError, match=says) as caught:
        fv.open(path)
    assert "a.ardf" in str(caught.value)


def test_z_away_from_the_sample_is_refused(tmp_path: Path) -> None:
    told = ardf_files.force_map(2, 3)
    for one in told.curves.values():
        one.channels["ZSnsr"] *= -1
    with pytest.raises(FileFormatError, match=r"VDAT, ZSnsr: falls by .* along Ext"):
        fv.open(ardf_files.write(tmp_path / "a.ardf", [told]))


# ---- another reader as the judge


@pytest.mark.parametrize("kind", ardf_files.KINDS[1:])
@pytest.mark.parametrize("down", [False, True])
def test_magic_afm_reads_the_same_curves(tmp_path: Path, kind: str, down: bool) -> None:
    """That package cuts Ext and Ret to the same length, which they are here, and takes none of equal lengths."""
    judge = pytest.importorskip("magic_afm.data_readers")
    height = np.arange(15, dtype=np.float32).reshape(3, 5)
    path = ardf_files.write(
        tmp_path / "a.ardf", ardf_files.volumes_of(kind, down=down), images={"MapHeight": ("m", height)}
    )
    judged = judge.ARDFFile.parse(path.read_bytes())
    volume = fv.open(path)
    assert judged.k == volume.calibration.spring_constant.value
    np.testing.assert_array_equal(judged.images["MapHeight"].get_image(), readers.vendor_maps(volume)["height"].values)
    tile = readers.read_tile(volume, Tile(0, 15))
    for number in range(15):
        z, deflection = judged.volumes[0].get_curve(*divmod(number, 5))
        for place, raw in enumerate((tile.approach, tile.retract)):
            count = raw.z.shape[1] if raw.valid_length is None else raw.valid_length[number]
            assert len(z[place]) == count
            np.testing.assert_allclose(raw.z[number, :count], np.asarray(z[place]) * 1e-9, rtol=3e-7)
            np.testing.assert_allclose(raw.deflection[number, :count], np.asarray(deflection[place]) * 1e-9, rtol=3e-7)
