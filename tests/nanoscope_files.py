"""Writes synthetic NanoScope files of known content: force volumes, single ramps, PeakForce Captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DATA_OFFSET = 8192
Z_SENSITIVITY, DEFLECTION_SENSITIVITY, SENSOR_SENSITIVITY = 13.203, 27.39, 906.473  # nm/V
RAMP_VOLTS, LSB, SPRING_CONSTANT = 151.4807, 0.000375, 0.1332


@dataclass
class Image:
    """A declared image."""

    title: str
    values: np.ndarray
    scale: str = "V [Sens. Zsens] (0.006713765 V/LSB) 439.9933 V"
    internal: str = "Height"
    bytes_per_pixel: int = 2
    extra: Sequence[str] = ()


@dataclass
class File:
    """What goes into a file; `edit` has the last word on the lines of the header."""

    ny: int = 1
    nx: int = 1
    dtype: str = "<i4"
    sensor_dtype: str | None = None
    mode: str = "Force Volume"
    scan: Sequence[str] = ()
    force: Sequence[str] = ()
    images: Sequence[Image] = ()
    trailing: Sequence[np.ndarray] = ()
    ramp: str = f"\\@4:Ramp Size: V [Sens. Zsens] (0.006713765 V/LSB) {RAMP_VOLTS} V"
    x_data_type: str = "Ramp"
    extra_blocks: Sequence[tuple[str, str, str]] = ()  # (internal, title, x data type), filled with 7
    edit: Callable[[list[str]], list[str]] = field(default=lambda lines: lines)


def numbers(curves: int, extend: int, retract: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return raw deflection of both branches, no number a marker."""
    generator = np.random.default_rng(seed)
    return generator.integers(-30000, 30000, (curves, extend)), generator.integers(-30000, 30000, (curves, retract))


def replaced(old: str, new: str, count: int = 1) -> object:
    """Return an edit of the header that must find its place."""

    def change(lines: list[str]) -> list[str]:
        text = "\n".join(lines)
        assert old in text
        return text.replace(old, new, count).split("\n")

    return change


def to_slots(approach: np.ndarray, retract: np.ndarray, dtype: str, garbage: int = 0) -> np.ndarray:
    """Return (curves, 2, slots) as stored, from samples in the order of time."""
    slots = max(approach.shape[1], retract.shape[1])
    block = np.full((len(approach), 2, slots), garbage, dtype)
    block[:, 0, : approach.shape[1]] = approach[:, ::-1]
    block[:, 1, : retract.shape[1]] = retract
    return block


def write_ramps(
    path: Path,
    approach: np.ndarray,
    retract: np.ndarray,
    file: File,
    *,
    sensor: tuple[np.ndarray, np.ndarray] | None = None,
    deflection_slots: np.ndarray | None = None,
    sensor_slots: np.ndarray | None = None,
) -> Path:
    """Write a force volume or a single ramp; samples in the order of time, raw integers (curves, samples)."""
    samples = f"{retract.shape[1]} {approach.shape[1]}"
    if deflection_slots is None:
        deflection_slots = to_slots(approach, retract, file.dtype, garbage=12345)
    blocks = [("DeflectionError", "Deflection Error", "[Sens. DeflSens]", file.x_data_type, deflection_slots)]
    for internal, title, kind in file.extra_blocks:
        blocks.insert(0, (internal, title, "[Sens. DeflSens]", kind, np.full_like(deflection_slots, 7)))
    if sensor is not None or sensor_slots is not None:
        dtype = file.sensor_dtype or file.dtype
        if sensor_slots is None:
            sensor_slots = to_slots(*sensor, dtype)
        blocks.append(("ZSensor", "Height Sensor", "[Sens. ZsensSens]", "Ramp", sensor_slots))
    return _write(path, file, samples, blocks)


def write_capture(path: Path, records: np.ndarray, file: File, *, amplitude: float, sync: float) -> Path:
    """Write a PeakForce Capture from the stream of samples of each pixel in the order of time, (curves, period)."""
    half = records.shape[1] // 2
    slots = records.astype(file.dtype).reshape(len(records), 2, half).copy()
    slots[:, 0] = slots[:, 0, ::-1]
    file.mode = "Image"
    file.scan = [
        "\\PeakForce Capture: Allow",
        f"\\Peak Force Amplitude: {amplitude:g}",
        f"\\Sync Distance QNM: {sync:g}",
        "\\Sync Distance New: 88",
        "\\PFT Freq: 2 kHz",
        *file.scan,
    ]
    blocks = [("DeflectionError", "Deflection Error", "[Sens. DeflSens]", "Time", slots)]
    return _write(path, file, f"{half} {half}", blocks)


def _write(path: Path, file: File, samples: str, blocks: list[tuple[str, str, str, str, np.ndarray]]) -> Path:
    lines = [
        "\\*Force file list",
        "\\Version: 0x0920B046",
        "\\Date: 05:30:10 PM Thu Sep 03 2020",
        "\\Start context: FVOL",
        f"\\Data length: {DATA_OFFSET}",
        "\\*Equipment list",
        "\\Description: MultiMode 8",
        "\\*Scanner list",
        f"\\@Sens. Zsens: V {Z_SENSITIVITY} nm/V",
        "\\*Ciao scan list",
        f"\\Operating mode: {file.mode}",
        "\\Scan Size: 2000 nm",
        "\\Rotate Ang.: 30",
        f"\\Samps/line: {file.nx}",
        f"\\Lines: {file.ny}",
        "\\Aspect Ratio: 2:1",
        "\\Tip Radius: 20",
        "\\Tip Half Angle: 0.314159",
        "\\Sample Poisson's Ratio: 0.3",
        "\\Deformation Fit Region: 0.85",
        "\\Include Adhesion Force: Yes",
        "\\Min Force Fit Boundary: 30",
        "\\Max Force Fit Boundary: 90",
        "\\Modulus Fit Model: DMT",
        *file.scan,
        f"\\@Sens. DeflSens: V {DEFLECTION_SENSITIVITY} nm/V",
        f"\\@Sens. ZsensSens: V {SENSOR_SENSITIVITY} nm/V",
        "\\@Sens. ForceSens: V 33.48000 nN/Arb",
        "\\*Ciao force list",
        f"\\Samps/line: {samples}",
        f"\\force/line: {file.nx}",
        *file.force,
    ]
    parts: list[bytes] = []
    offset = DATA_OFFSET
    for internal, title, soft, kind, values in blocks:
        data = np.ascontiguousarray(values).tobytes()
        spring = SPRING_CONSTANT if "Defl" in title else 0.0677954
        lines += [
            "\\*Ciao force image list",
            f"\\Data offset: {offset}",
            f"\\Data length: {len(data)}",
            "\\Bytes/pixel: 2",
            f"\\Samps/line: {samples}",
            f"\\Spring Constant: {spring}",
            f"\\X Data Type: {kind}",
            f'\\@4:Image Data: S [{internal}] "{title}"',
            f"\\@4:Z scale: V {soft} ({LSB:.10f} V/LSB) 2.500000 V",
            f"\\@4:Z offset: V {soft} ({LSB:.10f} V/LSB) -0.776 V",
            '\\@4:Ramp channel: S [Zsweep] "Z"',
            file.ramp,
        ]
        parts.append(data)
        offset += len(data)
    for image in file.images:
        data = np.ascontiguousarray(image.values).tobytes()
        lines += [
            "\\*Ciao image list",
            f"\\Data offset: {offset}",
            f"\\Data length: {len(data)}",
            f"\\Bytes/pixel: {image.bytes_per_pixel}",
            "\\Frame direction: Down",
            f"\\Samps/line: {image.values.shape[1]}",
            f"\\Number of lines: {image.values.shape[0]}",
            "\\Scan Size: 2 1 ~m",
            *image.extra,
            f'\\@2:Image Data: S [{image.internal}] "{image.title}"',
            f"\\@2:Z scale: {image.scale}",
            "\\@2:Z offset: V [Sens. Zsens] (0.006713765 V/LSB) -0.4969325 V",
        ]
        parts.append(data)
        offset += len(data)
    parts += [np.ascontiguousarray(values).tobytes() for values in file.trailing]
    lines.append("\\*File list end")
    header = "".join(f"{line}\r\n" for line in file.edit(lines)).encode("latin-1") + b"\x1a"
    assert len(header) <= DATA_OFFSET
    path.write_bytes(header.ljust(DATA_OFFSET, b"\0") + b"".join(parts))
    return path
