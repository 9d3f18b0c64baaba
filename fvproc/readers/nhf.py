"""Nanosurf .nhf: force-distance curves and maps of them in HDF5, file versions 1.1 and 2.x.

**Numbers.** Deflection as the file calibrates it: V, m, or N that its own spring constant turns into metres.
Sensitivity and spring constant follow from the calibrations of the file: the slopes of one signal in V, m and N.

**Order.** Curves are taken row by row from the bottom, as the images of the format are; nothing says so of curves, so
that the volume carries a warning. z is turned so that it grows along approach.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.blocks import buffer, read_block
from fvproc.readers.channel_units import channel, stored_as
from fvproc.readers.hdf5_chunks import LARGEST, chunks_of, plain
from fvproc.readers.nanosurf_header import refuse
from fvproc.readers.nhf_layout import MOST, Channel, Layout, Segment, layout, version
from fvproc.storage import read_hdf5
from fvproc.volume import Branch, Calibration, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "nhf"
description = "Nanosurf force-distance curves or map (.nhf)"
suffixes = (".nhf",)

_MAGIC = b"\x89HDF\r\n\x1a\n"
_DENSITY = 1100  # a deflated byte gives no more
_ROW_BYTES = 1 << 26
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)
_ORDER = (
    "the format does not tell the order of curves: taken row by row from the bottom; compare a map with the vendor's"
)


def sniff(head: bytes, path: str) -> bool:
    """Tell whether an HDF5 file states a version of Nanosurf's layout."""
    if not head.startswith(_MAGIC):
        return False
    try:
        with read_hdf5(path) as file:
            return version(file) is not None
    except _DAMAGE:
        return False


def open(path: str) -> ForceVolume:
    """Describe a .nhf file.

    Raises
    ------
    FileFormatError
        If it holds no force curves, or what it says of them does not fit together.
    """
    status = Path(path).stat()
    with _opened(path) as file:
        found = layout(path, file)
        segments = (found.approach, found.retract)
        counts = [_counts(path, file, segment) for segment in segments]
        for segment in segments:
            for one in (segment.deflection, segment.z):
                _require_fitting(path, file, one, segment, counts[segments.index(segment)], status.st_size)
        warnings = list(found.warnings)
        grid = _grid(path, found, [len(count) for count in counts], warnings)
        for segment, count in zip(segments, counts, strict=True):
            row = grid.nx * int(count.max()) * np.dtype(segment.deflection.dtype).itemsize
            if row > _ROW_BYTES:  # shorter curves take as much room as the longest
                refuse(path, segment.blocks, f"{count.max()} samples", f"a row of curves may take {_ROW_BYTES} bytes")
        sensitivity, constant = _calibration(path, found.retract.deflection, warnings)
        told: dict[str, int | float | str] = {"longest": json.dumps([int(count.max()) for count in counts])}
        parts = []
        for branch, segment, count in zip(("approach", "retract"), segments, counts, strict=True):
            sign = _sign(path, file, branch, segment, count)
            parts.append(_branch(path, segment, int(count.max()), sign, constant))
            told[branch] = json.dumps([segment.deflection.where, segment.z.where, segment.blocks])
    content = json.dumps(asdict(found), sort_keys=True)
    return ForceVolume(
        path=path,
        format=name,
        grid=grid,
        approach=parts[0],
        retract=parts[1],
        calibration=Calibration(constant, sensitivity),
        header={"measurement": found.name[:80]},
        layout=told,
        tile_alignment=grid.nx,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=hashlib.sha256(content.encode()).hexdigest(),
        warnings=tuple(warnings),
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: one run of numbers for each channel."""
    with _opened(volume.path) as file:
        return RawTile(_curves(volume, file, "approach", tile), _curves(volume, file, "retract", tile))


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return nothing: the maps of the instrument's software lie in files of their own."""
    return {}


# ---- opening


@contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    try:
        with read_hdf5(path) as file:
            yield file
    except (FileFormatError, CalibrationError):
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{path}: the HDF5 file cannot be read: {error}; fetch it again") from None


def _counts(path: str, file: h5py.File, segment: Segment) -> np.ndarray:
    """Return the samples of each curve."""
    blocks = file[segment.blocks]
    if blocks.external or blocks.is_virtual or not 0 < blocks.size <= MOST or blocks.ndim != 1:
        refuse(path, segment.blocks, f"shape {blocks.shape}", f"expected 1 to {MOST} numbers in the file itself")
    if math.prod(blocks.chunks or (1,)) * blocks.dtype.itemsize > LARGEST:
        refuse(
            path, segment.blocks, f"chunks of {blocks.chunks} numbers", f"no more than {LARGEST} bytes are read at once"
        )
    counts = np.asarray(blocks[...], np.float64)
    if not (np.isfinite(counts).all() and (counts >= 0).all() and counts.max() <= MOST):
        refuse(path, segment.blocks, f"{counts.min()} to {counts.max()} samples", "fetch the file again")
    return counts.astype(np.int64)


def _require_fitting(
    path: str, file: h5py.File, one: Channel, segment: Segment, counts: np.ndarray, file_size: int
) -> None:
    dataset = file[one.where]
    total = int(counts.sum())
    if dataset.shape[0] < total or counts.max() < 1:
        refuse(path, one.where, f"{dataset.shape[0]} numbers", f"{segment.blocks} tells of {total}: fetch it again")
    if dataset.nbytes > _DENSITY * (file_size + 1):
        refuse(path, one.where, f"{dataset.nbytes} bytes", "more than the file can hold: it is damaged")
    if math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize > LARGEST:
        refuse(path, one.where, f"chunks of {dataset.chunks} numbers", f"no more than {LARGEST} bytes are read at once")


def _grid(path: str, found: Layout, curves: list[int], warnings: list[str]) -> Grid:
    if curves[0] != curves[1]:
        refuse(path, "curves", f"{curves[0]} approaches and {curves[1]} retracts", "fetch the file again")
    if curves[0] == 1:
        return Grid(1, 1)
    if found.shape is None or found.shape[0] * found.shape[1] != curves[0] or min(found.shape) < 1:
        warnings.append(f"grid {found.shape}: not that of the {curves[0]} curves, which come as one row")
        return Grid(1, curves[0])
    warnings.append(_ORDER)
    return Grid(*found.shape, *found.size, found.rotation)


def _calibration(path: str, one: Channel, warnings: list[str]) -> tuple[Setting | None, Setting | None]:
    """Return deflection sensitivity and spring constant, from the slopes of one signal in V, m and N."""
    gains = {one.unit: one.scale, **one.gains}
    values = []
    for what, over, under in (("deflection sensitivity", "m", "V"), ("spring constant", "N", "m")):
        setting = None
        if over in gains and under in gains:
            try:
                setting = Setting(abs(gains[over] / gains[under]))
            except (CalibrationError, ZeroDivisionError, OverflowError) as error:
                warnings.append(f"{path}: {what} from {over} and {under}: {error}; counts as none")
        values.append(setting)
    return values[0], values[1]


def _sign(path: str, file: h5py.File, branch: str, segment: Segment, counts: np.ndarray) -> float:
    """Return the sign with which z grows along approach and falls along retract."""
    curve = int(np.argmax(counts))
    start = int(counts[:curve].sum())
    z = np.asarray(file[segment.z.where][start : start + int(counts[curve])], np.float64)
    rise = (z[-1] - z[0]) * segment.z.scale * (1 if branch == "approach" else -1)
    if not math.isfinite(rise) or rise == 0:
        refuse(path, segment.z.where, f"from {z[0]:g} to {z[-1]:g}", "z does not move along this segment")
    return math.copysign(1.0, rise)


def _branch(path: str, segment: Segment, samples: int, sign: float, constant: Setting | None) -> Branch:
    parts = []
    for one, factor, is_z in ((segment.deflection, 1.0, False), (segment.z, sign, True)):
        where = f"{path}: {one.where}"
        found = channel(
            where,
            stored_as(where, one.dtype, z=is_z),
            one.unit,
            scale=factor * one.scale,
            offset=factor * one.offset,
            spring_constant=None if constant is None else constant.value,
            force=not is_z,
        )
        if one.invalid is not None:
            found = type(found)(found.dtype, found.unit, found.scale, found.offset, one.invalid)
        parts.append(found)
    return Branch(samples, parts[0], parts[1], False)


# ---- reading


@lru_cache(maxsize=8)
def _starts(path: str, size: int, modified: int, where: str) -> np.ndarray:
    """Return where each curve begins in its channels, and where the last one ends; known once in a process."""
    with read_hdf5(path) as file:
        return np.concatenate([[0], np.cumsum(np.asarray(file[where][...], np.int64))])


def _curves(volume: ForceVolume, file: h5py.File, branch: str, tile: Tile) -> RawBranch:
    *channels, blocks = json.loads(str(volume.layout[branch]))
    starts = _starts(volume.path, volume.file_size, volume.modified_ns, blocks)[tile.start : tile.stop + 1]
    own: Branch = getattr(volume, branch)
    counts = np.diff(starts).astype(np.int32)
    parts = []
    for where, dtype in zip(channels, (own.deflection.dtype, own.z.dtype), strict=True):
        numbers = _run(volume.path, file, where, int(starts[0]), int(starts[-1]))
        values = buffer(dtype, (len(tile), own.samples))
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite: an invalid sample
            if (counts == own.samples).all():
                values[...] = numbers.reshape(values.shape)
            else:
                values[...] = 0
                values[np.arange(own.samples) < counts[:, None]] = numbers
        parts.append(values)
    return RawBranch(parts[0], parts[1], None if (counts == own.samples).all() else counts)


def _run(path: str, file: h5py.File, where: str, start: int, stop: int) -> np.ndarray:
    """Read numbers [start, stop) of a channel, past HDF5 and its lock where they lie plain or in gzip chunks."""
    dataset = file[where]
    chunks = chunks_of(path, where)
    if chunks is not None:
        values = buffer(chunks.dtype.newbyteorder("="), (stop - start,))
        chunks.read_direct(values, (slice(start, stop),))
        return values
    offset = dataset.id.get_offset()
    if offset is not None and plain(dataset):
        return read_block(path, offset + start * dataset.dtype.itemsize, dataset.dtype, (stop - start,))
    return np.asarray(dataset[start:stop])
