"""Where the curves of an .ARDF file lie, and reading them: at a fixed distance, or each at its own place.

A curve is a VSET (line, point, kind, and where the next one begins), a VNAM (its name) and a VDAT for each channel: 56
bytes that tell of its samples, then these as float32. Maps of the fast mode have curves of one length, which are read
in one run for each line and told apart by arithmetic; those of a force map differ, and each is looked up once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.ardf_blocks import check
from fvproc.readers.blocks import buffer, read_block

OFFSETS = 5  # numbers in a VDAT that tell where segments begin
FAST = (5, 10, 11)  # kinds of curves of the fast mode: only trace or retrace; trace of both; retrace of both
DATA_BYTES = 56  # of a VDAT before its samples
_WORDS = DATA_BYTES // 4
_GAP = 64 << 10  # bytes between two channels that are rather read than left out
_RUN = 16 << 20


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
        width = max(self.at) + DATA_BYTES + 4 * self.longest
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
                values = np.frombuffer(block, "<f4", int(floats[row]), DATA_BYTES)
                channels[channel_number][row, : len(values)] = values
            order = order[count:]
        return Samples(channels[0], channels[1], self.offsets[start:stop], floats)


def _code(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _require(path: str, told: np.ndarray, block: str, line: int, points: np.ndarray) -> None:
    """Refuse a line in which the block of some curve is not where those of the others are."""
    if not told.all():
        raise FileFormatError(
            f"{path}: {block} of line {line}, point {points[int(np.argmin(told))]}: is not where the curves before it"
            " tell: the file is damaged; fetch it again"
        )
