"""The text header of NanoScope files: sections, spellings, and values with their units; knows nothing of curves."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fvproc.errors import FileFormatError

_END = b"\x1a"
_PIECE = 1 << 16
_LONGEST = 1 << 23  # bytes; real headers have 16 to 80 kB

_FIRST_LINE = re.compile(rb"\\\*[\w ]*file list", re.IGNORECASE)
_GROUP = re.compile(r"@(?:\d+:)?\s*")
_VALUE = re.compile(
    r"V\s*(?:\[(?P<soft>[^\]]*)\])?\s*(?:\((?P<lsb>\S+)\s+(?P<unit>.*?)/LSB\))?\s*(?P<hard>[-+.\d][-+.\deE]*)?\s*(?P<tail>.*)"
)
_SELECT = re.compile(r'S\s*\[(?P<inside>[^\]]*)\]\s*(?:"(?P<outside>[^"]*)")?')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

# factor into SI and SI unit; "~m" and "µm" are both how versions print the micrometre
UNITS: dict[str, tuple[float, str]] = {
    "m": (1.0, "m"),
    "mm": (1e-3, "m"),
    "um": (1e-6, "m"),
    "µm": (1e-6, "m"),
    "~m": (1e-6, "m"),
    "nm": (1e-9, "m"),
    "pm": (1e-12, "m"),
    "V": (1.0, "V"),
    "mV": (1e-3, "V"),
    "uV": (1e-6, "V"),
    "N": (1.0, "N"),
    "uN": (1e-6, "N"),
    "nN": (1e-9, "N"),
    "pN": (1e-12, "N"),
    "Pa": (1.0, "Pa"),
    "kPa": (1e3, "Pa"),
    "MPa": (1e6, "Pa"),
    "GPa": (1e9, "Pa"),
    "N/m": (1.0, "N/m"),
    "eV": (1.602176634e-19, "J"),
    "keV": (1.602176634e-16, "J"),
}


def is_nanoscope(head: bytes) -> bool:
    """Tell whether a file that begins so is a NanoScope file of any kind."""
    return _FIRST_LINE.match(head) is not None


@dataclass(frozen=True, slots=True)
class Value:
    """A ``V`` parameter: ``V [soft scale] (lsb unit/LSB) hard unit``; what is not printed is None or empty."""

    soft: str
    lsb: float | None
    lsb_unit: str
    hard: float | None
    hard_unit: str

    def per_lsb(self, width: int) -> float | None:
        """Return the `lsb_unit` that one step of a stored number of `width` bytes stands for.

        Versions that store four bytes under ``Bytes/pixel: 4`` print hard range / 2³² with a few digits only; then
        the range itself is more precise. Everywhere else the printed value holds, whatever the width.
        """
        if self.lsb is None:
            return None
        if width == 4 and self.hard and self.lsb_unit == self.hard_unit:
            exact = self.hard / 2.0**32
            if abs(self.lsb - exact) <= max(0.02 * abs(exact), 5.5e-11):
                return exact
        return self.lsb


class Section:
    """One section of the header: its fields by name, letter case and group numbers set aside."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fields: dict[str, str] = {}

    def add(self, line: str) -> None:
        """Take in one line without its leading backslash; the first of two fields of one name stays."""
        key, colon, value = _GROUP.sub("", line, count=1).partition(":")
        if colon:
            self._fields.setdefault(" ".join(key.lower().split()), value.strip())

    def text(self, *names: str) -> str | None:
        """Return the first of the named fields that is there and not empty."""
        return next((self._fields[name.lower()] for name in names if self._fields.get(name.lower())), None)

    def numbers(self, *names: str) -> list[float]:
        """Return the numbers in a field, units passed over; empty if there is none, or one is beyond all bounds."""
        numbers = [float(number) for number in _NUMBER.findall(self.text(*names) or "")]
        return numbers if all(map(math.isfinite, numbers)) else []

    def value(self, *names: str) -> Value | None:
        """Return a ``V`` parameter; None if there is none, or it cannot be understood."""
        match = _VALUE.fullmatch(self.text(*names) or "")
        if match is None:
            return None
        return Value(
            (match["soft"] or "").strip(),
            _float(match["lsb"]),
            (match["unit"] or "").strip(),
            _float(match["hard"]),
            match["tail"].strip(),
        )

    def selection(self, *names: str) -> tuple[str, str]:
        """Return an ``S`` parameter as (internal name, name for people); empty where there is none."""
        match = _SELECT.match(self.text(*names) or "")
        return (match["inside"], match["outside"] or "") if match else ("", "")

    def sensitivities(self) -> Iterator[tuple[str, str]]:
        """Yield (name in lower case, text) of all ``Sens.`` fields."""
        return ((key, text) for key, text in self._fields.items() if key.startswith("sens."))


class Header:
    """A parsed header: its sections in order, its length in bytes, its SHA-256."""

    def __init__(self, path: str, text: str, length: int, digest: str) -> None:
        self.path, self.length, self.digest = path, length, digest
        self.sections: list[Section] = []
        for line in text.splitlines():
            if line.startswith("\\*"):
                self.sections.append(Section(line[2:].strip().lower()))
            elif line.startswith("\\") and self.sections:
                self.sections[-1].add(line[1:])
        self._sensitivities: dict[str, str] = {}
        for section in self.sections:
            for key, value in section.sensitivities():
                self._sensitivities.setdefault(key, value)

    def all(self, name: str) -> list[Section]:
        """Return the sections of that name."""
        return [section for section in self.sections if section.name == name]

    def first(self, name: str) -> Section:
        """Return the first section of that name; an empty one if there is none."""
        return next(iter(self.all(name)), Section(name))

    def sensitivity(self, name: str) -> tuple[float, str] | None:
        """Return (value, unit as printed) of a soft scale such as ``Sens. Zsens``; None if unknown or not positive."""
        match = _VALUE.fullmatch(self._sensitivities.get(" ".join(name.lower().split()), ""))
        value = _float(match["hard"]) if match else None
        if match is None or value is None or not value > 0:
            return None
        return value, match["tail"].strip()

    def refuse(self, field: str, value: object, why: str) -> NoReturn:
        """Raise FileFormatError naming file, field, value, and what to do."""
        raise FileFormatError(f"{self.path}: {field} = {value}: {why}")


def read_header(path: str) -> Header:
    """Read and parse the header of a NanoScope file.

    Raises
    ------
    FileFormatError
        If the header has no end.
    """
    text = b""
    try:
        with Path(path).open("rb") as file:
            while _END not in text[-_PIECE:]:
                piece = file.read(_PIECE)
                text += piece
                if not piece or len(text) > _LONGEST:
                    raise FileFormatError(
                        f"{path}: the header has no end: no byte 0x1A in its first {len(text)} bytes;"
                        " the file is truncated or was changed as text: fetch it again, in binary mode"
                    )
    except OSError as error:
        raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    text = text[: text.index(_END) + 1]
    return Header(path, text[:-1].decode("latin-1"), len(text), hashlib.sha256(text).hexdigest())


def _float(text: str | None) -> float | None:
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
