"""The text header of a Nanosurf .nid file: its sections, and where the binary data sets lie.

::

    [DataSet]            GrI-Name=…, GrI-ChJ=DataSet-I:J      groups of data sets, in the order of the data
    [DataSet-I:J]        Points, Lines, SaveBits, …           one data set: Lines rows of Points integers
    #!                   the data sets, one after the other

value = (raw / 2^bits + 1/2) · range + minimum, with range and minimum of the data set's Dim2.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from fvproc.errors import FileFormatError

MAGIC = b"[DataSet]"
_END = b"\n#!"
_STEP = 1 << 20
_HEADER_BYTES = 64 << 20  # three lines of text a curve and data set: 256 × 256 curves take half of it
_SECTIONS = 20_000
_TEXT_BYTES = 8 << 20  # of all else; the sections of a real file have 200 kB
_LINE = re.compile(rb"^LineDim(\d{1,9})(Points|Min|Range)=([^\r\n]{1,40})", re.MULTILINE)
_REFERENCE = re.compile(r"DataSet-\d+:\d+")
_KEPT = 4  # files whose header a process keeps


@dataclass(frozen=True, slots=True)
class DataSet:
    """One block of numbers: what it holds and where.

    Parameters
    ----------
    key : str
        Its section, such as ``DataSet-0:0``.
    group : str
        Name of its group, such as ``Spec forward``.
    name, unit : str
        What was measured, and its unit.
    offset : int
        Byte of the file at which it begins.
    dtype : str
        ``"<i2"`` or ``"<i4"``.
    lines, points : int
        Rows, and numbers in each.
    scale, shift : float
        value = raw · scale + shift.
    current : int
        Number of the last row that was measured.
    valid : ndarray of int32, shape (lines,)
        Numbers of each row that were measured.
    begin, reach : ndarray of float64, shape (lines,)
        Position on the axis of the row at its first point, and from there to its last.
    """

    key: str
    group: str
    name: str
    unit: str
    offset: int
    dtype: str
    lines: int
    points: int
    scale: float
    shift: float
    current: int
    valid: np.ndarray
    begin: np.ndarray
    reach: np.ndarray

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.lines * self.points * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """Sections as nested dicts of text without the rows' own lines, and the data sets in the order of the file.

    `digest` is the SHA-256 of the header's bytes.
    """

    sections: dict[str, dict[str, str]]
    data_sets: list[DataSet]
    digest: str

    def find(self, group: str, *names: str) -> DataSet | None:
        """Return the data set of a group whose name comes first in `names`; None without any."""
        for name in names:
            for data_set in self.data_sets:
                if data_set.group == group and data_set.name == name:
                    return data_set
        return None


def header(path: str) -> Header:
    """Return the header of a file; one that is known, by path, size and time, is not read again.

    Raises
    ------
    FileFormatError
        If the header is damaged, or tells of more data than the file has.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be reached: {error.strerror or error}") from None
    key = (path, status.st_size, status.st_mtime_ns)
    with _LOCK:
        if key in _KNOWN:
            _KNOWN.move_to_end(key)
            return _KNOWN[key]
        found = _parse(path, status.st_size)
        _KNOWN[key] = found
        while len(_KNOWN) > _KEPT:
            _KNOWN.popitem(last=False)
        return found


_KNOWN: OrderedDict[tuple[str, int, int], Header] = OrderedDict()
_LOCK = threading.Lock()


def _parse(path: str, size: int) -> Header:
    content, start = _content(path)
    if content.count(b"\n[") > _SECTIONS:
        refuse(path, "header", f"more than {_SECTIONS} sections", "it is damaged; fetch the file again")
    sections, lines = _sections(path, content)
    groups = sections.get("DataSet")
    if groups is None:
        refuse(path, "[DataSet]", "missing", "fetch the file again")
    data_sets: list[DataSet] = []
    for group, key in _order(groups):
        section = sections.get(key)
        if section is None:
            refuse(path, f"[{key}]", "missing", f"[DataSet] tells of it in group {group!r}; fetch the file again")
        data_set = _data_set(path, key, group, section, lines.get(key, b""), start, size)
        start += data_set.size
        data_sets.append(data_set)
    return Header(sections, data_sets, hashlib.sha256(content).hexdigest())


def _content(path: str) -> tuple[bytes, int]:
    """Return the header and the byte at which data begin."""
    content = bytearray()
    try:
        with Path(path).open("rb") as file:
            while len(content) < _HEADER_BYTES:
                piece = file.read(_STEP)
                before = max(len(content) - len(_END), 0)
                content += piece
                place = content.find(_END, before)
                if place >= 0:
                    return bytes(content[:place]), place + len(_END)
                if not piece:
                    break
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    raise FileFormatError(
        f"{path}: no '#!' in the first {len(content)} bytes, which ends the header: the file is truncated;"
        " fetch it again"
    )


def _sections(path: str, content: bytes) -> tuple[dict[str, dict[str, str]], dict[str, bytes]]:
    """Return key and value of every section, and as they are the rows' own lines of the data sets."""
    sections: dict[str, dict[str, str]] = {}
    lines: dict[str, bytes] = {}
    room = _TEXT_BYTES
    for part in re.split(rb"\r?\n(?=\[)", content):
        title, _, body = part.partition(b"]")
        name = title.lstrip(b"\xef\xbb\xbf[").decode("latin-1")
        first = body.find(b"\nLineDim")
        if first >= 0:
            lines[name] = body[first + 1 :]
            last = body.rfind(b"\nLineDim")
            body = body[:first] + body[body.find(b"\n", last + 1) :]
        room -= len(body)
        if room < 0:
            refuse(path, "header", f"more than {_TEXT_BYTES} bytes of settings", "it is damaged; fetch the file again")
        values: dict[str, str] = {}
        for line in body.decode("latin-1").splitlines():
            key, equals, value = line.partition("=")
            if equals:
                values.setdefault(key.strip(), value.strip())
        sections.setdefault(name, values)
    return sections, lines


def _order(groups: dict[str, str]) -> list[tuple[str, str]]:
    """Return (group, section) of the data sets in the order of the data: by group, then by channel."""
    found = []
    for key, value in groups.items():
        match = re.fullmatch(r"Gr(\d{1,6})-Ch(\d{1,6})", key)
        if match and _REFERENCE.fullmatch(value):
            group, channel = int(match[1]), int(match[2])
            found.append((group, channel, groups.get(f"Gr{group}-Name", ""), value))
    return [(name, key) for _, _, name, key in sorted(found)]


def _data_set(path: str, key: str, group: str, section: dict[str, str], own: bytes, start: int, size: int) -> DataSet:
    points, lines = (_count(path, key, section, name) for name in ("Points", "Lines"))
    if not points:
        lines = 0  # rows of nothing take no room, however many a damaged header tells of
    bits = _count(path, key, section, "SaveBits")
    if bits not in (16, 32):
        refuse(path, f"[{key}] SaveBits", str(bits), "16 and 32 can be read")
    for name, known in (("SaveMode", "Binary"), ("SaveSign", "Signed"), ("SaveOrder", "Intel")):
        if section.get(name, known) != known:
            refuse(path, f"[{key}] {name}", section[name], f"only {known!r} can be read; save it so")
    if start + points * lines * bits // 8 > size:
        refuse(
            path,
            f"[{key}]",
            f"{lines} × {points} numbers of {bits} bits at byte {start}",
            f"the file ends at byte {size}: it is truncated; fetch it again",
        )
    reach, low = (number(path, key, section, name) for name in ("Dim2Range", "Dim2Min"))
    valid = np.full(lines, points, np.int32)
    begin = np.full(lines, number(path, key, section, "Dim0Min", 0.0))
    spans = np.full(lines, number(path, key, section, "Dim0Range", 0.0))
    columns = {b"Points": valid, b"Min": begin, b"Range": spans}
    for match in _LINE.finditer(own):
        row, what, text = match.groups()
        if int(row) < lines:
            try:
                columns[what][int(row)] = int(text) if what == b"Points" else float(text)
            except (ValueError, OverflowError):
                refuse(path, f"[{key}] LineDim{int(row)}{what.decode()}", text.decode("latin-1"), "expected a number")
    wrong = np.flatnonzero((valid < 0) | (valid > points))
    if wrong.size:
        refuse(path, f"[{key}] LineDim{wrong[0]}Points", str(valid[wrong[0]]), f"expected 0 to {points}, the Points")
    current = section.get("CurLine", "")
    return DataSet(
        key=key,
        group=group,
        name=section.get("Dim2Name", ""),
        unit=section.get("Dim2Unit", ""),
        offset=start,
        dtype=f"<i{bits // 8}",
        lines=lines,
        points=points,
        scale=reach / 2.0**bits,
        shift=low + 0.5 * reach,
        current=min(int(current), lines - 1) if current.isdecimal() and len(current) < 10 else lines - 1,
        valid=valid,
        begin=begin,
        reach=spans,
    )


def _count(path: str, key: str, section: dict[str, str], name: str) -> int:
    text = section.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        refuse(path, f"[{key}] {name}", repr(text), "expected a whole number; fetch the file again")
    return int(text)


def number(path: str, key: str, section: dict[str, str], name: str, default: float | None = None) -> float:
    """Return a finite number of a section; FileFormatError where it is none, or missing without a default."""
    text = section.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        refuse(path, f"[{key}] {name}", repr(text), "expected a finite number; fetch the file again")
    return value


def refuse(path: str, field: str, value: str, remedy: str) -> NoReturn:
    """Raise FileFormatError that names file, field, value and remedy."""
    raise FileFormatError(f"{path}: {field}: {value}: {remedy}")
