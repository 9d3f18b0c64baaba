"""Curves that are arrays already: NumPy, Dask, Zarr, h5py or anything that slices, as a volume like that of a file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from fvproc.errors import FileFormatError, FvprocError
from fvproc.readers.blocks import buffer
from fvproc.readers.channel_units import channel, require_direction, stored_as
from fvproc.readers.curves_layout import BRANCHES, hyperslabs
from fvproc.volume import Branch, Calibration, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["ArrayVolume", "description", "from_arrays", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "arrays"
description = "NumPy, Dask or Zarr arrays, through fv.from_arrays"
suffixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArrayVolume(ForceVolume):
    """A volume that carries its curves as arrays; see `from_arrays`.

    Parameters
    ----------
    arrays : mapping of str to array
        By ``"approach deflection"``, ``"approach z"`` and so on.
    """

    arrays: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def in_memory(self) -> bool:
        """Whether an array is in the memory of this process, and so cannot be sent to another."""
        # one z for all curves is small
        return any(isinstance(array, np.ndarray) and array.ndim > 1 for array in self.arrays.values())

    def require_sendable(self) -> None:
        """Raise FvprocError if the curves are in the memory of this process."""
        if self.in_memory:
            raise FvprocError(
                f"{self.path}: its curves are in the memory of this process, which a cluster cannot read: process them"
                " without a client, or pass Dask or Zarr arrays, or write them with fv.convert and open that file"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        self.require_sendable()
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        # a mapping proxy does not pickle
        return _rebuild, ({key: dict(v) if isinstance(v, MappingProxyType) else v for key, v in values.items()},)


def _rebuild(values: dict[str, Any]) -> ArrayVolume:
    return ArrayVolume(**values)


def from_arrays(
    approach: Any,
    retract: Any,
    *,
    z: tuple[Any, Any],
    units: str,
    z_units: str,
    spring_constant: float | None = None,
    deflection_sensitivity: float | None = None,
    z_sensitivity: float | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    z_scale: float = 1.0,
    z_offset: float = 0.0,
    size_x: float | None = None,
    size_y: float | None = None,
    rotation: float = 0.0,
    tip_radius: float | None = None,
    tip_half_angle: float | None = None,
    poisson_ratio: float | None = None,
    label: str = "arrays",
) -> ArrayVolume:
    """Make a volume of arrays: what `open` returns for a file, for `process`, `convert` and all else.

    Parameters
    ----------
    approach, retract : array, shape (ny, nx, samples), (curves, samples) or (samples,)
        Deflection, samples in the order of time, row 0 at the bottom of the scan. Anything with ``shape`` and
        ``dtype`` that slices: NumPy, Dask, Zarr, h5py. int8 to int32, uint8, uint16 or float; float64 is rounded to
        float32 as it is read. NaN marks an invalid sample.
    z : tuple of two arrays, shape (samples,) or that of `approach` and `retract`
        z of approach and of retract, growing toward the sample.
    units, z_units : str
        Of deflection and z: a length (``"m"``, ``"nm"``, …), ``"V"``, ``"mV"``, and for deflection a force (``"N"``,
        ``"nN"``, …). They are never guessed.
    spring_constant, deflection_sensitivity, z_sensitivity : float, optional
        In N/m, m/V, m/V; a sensitivity only of what is in V. A force needs the spring constant that made it.
    scale, offset, z_scale, z_offset : float
        value = number · scale + offset, in `units` and `z_units`.
    size_x, size_y : float, optional
        Edges of the scan in m.
    rotation : float
        Scan angle in degrees.
    tip_radius, tip_half_angle, poisson_ratio : float, optional
        In m and rad.
    label : str
        Stands for the path in errors and provenance.

    Returns
    -------
    ArrayVolume
        Arrays are not copied: they must not change while the volume is used. Over a cluster, NumPy arrays are refused,
        since every worker would need a copy; Dask and Zarr arrays are sent as what they are, a recipe and a store.
        Dask arrays that were persisted on a cluster are refused.

    Raises
    ------
    FileFormatError
        If shapes do not fit, a unit is missing, z runs the wrong way, or an array was persisted on a cluster.
    CalibrationError
        If a calibration value is not finite and positive, or a sensitivity is given for what is in metres already.

    Examples
    --------
    >>> volume = fv.from_arrays(approach, retract, z=(z_in, z_out), units="V", z_units="nm",
    ...                         spring_constant=0.4, deflection_sensitivity=30e-9)
    >>> maps = fv.process(volume, recipe)
    """
    calibration = Calibration().override(spring_constant=spring_constant)
    sensitivities = calibration.override(deflection_sensitivity=deflection_sensitivity, z_sensitivity=z_sensitivity)
    if not (isinstance(z, (tuple, list)) and len(z) == 2):
        raise FileFormatError(f"{label}: z: expected two arrays, (z of approach, z of retract), not {type(z).__name__}")
    _refuse_persisted(label, approach, retract, *z)
    arrays: dict[str, Any] = {}
    parts = []
    shape = _shape(label, "approach", approach)
    for branch, deflection, positions in zip(BRANCHES, (approach, retract), z, strict=True):
        own = _shape(label, branch, deflection)
        where = f"{label}: {branch}"
        if own[:-1] != shape[:-1]:
            raise FileFormatError(f"{where}: shape {own}: expected {(*shape[:-1], 'samples')}, as approach has it")
        z_shape = _shape(label, f"z of {branch}", positions)
        shared = len(z_shape) == 1 and len(own) > 1
        if z_shape not in (own, own[-1:]):
            raise FileFormatError(f"{label}: z of {branch}: shape {z_shape}: expected {own} or {own[-1:]}")
        dtype, z_dtype = (
            stored_as(where, np.dtype(deflection.dtype).name),
            stored_as(f"{label}: z of {branch}", np.dtype(positions.dtype).name, z=True),
        )
        constant = calibration.spring_constant.value if calibration.spring_constant else None
        told = channel(where, dtype, units, scale=scale, offset=offset, spring_constant=constant, force=True)
        told_z = channel(f"{label}: z of {branch}", z_dtype, z_units, scale=z_scale, offset=z_offset)
        first = positions[(0,) * (len(z_shape) - 1)]
        ends = _computed(first if len(z_shape) > 1 else positions[:]).astype(np.float64)[[0, -1]]
        require_direction(f"{label}: z of {branch}", branch, float(ends[0]), float(ends[1]), told_z.scale)
        arrays[f"{branch} deflection"], arrays[f"{branch} z"] = deflection, positions
        parts.append(Branch(own[-1], told, told_z, shared))
    ny, nx = shape[:2] if len(shape) == 3 else (1, shape[0]) if len(shape) == 2 else (1, 1)
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(repr((key, tuple(array.shape), np.dtype(array.dtype).name)).encode())
    volume = ArrayVolume(
        path=label,
        format=name,
        grid=Grid(ny, nx, size_y, size_x, rotation),
        approach=parts[0],
        retract=parts[1],
        calibration=calibration,
        tip_radius=None if tip_radius is None else Setting(tip_radius, "user"),
        tip_half_angle=None if tip_half_angle is None else Setting(tip_half_angle, "user"),
        poisson_ratio=poisson_ratio,
        tile_alignment=min(_alignment(approach, nx), ny * nx),
        header_digest=digest.hexdigest(),
        arrays=arrays,
    )
    return cast(ArrayVolume, volume.with_calibration(sensitivities))


def sniff(head: bytes, path: str) -> bool:
    """No file is an array in memory."""
    return False


def open(path: str) -> ForceVolume:
    """Arrays have no file to open."""
    raise FileFormatError(f"{path}: arrays are no file: use fv.from_arrays")


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Slice the curves of a tile out of the arrays."""
    if not isinstance(volume, ArrayVolume):
        raise FileFormatError(f"{volume.path}: a volume of arrays without its arrays: make it with fv.from_arrays")
    parts = []
    for branch in BRANCHES:
        told: Branch = getattr(volume, branch)
        deflection = _curves(volume, f"{branch} deflection", told.deflection.dtype, tile)
        if told.z_shared:
            z = _computed(volume.arrays[f"{branch} z"][:]).astype(told.z.dtype)
        else:
            z = _curves(volume, f"{branch} z", told.z.dtype, tile)
        parts.append(RawBranch(deflection, z))
    return RawTile(parts[0], parts[1])


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return nothing: arrays come without maps."""
    return {}


def _shape(label: str, what: str, array: Any) -> tuple[int, ...]:
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        raise FileFormatError(f"{label}: {what}: expected an array, not {type(array).__name__}")
    shape = tuple(array.shape)
    if not 1 <= len(shape) <= 3 or not all(isinstance(length, int) and length > 0 for length in shape):
        raise FileFormatError(
            f"{label}: {what}: shape {shape}: expected (ny, nx, samples), (curves, samples) or (samples,)"
        )
    return shape


def _alignment(array: Any, nx: int) -> int:
    """Return the curves of a chunk that are a run of curves; 1 where the array has none."""
    chunks = getattr(array, "chunks", None)
    if not chunks or len(array.shape) < 2:
        return 1
    # Dask tells all chunks of an axis, Zarr and h5py the shape of one
    lengths = [part[0] if isinstance(part, tuple) else part for part in chunks]
    if len(array.shape) == 2:
        return int(lengths[0])
    return (
        int(lengths[0] * nx) if lengths[0] > 1 or lengths[1] >= nx else int(lengths[1]) if nx % lengths[1] == 0 else nx
    )


def _curves(volume: ArrayVolume, key: str, dtype: str, tile: Tile) -> np.ndarray:
    array = volume.arrays[key]
    values = buffer(dtype, (len(tile), array.shape[-1]))
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite, which the kernel takes as invalid
        for part, index in _slices(len(array.shape), tile, volume.grid.nx):
            values[part] = _computed(array[index]).reshape(-1, array.shape[-1])
    return values


def _refuse_persisted(label: str, *arrays: Any) -> None:
    """Raise FileFormatError for results that a cluster holds: a tile would be a task that waits for tasks."""
    distributed = sys.modules.get("distributed")  # without it nobody has any
    for array in arrays:
        if distributed is not None and hasattr(array, "__dask_graph__") and distributed.futures_of(array):
            raise FileFormatError(
                f"{label}: a Dask array of results that a cluster holds, as after persist(), cannot be read tile by"
                " tile: give it as it was before persist(), or store it (dask.array.to_zarr) and give what was stored"
            )


def _computed(block: Any) -> np.ndarray:
    """Return a slice as numbers; a lazy one is computed here, since a task that waits for others may wait for ever."""
    return np.asarray(block.compute(scheduler="synchronous") if hasattr(block, "compute") else block)


def _slices(dimensions: int, tile: Tile, nx: int) -> Iterator[tuple[slice, Any]]:
    if dimensions == 3:
        for rows, columns, part in hyperslabs(tile, nx):
            yield part, (rows, columns)
    else:
        yield slice(0, len(tile)), slice(tile.start, tile.stop) if dimensions == 2 else slice(None)
