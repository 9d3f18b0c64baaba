"""HDF5 files of any layout, by a mapping file that says where in them deflection, z and calibration lie.

::

    version = 1
    axes = "y x sample"            # of all datasets; or "curve sample", …; "-": of length 1; each may have its own
    shape = [32, 32]               # rows and columns, where an axis is "curve"; without it they are one row
    rows = "up"                    # "up": the first row is the bottom of the scan; "down": the top
    back_and_forth = false         # true: every second row runs backward
    [approach.deflection]
    dataset = "/force"
    units = "nN"                   # required, as for each dataset: a length, V, mV; for deflection also a force
    scale = 1.0                    # value = number · scale + offset, in `units`
    offset = 0.0
    samples = [0, 512]             # part of the sample axis, where both branches lie in one dataset
    reversed = false               # true: samples run against time
    [approach.z]                   # grows toward the sample; axes = "sample" where all curves share it
    [retract.deflection]
    [retract.z]
    [calibration]
    spring_constant = 0.4          # a number in N/m, or { from = "/group@attribute", units = "N/m" }
    deflection_sensitivity = …     # m/V; z_sensitivity, tip_radius (m) and tip_half_angle (rad) alike
    [scan]
    size_x = 1e-6                  # m; size_y alike
    rotation = 0.0                 # degrees
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.blocks import buffer, read_block
from fvproc.readers.channel_units import channel, require_direction, stored_as
from fvproc.readers.curves_layout import BRANCHES, common_alignment
from fvproc.readers.hdf5_chunks import chunks_of, plain
from fvproc.readers.mapping_file import CALIBRATION, SCAN, load, plain_axes
from fvproc.storage import read_hdf5
from fvproc.volume import Branch, Calibration, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "open_with", "read", "sniff", "suffixes", "vendor_maps"]

name = "mapping"
description = "any HDF5 file, with a mapping file that says what lies where (--mapping FILE)"
suffixes: tuple[str, ...] = ()

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
_ROW_BYTES = 1 << 28  # what is read at once
_DENSITY = 1100  # a deflated byte gives no more
_LENGTHS = {"m": 1.0, "um": 1e-6, "µm": 1e-6, "nm": 1e-9}
_UNITS = {
    "spring_constant": {"N/m": 1.0, "nN/nm": 1.0, "pN/nm": 1e-3},
    "deflection_sensitivity": {"m/V": 1.0, "um/V": 1e-6, "µm/V": 1e-6, "nm/V": 1e-9},
    "z_sensitivity": {"m/V": 1.0, "um/V": 1e-6, "µm/V": 1e-6, "nm/V": 1e-9},
    "tip_half_angle": {"rad": 1.0, "deg": math.pi / 180},
    "rotation": {"deg": 1.0, "rad": 180 / math.pi},
    "tip_radius": _LENGTHS,
    "size_x": _LENGTHS,
    "size_y": _LENGTHS,
}


def sniff(head: bytes, path: str) -> bool:
    """No file is claimed by its content: the user names the mapping."""
    return False


def open(path: str) -> ForceVolume:
    """Refuse: what lies where is in the mapping; see `open_with`."""
    raise FileFormatError(f"{path}: give the mapping file that says what lies where: --mapping FILE or mapping=FILE")


def open_with(path: str, mapping: str | PathLike[str] | dict[str, Any]) -> ForceVolume:
    """Describe an HDF5 file by a mapping.

    Parameters
    ----------
    path : str
        The HDF5 file.
    mapping : path-like or dict
        The mapping file (TOML), or its content.

    Raises
    ------
    FileFormatError
        If the mapping lacks something, names what is not in the file, or does not fit its shapes; links out of the
        file are refused.
    CalibrationError
        If a calibration value is not finite and positive.
    """
    told = load(mapping)
    status = Path(path).stat()
    with _opened(path) as file:
        values = {
            key: _value(path, file, section, key, told[section][key])
            for section, keys in (("calibration", CALIBRATION), ("scan", SCAN))
            for key in keys
            if key in told[section]
        }
        settings = {}
        for key in CALIBRATION:
            if key in values:
                try:
                    settings[key] = Setting(values[key])
                except CalibrationError as error:
                    raise CalibrationError(f"{path}: mapping, calibration.{key}: {error}") from None
        grid = _grid(path, file, told, values)
        steps = [_step(path, file, told[branch][part], grid) for branch in BRANCHES for part in ("deflection", "z")]
        constant = values.get("spring_constant")
        parts = [_branch(path, file, told, branch, grid, constant) for branch in BRANCHES]
    content = json.dumps(told, sort_keys=True)
    volume = ForceVolume(
        path=path,
        format=name,
        grid=grid,
        approach=parts[0],
        retract=parts[1],
        calibration=Calibration(
            settings.get("spring_constant"), settings.get("deflection_sensitivity"), settings.get("z_sensitivity")
        ),
        tip_radius=settings.get("tip_radius"),
        tip_half_angle=settings.get("tip_half_angle"),
        header={"mapping": content[:2000]},
        layout={"mapping": content},
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=hashlib.sha256(f"{content} {values}".encode()).hexdigest(),
    )
    return replace(volume, tile_alignment=common_alignment([grid.nx, *steps], grid, volume.curve_bytes))


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: whole rows of the grid, turned into (curves, samples)."""
    told = json.loads(volume.layout["mapping"])
    parts, decoded = [], _shared(told)
    with _opened(volume.path) as file:
        for branch in BRANCHES:
            own: Branch = getattr(volume, branch)
            deflection = _curves(volume, file, told, branch, "deflection", tile, decoded)
            if own.z_shared:
                spec = told[branch]["z"]
                index = tuple(slice(*spec["samples"]) if axis == "sample" else slice(0, 1) for axis in spec["axes"])
                z = np.asarray(_part(volume.path, file, spec["dataset"], index, decoded), own.z.dtype).ravel()
                z = np.ascontiguousarray(z[::-1]) if spec["reversed"] else z
            else:
                z = _curves(volume, file, told, branch, "z", tile, decoded)
            parts.append(RawBranch(deflection, z))
    return RawTile(parts[0], parts[1])


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return nothing: a mapping names no maps."""
    return {}


# ---- opening


@contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    try:
        with read_hdf5(path) as file:
            yield file
    except FileFormatError:
        raise
    except CalibrationError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{path}: the HDF5 file cannot be read: {error}; fetch it again") from None


def _item(path: str, file: h5py.File, where: str) -> Any:
    """Return an object of the file itself: links out of it, and what could lead there, are refused."""
    item: Any = file
    for part in (part for part in where.split("/") if part):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            known = ", ".join(list(item)[:10]) if isinstance(item, h5py.Group) else "no group"
            raise FileFormatError(f"{path}: mapping names {where}: there is no {part!r}; there is {known[:200]}")
        if not isinstance(link, h5py.HardLink):
            raise FileFormatError(f"{path}: {where}: {part!r} is a link: name the dataset that it leads to")
        item = item[part]
    return item


def _dataset(path: str, file: h5py.File, where: str) -> h5py.Dataset:
    dataset = _item(path, file, where)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"{path}: mapping names {where}: it is no dataset")
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{path}: {where}: its numbers lie in other files: copy them into this one")
    return dataset


def _value(path: str, file: h5py.File, section: str, key: str, told: Any) -> float:
    """Return a number of the mapping in SI units, or the one that it names in the file."""
    where = f"{path}: mapping, {section}.{key}"
    factor = 1.0
    if isinstance(told, dict):
        if told["units"] not in _UNITS[key]:
            raise FileFormatError(f"{where}: units = {told['units']!r}: expected one of {', '.join(_UNITS[key])}")
        factor = _UNITS[key][told["units"]]
        place, at, attribute = told["from"].partition("@")
        item = _item(path, file, place)
        if at and attribute not in item.attrs:
            raise FileFormatError(f"{where}: from = {told['from']!r}: {place or '/'} has no such attribute")
        if not at and (not isinstance(item, h5py.Dataset) or item.size != 1 or item.external or item.is_virtual):
            raise FileFormatError(f"{where}: from = {told['from']!r}: expected a dataset of one number")
        told = item.attrs[attribute] if at else item[()]
    try:
        number = float(np.asarray(told).item()) * factor
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise FileFormatError(f"{where} = {str(told)[:60]}: expected a finite number")
    return number


def _grid(path: str, file: h5py.File, told: dict[str, Any], values: dict[str, float]) -> Grid:
    spec = told["approach"]["deflection"]
    lengths = dict(zip(spec["axes"], _dataset(path, file, spec["dataset"]).shape, strict=False))
    if len(lengths) != len(_dataset(path, file, spec["dataset"]).shape):
        _refuse_axes(path, file, "approach.deflection", spec)
    ny, nx = lengths.get("y", 1), lengths.get("x", 1)
    if "curve" in lengths:
        ny, nx = told["shape"] or (1, lengths["curve"])
    try:
        return Grid(ny, nx, values.get("size_y"), values.get("size_x"), values.get("rotation", 0.0))
    except FileFormatError as error:
        raise FileFormatError(f"{path}: mapping, scan: {error}") from None


def _step(path: str, file: h5py.File, spec: dict[str, Any], grid: Grid) -> int:
    """Return the curves, whole rows of them, after which a dataset begins a fresh chunk."""
    lengths = dict(zip(spec["axes"], _dataset(path, file, spec["dataset"]).chunks or (), strict=False))
    return math.lcm(lengths.get("y", 1) * grid.nx, lengths.get("curve", 1))


def _refuse_axes(path: str, file: h5py.File, field: str, spec: dict[str, Any]) -> None:
    shape = _dataset(path, file, spec["dataset"]).shape
    raise FileFormatError(
        f"{path}: mapping, {field}: axes {' '.join(spec['axes'])!r}: {spec['dataset']} has the shape {shape}, which"
        " they do not fit"
    )


def _branch(
    path: str, file: h5py.File, told: dict[str, Any], branch: str, grid: Grid, constant: float | None
) -> Branch:
    samples: list[int] = []
    channels = []
    for part in ("deflection", "z"):
        spec, field = told[branch][part], f"{branch}.{part}"
        where = f"{path}: mapping, {field}"
        dataset = _dataset(path, file, spec["dataset"])
        shape = dataset.shape
        if len(shape) != len(spec["axes"]):
            _refuse_axes(path, file, field, spec)
        lengths = dict(zip(spec["axes"], shape, strict=True))
        shared = part == "z" and plain_axes(spec["axes"]) == ["sample"]
        want = {"y": grid.ny, "x": grid.nx, "curve": grid.curves}
        if any(n != 1 for axis, n in zip(spec["axes"], shape, strict=True) if axis == "-"):
            _refuse_axes(path, file, field, spec)
        if not shared and any(lengths.get(axis, n) != n for axis, n in want.items() if axis in lengths):
            _refuse_axes(path, file, field, spec)
        if not shared and math.prod(lengths.get(axis, 1) for axis in want) != grid.curves:
            _refuse_axes(path, file, field, spec)
        first, last = spec["samples"] or (0, lengths["sample"])
        if not 0 <= first < last <= lengths["sample"]:
            raise FileFormatError(f"{where}: samples = [{first}, {last}]: {spec['dataset']} has {lengths['sample']}")
        spec["samples"] = [first, last]
        row = grid.nx * (last - first) * dataset.dtype.itemsize
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
        if max(row, chunk) > _ROW_BYTES:
            raise FileFormatError(
                f"{where}: a row of curves or a chunk of {spec['dataset']} takes {max(row, chunk)} bytes: no more than"
                f" {_ROW_BYTES} can be read at once; write it in smaller chunks"
            )
        if dataset.nbytes > _DENSITY * (Path(path).stat().st_size + 1):
            raise FileFormatError(
                f"{where}: {spec['dataset']} tells of {dataset.nbytes} bytes, more than the file can hold:"
                " it is damaged, or was never filled"
            )
        samples.append(last - first)
        dtype = stored_as(where, dataset.dtype.newbyteorder("=").name, z=part == "z")
        channels.append(
            channel(
                where,
                dtype,
                spec["units"],
                scale=spec["scale"],
                offset=spec["offset"],
                spring_constant=constant,
                force=part == "deflection",
            )
        )
        if part == "z":
            curve = dataset[tuple(slice(first, last) if axis == "sample" else 0 for axis in spec["axes"])]
            ends = curve[[-1, 0]] if spec["reversed"] else curve[[0, -1]]
            require_direction(where, branch, float(ends[0]), float(ends[1]), channels[1].scale)
    if samples[0] != samples[1]:
        raise FileFormatError(
            f"{path}: mapping, {branch}: {samples[0]} samples of deflection and {samples[1]} of z: give `samples`"
        )
    shared = plain_axes(told[branch]["z"]["axes"]) == ["sample"]
    return Branch(samples[0], channels[0], channels[1], shared and grid.curves > 1)


# ---- reading


_Decoded = dict[str, dict[tuple[int, ...], np.ndarray]]


def _shared(told: dict[str, Any]) -> _Decoded:
    """Return a place for the chunks of each dataset that holds more than one part, so that none is decoded twice."""
    names = [told[branch][part]["dataset"] for branch in BRANCHES for part in ("deflection", "z")]
    return {name: {} for name in names if names.count(name) > 1}


def _part(path: str, file: h5py.File, where: str, part: tuple[slice, ...], decoded: _Decoded) -> np.ndarray:
    """Read a rectangle of a dataset: past HDF5 and its lock where the numbers lie plain or in gzip chunks."""
    dataset = _dataset(path, file, where)
    shape = tuple(axis.stop - axis.start for axis in part)
    chunks = chunks_of(path, where)
    if chunks is not None:
        values = buffer(chunks.dtype.newbyteorder("="), shape)
        chunks.read_direct(values, part, decoded.get(where))
        return values
    offset = dataset.id.get_offset()
    if offset is not None and plain(dataset) and shape[1:] == dataset.shape[1:]:
        row = math.prod(shape[1:]) * dataset.dtype.itemsize
        return read_block(path, offset + part[0].start * row, dataset.dtype, shape)
    return dataset[part]


def _curves(
    volume: ForceVolume, file: h5py.File, told: dict[str, Any], branch: str, part: str, tile: Tile, decoded: _Decoded
) -> np.ndarray:
    spec = told[branch][part]
    ny, nx = volume.shape
    first, last = tile.start // nx, -(-tile.stop // nx)
    rows = slice(ny - last, ny - first) if told["rows"] == "down" else slice(first, last)  # as the file counts them
    index = {
        "y": rows,
        "x": slice(0, nx),
        "curve": slice(rows.start * nx, rows.stop * nx),
        "sample": slice(*spec["samples"]),
        "-": slice(0, 1),
    }
    block = _part(volume.path, file, spec["dataset"], tuple(index[axis] for axis in spec["axes"]), decoded)
    axes = plain_axes(spec["axes"])
    block = block.reshape([n for axis, n in zip(spec["axes"], block.shape, strict=True) if axis != "-"])
    order = [axis for axis in ("y", "x", "curve", "sample") if axis in axes]
    block = block.transpose([axes.index(axis) for axis in order])
    samples = spec["samples"][1] - spec["samples"][0]
    block = block.reshape(last - first, nx, samples)
    if told["back_and_forth"]:
        odd = np.arange(rows.start, rows.stop) % 2 == 1
        block[odd] = block[odd, ::-1].copy()
    if told["rows"] == "down":
        block = block[::-1]
    if spec["reversed"]:
        block = block[:, :, ::-1]
    curves = block.reshape(-1, samples)[tile.start - first * nx : tile.stop - first * nx]
    values = buffer(getattr(getattr(volume, branch), part).dtype, curves.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite, which the kernel takes as invalid
        values[...] = curves
    return values
