"""Igor binary waves, version 5: the fixed header, the note and the labels of one .ibw file.

The file, as the open Igor Pro technical note 003 and the igor2 package describe it::

    0    version, checksum, size of header and data, sizes of formula, note, units and labels
    64   number of points, type, dimensions, scaling of each, units
    384  data, column after column
         formula, note, data units, dimension units, labels of 32 bytes

The first 384 bytes, as 16-bit integers, add up to zero.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fvproc.errors import FileFormatError

HEADER_BYTES = 384
_START = 64  # what comes before the size that the file tells of
_NOTE_BYTES = 4 << 20
_TYPES = {2: "f4", 4: "f8", 8: "i1", 16: "i2", 32: "i4", 72: "u1", 80: "u2", 96: "u4"}
_SIZES = {"<": struct.Struct("<hHiiii4i4iiii"), ">": struct.Struct(">hHiiii4i4iiii")}
_SHAPE = {"<": struct.Struct("<Ih"), ">": struct.Struct(">Ih")}


class WaveError(ValueError):
    """A wave cannot be read; the message tells field, value and remedy, and not the file."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Where the parts of a wave lie, and what they are.

    Parameters
    ----------
    dtype : str
        As stored, such as ``"<f4"``.
    shape : tuple of int
        Its dimensions in Igor's order: the first runs fastest.
    spacing : tuple of float
        Of each dimension, in its unit.
    unit : str
        Of the data.
    end : int
        Byte after the data.
    note : (int, int)
        First byte and length of the note.
    labels : tuple of (int, int)
        First byte and length of the labels of each dimension.
    """

    dtype: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    end: int
    note: tuple[int, int]
    labels: tuple[tuple[int, int], ...]


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a file as a bare handle: a map is thousands of files, and file objects cost more than reading them."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield handle
    finally:
        os.close(handle)


def bytes_at(handle: int, length: int, place: int) -> bytes:
    """Read up to so many bytes from a place; fewer where the file ends."""
    os.lseek(handle, place, os.SEEK_SET)
    return os.read(handle, length)


def looks_like(head: bytes) -> bool:
    """Tell whether a file begins with the header of a wave of version 5, by its checksum."""
    if len(head) < HEADER_BYTES or head[:2] not in (b"\x05\x00", b"\x00\x05"):
        return False
    order = "<" if head[0] else ">"
    return int(np.frombuffer(head, f"{order}u2", HEADER_BYTES // 2).sum(dtype=np.uint32)) & 0xFFFF == 0


def parse(head: bytes, size: int) -> Wave:
    """Read the header of a wave from the first 384 bytes of a file of `size` bytes.

    Raises
    ------
    WaveError
        If it is another version, damaged, or tells of more than the file has.
    """
    if len(head) < HEADER_BYTES:
        raise WaveError(f"{len(head)} bytes: a wave has at least {HEADER_BYTES}; fetch the file again")
    if head[:2] not in (b"\x05\x00", b"\x00\x05"):
        raise WaveError(f"version {head[0] or head[1]}: only version 5 can be read; save the wave with a newer Igor")
    order = "<" if head[0] else ">"
    if not looks_like(head):
        raise WaveError("the checksum of the header is wrong: it is damaged; fetch the file again")
    _, _, told, formula, note, data_units, *rest = _SIZES[order].unpack_from(head)
    dimension_units, label_sizes = rest[:4], rest[4:8]
    if min(told, formula, note, data_units, *rest) < 0:
        raise WaveError("a size in the header is negative: it is damaged; fetch the file again")
    points, kind = _SHAPE[order].unpack_from(head, 76)
    if kind not in _TYPES:
        raise WaveError(f"type {kind}: only real numbers can be read")
    dims = struct.unpack_from(f"{order}4i", head, 132)
    spacing = struct.unpack_from(f"{order}4d", head, 148)
    shape = []
    for length in dims:
        if length == 0:
            break
        shape.append(length)
    width = int(_TYPES[kind][1])
    if min(shape, default=0) < 0 or math.prod(shape) != points or not shape:
        raise WaveError(f"dimensions {dims} do not hold its {points} points: the header is damaged")
    end = HEADER_BYTES + points * width
    if end > _START + told or _START + told + formula + note + data_units + sum(rest[:8]) > size:
        raise WaveError(f"{points} points, a note of {note} bytes: the file ends at byte {size}; fetch it again")
    place = _START + told + formula
    where = (place, min(note, _NOTE_BYTES))
    place += note + data_units + sum(dimension_units)
    labels = []
    for length in label_sizes:
        labels.append((place, length))
        place += length
    unit = head[212:216].split(b"\0")[0].decode("latin-1")
    return Wave(order + _TYPES[kind], tuple(shape), spacing[: len(shape)], unit, end, where, tuple(labels))


def labels_of(handle: int, wave: Wave, dimension: int) -> list[str]:
    """Return the names of the rows, columns or layers of a wave, of which `handle` is the open file."""
    if dimension >= len(wave.shape):
        return []
    place, length = wave.labels[dimension]
    content = bytes_at(handle, min(length, 32 * (wave.shape[dimension] + 1), 1 << 16), place)
    names = [content[i : i + 32].split(b"\0")[0].decode("latin-1") for i in range(0, len(content), 32)]
    return names[1:]  # the first is that of the dimension itself


def note_of(handle: int, wave: Wave) -> bytes:
    """Return the note of a wave, of which `handle` is the open file: lines of ``Key: value`` that end in CR."""
    place, length = wave.note
    return bytes_at(handle, length, place)


def value(note: bytes, key: bytes) -> bytes | None:
    """Return the value of the last line of a note that begins with a key; None without.

    The last one, since the software writes a key again where it has changed.
    """
    place = note.rfind(b"\r" + key + b":")
    if place >= 0:
        place += len(key) + 2
    elif note.startswith(key + b":"):
        place = len(key) + 1
    else:
        return None
    end = note.find(b"\r", place)
    return note[place : end if end >= 0 else len(note)].strip()


def number(path: str, note: bytes, key: bytes) -> float | None:
    """Return a number of a note; None where it is missing, not a number or not finite; error where it is no number."""
    text = value(note, key)
    if text is None or text.lower() in (b"nan", b""):
        return None
    try:
        found = float(text)
    except ValueError:
        told = text[:40].decode("latin-1")
        raise FileFormatError(f"{path}: note, {key.decode()}: {told!r}: expected a number; fetch it again") from None
    return found if math.isfinite(found) else None
