"""NanoScope ramps: metres come back from files of known content, and what contradicts itself is refused."""

from __future__ import annotations

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanoscope_files import (
    DEFLECTION_SENSITIVITY,
    LSB,
    RAMP_VOLTS,
    SENSOR_SENSITIVITY,
    SPRING_CONSTANT,
    Z_SENSITIVITY,
    File,
    Image,
    numbers,
    replaced,
    to_slots,
    write_ramps,
)

from fvproc import readers
from fvproc.readers.nanoscope_header import Section, Value
from fvproc.recipe import Recipe
from fvproc.volume import Setting, Tile

# ---- metres come back


@settings(max_examples=50, deadline=None)
@given(
    data=st.data(),
    ny=st.integers(1, 4),
    nx=st.integers(2, 5),
    extend=st.integers(2, 9),
    retract=st.integers(2, 9),
    dtype=st.sampled_from(["<i2", "<i4"]),
    sensor_dtype=st.sampled_from([None, "<i2", "<i4"]),
)
def test_any_tile_of_any_ramps_is_the_slice_that_was_recorded(
    data: st.DataObject, ny: int, nx: int, extend: int, retract: int, dtype: str, sensor_dtype: str | None
) -> None:
    approach, back = numbers(ny * nx, extend, retract, data.draw(st.integers(0, 1000)))
    sensor = None
    if sensor_dtype:
        out, home = (np.sort(part + 40000) // 3 + 1 for part in numbers(ny * nx, extend, retract))
        sensor = (out, home[:, ::-1])
    file = File(ny, nx, dtype, sensor_dtype, images=[Image("Height", np.arange(ny * nx, dtype="<i4").reshape(ny, nx))])
    with tempfile.TemporaryDirectory() as folder:
        path = write_ramps(Path(folder) / "a.spm", approach, back, file, sensor=sensor)
        volume = readers.open_volume(path)
        assert volume.shape == (ny, nx)
        assert (volume.approach.samples, volume.retract.samples) == (extend, retract)
        start = data.draw(st.integers(0, ny * nx - 1))
        tile = Tile(start, data.draw(st.integers(start + 1, ny * nx)))
        raw = readers.read_tile(volume, tile)
        part = slice(tile.start, tile.stop)
        for branch, deflection, positions in (
            (raw.approach, approach, sensor and sensor[0]),
            (raw.retract, back, sensor and sensor[1]),
        ):
            assert branch.deflection.dtype == np.dtype(dtype).newbyteorder("=")
            assert np.array_equal(branch.deflection, deflection[part])
            assert branch.valid_length is None
            if sensor is not None:
                assert np.array_equal(branch.z, positions[part])
        assert volume.has_height == (sensor is None)
        if sensor is None:
            np.testing.assert_allclose(raw.height, np.arange(ny * nx)[part] * 0.006713765 * Z_SENSITIVITY * 1e-9)


@pytest.mark.parametrize("dtype", ["<i2", "<i4"])
def test_deflection_and_ramp_are_metres_and_newtons(tmp_path: Path, dtype: str) -> None:
    approach, retract = numbers(6, 4, 5)
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(2, 3, dtype)))
    raw = readers.read_tile(volume, Tile(0, 6))
    scale, offset = volume.deflection_scale("approach")
    np.testing.assert_allclose(
        raw.approach.deflection * scale + offset, approach * LSB * DEFLECTION_SENSITIVITY * 1e-9, rtol=1e-12
    )
    size = RAMP_VOLTS * Z_SENSITIVITY * 1e-9
    scale, offset = volume.z_scale("approach")
    np.testing.assert_allclose(raw.approach.z * scale + offset, size * np.array([1, 2, 3, 4]) / 4, rtol=1e-12)
    np.testing.assert_allclose(raw.retract.z * scale + offset, size * np.array([5, 4, 3, 2, 1]) / 5, rtol=1e-12)
    assert volume.calibration.spring_constant == Setting(SPRING_CONSTANT)
    assert volume.tip_radius is not None and volume.tip_radius.value == pytest.approx(20e-9)
    assert volume.tip_half_angle == Setting(0.314159)
    assert volume.poisson_ratio == 0.3


def test_a_height_sensor_is_metres_and_grows_toward_the_sample_whatever_its_polarity(tmp_path: Path) -> None:
    approach, retract = numbers(4, 6, 6)
    rising = np.tile(np.arange(100, 700, 100), (4, 1))
    for sign in (1, -1):
        sensor = (sign * rising, sign * rising[:, ::-1])
        path = write_ramps(tmp_path / f"{sign}.spm", approach, retract, File(2, 2), sensor=sensor)
        volume = readers.open_volume(path)
        raw = readers.read_tile(volume, Tile(1, 3))
        for branch, name, expected in ((raw.approach, "approach", rising), (raw.retract, "retract", rising[:, ::-1])):
            scale, offset = volume.z_scale(name)
            metres = branch.z * scale + offset
            np.testing.assert_allclose(metres, expected[1:3] * LSB * SENSOR_SENSITIVITY * 1e-9, rtol=1e-12)
        assert not volume.has_height  # z is absolute


def test_ramps_cut_short_are_closed_up_and_say_how_long_they_are(tmp_path: Path) -> None:
    extend, retract = 8, 6
    filled = [(8, 6), (5, 6), (8, 2), (3, 4), (0, 0), (7, 5)]
    approach, back = numbers(6, extend, retract)
    out, home = np.tile(np.arange(1, 9), (6, 1)) * 10, np.tile(np.arange(8, 2, -1), (6, 1)) * 10
    slots = to_slots(approach, back, "<i4", garbage=777)
    sensor = to_slots(out, home, "<i4")
    for curve, counts in enumerate(filled):
        for half, count in enumerate(counts):
            slots[curve, half, count:] = 777  # garbage after the samples, counted from the surface
            sensor[curve, half, count:] = 0
    path = write_ramps(tmp_path / "a.spm", approach, back, File(2, 3), deflection_slots=slots, sensor_slots=sensor)
    raw = readers.read_tile(readers.open_volume(path), Tile(0, 6))
    # a single empty slot is taken for a height of 0
    assert raw.approach.valid_length is not None and raw.retract.valid_length is not None
    assert raw.approach.valid_length.tolist() == [8, 5, 8, 3, 0, 8]
    assert raw.retract.valid_length.tolist() == [6, 6, 2, 4, 0, 6]
    for curve, (extended, retracted) in enumerate(filled):
        if curve == 5:
            continue
        assert np.array_equal(raw.approach.deflection[curve, :extended], approach[curve, extend - extended :])
        assert np.array_equal(raw.approach.z[curve, :extended], out[curve, extend - extended :])
        assert np.array_equal(raw.retract.deflection[curve, :retracted], back[curve, :retracted])
        assert np.array_equal(raw.retract.z[curve, :retracted], home[curve, :retracted])


@pytest.mark.parametrize("dtype, marker", [("<i2", -32768), ("<i4", -32768), ("<i4", -(2**31))])
def test_the_marker_in_the_extend_half_is_invalid(tmp_path: Path, dtype: str, marker: int) -> None:
    approach, retract = numbers(2, 5, 5)
    approach[:, 0] = marker
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2, dtype)))
    raw = readers.read_tile(volume, Tile(0, 2))
    assert (raw.approach.deflection[:, 0] == volume.approach.deflection.invalid).all()
    assert np.array_equal(raw.approach.deflection[:, 1:], approach[:, 1:])
    assert np.array_equal(raw.retract.deflection, retract)


def test_a_single_curve_is_a_grid_of_one_without_a_size(tmp_path: Path) -> None:
    approach, retract = numbers(1, 16, 16)
    file = File(256, 256, "<i2", mode="Force")  # a single ramp names the grid of the last image
    volume = readers.open_volume(write_ramps(tmp_path / "a.001", approach, retract, file))
    assert volume.grid.shape == (1, 1)
    assert volume.grid.size_x is None
    assert np.array_equal(readers.read_tile(volume, Tile(0, 1)).approach.deflection, approach)


def test_two_int16_curves_are_no_single_int32_curve(tmp_path: Path) -> None:
    approach, retract = numbers(2, 16, 16)
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2, "<i2")))
    assert volume.shape == (1, 2)
    assert volume.approach.deflection.dtype == "int16"


def test_one_int32_curve_is_no_two_int16_curves(tmp_path: Path) -> None:
    approach, retract = numbers(1, 16, 16)
    volume = readers.open_volume(write_ramps(tmp_path / "a.001", approach, retract, File(1, 2, mode="Force")))
    assert volume.shape == (1, 1)
    assert volume.approach.deflection.dtype == "int32"


def test_deflection_against_another_channel_is_not_taken_first(tmp_path: Path) -> None:
    approach, retract = numbers(2, 5, 5)
    file = File(1, 2, extra_blocks=[("Deflection", "Deflection", "Ch 2:"), ("Friction", "Friction", "Ramp")])
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, file))
    assert np.array_equal(readers.read_tile(volume, Tile(0, 2)).approach.deflection, approach)
    file = File(1, 2, x_data_type="Ch 2:")
    volume = readers.open_volume(write_ramps(tmp_path / "b.spm", approach, retract, file))
    assert np.array_equal(readers.read_tile(volume, Tile(0, 2)).approach.deflection, approach)


def test_the_frame_has_size_aspect_and_angle(tmp_path: Path) -> None:
    approach, retract = numbers(8, 3, 3)
    grid = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(2, 4))).grid
    assert (grid.size_x, grid.size_y, grid.rotation) == (pytest.approx(2e-6), pytest.approx(1e-6), 30.0)
    edit = replaced("Scan Size: 2000 nm", "Scan size: 1.5 ~m")
    grid = readers.open_volume(write_ramps(tmp_path / "b.spm", approach, retract, File(2, 4, edit=edit))).grid
    assert (grid.size_x, grid.size_y) == (pytest.approx(1.5e-6), pytest.approx(0.75e-6))
    image = Image("Height", np.zeros((2, 4), "<i4"))
    file = File(2, 4, images=[image], edit=replaced("Scan Size: 2 1 ~m", "Scan Size: 3000 700 nm"))
    grid = readers.open_volume(write_ramps(tmp_path / "c.spm", approach, retract, file)).grid
    assert (grid.size_x, grid.size_y) == (pytest.approx(3e-6), pytest.approx(0.7e-6))


@pytest.mark.parametrize(
    "old, new",
    [
        ("@4:Ramp Size:", "@4:Ramp size:"),
        ("@4:Ramp Size:", "@Z scan size:"),
        ("@Sens. DeflSens: V 27.39 nm/V", "@Sens. DeflSens: V 27.39000 "),
        ("@Sens. DeflSens: V 27.39 nm/V", "@Sens. DeflSens: V 0.02739 ~m/V"),
        ("@4:Z scale:", "@Z scale:"),
        ("X Data Type: Ramp", "X data type: Time"),
        ("Version: 0x0920B046", "Version: 0x010000106"),
    ],
)
def test_versions_spell_differently_and_mean_the_same(tmp_path: Path, old: str, new: str) -> None:
    approach, retract = numbers(2, 5, 5)
    plain = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2)))
    other = readers.open_volume(write_ramps(tmp_path / "b.spm", approach, retract, File(1, 2, edit=replaced(old, new))))
    assert other.deflection_scale("approach") == pytest.approx(plain.deflection_scale("approach"))
    tile = Tile(0, 2)
    expected = readers.read_tile(plain, tile).approach.z * plain.z_scale("approach")[0]
    np.testing.assert_allclose(readers.read_tile(other, tile).approach.z * other.z_scale("approach")[0], expected)
    assert ("without a unit" in "".join(other.warnings)) == new.endswith("000 ")


def test_the_users_sensitivity_moves_ramp_and_height_alike(tmp_path: Path) -> None:
    approach, retract = numbers(4, 5, 5)
    file = File(2, 2, images=[Image("Height", np.arange(1, 5, dtype="<i4").reshape(2, 2))])
    path = write_ramps(tmp_path / "a.spm", approach, retract, file)
    doubled = readers.open_volume(path, z_sensitivity=2 * Z_SENSITIVITY * 1e-9)
    plain = readers.open_volume(path)
    assert doubled.z_scale("retract")[0] == pytest.approx(2 * plain.z_scale("retract")[0])
    heights = [readers.read_tile(volume, Tile(0, 4)).height for volume in (doubled, plain)]
    np.testing.assert_allclose(heights[0], 2 * heights[1])


def test_what_the_header_lacks_is_asked_for_by_option(tmp_path: Path) -> None:
    approach, retract = numbers(2, 5, 5)

    def edit(lines: list[str]) -> list[str]:
        return [line for line in lines if "Sens. DeflSens: V" not in line and "Spring Constant" not in line]

    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2, edit=edit)))
    assert volume.missing() == ["spring_constant", "deflection_sensitivity"]
    path = write_ramps(tmp_path / "b.spm", approach, retract, File(1, 2, edit=replaced("V 27.39 nm/V", "V 27.39 nN/V")))
    volume = readers.open_volume(path)
    assert volume.missing() == ["deflection_sensitivity"]
    assert "27.39 nN/V is no length per volt" in volume.warnings[0]


# ---- vendor settings


def test_the_vendors_settings_make_a_recipe(tmp_path: Path) -> None:
    approach, retract = numbers(2, 5, 5)
    force = ["\\Baseline Fit: 25", "\\Deflection Baseline Fit: Line Extend"]
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2, force=force)))
    recipe = Recipe.vendor(volume)
    assert (recipe.fit.model, recipe.fit.method, recipe.fit.adhesion) == ("dmt", "qnm", "minimum")
    assert recipe.fit.window == (0.3, 0.9)
    assert recipe.tip.radius == pytest.approx(20e-9)
    assert recipe.poisson_ratio == 0.3
    assert (recipe.baseline.fraction, recipe.baseline.order, recipe.baseline.source) == (0.25, 1, "approach")
    assert recipe.deformation.region == 0.85
    assert recipe.stiffness.definition == "window"


@pytest.mark.parametrize(
    "printed, include, model, shape",
    [
        ("Sneddon (Conical)", "Yes", "sneddon_cone", "cone"),
        ("Hertzian (Spherical)", "Yes", "dmt", "sphere"),
        ("Hertzian (Spherical)", "No", "hertz", "sphere"),
        ("DMT", "Yes", "dmt", "sphere"),
        ("Something new", "Yes", None, None),
    ],
)
def test_the_vendors_model(tmp_path: Path, printed: str, include: str, model: str | None, shape: str | None) -> None:
    approach, retract = numbers(2, 5, 5)

    def edit(lines: list[str]) -> list[str]:
        lines = replaced("Fit Model: DMT", f"Fit Model: {printed}")(lines)
        return replaced("Adhesion Force: Yes", f"Adhesion Force: {include}")(lines)

    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(1, 2, edit=edit)))
    if model is None:
        assert not volume.vendor_recipe
        return
    recipe = Recipe.vendor(volume)
    assert (recipe.fit.model, recipe.tip.shape) == (model, shape)
    assert any("no adhesion" in warning for warning in volume.warnings) == (include == "No")


# ---- images


def test_declared_images_are_si_with_row_0_at_the_bottom(tmp_path: Path) -> None:
    approach, retract = numbers(6, 3, 3)
    values = np.arange(6, dtype="<i4").reshape(2, 3)
    images = [
        Image("Height", values),
        Image("Height Sensor", values.astype("<i2"), "V [Sens. ZsensSens] (0.000375 V/LSB) 24.576 V", "ZSensor"),
        Image("Adhesion", values, "V [Sens. ForceSens] (0.06250000 Arb/LSB) 4096.000 Arb", "Adhesion"),
        Image(
            "Height",
            values,
            "V [Sens. Zsens] (0.0000001024 V/LSB) 440.0000 V",
            bytes_per_pixel=4,
            extra=["\\Line Direction: Retrace"],
        ),
        Image("Phase", values, "V [Sens. Phase] (0.005493164 º/LSB) 180.0 º"),
        Image("Zoom", np.zeros((4, 3), "<i4")),
    ]
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, File(2, 3, images=images)))
    maps = readers.vendor_maps(volume)
    assert list(maps) == ["height", "height_sensor", "adhesion", "height_retrace", "phase"]
    np.testing.assert_allclose(maps["height"].values, values * 0.006713765 * Z_SENSITIVITY * 1e-9)
    np.testing.assert_allclose(maps["height_sensor"].values, values * 0.000375 * SENSOR_SENSITIVITY * 1e-9)
    np.testing.assert_allclose(maps["adhesion"].values, values * 0.0625 * 33.48e-9)
    np.testing.assert_allclose(maps["height_retrace"].values, values * 440 / 2**32 * Z_SENSITIVITY * 1e-9)
    assert [vendor.unit for vendor in maps.values()] == ["m", "m", "N", "m", "1"]
    assert np.array_equal(maps["phase"].values, values)


def test_undeclared_images_that_prove_nothing_keep_raw_numbers(tmp_path: Path) -> None:
    approach, retract = numbers(64, 40, 40)
    noise = [np.random.default_rng(i).integers(1, 10000, (8, 8)).astype("<i4") for i in (1, 2)]
    file = File(8, 8, images=[Image("Height", np.zeros((8, 8), "<i4"))], trailing=noise)
    volume = readers.open_volume(write_ramps(tmp_path / "a.spm", approach, retract, file))
    maps = readers.vendor_maps(volume)
    assert list(maps) == ["height", "undeclared_1", "undeclared_2"]
    for index, values in enumerate(noise, 1):
        assert maps[f"undeclared_{index}"].unit == "1"
        assert np.array_equal(maps[f"undeclared_{index}"].values, values)


# ---- the volume travels


def test_the_volume_is_small_and_reads_from_many_threads_after_pickling(tmp_path: Path) -> None:
    approach, retract = numbers(400, 64, 64)
    sensor = tuple(np.sort(part + 40000) // 3 + 1 for part in numbers(400, 64, 64))
    path = write_ramps(tmp_path / "a.spm", approach, retract, File(20, 20), sensor=(sensor[0], sensor[1][:, ::-1]))
    volume = readers.open_volume(path)
    packed = pickle.dumps(volume)
    assert len(packed) < 10_000
    volume = pickle.loads(packed)

    def right(start: int) -> bool:
        raw = readers.read_tile(volume, Tile(start, start + 100))
        return all(
            np.array_equal(found, expected[start : start + 100])
            for found, expected in (
                (raw.approach.deflection, approach),
                (raw.retract.deflection, retract),
                (raw.approach.z, sensor[0]),
            )
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, np.random.default_rng(0).integers(0, 301, 200).tolist()))


# ---- values of the header


@pytest.mark.parametrize(
    "text, expected",
    [
        ("V [Sens. DeflSens] (0.0003750000 V/LSB) 2.500000 V", Value("Sens. DeflSens", 0.000375, "V", 2.5, "V")),
        ("V (0.0000009313226 mV/LSB) 2000.000 mV", Value("", 9.313226e-07, "mV", 2000.0, "mV")),
        ("V 27.39000", Value("", None, "", 27.39, "")),
        ("V [Sens. A] (0.5 log(Arb)/LSB)       0 log(Arb)", Value("Sens. A", 0.5, "log(Arb)", 0.0, "log(Arb)")),
        ("V [Sens. A] (\\Data length V/LSB) 1.0 V", Value("Sens. A", None, "length V", 1.0, "V")),
        ("C [4:Z scale] 1.000000", None),
        ("", None),
    ],
)
def test_values_are_understood_or_not_there(text: str, expected: Value | None) -> None:
    section = Section("x")
    section.add(f"@4:Z  scale : {text}")
    assert section.value("Z Scale") == expected


def test_the_first_of_two_fields_of_one_name_stays() -> None:
    section = Section("x")
    for line in ("@2:Bias: V 1.0 V", "@3:Bias: V 2.0 V", "Text", "Empty:"):
        section.add(line)
    assert section.value("bias") == Value("", None, "", 1.0, "V")
    assert section.text("empty", "text") is None


def test_four_byte_images_use_the_hard_range_where_the_print_is_coarse() -> None:
    assert Value("", 1.024e-7, "V", 440.0, "V").per_lsb(4) == 440.0 / 2**32
    assert Value("", 0.0, "V", 0.1, "V").per_lsb(4) == 0.1 / 2**32
    assert Value("", 0.006713765, "V", 439.9933, "V").per_lsb(4) == 0.006713765
    assert Value("", 1.024e-7, "V", 440.0, "V").per_lsb(2) == 1.024e-7
    assert Value("", None, "V", 440.0, "V").per_lsb(4) is None
