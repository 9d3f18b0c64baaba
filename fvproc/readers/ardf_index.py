"""What an .ARDF file holds, found once: notes, images, and the volume of curves with what its numbers mean.

::

    ARDF FTOC TTOC             file: its images (IMAG) and volumes (VOLM), its note (TEXT)
    VOLM TTOC VDEF VCHN… XDEF  volume: grid and segments, channels, experiment,
    VTOC MLOV                  and for each line that was measured the curve (VSET) with which it begins
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.ardf_blocks import (
    HEADER_BYTES,
    LIST_ENTRY,
    TABLE_BYTES,
    TEXT_ENTRY,
    Blocks,
    check,
    opened,
    refuse,
    text_of,
)
from fvproc.readers.ardf_curves import Chain, Stride
from fvproc.readers.ardf_search import located

DEFLECTION = ("Defl", "DeflV")
Z = ("Raw", "ZSnsr")  # the sensor of the z axis as it is read, and filtered
_VOLUME = struct.Struct("<II24sddd32s32s32s32sQ")
_CHANNEL = struct.Struct("<32s32s")
_LINE = np.dtype(
    [
        ("checksum", "<u4"),
        ("size", "<u4"),
        ("name", "S4"),
        ("flags", "<u4"),
        ("force", "<u4"),
        ("line", "<u4"),
        ("reserved", "<u8"),
        ("pointer", "<u8"),
    ]
)
_CHANNELS = 64
_IMAGES = 256
_FEW = 1 << 20  # curves that a grid may have whatever the size of the file, so that no header asks for all memory
_KEPT = 4


@dataclass(frozen=True, slots=True)
class Index:
    """The file.

    Parameters
    ----------
    shape : (int, int)
        Lines and points.
    steps : ((float, str), (float, str))
        From line to line and from point to point, with units.
    segments : tuple of str
        Names of the segments of a curve, in the order of time.
    deflection, z : (str, str)
        Name and unit of either channel.
    experiment : tuple of str
        Content of XDEF.
    curves : Chain or Stride
        Where they lie.
    note : bytes
        Lines of ``Key: value`` that end in CR.
    images : tuple of int
        Where the images begin.
    others : int
        Volumes that are not this one.
    digest : str
        SHA-256 of all that was read, without the curves.
    """

    shape: tuple[int, int]
    steps: tuple[tuple[float, str], tuple[float, str]]
    segments: tuple[str, ...]
    deflection: tuple[str, str]
    z: tuple[str, str]
    experiment: tuple[str, ...]
    curves: Chain | Stride
    note: bytes
    images: tuple[int, ...]
    others: int
    digest: str


_KNOWN: OrderedDict[tuple[str, int, int], Index] = OrderedDict()
_LOCK = threading.Lock()


def index(path: str) -> Index:
    """Return what a file holds; one that is known, by path, size and time, is not read again.

    Raises
    ------
    FileFormatError
        If it is damaged or truncated, or holds no curves.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be reached: {error.strerror or error}") from None
    key = (path, status.st_size, status.st_mtime_ns)
    with _LOCK:
        if key not in _KNOWN:
            with opened(path) as blocks:
                _KNOWN[key] = _file(blocks)
            while len(_KNOWN) > _KEPT:
                _KNOWN.popitem(last=False)
        _KNOWN.move_to_end(key)
        return _KNOWN[key]


@dataclass(frozen=True, slots=True)
class _Volume:
    """One VOLM before its curves are looked for."""

    shape: tuple[int, int]
    steps: tuple[tuple[float, str], tuple[float, str]]
    segments: tuple[str, ...]
    channels: tuple[tuple[str, str], ...]
    experiment: tuple[str, ...]
    lines: dict[int, int]  # line: byte at which its first curve begins
    content: bytes


def _file(blocks: Blocks) -> Index:
    content = hashlib.sha256(blocks.block(0, "ARDF", HEADER_BYTES))
    end, items = blocks.pointers(HEADER_BYTES, "FTOC", LIST_ENTRY)
    _, texts = blocks.pointers(end, "TTOC", TEXT_ENTRY)
    note = b"\r".join(blocks.text(pointer) for _, pointer in texts[:16])
    images = tuple(pointer for name, pointer in items if name == "IMAG")[:_IMAGES]
    content.update(note + repr(items).encode())
    volumes = [_volume(blocks, pointer) for name, pointer in items if name == "VOLM"]
    if not volumes:
        refuse(
            blocks.path,
            "FTOC",
            f"{len(images)} images, no volume (VOLM)",
            "there are no force curves in it: give the file of the force map",
        )
    found = [(volume, first) for volume in volumes if (first := _first_point(blocks, volume)) is not None]
    if not found:
        refuse(blocks.path, "VTOC", "no line has curves", "the scan was stopped before its first curve")
    # a fast force map may have two: trace, whose lines begin with point 0, and retrace
    chosen = next((volume for volume, first in found if first == 0), found[0][0])
    names = [name for name, _ in chosen.channels]
    deflection, z = (_channel(blocks.path, names, wanted) for wanted in (DEFLECTION, Z))
    curves = located(blocks, chosen.shape, chosen.lines, (deflection, z))
    for volume in volumes:
        content.update(volume.content)
    return Index(
        shape=chosen.shape,
        steps=chosen.steps,
        segments=chosen.segments,
        deflection=chosen.channels[deflection],
        z=chosen.channels[z],
        experiment=chosen.experiment,
        curves=curves,
        note=note,
        images=images,
        others=len(volumes) - 1,
        digest=content.hexdigest(),
    )


def _volume(blocks: Blocks, place: int) -> _Volume:
    end, _ = blocks.pointers(place, "VOLM", LIST_ENTRY)  # how many curves there are, and the next volume
    end, _ = blocks.pointers(end, "TTOC", TEXT_ENTRY)
    head = blocks.block(end, "VDEF", HEADER_BYTES + _VOLUME.size)
    points, lines, _, x_step, y_step, _, x_unit, y_unit, _, segments, _ = _VOLUME.unpack_from(head, HEADER_BYTES)
    if not points or not lines or points * lines > _FEW + blocks.size // 64:
        refuse(
            blocks.path,
            f"VDEF at byte {end}",
            f"{lines} lines × {points} points",
            f"the file of {blocks.size} bytes does not hold so many curves; fetch it again",
        )
    parts = [head]
    channels: list[tuple[str, str]] = []
    end += len(head)
    while blocks.name_at(end) == b"VCHN" and len(channels) < _CHANNELS:
        parts.append(blocks.block(end, "VCHN", HEADER_BYTES + _CHANNEL.size))
        name, unit = _CHANNEL.unpack_from(parts[-1], HEADER_BYTES)
        channels.append((text_of(name), text_of(unit)))
        end += len(parts[-1])
    parts.append(blocks.block(end, "XDEF"))
    experiment = parts[-1][HEADER_BYTES + 8 :].split(b"\0")[0]
    end += len(parts[-1])
    # its own checksum is not among what is known of the format: the table is written anew while the scan goes on
    after, entries = blocks.table(end, "VTOC", _LINE.itemsize, checked=False)
    parts.append(entries)
    blocks.block(after, "MLOV", HEADER_BYTES)
    return _Volume(
        shape=(lines, points),
        steps=((y_step, text_of(y_unit)), (x_step, text_of(x_unit))),
        segments=_names(segments),
        channels=tuple(channels),
        experiment=_names(experiment),
        lines=_lines(blocks, entries, end + TABLE_BYTES, lines),
        content=b"".join(parts),
    )


def _lines(blocks: Blocks, content: bytes, place: int, lines: int) -> dict[int, int]:
    """Return where each line begins; entries of lines that were not measured are zero."""
    entries = np.frombuffer(content, _LINE)
    found: dict[int, int] = {}
    for number in np.flatnonzero(entries["checksum"]):
        entry = entries[number]
        start = int(number) * _LINE.itemsize
        check(blocks.path, f"VTOC, entry {number}", place + start, content[start : start + _LINE.itemsize])
        line, pointer = int(entry["line"]), int(entry["pointer"])
        if entry["name"] != b"VOFF" or line >= lines:
            refuse(
                blocks.path,
                f"VTOC, entry {number}",
                f"{entry['name']!r} of line {line}",
                f"expected VOFF of one of {lines} lines; fetch the file again",
            )
        if pointer > blocks.size - HEADER_BYTES:
            refuse(
                blocks.path,
                f"VTOC, entry {number}",
                f"line {line} at byte {pointer}",
                f"the file ends at byte {blocks.size}: it is truncated; fetch it again",
            )
        if pointer:
            found.setdefault(line, pointer)
    return found


def _first_point(blocks: Blocks, volume: _Volume) -> int | None:
    """Return the number of the point with which a volume begins; None without curves."""
    if not volume.lines:
        return None
    content = blocks.block(next(iter(volume.lines.values())), "VSET")
    return int.from_bytes(content[24:28], "little")


def _channel(path: str, names: list[str], wanted: tuple[str, ...]) -> int:
    for name in wanted:
        if name in names:
            return names.index(name)
    refuse(
        path,
        "VCHN",
        f"channels {', '.join(names)[:200] or 'none'}",
        f"none of {', '.join(wanted)} is among them: record it with the map",
    )


def _names(field: bytes) -> tuple[str, ...]:
    """Return the parts of a text that end in semicolons."""
    return tuple(part.strip() for part in text_of(field).split(";") if part.strip())
