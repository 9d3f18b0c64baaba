"""Writes small Igor binary waves of version 5 as Asylum Research's software leaves them: curves, maps, images."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

NOTE = (
    "SpringConstant: 0.5\rInvOLS: 5e-08\rFastScanSize: 1e-06\rSlowScanSize: 2e-06\r"
    "ScanAngle: 0\rMicroscopeModel:MFP3D\r"
)


def checksum(head: bytes, order: str = "<") -> bytes:
    """The first 384 bytes with the checksum that makes them add up to zero."""
    plain = head[:2] + b"\0\0" + head[4:384]
    total = int(np.frombuffer(plain, f"{order}u2").sum(dtype=np.uint32))
    return head[:2] + struct.pack(f"{order}H", -total & 0xFFFF) + head[4:]


def wave(values: np.ndarray, note: str, labels: list[str] = (), *, unit: str = "m", order: str = "<") -> bytes:
    """One wave: `values` in Igor's dimensions, of which the first runs fastest; labels are of the last dimension."""
    content = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    text = note.encode("latin-1")
    names = b"".join(name.encode().ljust(32, b"\0") for name in ("", *labels)) if labels else b""
    sizes = [0, 0, 0, 0]
    sizes[values.ndim - 1] = len(names)
    head = struct.pack(f"{order}hHiiii4i4iiii", 5, 0, 320 + len(content), 0, len(text), 0, 0, 0, 0, 0, *sizes, 0, 0, 0)
    kind = {"float32": 2, "float64": 4, "int16": 16}[values.dtype.name]
    dims = [*values.shape, 0, 0, 0][:4]
    body = struct.pack(
        f"{order}iIIIhh6xh32sii4i4d4d", 0, 0, 0, values.size, kind, 0, 0, b"wave", 0, 0, *dims, *[1.0] * 8
    )
    head = (head + body + unit.encode().ljust(4, b"\0")).ljust(384, b"\0")
    return checksum(head, order) + content + text + names


def curve(approach: int, retract: int, pause: int = 0, seed: int = 0) -> np.ndarray:
    """Deflection and z in m, shape (samples, 2): the ends of the segments are approach − 1, approach + retract − 1."""
    generator = np.random.default_rng(seed)
    z = np.concatenate([np.linspace(-5e-7, 5e-7, approach), np.linspace(5e-7, -5e-7, retract), np.full(pause, -5e-7)])
    deflection = np.maximum(z, 0) + 1e-10 * generator.standard_normal(len(z))
    return np.stack([deflection, z], axis=1).astype(np.float32)


def indexes(approach: int, retract: int, pause: int = 0) -> str:
    """The line of a note that tells where the segments of a curve end."""
    ends = [0, approach - 1, approach + retract - 1] + ([approach + retract + pause - 1] if pause else [])
    return f"Indexes: {','.join(map(str, ends))},\r"


def single(
    path: Path, values: np.ndarray, ends: str, *, note: str = NOTE, direction: str = "", order: str = "<"
) -> Path:
    """One curve in one wave of three columns."""
    columns = np.stack([values[:, 1] * 0.99, values[:, 0], values[:, 1]], axis=1).astype(np.float32)
    path.write_bytes(wave(columns, note + ends + direction, ["Raw", "Defl", "ZSnsr"], order=order))
    return path


def folder(path: Path, ny: int, nx: int, *, image: bool = True, lengths: tuple[int, int, int] = (60, 50, 7)) -> Path:
    """A map: two waves a curve with short notes, of ragged lengths, and the image that holds the settings."""
    path.mkdir()
    for line in range(ny):
        rows = path / "data" / f"Line{line:04d}"
        rows.mkdir(parents=True)
        for point in range(nx):
            number = line * nx + point
            sizes = (lengths[0] + number % 3, lengths[1], lengths[2])
            values = curve(*sizes, seed=number) + np.float32(1e-8 * number)
            for channel, column in (("Defl", 0), ("ZSnsr", 1)):
                content = wave(np.ascontiguousarray(values[:, column]), "XLVDT:1e-06\r" + indexes(*sizes))
                (rows / f"Line{line:04d}Point{point:04d}{channel}.ibw").write_bytes(content)
    if image:
        height = np.arange(ny * nx, dtype=np.float32).reshape(ny, nx)
        layers = np.stack([height.T, -height.T], axis=2)
        (path / "image.ibw").write_bytes(wave(layers, NOTE, ["MapHeight", "MapAdhesion"]))
    return path
