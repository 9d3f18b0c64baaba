"""The HDF5 curves file: its layout, and reading it; `fvproc simulate` and `fvproc convert` write it, others may too.

::

    /                        attrs: format = "fvproc-curves", format_version = 1; anything else is provenance
    /approach/deflection     (ny, nx, n) int16 | int32 | float32; attrs units = "V" or "m", scale_factor, add_offset
    /approach/z              (n,) or (ny, nx, n), also float64; grows toward the sample along approach
    /approach/valid_length   optional (ny, nx): so many first samples are valid; at the root it holds for both branches
    /retract/…               the same; samples of both in the order of time
    /calibration             attrs: spring_constant (N/m), deflection_sensitivity and z_sensitivity (m/V) where units
                             are "V", tip_radius (m), tip_half_angle (rad), poisson_ratio, each with an
                             optional …_rel_std; tip_depends_on_… as ForceVolume.tip_depends
    /scan                    attrs: size_x, size_y (m), rotation (deg); optional: height (ny, nx) in m
    /vendor/…                only from `convert`: maps (ny, nx) of the instrument's software; attrs units, label
    /truth/…                 only from `simulate`: the maps that made it

Invalid samples hold the dataset's fill value, where its writer set one, or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.blocks import buffer, read_block
from fvproc.readers.curves_description import describe, text
from fvproc.readers.curves_layout import BRANCHES, FORMAT, VENDOR_MAPS, hyperslabs
from fvproc.readers.curves_writer import CurvesWriter
from fvproc.readers.hdf5_chunks import Chunks, chunks_of
from fvproc.storage import read_hdf5
from fvproc.volume import ForceVolume, RawBranch, RawTile, Tile, VendorMap

__all__ = ["CurvesWriter", "description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "curves"
description = f'fvproc curves file (.h5, HDF5 with the root attribute format = "{FORMAT}")'
suffixes = (".h5", ".hdf5")

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises on files with flipped bits


def sniff(head: bytes, path: str) -> bool:
    """Tell whether it is a curves file; an HDF5 file that does not open is claimed, so that the error says why."""
    if not head.startswith(_SIGNATURE):
        return False
    try:
        with read_hdf5(path) as file:
            return text(file.attrs.get("format")) == FORMAT
    except _DAMAGE:
        return True


def open(path: str) -> ForceVolume:
    """Describe a curves file: everything is checked that can be without reading curves.

    Raises
    ------
    FileFormatError
        If the file is truncated, lacks something, or contradicts itself.
    """
    with _opened(path) as file:
        return describe(path, file, name)


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: plain datasets and gzip chunks straight from the file, all others through HDF5."""
    with _Source(volume) as source:
        approach, retract = (_branch(source, volume, branch, tile) for branch in BRANCHES)
        height = None
        if volume.has_height:
            scale, offset = volume.layout["height_scale"], volume.layout["height_offset"]
            height = source.curves("scan/height", tile).astype(np.float64) * scale + offset
    return RawTile(approach, retract, height)


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the maps that were in the file it was converted from; what is no map of the grid is passed over."""
    found = {}
    with _opened(volume.path) as file:
        names = list(file[VENDOR_MAPS]) if _lies_in(file, VENDOR_MAPS, h5py.Group) else []
        for key in names:
            where = f"{VENDOR_MAPS}/{key}"
            if not _lies_in(file, where, h5py.Dataset) or file[where].shape != volume.shape:
                continue
            unit, label = (text(file[where].attrs.get(attribute)) or "" for attribute in ("units", "label"))
            found[key] = VendorMap(key, unit, file[where][()].astype(np.float64), label)
    return found


def _lies_in(file: h5py.File, where: str, kind: type) -> bool:
    """Tell whether a group, or a dataset of numbers, is stored in this very file: links may lead out of it."""
    if not isinstance(file.get(where, getlink=True), h5py.HardLink) or not isinstance(file[where], kind):
        return False
    item = file[where]
    return not isinstance(item, h5py.Dataset) or not (item.external or item.is_virtual or item.dtype.kind not in "iuf")


# ---- reading a tile


def _branch(source: _Source, volume: ForceVolume, branch: str, tile: Tile) -> RawBranch:
    shared = getattr(volume, branch).z_shared
    deflection = source.curves(f"{branch}/deflection", tile)
    z = source.whole(f"{branch}/z") if shared else source.curves(f"{branch}/z", tile)
    where = volume.layout.get(f"{branch} valid_length")
    if where is None:
        return RawBranch(deflection, z)
    valid = source.curves(where, tile)
    samples = deflection.shape[1]
    if valid.min() < 0 or valid.max() > samples:
        raise FileFormatError(
            f"{volume.path}: /{where} holds {valid.min()} to {valid.max()} within {tile}:"
            f" it must lie within 0 and the {samples} samples of a curve"
        )
    return RawBranch(deflection, z, valid.astype(np.int32))


class _Source:
    """The datasets of one file for the time of one tile; opens HDF5 only if a dataset needs it.

    HDF5 has one lock for all threads, so what lies plain in the file is read past it: twice as fast on one thread,
    and it scales. Opening costs 0.1 ms, so that no handle is kept between tiles.
    """

    def __init__(self, volume: ForceVolume) -> None:
        self._volume = volume
        self._file: h5py.File | None = None

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def curves(self, where: str, tile: Tile) -> np.ndarray:
        """Read the part of a (ny, nx, …) dataset that belongs to a tile as (curves, …)."""
        layout = self._volume.layout
        rest = (layout[f"{where} samples"],) if f"{where} samples" in layout else ()
        count = len(tile)
        if f"{where} offset" in layout:
            stored = np.dtype(layout[f"{where} dtype"])
            start = layout[f"{where} offset"] + tile.start * math.prod(rest) * stored.itemsize
            return self._fill(where, read_block(self._volume.path, start, stored, (count, *rest)))
        with self._errors(where):
            source: Chunks | h5py.Dataset = chunks_of(self._volume.path, where) or self._dataset(where)
            values = buffer(source.dtype.newbyteorder("="), (count, *rest))
            for rows, columns, part in hyperslabs(tile, self._volume.grid.nx):
                block = values[part].reshape(rows.stop - rows.start, columns.stop - columns.start, *rest)
                source.read_direct(block, (rows, columns))
        return self._fill(where, values)

    def whole(self, where: str) -> np.ndarray:
        """Read a dataset as it is."""
        layout = self._volume.layout
        if f"{where} offset" in layout:
            shape = (layout[f"{where} length"],)
            return self._fill(
                where, read_block(self._volume.path, layout[f"{where} offset"], layout[f"{where} dtype"], shape)
            )
        with self._errors(where):
            source: Chunks | h5py.Dataset = chunks_of(self._volume.path, where) or self._dataset(where)
            values = np.empty(source.shape, source.dtype.newbyteorder("="))
            source.read_direct(values, (slice(0, source.shape[0]),))
        return self._fill(where, values)

    def _fill(self, where: str, values: np.ndarray) -> np.ndarray:
        fill = self._volume.layout.get(f"{where} fill")
        if fill is not None:
            values[values == values.dtype.type(fill)] = np.nan
        return values

    def _dataset(self, where: str) -> h5py.Dataset:
        if self._file is None:
            self._file = read_hdf5(self._volume.path)
        return self._file[where]

    @contextmanager
    def _errors(self, where: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise FileFormatError(f"{self._volume.path}: /{where} cannot be read: {error}") from error


# ---- opening


@contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    try:
        file = read_hdf5(path)
    except OSError as error:
        why = str(error)
        if "truncated" in why:
            why = f"the file is truncated ({why}): fetch it again"
        raise FileFormatError(f"{path}: not a readable HDF5 file: {why}") from None
    with file:
        try:
            yield file
        except _DAMAGE as error:
            raise FileFormatError(f"{path}: the HDF5 file is damaged: {error}; fetch it again") from error
