"""Asylum Research .ARDF: force maps and fast force maps, with images, in one file of blocks.

**No real file was at hand.** This is written to two public descriptions of the format (the readers of magic_afm and of
M. Poss), which agree with each other, and proved on written files only.

**Numbers.** ``Defl`` and ``Raw`` (else ``ZSnsr``) are float32 in the unit that their channel names, m; z grows toward
the sample, and a file in which it does not is refused. ``InvOLS`` of the note is the sensitivity that makes metres of
volts, or has made them.

**Segments.** VDEF names them; five offsets of each curve tell where they begin, 0 those that do not exist, the last
sample where they end. Ext is the approach and Ret the retract; Dwell and others are left out.

**Grid.** Line number is the row, from the bottom, and point number the column, whichever way was scanned.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers import channel_units
from fvproc.readers.ardf_blocks import HEADER_BYTES, LIST_ENTRY, TEXT_ENTRY, Blocks, opened, refuse, text_of
from fvproc.readers.ardf_curves import FAST, OFFSETS, Samples
from fvproc.readers.ardf_index import Index, index
from fvproc.readers.asylum_wave import number, value
from fvproc.readers.blocks import buffer
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "ardf"
description = "Asylum Research force map (.ARDF)"
suffixes = (".ardf",)

_FACTS = (b"MicroscopeModel", b"Version", b"Date", b"ImagingMode")
_WANTED = {"approach": "ext", "retract": "ret"}
_IMAGE = struct.Struct("<IIQQdd32s32s32s32s")
_ROWS = struct.Struct("<QII")
_IMAGE_UNITS = {"Pa": 1.0, "kPa": 1e3, "MPa": 1e6, "GPa": 1e9, "N/m": 1.0, "J": 1.0, "deg": 1.0, "Hz": 1.0, "A": 1.0}
_KINDS = {"m": channel_units.LENGTHS, "N": channel_units.FORCES, "V": channel_units.VOLTS}
_NAMED = {"MapHeight": "height", "MapAdhesion": "adhesion"}


def sniff(head: bytes, path: str) -> bool:
    """Tell whether the first block is that of an .ARDF file."""
    return head[4:12] == b"\x10\0\0\0ARDF"


def open(path: str) -> ForceVolume:
    """Describe a force map from its blocks.

    Raises
    ------
    FileFormatError
        If the file is damaged or truncated, or holds no force curves.
    """
    status = Path(path).stat()
    found = index(path)
    warnings: list[str] = []
    layout = _segments(path, found, warnings)
    deflection, z = (_channel(path, one) for one in (found.deflection, found.z))
    parts = []
    for branch in _WANTED:
        lengths = _spans(found.curves.offsets, found.curves.floats, layout, branch)[1]
        parts.append(Branch(max(int(lengths.max(initial=0)), 1), deflection, z, False))
    ny, nx = found.shape
    missing = ny * nx - found.curves.measured
    if missing:
        warnings.append(f"{missing} of {ny * nx} curves were not measured: they have no samples")
    if found.others:
        warnings.append(f"FTOC: volumes (VOLM) that are not read, such as the retrace: {found.others}")
    facts = {key.decode(): text.decode("latin-1")[:80] for key in _FACTS if (text := value(found.note, key))}
    facts |= {"segments": ";".join(found.segments)[:200], "experiment": ";".join(found.experiment)[:200]}
    volume = ForceVolume(
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
    _require_direction(volume, found)
    return volume


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: one run for each line where the curves are of one length, else one for neighbouring curves.

    Raises
    ------
    FileFormatError
        If the file is gone, or a curve is damaged.
    """
    samples = index(volume.path).curves.read(volume.path, tile.start, tile.stop)
    return RawTile(_branch(volume, samples, "approach"), _branch(volume, samples, "retract"))


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the images on the grid of the curves whose unit is known; rows that were not scanned are NaN.

    Raises
    ------
    FileFormatError
        If an image is damaged.
    """
    maps: dict[str, VendorMap] = {}
    with opened(volume.path) as blocks:
        for place in index(volume.path).images:
            one = _image(blocks, place, volume.shape)
            if one is not None:
                maps.setdefault(one.name, one)
    return maps


# ---- opening


def _segments(path: str, found: Index, warnings: list[str]) -> dict[str, int | float | str]:
    """Return the numbers of the approach and the retract segment, and whether curves are to be cut in halves."""
    names = [segment.lower() for segment in found.segments[:OFFSETS]]
    numbers = {
        branch: next((place for place, segment in enumerate(names) if segment.startswith(wanted)), -1)
        for branch, wanted in _WANTED.items()
    }
    fast = found.curves.kind in FAST
    if fast and min(numbers.values()) < 0:
        numbers = {"approach": 0, "retract": 1}  # what a curve of the fast mode is, whatever its segments are called
    if min(numbers.values()) < 0 or numbers["approach"] > numbers["retract"]:
        told = "; ".join(found.segments)[:200] or "none"
        refuse(path, "VDEF, segments", told, "no Ext that a Ret follows: these are no force curves")
    layout: dict[str, int | float | str] = {**numbers, "halves": 0}
    if fast and not _spans(found.curves.offsets, found.curves.floats, layout, "retract")[1].any():
        layout["halves"] = 1
        warnings.append("VDAT, offsets: tell of no Ret: the second half of each curve is taken as the retract")
    return layout


def _channel(path: str, told: tuple[str, str]) -> Channel:
    label, unit = told
    return channel_units.channel(f"{path}: VCHN, {label}", "float32", unit)


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
    """Return the grid: steps from point to point are in the volume, sizes from the first to the last in the note."""
    ny, nx = found.shape
    edges: list[float | None] = []
    for (step, unit), key, count in zip(found.steps, (b"SlowScanSize", b"FastScanSize"), found.shape, strict=True):
        edge = step * channel_units.LENGTHS.get(unit, 0.0) * count
        if not 0 < edge < 1:
            edge = (number(path, found.note, key) or 0.0) * count / max(count - 1, 1)
        edges.append(edge if 0 < edge < 1 and ny * nx > 1 else None)
    return Grid(ny, nx, edges[0], edges[1], number(path, found.note, b"ScanAngle") or 0.0)


def _require_direction(volume: ForceVolume, found: Index) -> None:
    """Refuse z that does not grow toward the sample, from the first curve."""
    pixel = found.curves.first()
    tile = read(volume, Tile(pixel, pixel + 1))
    scale = volume.approach.z.scale
    rises = []
    for raw in (tile.approach, tile.retract):
        count = raw.z.shape[1] if raw.valid_length is None else int(raw.valid_length[0])
        ends = raw.z[0, [0, max(count - 1, 0)]].astype(np.float64) * scale
        rises.append(float(ends[1] - ends[0]))
    if rises[0] < 0 < rises[1]:
        refuse(
            volume.path,
            f"VDAT, {found.z[0]}",
            f"falls by {-rises[0]:g} along Ext of the first curve",
            "expected the position toward the sample, which grows along it; please send the file",
        )


# ---- reading


def _spans(
    offsets: np.ndarray, floats: np.ndarray, layout: dict[str, int | float | str], branch: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return first sample and number of samples of a branch of some curves.

    A segment ends where the next one that exists begins. The offset after the last one is that of the last sample.
    """
    if layout["halves"]:
        half = floats // 2
        return (np.zeros_like(half) if branch == "approach" else half), half
    segment = int(layout[branch])
    first = offsets[:, segment] if segment else np.zeros(len(offsets), np.int64)
    later = np.where(offsets[:, segment + 1 :] > first[:, None], offsets[:, segment + 1 :], np.iinfo(np.int64).max)
    end = later.min(axis=1, initial=np.iinfo(np.int64).max)
    end = np.where(end >= floats - 1, floats, end)
    exists = (first < floats - 1) & ((first > 0) | (segment == 0))
    lengths = np.where(exists, np.clip(end - first, 0, None), 0)
    return np.minimum(first, floats), lengths


def _branch(volume: ForceVolume, samples: Samples, branch: str) -> RawBranch:
    told: Branch = getattr(volume, branch)
    starts, lengths = _spans(samples.offsets, samples.floats, dict(volume.layout), branch)
    if lengths.max(initial=0) > told.samples:
        raise FileFormatError(
            f"{volume.path}: VDAT, offsets: a curve with {lengths.max()} samples of {branch}, {told.samples} at most"
            " were told of when the file was opened: open it again"
        )
    width = samples.deflection.shape[1]
    start = int(starts[lengths.argmax()])
    starts = np.where(lengths > 0, starts, start)  # where curves are missing, any will do
    if (starts == start).all() and start + told.samples <= width:
        values = [channel[:, start : start + told.samples] for channel in (samples.deflection, samples.z)]
    else:
        values = [buffer(np.float32, (len(starts), told.samples)) for _ in range(2)]
        for row, (first, count) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            for block, channel in zip(values, (samples.deflection, samples.z), strict=True):
                block[row, :count] = channel[row, first : first + count]
                block[row, count:] = 0
    valid = lengths.astype(np.int32)
    return RawBranch(values[0], values[1], None if (valid == told.samples).all() else valid)


# ---- images


def _image(blocks: Blocks, place: int, shape: tuple[int, int]) -> VendorMap | None:
    """Return one image; None if it is on another grid or of an unknown unit."""
    end, _ = blocks.pointers(place, "IMAG", LIST_ENTRY)
    end, _ = blocks.pointers(end, "TTOC", TEXT_ENTRY)
    head = blocks.block(end, "IDEF", HEADER_BYTES + _IMAGE.size)
    points, lines, *_, field, unit_field = _IMAGE.unpack_from(head, HEADER_BYTES)
    label, unit = text_of(field), text_of(unit_field)
    known = _in_si(unit)
    if (lines, points) != shape or known is None or not label:
        return None
    stride = HEADER_BYTES + 4 * points
    _, content = blocks.table(end + len(head), "IBOX", stride)
    rows = np.frombuffer(content, np.uint8).reshape(-1, stride)
    if len(rows) != lines:
        refuse(blocks.path, f"IBOX of {label}", f"{len(rows)} rows", f"expected {lines}; fetch the file again")
    scale, unit = known
    values = rows[:, HEADER_BYTES:].copy().view("<f4").astype(np.float64) * scale
    values[~rows[:, 8:12].any(axis=1)] = np.nan  # a row without a name was never written
    return VendorMap(_NAMED.get(label, label), unit, values, label)


def _in_si(unit: str) -> tuple[float, str] | None:
    for base, factors in _KINDS.items():
        if unit in factors:
            return factors[unit], base
    if unit in _IMAGE_UNITS:
        return _IMAGE_UNITS[unit], "Pa" if unit.endswith("Pa") else unit
    return None
