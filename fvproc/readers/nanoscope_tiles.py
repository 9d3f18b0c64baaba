"""Tiles of NanoScope files: from the slots of the file to samples in the order of time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from fvproc.readers.blocks import read_block
from fvproc.volume import ForceVolume, RawBranch, RawTile, Tile

_MARKER = -32768  # stands in the last slot of an extend half, also of int32


def smallest(dtype: DTypeLike) -> int:
    """Return the smallest integer of a dtype: what marks an invalid sample."""
    return int(np.iinfo(np.dtype(dtype)).min)


def read_ramps(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read ramps: views of one block read from the file; z from its sensor, or shared by all curves."""
    layout = volume.layout
    samples = (volume.approach.samples, volume.retract.samples)
    deflection = _halves(volume, "deflection", tile)
    if layout["kind"] == "ramp":
        z = [layout["ramp"] * (1.0 - np.arange(count) / count) for count in samples]
        return RawTile(
            RawBranch(deflection[0], z[0][::-1]), RawBranch(deflection[1], z[1]), height=_height(volume, tile)
        )
    sensor = _halves(volume, "z", tile)
    branches = [
        RawBranch(values, positions, _close_up(values, positions))
        for values, positions in zip(deflection, sensor, strict=True)
    ]
    return RawTile(branches[0], branches[1])


def _halves(volume: ForceVolume, channel: str, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Return approach and retract (curves, samples) of one channel in the order of time, as views of one array."""
    block = _read(volume, channel, tile.start, len(tile))
    extend = volume.approach.samples
    _mark(block[:, 0, extend - 1])
    return block[:, 0, :extend][:, ::-1], block[:, 1, : volume.retract.samples]


def _read(volume: ForceVolume, channel: str, start: int, count: int) -> np.ndarray:
    layout = volume.layout
    dtype, slots = np.dtype(layout[f"{channel} dtype"]), layout["slots"]
    offset = layout[f"{channel} offset"] + start * 2 * slots * dtype.itemsize
    return read_block(volume.path, offset, dtype, (count, 2, slots))


def _mark(column: np.ndarray) -> None:
    """Turn the marker of either width into the one integer that the channel calls invalid."""
    if column.dtype.itemsize > 2:
        column[column == _MARKER] = smallest(column.dtype)


def _close_up(deflection: np.ndarray, z: np.ndarray) -> np.ndarray | None:
    """Move the samples of ramps that were cut short to the front, in place; return how many are real, None if all.

    Unfilled slots are runs of 0 in the sensor at the start of the approach or the end of the retract; a single 0 may be
    a height.
    """
    samples = z.shape[1]
    if samples < 2:
        return None
    # the two outermost samples by column: a reduction along so short an axis costs ten times as much
    starts = np.flatnonzero(~(_filled(z[:, 0]) | _filled(z[:, 1])))
    ends = np.flatnonzero(~(_filled(z[:, -1]) | _filled(z[:, -2])))
    if not starts.size and not ends.size:
        return None
    valid = np.full(len(z), samples, np.int32)
    filled = _filled(z[ends])
    valid[ends] -= np.where(filled.any(axis=1), np.argmax(filled[:, ::-1], axis=1), samples).astype(np.int32)
    filled = _filled(z[starts])
    lead = np.where(filled.any(axis=1), np.argmax(filled, axis=1), 0)
    order = (np.arange(samples) + lead[:, None]) % samples
    for values in (deflection, z):
        values[starts] = np.take_along_axis(values[starts], order, axis=1)
    valid[starts] -= lead.astype(np.int32)
    return valid


def _filled(z: np.ndarray) -> np.ndarray:
    filled: np.ndarray = (z != 0) & (z != smallest(z.dtype))
    return filled


def read_capture(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a capture: periods centred on the turning point, cut out of the stream of samples of all pixels."""
    layout = volume.layout
    half = volume.approach.samples
    period = 2 * half
    turning = layout["turning"]
    first = math.floor(turning) - half  # start of the period within the pixel's own record; negative: in the last one
    before, after = (1, 0) if first < 0 else (0, 1 if first > 0 else 0)
    start, stop = max(tile.start - before, 0), min(tile.stop + after, volume.grid.curves)
    stream = _read(volume, "deflection", start, stop - start)
    _mark(stream[:, 0, -1])
    stream[:, 0] = stream[:, 0, ::-1].copy()
    if stop - start < len(tile) + before + after:  # the first or the last pixel of the map has no neighbour
        nobody = np.full((1, 2, half), smallest(stream.dtype), stream.dtype)
        stream = np.concatenate([nobody, stream] if before else [stream, nobody])
    begin = first + before * period
    curves = stream.reshape(-1)[begin : begin + len(tile) * period].reshape(len(tile), period)
    # sample `half` of the period lies this part of a sample before the turning point
    phase = 2.0 * np.pi * (np.arange(period) - (turning - math.floor(turning))) / period
    z = layout["amplitude"] * (1.0 - np.cos(phase))
    return RawTile(RawBranch(curves[:, :half], z[:half]), RawBranch(curves[:, half:], z[half:]), _height(volume, tile))


def _height(volume: ForceVolume, tile: Tile) -> np.ndarray | None:
    if not volume.has_height:
        return None
    layout = volume.layout
    dtype = np.dtype(layout["height dtype"])
    raw = read_block(volume.path, layout["height offset"] + tile.start * dtype.itemsize, dtype, (len(tile),))
    scale: float = layout["height scale"]
    if "height volts" in layout and volume.calibration.z_sensitivity is not None:
        scale = layout["height volts"] * volume.calibration.z_sensitivity.value
    height: np.ndarray = raw.astype(np.float64) * scale
    return height
