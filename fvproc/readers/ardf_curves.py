"""Where the curves of an .ARDF file lie and how they are read: at a fixed distance, or each at its own place.

A curve is a VSET (line, point, kind, and where the next one begins), a VNAM (its name) and a VDAT for each channel: 56
bytes that tell of its samples, then these as float32. Maps of the fast mode have curves of one length, which are read
in one run for each line and told apart by arithmetic; those of a force map differ, and each is looked up once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.ardf_blocks import HEADER_BYTES, Blocks, check, refuse
from fvproc.readers.blocks import buffer, read_block

OFFSETS = 5  # numbers in a VDAT that tell where segments begin
FAST = (5, 10, 11)  # kinds of curves of the fast mode: only trace or retrace; trace of both; retrace of both
_SET = struct.Struct("<IIIIQQ")
_DATA = struct.Struct("<II4sI10I")
_DATA_BYTES = _DATA.size
_WORDS = _DATA_BYTES // 4
_CHANNELS = 64
_GAP = 64 << 10  # bytes between two channels that are rather read than left out
_RUN = 16 << 20
_NONE = -1


@dataclass(frozen=True, slots=True)
class Samples:
    """Some curves: both channels (curves, floats), offsets of their segments, and floats of each; 0 without a curve."""

    deflection: np.ndarray
    z: np.ndarray
    offsets: np.ndarray
    floats: np.ndarray


@dataclass(frozen=True, slots=True)
class Stride:
    """Curves at a fixed distance within each line.

    Parameters
    ----------
    points : int
        Of a line.
    kind : int
        Of the curves.
    start : ndarray of int64, shape (lines,)
        Where the first curve of a line begins.
    count : ndarray of int32, shape (lines,)
        Curves that were measured in it.
    backward : bool
        Whether lines begin with their last point.
    pitch : int
        Bytes from curve to curve.
    at : (int, int)
        Bytes from the beginning of a curve to the VDAT of deflection and of z.
    channels : (int, int)
        Their numbers.
    longest : int
        Floats of each.
    offsets : ndarray of int64, shape (any, OFFSETS)
        Those of the segments, each that was found in the first curves of the lines once.
    """

    points: int
    kind: int
    start: np.ndarray
    count: np.ndarray
    backward: bool
    pitch: int
    at: tuple[int, int]
    channels: tuple[int, int]
    longest: int
    offsets: np.ndarray

    @property
    def measured(self) -> int:
        """Number of curves."""
        return int(self.count.sum())

    @property
    def floats(self) -> np.ndarray:
        """Floats of the curves that have these offsets."""
        return np.full(len(self.offsets), self.longest, np.int64)

    def first(self) -> int:
        """Return the pixel number of a curve that was measured."""
        return int(np.flatnonzero(self.count)[0]) * self.points + (self.points - 1 if self.backward else 0)

    def read(self, path: str, start: int, stop: int) -> Samples:
        """Return the curves of some pixels: one run for each line."""
        shape = (stop - start, self.longest)
        found = Samples(
            buffer(np.float32, shape),
            buffer(np.float32, shape),
            np.zeros((stop - start, OFFSETS), np.int64),
            np.zeros(stop - start, np.int64),
        )
        for line in range(start // self.points, (stop - 1) // self.points + 1):
            begin = line * self.points
            first, last = max(start, begin), min(stop, begin + self.points)
            measured = int(self.count[line])
            low = max(first, begin + self.points - measured) if self.backward else first
            high = last if self.backward else min(last, begin + measured)
            if high <= low:
                low = high = first
            for channel in (found.deflection, found.z):
                channel[first - start : low - start] = 0
                channel[high - start : last - start] = 0
            if high > low:
                self._line(path, found, line, np.arange(low - begin, high - begin), slice(low - start, high - start))
        return found

    def _line(self, path: str, found: Samples, line: int, points: np.ndarray, rows: slice) -> None:
        place = self.points - 1 - int(points[-1]) if self.backward else int(points[0])
        place = int(self.start[line]) + place * self.pitch
        width = max(self.at) + _DATA_BYTES + 4 * self.longest
        content = read_block(path, place, np.uint8, ((len(points) - 1) * self.pitch + width,))
        words = np.ndarray((len(points), width // 4), "<u4", content.data, strides=(self.pitch, 4))
        if self.backward:
            words = words[::-1]
        told = (words[:, 2] == _code(b"VSET")) & (words[:, 5] == line) & (words[:, 6] == points)
        _require(path, told & (words[:, 7] == self.kind), "VSET", line, points)
        for values, at, channel in zip((found.deflection, found.z), self.at, self.channels, strict=True):
            head = words[:, at // 4 : at // 4 + _WORDS]
            told = (head[:, 2] == _code(b"VDAT")) & (head[:, 5] == line) & (head[:, 6] == points)
            _require(path, told & (head[:, 7] == self.longest) & (head[:, 8] == channel), "VDAT", line, points)
            begin = at // 4 + _WORDS
            values[rows] = words[:, begin : begin + self.longest].view("<f4")
        begin = self.at[0] // 4 + _WORDS - OFFSETS
        found.offsets[rows] = words[:, begin : begin + OFFSETS]
        found.floats[rows] = self.longest


@dataclass(frozen=True, slots=True)
class Chain:
    """Curves each at its own place.

    Parameters
    ----------
    kind : int
        Of the curves.
    place : ndarray of int64, shape (curves, 2)
        Where the VDAT of deflection and of z of each pixel begins; −1 where there is no curve.
    size : ndarray of int64, shape (curves, 2)
        Bytes of either.
    floats : ndarray of int64, shape (curves,)
        Samples of both.
    offsets : ndarray of int64, shape (curves, OFFSETS)
        Those of the segments.
    """

    kind: int
    place: np.ndarray
    size: np.ndarray
    floats: np.ndarray
    offsets: np.ndarray

    @property
    def measured(self) -> int:
        """Number of curves."""
        return int((self.place[:, 0] >= 0).sum())

    def first(self) -> int:
        """Return the pixel number of a curve that was measured."""
        return int(np.flatnonzero(self.place[:, 0] >= 0)[0])

    def read(self, path: str, start: int, stop: int) -> Samples:
        """Return the curves of some pixels: neighbours in one run, each held against its checksum."""
        floats = self.floats[start:stop]
        shape = (stop - start, max(int(floats.max(initial=0)), 1))
        channels = [buffer(np.float32, shape) for _ in range(2)]
        for channel in channels:
            channel[...] = 0
        place, size = self.place[start:stop].ravel(), self.size[start:stop].ravel()
        order = np.argsort(place)
        order = order[place[order] >= 0]
        while len(order):
            begin = int(place[order[0]])
            ends = np.maximum.accumulate(place[order] + size[order])
            breaks = np.flatnonzero((place[order[1:]] > ends[:-1] + _GAP) | (ends[1:] > begin + _RUN))
            count = int(breaks[0]) + 1 if len(breaks) else len(order)
            content = read_block(path, begin, np.uint8, (int(ends[count - 1]) - begin,)).data
            for number in order[:count]:
                at = int(place[number]) - begin
                block = content[at : at + int(size[number])]
                check(path, "VDAT", begin + at, block)
                row, channel_number = divmod(int(number), 2)
                values = np.frombuffer(block, "<f4", int(floats[row]), _DATA_BYTES)
                channels[channel_number][row, : len(values)] = values
            order = order[count:]
        return Samples(channels[0], channels[1], self.offsets[start:stop], floats)


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


def _after(blocks: Blocks, place: int) -> tuple[int, _Set] | None:
    """Return place and content of the VSET that follows one; None after the last."""
    following = _set_at(blocks, place).following
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
    while len(found) < _CHANNELS and blocks.name_at(place) == b"VDAT":
        head = blocks.bytes_at(place, _DATA_BYTES, "VDAT")
        _, size, _, _, _, line, point, floats, channel, *offsets = _DATA.unpack(head)
        if size < _DATA_BYTES + 4 * floats or channel in found or (line, point) != (curve.line, curve.point):
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
            need = max(own[:2]) + _DATA_BYTES + 4 * own[2]
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
            after = _after(blocks, place + number * pitch)
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
            after = _after(blocks, where)
            if after is None or after[1].line != line:
                break
            where, curve = after
    return Chain(kind, place, size, floats, offsets)


def _code(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _require(path: str, told: np.ndarray, block: str, line: int, points: np.ndarray) -> None:
    """Refuse a line in which the block of some curve is not where those of the others are."""
    if not told.all():
        raise FileFormatError(
            f"{path}: {block} of line {line}, point {points[int(np.argmin(told))]}: is not where the curves before it"
            " tell: the file is damaged; fetch it again"
        )
