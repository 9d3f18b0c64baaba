"""Asylum Research: single force curves and folders of them (``LineXXXXPointXXXX.ibw``), in Igor binary waves.

**Numbers.** ``Defl`` and ``ZSnsr`` are stored in metres (float32); z grows toward the sample. ``InvOLS`` of the note is
the sensitivity that made the metres of ``Defl``, or makes those of volts (``DeflV``); ``SpringConstant`` is the spring
constant. The note is that of the curve, or of an image of the same map in the folder, since the curves of a map may
have short notes.

**Segments.** ``Indexes`` of each curve's own note tells where they end, ``Direction`` which is approach (1), retract
(−1) and pause (0); where it is missing, z of the first curve tells. The approach is the one before the first retract.

**Grid.** Line number is the row, from the bottom, and point number the column. The software's images hold x first.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.asylum_index import Index, curve_name, index, waves_in
from fvproc.readers.asylum_wave import HEADER_BYTES, bytes_at, looks_like, number, opened, value
from fvproc.readers.blocks import buffer, read_block
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "asylum"
description = "Asylum Research force curve (.ibw) or folder of the curves of a map (LineXXXXPointXXXX.ibw)"
suffixes = (".ibw",)

_FACTS = (b"MicroscopeModel", b"Version", b"Date", b"ImagingMode")
_VENDOR_UNITS = {"MapHeight": "m", "MapAdhesion": "N"}  # the software writes the same unit for all layers


def sniff(head: bytes, path: str) -> bool:
    """Tell whether it is a wave of version 5, by its checksum or suffix, or a folder with a curve of a map in it."""
    if head:
        return looks_like(head) or (path.lower().endswith(suffixes) and head[:2] in (b"\x05\x00", b"\x00\x05"))
    return Path(path).is_dir() and any(curve_name(entry.name) for entry in waves_in(path))


def open(path: str) -> ForceVolume:
    """Describe a curve, or a map from headers and notes of all its curves.

    Raises
    ------
    FileFormatError
        If the file is damaged, or nothing in the folder is a force curve.
    """
    status = Path(path).stat()
    found = index(path, fresh=True)
    warnings = list(found.warnings)
    approach, retract = _segments(path, found)
    layout = {"approach": approach, "retract": retract}
    lengths = [int(_ranges(found, segment)[1].max(initial=1)) for segment in (approach, retract)]
    channels = [_channel(path, found, part) for part in (0, 1)]
    parts = [Branch(max(length, 1), channels[0], channels[1], False) for length in lengths]
    ny, nx = found.shape
    missing = ny * nx - len(found.files)
    if missing and not found.warnings:
        warnings.append(f"{missing} of {ny * nx} curves are missing: they have no samples")
    facts = {key.decode(): text.decode("latin-1")[:80] for key in _FACTS if (text := value(found.note, key))}
    return ForceVolume(
        path=path,
        format=name,
        grid=_grid(path, found),
        approach=parts[0],
        retract=parts[1],
        calibration=Calibration(
            _setting(path, found, b"SpringConstant", warnings),
            _setting(path, found, b"InvOLS", warnings),
        ),
        header=facts,
        layout=layout,
        tile_alignment=nx,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=found.digest,
        warnings=tuple(warnings),
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: two short reads a curve; a curve that the folder does not hold has no samples.

    Raises
    ------
    FileFormatError
        If a file is gone or shorter than it was.
    """
    found = index(volume.path)
    first, last = np.searchsorted(found.pixels, [tile.start, tile.stop])
    rows = found.pixels[first:last] - tile.start
    longest = int(found.points[first:last].max(initial=0))
    content = [_samples(found, part, int(first), int(last), longest) for part in (0, 1)]
    parts = []
    for branch in ("approach", "retract"):
        told: Branch = getattr(volume, branch)
        starts, lengths = (values[first:last] for values in _ranges(found, volume.layout[branch]))
        valid = np.zeros(len(tile), np.int32)
        valid[rows] = np.minimum(lengths, told.samples)
        # samples from each curve's own start on; what lies beyond its end is told by `valid`
        where = np.minimum(starts[:, None] + np.arange(told.samples), max(longest - 1, 0))
        values = []
        for raw, channel in zip(content, (told.deflection, told.z), strict=True):
            block = buffer(channel.dtype, (len(tile), told.samples))
            if len(rows) < len(tile):
                block[...] = 0
            if longest:
                block[rows] = np.take_along_axis(raw, where, axis=1)
            values.append(block)
        parts.append(RawBranch(values[0], values[1], None if (valid == told.samples).all() else valid))
    return RawTile(parts[0], parts[1])


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return height (m) and adhesion (N) as the instrument's software evaluated them, from the images in the folder."""
    maps: dict[str, VendorMap] = {}
    ny, nx = volume.shape
    for path, wave, names in index(volume.path).images:
        if wave.shape[:2] != (nx, ny) or wave.shape[2] > 64:
            continue
        # the first dimension, x, runs fastest
        values = read_block(path, HEADER_BYTES, wave.dtype, (wave.shape[2], ny, nx)).astype(np.float64)
        for layer, label in zip(values, names, strict=False):
            if label in _VENDOR_UNITS:
                key = label.removeprefix("Map").lower()
                maps[key] = VendorMap(key, _VENDOR_UNITS[label], layer, label)
    return maps


# ---- opening


def _segments(path: str, found: Index) -> tuple[int, int]:
    """Return the numbers of the approach and the retract segment of the curves of an input."""
    told = value(found.note, b"Direction")
    count = int((found.bounds[0] >= 0).sum()) - 1
    directions: list[float] = []
    if told is not None:
        try:
            directions = [float(part) for part in told.split(b",") if part.strip()][1:]
        except ValueError:
            raise FileFormatError(f"{path}: note, Direction: {told[:60]!r}: expected 1, -1 and 0") from None
    if len(directions) < count:
        z = _samples(found, 1, 0, 1, int(found.points[0]))[0]
        ends = np.clip(found.bounds[0, : count + 1], 0, len(z) - 1)
        with np.errstate(invalid="ignore", over="ignore"):
            rise = np.diff(z[ends].astype(np.float64))
            directions = [math.copysign(1.0, step) if abs(step) > 0.1 * np.abs(rise).max() else 0.0 for step in rise]
    for retract in range(1, count):
        if directions[retract] < 0:
            for approach in range(retract - 1, -1, -1):
                if directions[approach] > 0:
                    return approach, retract
    raise FileFormatError(
        f"{path}: note, Direction {directions}: no approach (1) that a retract (-1) follows: it is no force curve"
    )


def _ranges(found: Index, segment: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first sample and number of samples of a segment of all curves; a bound is the last of its segment."""
    before, last = found.bounds[:, segment], found.bounds[:, segment + 1]
    first = before if segment == 0 else before + 1
    lengths = np.where(last >= 0, np.maximum(last - first + 1, 0), 0)
    return np.maximum(first, 0), lengths


def _channel(path: str, found: Index, part: int) -> Channel:
    unit = "V" if found.names[part] == "DeflV" else "m"
    if found.units[part] not in (unit, ""):
        raise FileFormatError(f"{path}: {found.names[part]}: data unit {found.units[part]!r}: expected {unit!r}")
    # the kernel takes deflection in float32; z may keep its bits
    dtype = "float64" if part == 1 and found.waves[1][1:] == "f8" else "float32"
    return Channel(dtype, unit)


def _setting(path: str, found: Index, key: bytes, warnings: list[str]) -> Setting | None:
    known = number(path, found.note, key)
    if known is None:
        return None
    try:
        return Setting(known)
    except CalibrationError as error:
        warnings.append(f"note, {key.decode()}: {known:g}: {error}; counts as unknown")
        return None


def _grid(path: str, found: Index) -> Grid:
    ny, nx = found.shape
    if (ny, nx) == (1, 1):
        return Grid(1, 1)
    edges: list[float | None] = []
    for key, count in ((b"SlowScanSize", ny), (b"FastScanSize", nx)):
        size = number(path, found.note, key)
        if size is not None and 0 < size < 1 and count > 1:
            edges.append(size * count / (count - 1))  # from the first to the last point
        else:
            edges.append(None)
    return Grid(ny, nx, edges[0], edges[1], number(path, found.note, b"ScanAngle") or 0.0)


# ---- reading


def _samples(found: Index, part: int, first: int, last: int, longest: int) -> np.ndarray:
    """Return one channel of some curves, shape (curves, longest), native order; ends of short curves are anything."""
    stored = np.dtype(found.waves[part])
    target = np.float64 if part == 1 and stored.itemsize == 8 else np.float32
    values = np.zeros((last - first, longest), stored)
    for row, curve in zip(values, range(first, last), strict=True):
        path = found.files[curve][part]
        wanted = int(found.points[curve]) * stored.itemsize
        try:
            with opened(path) as handle:
                content = bytes_at(handle, wanted, int(found.start[curve, part]))
        except OSError as error:
            raise FileFormatError(f"{path}: the file cannot be read: {error.strerror or error}") from None
        if len(content) != wanted:
            raise FileFormatError(f"{path}: ends within the data: it has changed since it was opened; open it again")
        row[: found.points[curve]] = np.frombuffer(content, stored)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # a float64 beyond float32 becomes infinite, which the kernel takes as invalid
        return values.astype(target, copy=False)
