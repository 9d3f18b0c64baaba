"""PeakForce Capture, on synthetic files written to the known facts of one real header: no such file is public."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanoscope_files import DEFLECTION_SENSITIVITY, LSB, SPRING_CONSTANT, Z_SENSITIVITY, File, Image, write_capture

from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.volume import Setting, Tile


def coded(curves: int, period: int) -> np.ndarray:
    """Return a stream in which every sample is its own number, from 1 on."""
    return np.arange(1, curves * period + 1).reshape(curves, period)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), ny=st.integers(1, 3), nx=st.integers(2, 4), half=st.integers(2, 9), marked=st.booleans())
def test_a_curve_is_the_period_about_the_turning_point(
    data: st.DataObject, ny: int, nx: int, half: int, marked: bool
) -> None:
    curves, period = ny * nx, 2 * half
    sync = data.draw(st.integers(0, period - 1))
    records = coded(curves, period)
    if marked:
        records[:, 0] = data.draw(st.sampled_from([-32768, -(2**31)]))
    with tempfile.TemporaryDirectory() as folder:
        path = write_capture(Path(folder) / "a.pfc", records, File(ny, nx), amplitude=10.0, sync=sync)
        volume = readers.open_volume(path)
        start = data.draw(st.integers(0, curves - 1))
        tile = Tile(start, data.draw(st.integers(start + 1, curves)))
        raw = readers.read_tile(volume, tile)
    assert volume.shape == (ny, nx)
    invalid = volume.approach.deflection.invalid
    stream = records.reshape(-1)
    found = np.concatenate([raw.approach.deflection, raw.retract.deflection], axis=1)
    for row, curve in zip(found, range(tile.start, tile.stop), strict=True):
        for place, value in enumerate(row):
            index = curve * period + sync + place - half  # the turning point is the first sample of the retract
            outside = not 0 <= index < stream.size
            marker = not outside and marked and index % period == 0
            assert value == (invalid if outside or marker else stream[index])


@pytest.mark.parametrize("dtype", ["<i2", "<i4"])
@pytest.mark.parametrize("sync", [0, 41.25, 89, 128, 200.5, 255.9])
def test_metres_come_back_through_the_sine(tmp_path: Path, dtype: str, sync: float) -> None:
    """A tip that follows z exactly, recorded with the turning point anywhere in the record, lies on a line."""
    period, amplitude, curves = 256, 10e-9, 12
    time = np.arange(curves * period)
    z = amplitude * (1.0 + np.cos(2 * np.pi * (time - sync) / period))
    volts = z / (DEFLECTION_SENSITIVITY * 1e-9)
    records = np.rint(volts / LSB).reshape(curves, period)
    records[:, 0] = -32768
    path = write_capture(tmp_path / "a.pfc", records, File(3, 4, dtype), amplitude=10.0, sync=sync)
    volume = readers.open_volume(path)
    raw = readers.read_tile(volume, Tile(0, 12))
    for name, branch in (("approach", raw.approach), ("retract", raw.retract)):
        scale, offset = volume.deflection_scale(name)
        metres = np.where(
            branch.deflection == volume.approach.deflection.invalid, np.nan, branch.deflection * scale + offset
        )
        positions = branch.z * volume.z_scale(name)[0] + volume.z_scale(name)[1]
        error = metres - positions
        step = LSB * DEFLECTION_SENSITIVITY * 1e-9
        assert np.nanmax(np.abs(error)) <= 0.51 * step
        assert np.isfinite(error).sum(axis=1).min() >= 128 - max(128 - sync, sync - 128, 0) - 1.5
        assert positions.min() >= 0
        assert positions.max() <= 2 * amplitude * (1 + 1e-12)
    assert raw.approach.z[0] < raw.approach.z[-1]
    assert raw.retract.z[0] > raw.retract.z[-1]
    assert abs(raw.retract.z[0] - 2 * amplitude) < amplitude * 2e-3


def test_only_the_pixel_without_a_neighbour_is_damaged(tmp_path: Path) -> None:
    period = 16
    for sync, damaged, borrowed in ((5, 0, 3), (11, 7, 3), (8, None, 0)):
        records = coded(8, period)
        path = write_capture(tmp_path / f"{sync}.pfc", records, File(2, 4), amplitude=10.0, sync=sync)
        volume = readers.open_volume(path)
        raw = readers.read_tile(volume, Tile(0, 8))
        found = np.concatenate([raw.approach.deflection, raw.retract.deflection], axis=1)
        holes = (found == volume.approach.deflection.invalid).sum(axis=1)
        expected = np.zeros(8, int)
        if damaged is not None:
            expected[damaged] = borrowed
        assert holes.tolist() == expected.tolist()


def test_the_sync_distance_counts_in_sample_points(tmp_path: Path) -> None:
    records = coded(4, 16)
    tiles = []
    for sync, points in ((6, 16), (12, 32), (3, 8)):
        file = File(2, 2, scan=[f"\\Sample Points: {points}"])
        volume = readers.open_volume(write_capture(tmp_path / "a.pfc", records, file, amplitude=10.0, sync=sync))
        tiles.append(readers.read_tile(volume, Tile(1, 3)).approach.deflection.copy())
    assert np.array_equal(tiles[0], tiles[1])
    assert np.array_equal(tiles[0], tiles[2])
    assert tiles[0][0, 0] == 16 + 6 - 8 + 1


def test_the_known_facts_of_a_real_header(tmp_path: Path) -> None:
    period, curves = 256, 64
    heights = np.arange(curves, dtype="<i4").reshape(8, 8)
    images = [
        Image("Height", heights * 0),
        Image("Height Sensor", heights, "V [Sens. Zsens] (0.006713765 V/LSB) 439.9933 V", "ZSensor"),
    ]
    records = coded(curves, period)
    path = write_capture(tmp_path / "a.pfc", records, File(8, 8, images=images), amplitude=10.0, sync=89)
    volume = readers.open_volume(path)
    assert (volume.approach.samples, volume.retract.samples) == (128, 128)
    assert volume.approach.deflection.dtype == "int32"
    assert volume.calibration.spring_constant == Setting(SPRING_CONSTANT)
    assert volume.has_height
    assert not volume.missing()
    np.testing.assert_allclose(
        readers.read_tile(volume, Tile(3, 6)).height, np.array([3, 4, 5]) * 0.006713765 * Z_SENSITIVITY * 1e-9
    )
    maps = readers.vendor_maps(volume)
    assert list(maps) == ["height", "height_sensor"]
    assert volume.header["Sync Distance QNM"] == "89"


def test_a_wrong_count_of_the_extend_half_is_passed_over(tmp_path: Path) -> None:
    records = coded(4, 16)

    def change(lines: list[str]) -> list[str]:
        return [line.replace("Samps/line: 8 8", "Samps/line: 8 11") for line in lines]

    file = File(2, 2, edit=change)
    volume = readers.open_volume(write_capture(tmp_path / "a.pfc", records, file, amplitude=10.0, sync=8))
    raw = readers.read_tile(volume, Tile(0, 4))
    assert np.array_equal(np.concatenate([raw.approach.deflection, raw.retract.deflection], axis=1), records)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"amplitude": 0.0, "sync": 8}, "Peak Force Amplitude = 0"),
        ({"amplitude": -10.0, "sync": 8}, "Peak Force Amplitude = -10"),
        ({"amplitude": 10.0, "sync": -3}, "Sync Distance QNM = -3"),
    ],
)
def test_a_capture_without_drive_is_refused(tmp_path: Path, options: dict, message: str) -> None:
    path = write_capture(tmp_path / "a.pfc", coded(4, 16), File(2, 2), **options)
    with pytest.raises(FileFormatError, match=message):
        readers.open_volume(path)


def test_a_force_volume_made_while_capture_was_allowed_is_a_ramp(tmp_path: Path) -> None:
    def change(lines: list[str]) -> list[str]:
        return [line.replace("Operating mode: Image", "Operating mode: Force Volume") for line in lines]

    path = write_capture(tmp_path / "a.spm", coded(4, 16), File(2, 2, edit=change), amplitude=10.0, sync=8)
    assert readers.open_volume(path).approach.z.unit == "V"
