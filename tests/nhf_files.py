"""Writes small Nanosurf .nhf files for tests, after the layout that Nanosurf's own public reader takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

RANGES = {"Deflection": (-10.0, 10.0, "V"), "Position Z": (-5e-6, 5e-6, "m")}
SENSITIVITY, SPRING_CONSTANT = 4e-8, 0.5
FIRST = {1: -(2.0**31), 2: -(2.0**31) + 1}  # of int32, by version; the last is the same


def physical(raw: np.ndarray, channel: str, version: int = 2) -> np.ndarray:
    """Return volts or metres of raw integers."""
    low, high, _ = RANGES[channel]
    return (raw - FIRST[version]) * (high - low) / (2.0**31 - 1 - FIRST[version]) + low


def raw_of(values: np.ndarray, channel: str, version: int = 2) -> np.ndarray:
    """Return raw integers of volts or metres."""
    low, high, _ = RANGES[channel]
    return np.rint((values - low) * (2.0**31 - 1 - FIRST[version]) / (high - low) + FIRST[version]).astype("<i4")


def curves(counts: np.ndarray, seed: int = 1) -> dict[str, list[np.ndarray]]:
    """Return raw deflection and z, an array for each curve of so many samples, forth (0) and back (1)."""
    generator = np.random.default_rng(seed)
    data: dict[str, list[np.ndarray]] = {}
    for number, ends in enumerate(((-1e-6, 1e-6), (1e-6, -1e-6))):
        z = [np.linspace(*ends, max(count, 1))[:count] for count in counts]
        data[f"{number} Position Z"] = [raw_of(part, "Position Z") for part in z]
        data[f"{number} Deflection"] = [generator.integers(-(2**24), 2**24, count).astype("<i4") for count in counts]
    return data


def write(
    path: Path,
    data: dict[str, list[np.ndarray]],
    *,
    grid: tuple[int, int] | None = (2, 3),
    version: int = 2,
    names: tuple[str, ...] = ("Advance", "Pause", "Retract"),
    calibrations: str = "two_way",
    storage: dict[str, Any] | None = None,
    deflection: str = "Deflection",
) -> Path:
    """Write one measurement; `calibrations` is the way its lines are told: "two_way", "left", "right" or none."""
    word = "signal" if version == 2 else "base"
    with h5py.File(path, "w") as file:
        file.attrs.update(nsf_file_version_major=version, nsf_file_version_minor=0 if version == 2 else 1)
        image = file.create_group("group_0000")
        image.attrs.update(measurement_name="Image", name="Image", group_type="image_line_based")
        group = file.create_group("group_0001")
        group.attrs.update(measurement_name="Force map", name="Force map")
        group.attrs.update(group_type="spectroscopy", measurement_type="spectroscopy_grid")
        if grid and version == 2:
            group.attrs.update(
                rect_axis_size=grid, rect_axis_range=(grid[0] * 1e-6, grid[1] * 2e-6), rect_rotation=15.0
            )
        elif grid:
            group.attrs.update(grid_number_of_rows=grid[0], grid_number_of_columns=grid[1])
            group.attrs.update(grid_height=grid[0] * 1e-6, grid_width=grid[1] * 2e-6)
        for number, label in enumerate(names):
            segment = group.create_group(f"segment_{number:04d}")
            segment.attrs["segment_name" if version == 2 else "name"] = label
            which = 0 if number == 0 else 1
            blocks = [len(part) for part in data[f"{which} Deflection"]]
            counts = segment.create_dataset("dataset_9000", data=np.array(blocks, "<i4"))
            if version == 2:
                counts.attrs["dataset_block_size_id"] = f"blocks of {label}"
            else:
                counts.attrs["name"] = "number_of_datapoints_acquired"
            for channel, (low, high, unit) in RANGES.items():
                numbers = np.concatenate(data[f"{which} {channel}"])
                dataset = segment.create_dataset(
                    f"dataset_{len(segment):04d}", data=numbers, fillvalue=-(2**31), **(storage or {})
                )
                told = deflection if channel == "Deflection" else channel
                dataset.attrs["signal_name" if version == 2 else "name"] = told
                dataset.attrs[f"{word}_calibration_min"] = low
                dataset.attrs[f"{word}_calibration_max"] = high
                dataset.attrs[f"{word}_calibration_unit"] = f"Unit ({unit})" if version == 2 else unit
                dataset.attrs["dataset_element_type"] = "int32" if version == 2 else 0
                if version == 2:
                    dataset.attrs["dataset_block_size_source"] = f"blocks of {label}"
                    dataset.attrs["signal_id"] = "raw" if channel == "Deflection" else "raw z"
        if version == 2 and calibrations:
            _write_calibrations(file, calibrations)
    return path


def _write_calibrations(file: h5py.File, way: str) -> None:
    """Write the lines from raw numbers to V, m and N; "right" states them forth, the others back."""
    low, high, _ = RANGES["Deflection"]
    group = file.create_group("group_0002")
    group.attrs["group_type"] = "calibration"
    steps = [
        ("raw", "int", "volts", "Volt (V)", (high - low) / (2.0**32 - 2)),
        ("volts", "Volt (V)", "metres", "Meter (m)", SENSITIVITY),
        ("metres", "Meter (m)", "newtons", "Newton (N)", SPRING_CONSTANT),
    ]
    for number, (source, source_unit, sink, sink_unit, slope) in enumerate(steps):
        node = group.create_dataset(f"dataset_{number:04d}", data=0)
        ends = (source, source_unit, sink, sink_unit) if way != "left" else (sink, sink_unit, source, source_unit)
        node.attrs.update(signal_source_id=ends[0], signal_source_unit=ends[1])
        node.attrs.update(signal_sink_id=ends[2], signal_sink_unit=ends[3], signal_mapping_type="linear")
        node.attrs["signal_mapping_parameters"] = [1 / slope if way == "two_way" else slope, 0.0]
        node.attrs.update(signal_invertibility=way, signal_calibration_id=f"calibration {number}")
