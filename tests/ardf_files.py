"""Writes small Asylum Research .ARDF files after the public descriptions of the format: no real one was at hand."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NOTE = (
    "SpringConstant: 0.5\rInvOLS: 5e-08\rFastScanSize: 1e-06\rSlowScanSize: 2e-06\rScanAngle: 30\r"
    "FastMapZRate: 100\rMicroscopeModel:Cypher\r"
)


KINDS = ("force map", "ragged force map", "trace", "both")


@dataclass
class Curve:
    """Samples of each channel, and the offsets of the segments."""

    channels: dict[str, np.ndarray]
    offsets: tuple[int, ...]


@dataclass
class Volume:
    """What a VOLM is written from; lines are written in the order of `lines`, points backward for the retrace."""

    shape: tuple[int, int]
    curves: dict[tuple[int, int], Curve]
    kind: int = 2
    segments: str = "Ext;Ret;Dwell;"
    units: dict[str, str] = field(default_factory=dict)
    down: bool = False
    backward: bool = False
    name_bytes: int = 16
    extra: bytes = b""  # an XDAT after each curve
    step_unit: str = "m"


def block(name: bytes, body: bytes) -> bytes:
    """A block with its checksum."""
    rest = struct.pack("<I4sI", 16 + len(body), name, 0) + body
    return struct.pack("<I", zlib.crc32(rest)) + rest


def table(name: bytes, entries: list[bytes], stride: int, room: int = 0) -> bytes:
    """A table with room for as many entries."""
    count = max(room, len(entries))
    content = b"".join(entries).ljust(count * stride, b"\0")
    return block(name, struct.pack("<QII", 32 + len(content), count, stride)) + content


def entry(name: bytes, pointer: int) -> bytes:
    return block(name, struct.pack("<Q", pointer))


def curve(
    approach: int, retract: int, dwell: int = 0, *, seed: int = 0, z: str = "Raw", others: tuple[str, ...] = ()
) -> Curve:
    """Deflection and z of approach, retract and the pause that follows."""
    generator = np.random.default_rng(seed)
    ramp = np.concatenate([np.linspace(-5e-7, 5e-7, approach), np.linspace(5e-7, -5e-7, retract)])
    ramp = np.concatenate([ramp, np.full(dwell, -5e-7)]) + 1e-8 * seed
    deflection = np.maximum(ramp, 0) + 1e-10 * generator.standard_normal(len(ramp))
    channels = {z: ramp.astype(np.float32), "Defl": deflection.astype(np.float32)}
    channels |= {other: generator.standard_normal(len(ramp)).astype(np.float32) for other in others}
    ends = (0, approach, approach + retract, len(ramp) - 1) if dwell else (0, approach, len(ramp) - 1)
    return Curve(channels, (*ends, *(0,) * (5 - len(ends))))


def force_map(ny: int, nx: int, *, ragged: bool = True, **options: object) -> Volume:
    """A force map, in which curves have dwells and differ in length."""
    curves = {
        (y, x): curve(60 + (3 * y + x) % 4 * ragged, 60 + (3 * y + x) % 4 * ragged, 7, seed=y * nx + x, z="ZSnsr")
        for y in range(ny)
        for x in range(nx)
    }
    return Volume((ny, nx), curves, **options)


def fast_map(ny: int, nx: int, *, kind: int = 5, samples: int = 40, **options: object) -> Volume:
    """A map of the fast mode: curves of one length, one more channel."""
    curves = {
        (y, x): curve(samples, samples, seed=(y * nx + x) + 1000 * (kind == 11), others=("Amp",))
        for y in range(ny)
        for x in range(nx)
    }
    return Volume((ny, nx), curves, kind, "Ext;Ret;", backward=kind == 11, **options)


def volumes_of(kind: str, ny: int = 3, nx: int = 5, **options: object) -> list[Volume]:
    """The volumes of a file of one of `KINDS`."""
    if kind == "both":
        return [fast_map(ny, nx, kind=number, **options) for number in (10, 11)]
    if kind == "trace":
        return [fast_map(ny, nx, **options)]
    return [force_map(ny, nx, ragged=kind.startswith("ragged"), **options)]


def write(
    path: Path,
    volumes: list[Volume],
    *,
    note: str = NOTE,
    images: dict[str, tuple[str, np.ndarray]] | None = None,
) -> Path:
    """Write a file; curves that a volume does not have were not measured."""
    images = images or {}
    room = len(images) + len(volumes) + 2
    text = block(b"TEXT", struct.pack("<II", 0, len(note)) + note.encode("cp1252") + b"\0" * 8)
    head = 16 + 32 + room * 24 + 32 + 2 * 32
    place = head + len(text)
    items, parts = [], []
    for label, (unit, values) in images.items():
        items.append(entry(b"IMAG", place))
        parts.append(_image(label, unit, values))
        place += len(parts[-1])
    heads = [_head(volume, {}, 1) for volume in volumes]
    places = [place + sum(map(len, heads[:number])) for number in range(len(heads))]
    content, starts = _curves(volumes, place + sum(map(len, heads)))
    for number, volume in enumerate(volumes):
        items.append(entry(b"VOLM", places[number]))
        following = places[number + 1] if number + 1 < len(volumes) else 0
        parts.append(_head(volume, starts[number], following if len(volumes) > 1 else 0))
        assert len(parts[-1]) == len(heads[number])
    texts = [block(b"TOFF", struct.pack("<QQ", 0, head))]
    start = block(b"ARDF", b"") + table(b"FTOC", items, 24, room) + table(b"TTOC", texts, 32, 2)
    assert len(start) == head
    # behind the last curve both public readers look for a block: real files have one
    path.write_bytes(start + text + b"".join(parts) + content + block(b"XDAT", b"\0" * 16))
    return path


def _head(volume: Volume, starts: dict[int, int], following: int) -> bytes:
    """VOLM to MLOV; `starts` are the places of the lines in the order of time."""
    ny, nx = volume.shape
    first = next(iter(volume.curves.values()))
    items = [entry(b"NEXT", following)] if following else []
    content = table(b"VOLM", [*items, entry(b"NSET", len(volume.curves))], 24, 3)
    content += table(b"TTOC", [], 32, 1)
    unit = volume.step_unit.encode()
    segments = volume.segments.encode()
    steps = (1e-6 / nx, 2e-6 / ny, 1e-5)
    told = (nx, ny, b"", *steps, unit, unit, b"s", segments, volume.segments.count(";"))
    content += block(b"VDEF", struct.pack("<II24sddd32s32s32s32sQ", *told))
    for label in first.channels:
        content += block(b"VCHN", struct.pack("<32s32s", label.encode(), volume.units.get(label, "m").encode()))
    experiment = b"FMAP;Sample;"
    content += block(b"XDEF", struct.pack("<II72s", 0, len(experiment), experiment))
    lines = [
        block(b"VOFF", struct.pack("<IIQQ", number * nx, line, 0, place))
        for number, (line, place) in enumerate(starts.items())
    ]
    return content + table(b"VTOC", lines, 40, ny) + block(b"MLOV", b"")


def _curves(volumes: list[Volume], place: int) -> tuple[bytes, list[dict[int, int]]]:
    """VSETs of all volumes, line by line, and where the lines of each begin."""
    starts: list[dict[int, int]] = [{} for _ in volumes]
    order = []
    lines = range(volumes[0].shape[0] if volumes else 0)
    for line in reversed(lines) if lines and volumes[0].down else lines:
        for number, volume in enumerate(volumes):
            points = range(volume.shape[1])
            for point in reversed(points) if volume.backward else points:
                if (line, point) in volume.curves:
                    order.append((number, line, point))
    parts = []
    before = 0
    for force, (number, line, point) in enumerate(order):
        volume = volumes[number]
        one = volume.curves[line, point]
        starts[number].setdefault(line, place)
        body = block(b"VNAM", struct.pack("<IIII", force, line, point, 5) + b"Force".ljust(volume.name_bytes, b"\0"))
        for channel, values in enumerate(one.channels.values()):
            told = struct.pack("<10I", force, line, point, len(values), channel, *one.offsets)
            body += block(b"VDAT", told + values.astype("<f4").tobytes())
        body += volume.extra
        after = place + 48 + len(body)
        following = after if force + 1 < len(order) else 0
        parts.append(block(b"VSET", struct.pack("<IIIIQQ", force, line, point, volume.kind, before, following)) + body)
        before, place = place, after
    return b"".join(parts), starts


def _image(label: str, unit: str, values: np.ndarray) -> bytes:
    ny, nx = values.shape
    content = table(b"IMAG", [], 24, 2) + table(b"TTOC", [], 32, 1)
    told = (nx, ny, 0, 0, 1e-6 / nx, 2e-6 / ny, b"m", b"m", label.encode(), unit.encode())
    content += block(b"IDEF", struct.pack("<IIQQdd32s32s32s32s", *told))
    rows = [
        b"\0" * (16 + 4 * nx) if np.isnan(row).all() else block(b"IDAT", row.astype("<f4").tobytes()) for row in values
    ]
    return content + table(b"IBOX", rows, 16 + 4 * nx) + block(b"GAMI", b"")


def changed(content: bytes, name: bytes, offset: int, form: str, value: object) -> bytes:
    """The file with one field of the first block of a name changed, and the checksum made right."""
    out = bytearray(content)
    place = out.index(b"\0" + name) - 7
    struct.pack_into(form, out, place + offset, value)
    size = int.from_bytes(out[place + 4 : place + 8], "little")
    struct.pack_into("<I", out, place, zlib.crc32(out[place + 4 : place + size]))
    return bytes(out)
