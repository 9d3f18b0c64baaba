"""What a JPK file holds: grid and order of the curves, which segments are the branches, their channels, calibration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers import jpk_header
from fvproc.readers.jpk_directory import Directory
from fvproc.readers.jpk_entries import read_entries
from fvproc.readers.jpk_header import DEFLECTION, HEIGHTS, Encoding, Properties
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting

Layout = dict[str, int | float | str]

_SEGMENT = re.compile(r"segments/(\d{1,6})/segment-header\.properties")
_SCANS = ("quantitative-imaging-map", "force-scan-map")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the curve that tells the segments of all: its number, what it is, its header."""

    number: int
    style: str
    properties: Properties


# ---- segments


def sample_curve(path: str, found: Directory, shared: Properties) -> tuple[int, list[Segment]]:
    """Return the number of the first of the curves with the most segments, and its segments."""
    named = found.curves or found.plain
    numbers = sorted(int(match[1]) for name in named if (match := _SEGMENT.fullmatch(name)))
    if not numbers:
        raise FileFormatError(
            f"{path}: the archive holds no segments/M/segment-header.properties: no force curves; open the raw data,"
            " not an export of results"
        )
    curve = 0
    if found.curves:
        present = np.concatenate([found.curves[_header(number)][0] for number in numbers])
        values, counts = np.unique(present, return_counts=True)
        curve = int(values[np.argmax(counts)])
    segments = []
    for number in numbers:
        entry = found.entries(_header(number), np.array([curve]))
        if entry[0] >= 0:
            properties = jpk_header.parse(
                path, f"curve {curve}, {_header(number)}", read_entries(path, found, entry)[0]
            )
            style = jpk_header.segment_style(properties, shared)
            segments.append(Segment(number, style or _direction(path, found, shared, curve, properties), properties))
    return curve, segments


def _header(number: int) -> str:
    return f"segments/{number}/segment-header.properties"


def _direction(path: str, found: Directory, shared: Properties, curve: int, properties: Properties) -> str:
    """Return what a segment is from the way its height goes, where the header does not tell."""
    folder = properties.entry.rpartition(", ")[2].removesuffix("segment-header.properties")
    channel, encoding = _height(properties, shared)
    entry = found.entries(folder + jpk_header.channel_file(properties, channel), np.array([curve]))
    if entry[0] < 0:
        return ""
    z = np.frombuffer(read_entries(path, found, entry)[0], encoding.stored).astype(np.float64) * encoding.scale
    travel = z[-1] - z[0] if z.size else 0.0
    if abs(travel) < 0.5 * float(np.ptp(z) if z.size else 0.0) or travel == 0:
        return "pause"
    return "extend" if travel > 0 else "retract"


def _pair(path: str, segments: list[Segment], warnings: list[str]) -> tuple[Segment, Segment]:
    """Choose approach and retract: the last extend before the first retract after an extend, and that retract."""
    moves = [segment for segment in segments if segment.style in ("extend", "retract")]
    for approach, retract in pairwise(moves):
        if (approach.style, retract.style) == ("extend", "retract"):
            rest = [f"{s.number} ({s.style or 'unknown'})" for s in segments if s not in (approach, retract)]
            if rest:
                warnings.append(
                    f"of the {len(segments)} segments of a curve {approach.number} (approach) and {retract.number}"
                    f" (retract) are read, not {', '.join(rest)}"
                )
            return approach, retract
    styles = ", ".join(f"{segment.number}: {segment.style or 'unknown'}" for segment in segments)
    raise FileFormatError(
        f"{path}: its segments are {styles}: an extend segment with a retract segment after it is needed; measure or"
        " export both"
    )


# ---- channels


def branches(
    path: str,
    found: Directory,
    shared: Properties,
    curve: int,
    segments: list[Segment],
    layout: Layout,
    warnings: list[str],
) -> tuple[Branch, Branch]:
    """Return approach and retract, and note in `layout` where their channels lie and how they are stored."""
    approach, retract = (
        _branch(path, found, shared, curve, segment, branch, layout)
        for branch, segment in zip(("approach", "retract"), _pair(path, segments, warnings), strict=True)
    )
    return approach, retract


def _branch(
    path: str, found: Directory, shared: Properties, curve: int, segment: Segment, branch: str, layout: Layout
) -> Branch:
    properties = segment.properties
    if DEFLECTION not in jpk_header.channel_names(properties):
        properties.refuse("channels.list", properties.text("channels.list"), f"holds no {DEFLECTION}; record it")
    height, _ = _height(properties, shared)
    folder = f"segments/{segment.number}/"
    layout[f"{branch} header"] = _header(segment.number)
    channels = []
    samples = 1
    for role, channel in (("deflection", DEFLECTION), ("z", height)):
        encoding, varies = _encoding(found, properties, shared, channel, role, layout)
        where = folder + jpk_header.channel_file(properties, channel)
        entries = found.curves[where][1] if where in found.curves else found.entries(where, np.array([curve]))
        entries = entries[entries >= 0]
        width = np.dtype(encoding.stored).itemsize
        if not entries.size:
            raise FileFormatError(f"{path}: the archive holds no {where}, which the header lists; fetch it again")
        samples = max(samples, int(found.size[entries].max()) // width)
        layout[f"{branch} {role}"] = where
        layout[f"{branch} {role} name"] = channel
        layout[f"{branch} {role} stored"] = encoding.stored
        layout[f"{branch} {role} varies"] = int(varies)
        layout[f"{branch} {role} scale"], layout[f"{branch} {role} offset"] = encoding.scale, encoding.offset
        channels.append(_channel(encoding, role, varies))
    return Branch(samples, channels[0], channels[1], z_shared=False)


def _height(properties: Properties, shared: Properties) -> tuple[str, Encoding]:
    """Return the best height channel that has a conversion into metres."""
    names = jpk_header.channel_names(properties)
    refused = None
    for channel in HEIGHTS:
        if channel in names:
            try:
                return channel, encoding_of(properties, shared, channel, "z")
            except FileFormatError as error:
                refused = refused or error
    if refused:
        raise refused
    properties.refuse("channels.list", " ".join(names), f"holds no height ({', '.join(HEIGHTS)}); record one")


def encoding_of(properties: Properties, shared: Properties, channel: str, role: str) -> Encoding:
    """Return how the ``"deflection"`` or ``"z"`` of one segment is stored."""
    info, prefix = jpk_header.channel_info(properties, shared, channel)
    return jpk_header.height_encoding(info, prefix) if role == "z" else jpk_header.deflection_encoding(info, prefix)


def _encoding(
    found: Directory, properties: Properties, shared: Properties, channel: str, role: str, layout: Layout
) -> tuple[Encoding, bool]:
    """Return the encoding of the sample curve, and whether other curves may have another one."""
    encoding = encoding_of(properties, shared, channel, role)
    several = bool(found.curves)
    info, _ = jpk_header.channel_info(properties, shared, channel)
    encodings = {encoding}
    if several and info is shared:
        make = jpk_header.height_encoding if role == "z" else jpk_header.deflection_encoding
        encodings |= {make(shared, prefix) for prefix in jpk_header.shared_infos(shared, channel)}
    varies = len(encodings) > 1 or (several and info is properties)
    if role == "deflection":
        for field in ("sensitivity", "spring_constant"):
            values = {getattr(one, field) for one in encodings}
            known = {*str(layout.get(field, "")).split(), *(repr(value) for value in values if value is not None)}
            layout[field] = " ".join(sorted(known))
            if None in values:
                layout[f"{field} lacks"] = 1
    return encoding, varies


def _channel(encoding: Encoding, role: str, varies: bool) -> Channel:
    stored = np.dtype(encoding.stored)
    if varies or stored.itemsize == 8:  # converted when read
        return Channel("float32" if role == "deflection" else "float64", encoding.unit)
    if stored.kind == "u":  # read with the top bit turned over, as a signed integer
        middle = 1 << (8 * stored.itemsize - 1)
        return Channel(
            f"int{8 * stored.itemsize}", encoding.unit, encoding.scale, encoding.offset + middle * encoding.scale
        )
    return Channel(stored.newbyteorder("=").name, encoding.unit, encoding.scale, encoding.offset)


# ---- calibration


def calibration(layout: Layout, warnings: list[str]) -> Calibration:
    """Return what the file says; a value on which its curves disagree is missing, with a warning."""
    settings: dict[str, Setting | None] = {}
    for field, keyword, option in (
        ("sensitivity", "deflection_sensitivity", "--deflection-sensitivity"),
        ("spring_constant", "spring_constant", "--spring-constant"),
    ):
        values = str(layout.pop(field, "")).split()
        agreed = len(values) == 1 and not layout.pop(f"{field} lacks", 0)
        settings[keyword] = Setting(float(values[0])) if agreed else None
        if values and not agreed:
            warnings.append(
                f"{keyword}: the file gives {', '.join(values[:5])}{' …' if len(values) > 5 else ''} and not one value"
                f" for all curves: none is taken; give {option}"
            )
    return Calibration(**settings)


# ---- the scan


def grid(header: Properties, found: Directory, layout: Layout, warnings: list[str]) -> Grid:
    """Return the scan frame, and note in `layout` how curve numbers go through it.

    Raises
    ------
    FileFormatError
        If the grid contradicts itself, holds fewer places than curves, or counts in a way that is not known.
    """
    layout["single"] = int(not found.curves)
    layout["serpentine"] = layout["from top"] = layout["first"] = 0
    if not found.curves:
        return Grid(1, 1)
    scan = next((kind for kind in _SCANS if any(key.startswith(kind + ".") for key in header.values)), "")
    first = header.number(f"{scan}.indexes.min") or 0
    lowest = min(int(numbers[0]) for numbers, _ in found.curves.values())
    if not 0 <= first <= lowest:
        header.refuse(f"{scan}.indexes.min", f"{first:g}", f"there is a curve index/{lowest}; fetch the file again")
    layout["first"] = int(first)
    highest = max(int(numbers[-1]) for numbers, _ in found.curves.values())
    pattern = f"{scan}.position-pattern"
    if header.text(f"{pattern}.type") != "grid-position-pattern":
        warnings.append(f"{pattern}.type = {header.text(f'{pattern}.type') or 'absent'}: the curves are put into a row")
        last = header.number(f"{scan}.indexes.max")
        return Grid(1, int(max(highest, last or 0)) - int(layout["first"]) + 1)
    nx, ny = (_count(header, f"{pattern}.grid.{axis}length") for axis in "ij")
    if highest - int(layout["first"]) >= nx * ny:
        header.refuse(
            f"{pattern}.grid.ilength, jlength",
            f"{nx}, {ny}",
            f"do not hold curve index/{highest}; fetch the file again",
        )
    layout["serpentine"] = int(_serpentine(header, pattern, scan))
    layout["from top"] = int(header.text(f"{pattern}.grid.reflect") == "true")
    unit = header.text(f"{pattern}.grid.unit.unit", "m")
    if unit != "m":
        header.refuse(f"{pattern}.grid.unit.unit", unit, "must be m")
    width, height = (header.number(f"{pattern}.grid.{axis}length") for axis in "uv")
    rotation = math.degrees(header.number(f"{pattern}.grid.theta") or 0.0)
    return Grid(ny, nx, size_y=height or None, size_x=width or None, rotation=rotation)


def note_missing(found: Directory, frame: Grid, layout: Layout, warnings: list[str]) -> None:
    """Warn of curves that the file does not hold: they come out flagged, which a name or a thumbnail does not tell."""
    if found.curves:
        missing = frame.curves - len(found.curves[str(layout["approach deflection"])][0])
        if missing:
            warnings.append(f"{missing} of the {frame.curves} curves of the grid are not in the file")


def _count(header: Properties, key: str) -> int:
    value = header.number(key)
    if value is None or value < 1 or value != int(value) or value > 65536:
        header.refuse(key, header.text(key), "must be a whole number from 1 to 65536")
    return int(value)


def _serpentine(header: Properties, pattern: str, scan: str) -> bool:
    numbering = header.text(f"{pattern}.numbering")
    if numbering in ("left-to-right", "back-and-forth"):
        return numbering == "back-and-forth"
    if numbering:
        header.refuse(
            f"{pattern}.numbering", numbering, "must be left-to-right or back-and-forth; please send the file"
        )
    word = header.text(f"{pattern}.back-and-forth")
    if word in ("true", "false"):
        return word == "true"
    header.refuse(f"{pattern}.back-and-forth", word, "must be true or false: the order of the curves is not known")


def positions(volume: ForceVolume, numbers: np.ndarray) -> np.ndarray:
    """Return N of ``index/N/`` for curve numbers in row-major order from the bottom."""
    ny, nx = volume.shape
    layout = volume.layout
    row, column = np.divmod(numbers, nx)
    if layout["from top"]:
        row = ny - 1 - row
    if layout["serpentine"]:
        column = np.where(row % 2 == 1, nx - 1 - column, column)
    return row * nx + column + layout["first"]


def facts(header: Properties, segments: list[Segment], layout: Mapping[str, Any]) -> dict[str, str | float]:
    """Return the facts worth keeping as provenance."""
    kept: dict[str, str | float] = {}
    wanted = {
        "type": "type",
        "file-format-version": "file-format-version",
        "instrument": "description.instrument",
        "software": "description.source-software",
        "probe": "description.probe",
        "comment": "description.comment",
        "start-time": "start-time",
    }
    for name, suffix in wanted.items():
        for key, value in header.values.items():
            if (key == suffix or key.endswith(f".{suffix}")) and "settings" not in key and value.strip():
                kept[name] = value.strip()[:200]
                break
    kept["segments"] = " ".join(segment.style or "unknown" for segment in segments)
    kept["height channel"] = str(layout["approach z name"])
    time = segments[0].properties.text("force-segment-header.time-stamp")
    if time:
        kept["time of the first curve"] = time
    return kept
