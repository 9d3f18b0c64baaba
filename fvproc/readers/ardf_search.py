"""Finding the curves of an .ARDF file: from the beginning of each line, at a fixed distance or from one to the next."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from fvproc.readers.ardf_blocks import HEADER_BYTES, Blocks, refuse
from fvproc.readers.ardf_curves import DATA_BYTES, FAST, OFFSETS, Chain, Stride

_SET = struct.Struct("<IIIIQQ")
_DATA = struct.Struct("<II4sI10I")
_CHANNELS = 64
_NONE = -1


def located(blocks: Blocks, shape: tuple[int, int], lines: dict[int, int], channels: tuple[int, int]) -> Chain | Stride:
    """Find the curves of a volume.

    Parameters
    ----------
    blocks : Blocks
        The open file.
    shape : (int, int)
        Lines and points.
    lines : dict
        Where each line begins.
    channels : (int, int)
        Numbers of deflection and z.

    Raises
    ------
    FileFormatError
        If blocks are damaged, or the file ends within them.
    """
    kind = _set_at(blocks, next(iter(lines.values()))).kind
    if kind in FAST:
        found = _stride(blocks, shape, lines, channels, kind)
        if found is not None:
            return found
    return _chain(blocks, shape, lines, channels, kind)


class _Set(NamedTuple):
    """What a VSET tells: `following` is where the next curve begins, 0 after the last."""

    size: int
    line: int
    point: int
    kind: int
    following: int


class _Data(NamedTuple):
    """What a VDAT tells."""

    place: int
    size: int
    floats: int
    offsets: tuple[int, ...]


def _set_at(blocks: Blocks, place: int) -> _Set:
    content = blocks.block(place, "VSET")
    if len(content) < HEADER_BYTES + _SET.size:
        refuse(blocks.path, f"VSET at byte {place}", f"size {len(content)}", "too short; fetch the file again")
    _, line, point, kind, _, following = _SET.unpack_from(content, HEADER_BYTES)
    return _Set(len(content), line, point, kind, following)


def _after(blocks: Blocks, place: int, curve: _Set) -> tuple[int, _Set] | None:
    """Return place and content of the VSET that follows one; None after the last."""
    following = curve.following
    if following > blocks.size - HEADER_BYTES:
        refuse(
            blocks.path,
            f"VSET at byte {place}",
            f"the next at byte {following}",
            f"the file ends at byte {blocks.size}: it is truncated; fetch it again",
        )
    return (
        (following, _set_at(blocks, following)) if following > place and blocks.name_at(following) == b"VSET" else None
    )


def _data_of(blocks: Blocks, place: int, curve: _Set) -> dict[int, _Data]:
    """Return the VDAT of a curve by the numbers of their channels."""
    place += curve.size
    place += len(blocks.block(place, "VNAM"))
    found: dict[int, _Data] = {}
    while len(found) < _CHANNELS:
        head = blocks.some(place, DATA_BYTES)
        if head[8:12] != b"VDAT" or len(head) < DATA_BYTES:
            break
        _, size, _, _, _, line, point, floats, channel, *offsets = _DATA.unpack(head)
        if size < DATA_BYTES + 4 * floats or channel in found or (line, point) != (curve.line, curve.point):
            refuse(
                blocks.path,
                f"VDAT at byte {place}",
                f"{floats} samples of channel {channel} in {size} bytes, line {line}, point {point}",
                f"it does not fit the curve of line {curve.line}, point {curve.point}; fetch the file again",
            )
        if place + size > blocks.size:
            refuse(
                blocks.path,
                f"VDAT at byte {place}",
                f"{size} bytes",
                f"the file ends at byte {blocks.size}: it is truncated; fetch it again",
            )
        found[channel] = _Data(place, size, floats, tuple(offsets))
        place += size
    return found


def _stride(
    blocks: Blocks, shape: tuple[int, int], lines: dict[int, int], channels: tuple[int, int], kind: int
) -> Stride | None:
    """Return the curves if they lie at a fixed distance: the first and the last of each line are looked at."""
    points = shape[1]
    start, count = np.full(shape[0], _NONE, np.int64), np.zeros(shape[0], np.int32)
    offsets: set[tuple[int, ...]] = set()
    told: tuple[int, int, int, int] | None = None
    pitch = 0
    for line, place in lines.items():
        curve = _set_at(blocks, place)
        data = _data_of(blocks, place, curve)
        if curve.line != line or curve.kind != kind or any(channel not in data for channel in channels):
            return None
        deflection, z = (data[channel] for channel in channels)
        own = (deflection.place - place, z.place - place, deflection.floats, curve.point)
        if told is None:
            told, pitch = own, curve.following - place
            need = max(own[:2]) + DATA_BYTES + 4 * own[2]
            if pitch < need or pitch % 4 or own[0] % 4 or own[1] % 4 or curve.point not in (0, points - 1):
                return None
        if own != told or z.floats != deflection.floats or not z.floats:
            return None
        start[line] = place
        step = 1 if told[3] == 0 else -1
        number = points - 1
        if not _is_there(blocks, place + number * pitch, need, (line, told[3] + step * number, kind)):
            number = 0
            while _is_there(blocks, place + (number + 1) * pitch, need, (line, told[3] + step * (number + 1), kind)):
                number += 1
            last = place + number * pitch
            after = _after(blocks, last, _set_at(blocks, last))
            if after is not None and (after[1].line, after[1].kind) == (line, kind):
                return None  # the line goes on, at another distance
        count[line] = number + 1
        offsets.add(deflection.offsets)
    if told is None:
        return None
    return Stride(
        points=points,
        kind=kind,
        start=start,
        count=count,
        backward=told[3] != 0,
        pitch=pitch,
        at=told[:2],
        channels=channels,
        longest=told[2],
        offsets=np.array(sorted(offsets), np.int64),
    )


def _is_there(blocks: Blocks, place: int, need: int, wanted: tuple[int, int, int]) -> bool:
    """Tell whether a curve of a line, point and kind lies at a place, with all its samples."""
    if place + need > blocks.size or blocks.name_at(place) != b"VSET":
        return False
    curve = _set_at(blocks, place)
    return (curve.line, curve.point, curve.kind) == wanted


def _chain(
    blocks: Blocks, shape: tuple[int, int], lines: dict[int, int], channels: tuple[int, int], kind: int
) -> Chain:
    """Follow the curves of each line from one to the next."""
    total = shape[0] * shape[1]
    place, size = np.full((total, 2), _NONE, np.int64), np.zeros((total, 2), np.int64)
    floats, offsets = np.zeros(total, np.int64), np.zeros((total, OFFSETS), np.int64)
    for line, begin in lines.items():
        where, curve = begin, _set_at(blocks, begin)
        if curve.line != line:
            refuse(
                blocks.path,
                f"VSET at byte {where}",
                f"line {curve.line}",
                f"VTOC tells that it is of line {line}; fetch the file again",
            )
        for _ in range(2 * shape[1]):  # trace and retrace may share a line
            pixel = line * shape[1] + curve.point
            if curve.kind == kind and curve.point < shape[1] and place[pixel, 0] < 0:
                data = _data_of(blocks, where, curve)
                if any(channel not in data for channel in channels):
                    refuse(
                        blocks.path,
                        f"VSET at byte {where}",
                        f"channels {', '.join(map(str, data)) or 'none'}",
                        "deflection and z are not both there: the file is damaged or truncated; fetch it again",
                    )
                own = [data[channel] for channel in channels]
                place[pixel], size[pixel] = [one.place for one in own], [one.size for one in own]
                floats[pixel] = min(one.floats for one in own)
                offsets[pixel] = own[0].offsets
            after = _after(blocks, where, curve)
            if after is None or after[1].line != line:
                break
            where, curve = after
    return Chain(kind, place, size, floats, offsets)
