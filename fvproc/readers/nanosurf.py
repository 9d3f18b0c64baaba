"""Nanosurf .nid: single force-distance curves and maps of them, from a text header and blocks of integers.

**Numbers.** Deflection is in N, m or V, as the software saved it. Newtons were made with the spring constant in the
file's [DataSet\\Calibration\\Cantilever], and become metres with the same one; one given by the user then makes
force of these metres. The sensitivity is the full range of the deflection in m over that in V, which
[DataSet\\Calibration\\Scanhead] has of each input; it counts as known where that in N over that in m is the spring
constant. z is the sensor of the z axis, which grows toward the sample, else the axis as it was driven.

**Order.** A row of *Spec backward* is stored in the order of its axis as that of *Spec forward*, so that it is reversed
here. Rows end early: LineDimNPoints tells how many numbers of row N were measured. Maps are measured back and forth,
row 0 at the bottom; [DataSet\\SpecInfos\\SpecMapTable] tells xmin;xmax;ymin;ymax;columns;rows of the points.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.blocks import read_block
from fvproc.readers.nanosurf_header import MAGIC, DataSet, Header, header, refuse
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "nanosurf"
description = "Nanosurf force-distance curve or map (.nid)"
suffixes = (".nid",)

_GROUPS = {"approach": "Spec forward", "retract": "Spec backward"}
_DEFLECTION = ("Deflection",)
_SENSOR = ("Z-Axis Sensor", "Z-Sensor", "Position Z")
_CANTILEVER = "DataSet\\Calibration\\Cantilever"
_SCANHEAD = "DataSet\\Calibration\\Scanhead"
_INPUT = re.compile(r"In\d{1,4}")
_MAP_TABLE = "DataSet\\SpecInfos\\SpecMapTable"
_PROPERTY = re.compile(r"D\[([^\]]{1,40})\]\*\[N/m\]")
# results of the instrument's software: one row a curve, the number first, what follows is of other curves
_RESULTS = {"MaxAdhesionOut00": ("adhesion", -1.0), "SnapInOut00": ("snap_in_force", 1.0)}


def sniff(head: bytes, path: str) -> bool:
    """Tell whether it begins as a .nid file does."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(MAGIC) and b"GroupCount=" in head


def open(path: str) -> ForceVolume:
    """Describe a .nid file from its header.

    Raises
    ------
    FileFormatError
        If the header lacks what is needed, or tells of more data than the file has.
    """
    status = Path(path).stat()
    found = header(path)
    warnings: list[str] = []
    spring_constant = _spring_constant(path, found, warnings)
    layout: dict[str, int | float | str] = {}
    parts = [_branch(path, found, branch, spring_constant, layout) for branch in _GROUPS]
    lines = _require(path, found, "approach").lines
    if _require(path, found, "retract").lines != lines:
        refuse(path, "Spec backward", f"{_require(path, found, 'retract').lines} lines", f"Spec forward has {lines}")
    grid = _grid(path, found, lines, warnings)
    last = min(_require(path, found, branch).current for branch in _GROUPS)
    if last + 1 < lines:
        warnings.append(f"CurLine = {last}: of {lines} curves, {lines - last - 1} were not measured")
    spec = found.sections.get("DataSet-Info", {})
    told = ("Head type", "Cantilever type", "Software ver.", "Date")
    facts: dict[str, str] = {key: spec[key][:80] for key in told if key in spec}
    return ForceVolume(
        path=path,
        format=name,
        grid=grid,
        approach=parts[0],
        retract=parts[1],
        calibration=Calibration(spring_constant, _sensitivity(found, spring_constant)),
        header=facts,
        layout=layout,
        tile_alignment=grid.nx,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=found.digest,
        warnings=tuple(warnings),
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: the rows of its curves in one run for each channel."""
    found = header(volume.path)
    rows = _rows(volume, tile)
    return RawTile(_curves(volume, found, "approach", rows), _curves(volume, found, "retract", rows))


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return adhesion and snap-in force as the instrument's software evaluated them; curve 0 may hold old values."""
    found = header(volume.path)
    rows = _rows(volume, Tile(0, volume.grid.curves))
    maps = {}
    for data_set in found.data_sets:
        if data_set.group in _RESULTS and data_set.unit == "N" and data_set.lines == len(rows) and data_set.points:
            label, sign = _RESULTS[data_set.group]
            raw = read_block(volume.path, data_set.offset, data_set.dtype, (data_set.lines, data_set.points))[rows, 0]
            values = sign * (raw.astype(np.float64) * data_set.scale + data_set.shift)
            maps[label] = VendorMap(label, "N", values.reshape(volume.shape), data_set.group)
    return maps


# ---- opening


def _require(path: str, found: Header, branch: str) -> DataSet:
    data_set = found.find(_GROUPS[branch], *_DEFLECTION)
    if data_set is None:
        known = sorted({f"{one.group}: {one.name}" for one in found.data_sets})[:20]
        refuse(path, f"{_GROUPS[branch]}: Deflection", "missing", f"the file has {'; '.join(known)[:500] or 'no data'}")
    return data_set


def _spring_constant(path: str, found: Header, warnings: list[str]) -> Setting | None:
    text = found.sections.get(_CANTILEVER, {}).get("Prop0", "")
    match = _PROPERTY.fullmatch(text)
    if not match:
        return None
    try:
        return Setting(float(match[1]))
    except (ValueError, CalibrationError):
        warnings.append(f"[{_CANTILEVER}] Prop0 = {text}: is no spring constant; counts as none")
        return None


def _sensitivity(found: Header, spring_constant: Setting | None) -> Setting | None:
    """Return the sensitivity that makes metres of volts, or has made them; None unless all inputs tell the same."""
    ranges: dict[str, set[float]] = {"V": set(), "m": set(), "N": set()}
    for key, text in found.sections.get(_SCANHEAD, {}).items():
        parts = text.split(",")  # number, signal, name, unit, range, offset
        if _INPUT.fullmatch(key) and len(parts) == 6 and parts[2] in _DEFLECTION and parts[3] in ranges:
            with suppress(ValueError):
                ranges[parts[3]].add(float(parts[4]))
    if spring_constant is None or len(ranges["m"]) != 1 or len(ranges["V"]) != 1:
        return None
    metres, volts = ranges["m"].pop(), ranges["V"].pop()
    try:
        # an input without a calibration stands at 1 N
        if not any(abs(newtons / (spring_constant.value * metres) - 1.0) < 1e-4 for newtons in ranges["N"]):
            return None
        return Setting(metres / volts)
    except (CalibrationError, ZeroDivisionError, OverflowError):
        return None


def _branch(
    path: str, found: Header, branch: str, spring_constant: Setting | None, layout: dict[str, int | float | str]
) -> Branch:
    data_set = _require(path, found, branch)
    if data_set.points < 1 or data_set.lines < 1:
        refuse(path, f"[{data_set.key}]", f"{data_set.lines} × {data_set.points} numbers", "there are no curves in it")
    factor, unit = 1.0, data_set.unit
    if unit == "N":
        if spring_constant is None:
            refuse(
                path,
                f"[{_CANTILEVER}] Prop0",
                "no spring constant in N/m",
                "deflection was saved in N, which only the constant used then turns into metres: save it in m or V,"
                " and give --spring-constant",
            )
        factor, unit = 1.0 / spring_constant.value, "m"
    if unit not in ("m", "V"):
        refuse(path, f"[{data_set.key}] Dim2Unit", repr(unit), "expected N, m or V")
    deflection = _channel(path, data_set, unit, factor)
    layout[f"{branch} deflection"] = data_set.key
    sensor = found.find(_GROUPS[branch], *_SENSOR)
    if sensor is not None and sensor.unit == "m" and (sensor.lines, sensor.points) == (data_set.lines, data_set.points):
        layout[f"{branch} z"] = sensor.key
        z = _channel(path, sensor, "m", 1.0)
    else:
        if found.sections[data_set.key].get("Dim0Unit") != "m":
            refuse(
                path, f"[{data_set.key}] Dim0Unit", "not m", f"and {_SENSOR[0]} is missing: these are no curves on z"
            )
        z = Channel("float64", "m")
    return Branch(data_set.points, deflection, z, False)


def _channel(path: str, data_set: DataSet, unit: str, factor: float) -> Channel:
    dtype = np.dtype(data_set.dtype).newbyteorder("=").name
    try:
        return Channel(dtype, unit, data_set.scale * factor, data_set.shift * factor)
    except FileFormatError as error:
        refuse(path, f"[{data_set.key}] Dim2Range and Dim2Min", str(error), "fetch the file again")


def _grid(path: str, found: Header, lines: int, warnings: list[str]) -> Grid:
    table = found.sections.get(_MAP_TABLE, {})
    if lines == 1:
        return Grid(1, 1)
    try:
        x0, x1, y0, y1, nx, ny = (float(part) for part in table["Map0"].split(";")[:6])
        if table.get("Count", "1") == "1" and nx * ny == lines and nx >= 1 and nx == int(nx) and ny == int(ny):
            return Grid(int(ny), int(nx), _edge(y0, y1, ny), _edge(x0, x1, nx))
    except (KeyError, ValueError, OverflowError):
        pass
    warnings.append(f"[{_MAP_TABLE}] does not tell where the {lines} curves lie: they come as one row")
    return Grid(1, lines)


def _edge(first: float, last: float, count: float) -> float | None:
    """Return the length of an edge from its outermost points, which lie in the middle of their pixels."""
    edge = (last - first) * count / (count - 1) if count > 1 else 0.0
    return edge if 0 < edge < 1 else None


# ---- reading


def _rows(volume: ForceVolume, tile: Tile) -> np.ndarray:
    """Return the rows of the data sets in which the curves of a tile lie: back and forth."""
    y, x = np.divmod(np.arange(tile.start, tile.stop), volume.grid.nx)
    nx = volume.grid.nx
    rows: np.ndarray = y * nx + np.where(y % 2 == 1, nx - 1 - x, x)
    return rows


def _curves(volume: ForceVolume, found: Header, branch: str, rows: np.ndarray) -> RawBranch:
    by_key = {data_set.key: data_set for data_set in found.data_sets}
    data_set = by_key[volume.layout[f"{branch} deflection"]]
    valid = np.where(rows <= data_set.current, data_set.valid[rows], 0).astype(np.int32)
    deflection = _numbers(volume.path, data_set, rows)
    if f"{branch} z" in volume.layout:
        z = _numbers(volume.path, by_key[volume.layout[f"{branch} z"]], rows)
    else:
        steps = np.maximum(data_set.valid[rows] - 1, 1)[:, None]
        z = data_set.begin[rows, None] + data_set.reach[rows, None] * (np.arange(data_set.points) / steps)
    if branch == "retract":
        deflection, z = _reversed(deflection, valid), _reversed(z, valid)
    return RawBranch(deflection, z, None if (valid == data_set.points).all() else valid)


def _numbers(path: str, data_set: DataSet, rows: np.ndarray) -> np.ndarray:
    first, count = int(rows.min()), int(rows.max() - rows.min()) + 1
    start = data_set.offset + first * data_set.points * np.dtype(data_set.dtype).itemsize
    values = read_block(path, start, data_set.dtype, (count, data_set.points))
    order: np.ndarray = rows - first
    return values if (np.diff(order) == 1).all() and count == len(rows) else values[order]


def _reversed(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the first `valid` numbers of each row in the opposite order, and what follows them after them."""
    points = values.shape[1]
    if (valid == points).all():
        return np.ascontiguousarray(values[:, ::-1])
    place = valid[:, None] - 1 - np.arange(points)
    return np.take_along_axis(values, place % points, axis=1)
