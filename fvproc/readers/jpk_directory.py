"""The directory of a ZIP archive of very many entries as compact arrays: read once a process, at array speed."""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fvproc.errors import FileFormatError

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_RECORD = b"PK\x01\x02"
_RECORD_BYTES = 46
_TAIL_BYTES = 22 + 65535  # the end record with the longest comment
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the ZIP64 record"
_PREFIX = b"index/"  # curve N of a map lies in index/N/
_DIGITS = 9
_KINDS = 2000  # names of entries within a curve; JPK files have about 30
_KEPT = 4  # archives whose directory a process keeps

_FIELDS = np.dtype(
    {
        "names": ["flags", "method", "crc", "compressed", "size", "name", "extra", "comment", "offset"],
        "formats": ["<u2", "<u2", "<u4", "<u4", "<u4", "<u2", "<u2", "<u2", "<u4"],
        "offsets": [8, 10, 16, 20, 24, 28, 30, 32, 42],
        "itemsize": _RECORD_BYTES,
    }
)


@dataclass(frozen=True, slots=True)
class Directory:
    """Entries of an archive as columns, and where in them those of each curve are.

    Parameters
    ----------
    offset, reach : ndarray of int64, shape (entries,)
        Where an entry's own header begins, and where the next entry, or the directory, does.
    compressed, size : ndarray of int64, shape (entries,)
        Bytes in the file, and after decompression.
    method, flags, crc : ndarray of uint16, uint16, uint32, shape (entries,)
        0 for stored, 8 for deflated; flag bits; checksum.
    plain : dict of str to int
        Entry number by name, of entries outside ``index/``.
    curves : dict of str to (ndarray, ndarray)
        By name within ``index/N/``: the numbers N in rising order, and the entry number of each.
    """

    offset: np.ndarray
    reach: np.ndarray
    compressed: np.ndarray
    size: np.ndarray
    method: np.ndarray
    flags: np.ndarray
    crc: np.ndarray
    plain: dict[str, int]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]

    def entries(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """Return the entry numbers of `name` of curves by their numbers N; −1 where a curve has none.

        An archive of one curve holds it outside ``index/``, whatever its number.
        """
        found = np.full(len(numbers), -1, np.int64)
        if not self.curves:
            found[:] = self.plain.get(name, -1)
            return found
        if name not in self.curves:
            return found
        present, entries = self.curves[name]
        place = np.minimum(np.searchsorted(present, numbers), len(present) - 1)
        hit = present[place] == numbers
        found[hit] = entries[place[hit]]
        return found


def directory(path: str) -> Directory:
    """Return the directory of an archive; one that is known, by path, size and time, is not read again.

    Raises
    ------
    FileFormatError
        If the archive is truncated or its directory damaged.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be reached: {error.strerror or error}") from None
    return _CACHE.get(path, status.st_size, status.st_mtime_ns)


class _Cache:
    """The directories of the last few archives; each is read by one thread while the others wait."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int, int], Directory] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, size: int, modified_ns: int) -> Directory:
        key = (path, size, modified_ns)
        with self._lock:
            if key not in self._known:
                self._known[key] = _read(path, size)
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def unlock(self) -> None:
        """Forget a lock that a fork copied while a thread held it that is no more."""
        self._lock = threading.Lock()


_CACHE = _Cache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CACHE.unlock)


# ---- reading the directory


def _refuse(path: str, what: str) -> NoReturn:
    raise FileFormatError(f"{path}: the ZIP archive {what}: it is truncated or damaged; fetch it again")


def _read(path: str, size: int) -> Directory:
    try:
        with Path(path).open("rb") as file:
            file.seek(max(size - _TAIL_BYTES, 0))
            tail = file.read()
            start, length = _extent(path, file.tell() - len(tail), tail, file)
            file.seek(start)
            data = file.read(length)
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    if len(data) != length:
        _refuse(path, "ends within its directory")
    return _parse(path, data, start)


def _extent(path: str, base: int, tail: bytes, file: BinaryIO) -> tuple[int, int]:
    """Return offset and length of the directory from the end record, or its ZIP64 twin."""
    at = tail.rfind(_END)
    # the record's last field is the length of the comment after it; a comment may hold the signature as well
    while at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(_END, 0, at)
    if at < 0:
        _refuse(path, "has no directory at its end")
    count, length, start = struct.unpack_from("<10xHII", tail, at)
    locator = tail[max(at - 20, 0) : at]
    if _FULL32 in (length, start) or (count == _FULL16 and locator.startswith(_LOCATOR64)):
        if len(locator) < 20 or not locator.startswith(_LOCATOR64):
            _refuse(path, "lacks its ZIP64 record")
        (end64,) = struct.unpack_from("<8xQ", locator)
        record = tail[end64 - base : end64 - base + 56] if end64 >= base else b""
        if len(record) < 56:  # the comment is so long that the record lies before what was read
            file.seek(end64)
            record = file.read(56)
        if len(record) < 56 or not record.startswith(_END64):
            _refuse(path, "lacks its ZIP64 record")
        length, start = struct.unpack_from("<40xQQ", record)
    if start + length > base + at:
        _refuse(path, f"has a directory that reaches to byte {start + length}, beyond its end")
    return start, length


def _parse(path: str, data: bytes, start: int) -> Directory:
    if not data.startswith(_RECORD):
        _refuse(path, "has no directory where its end record says" if data else "is empty")
    octets = np.frombuffer(data, np.uint8)
    places = _places(path, data, octets)
    fields = np.ascontiguousarray(sliding_window_view(octets, _RECORD_BYTES)[places]).view(_FIELDS).reshape(-1)
    offset, compressed, size = (fields[name].astype(np.int64) for name in ("offset", "compressed", "size"))
    for row in np.flatnonzero((offset == _FULL32) | (compressed == _FULL32) | (size == _FULL32)).tolist():
        begin = int(places[row]) + _RECORD_BYTES + int(fields["name"][row])
        extra = data[begin : begin + int(fields["extra"][row])]
        wide = _wide(extra, [int(size[row]), int(compressed[row]), int(offset[row])])
        if wide is None:
            _refuse(path, "lacks a ZIP64 size in its directory")
        size[row], compressed[row], offset[row] = wide
    order = np.argsort(offset, kind="stable")
    reach = np.empty_like(offset)
    reach[order] = np.append(offset[order][1:], start)
    if (offset + 30 + compressed > reach).any():
        _refuse(path, "has entries that overlap in its directory")
    plain, curves = _names(path, data, octets, places + _RECORD_BYTES, fields["name"].astype(np.int64))
    return Directory(
        offset,
        reach,
        compressed,
        size,
        fields["method"].copy(),
        fields["flags"].copy(),
        fields["crc"].copy(),
        plain,
        curves,
    )


def _places(path: str, data: bytes, octets: np.ndarray) -> np.ndarray:
    """Return where each record begins: where its signature stands, if these places make an unbroken chain.

    Each record tells only its own length, so that they would have to be walked one by one: half a second for 100 000.
    """
    last = len(data) - _RECORD_BYTES
    if last < 0:
        _refuse(path, "ends within its directory")
    found = octets[: last + 1] == _RECORD[0]
    for step in (1, 2, 3):
        found &= octets[step : last + 1 + step] == _RECORD[step]
    places = np.flatnonzero(found)
    lengths = np.full(len(places), _RECORD_BYTES, np.int64)
    for at in (28, 30, 32):  # the lengths of name, extra field and comment
        lengths += octets[places + at]
        lengths += octets[places + at + 1].astype(np.int64) << 8
    if places[0] == 0 and (places[1:] == places[:-1] + lengths[:-1]).all() and places[-1] + lengths[-1] <= len(data):
        return places
    # a name or comment holds a signature, or the directory is damaged: walk
    step_of = dict(zip(places.tolist(), lengths.tolist(), strict=True))
    walked, at = [], 0
    while at in step_of:
        walked.append(at)
        at += step_of[at]
    if at != len(data):
        _refuse(path, f"has a damaged directory at its byte {at}")
    return np.array(walked)


def _wide(extra: bytes, values: list[int]) -> list[int] | None:
    """Return size, compressed size and offset with those that did not fit taken from the ZIP64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers: Iterator[int] = iter(
                struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4)
            )
            wide = [next(numbers, -1) if value == _FULL32 else value for value in values]
            return None if min(wide) < 0 or max(wide) >= 1 << 62 else wide
        at += 4 + length
    return None


def _names(
    path: str, data: bytes, octets: np.ndarray, begin: np.ndarray, length: np.ndarray
) -> tuple[dict[str, int], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Sort the entries by name: those outside ``index/`` one by one, those of curves by their name within the curve."""
    number, skip = _curve_numbers(octets, begin, length)
    plain = {}
    for row in np.flatnonzero(skip == 0).tolist():
        plain[data[begin[row] : begin[row] + length[row]].decode("utf-8", "replace")] = row
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rest = length - skip
    for size in np.unique(rest[(skip > 0) & (rest > 0)]).tolist():
        rows = np.flatnonzero((skip > 0) & (rest == size))
        windows = sliding_window_view(octets, size)
        names = np.ascontiguousarray(windows[begin[rows] + skip[rows]]).view(f"S{size}").reshape(-1)
        while len(rows):
            first = int(begin[rows[0]] + skip[rows[0]])
            same = names == names[0]
            name = data[first : first + size].decode("utf-8", "replace")
            if len(curves) >= _KINDS:
                raise FileFormatError(f"{path}: its curves hold more than {_KINDS} kinds of entries: not a JPK file")
            if not name.endswith("/"):
                mine = rows[same]
                order = np.argsort(number[mine], kind="stable")
                curves[name] = (number[mine][order].astype(np.int32), mine[order].astype(np.int32))
            rows, names = rows[~same], names[~same]
    return plain, curves


def _curve_numbers(octets: np.ndarray, begin: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return N of names ``index/N/…`` and the length of that prefix; 0 and 0 for other names."""
    count = len(_PREFIX)
    longer = length > count + 1
    inside = longer.copy()
    last = len(octets) - 1
    for at, octet in enumerate(_PREFIX):
        inside &= octets[np.minimum(begin + at, last)] == octet
    number = np.zeros(len(begin), np.int64)
    skip = np.zeros(len(begin), np.int64)
    open_ = inside.copy()  # still within the digits
    for digit in range(_DIGITS + 1):
        at = np.minimum(begin + count + digit, last)
        octet = octets[at].astype(np.int64)
        open_ &= count + digit < length
        ended = open_ & (octet == ord("/")) & (digit > 0)
        skip[ended] = count + digit + 1
        open_ &= (octet >= ord("0")) & (octet <= ord("9"))
        number[open_] = number[open_] * 10 + octet[open_] - ord("0")
    number[skip == 0] = 0
    return number, skip
