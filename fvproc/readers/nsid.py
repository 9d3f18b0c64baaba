"""NSID and USID cubes, as sidpy, pyNSID and pyUSID write them: found in the file, then read by a mapping made for it.

**NSID** (pyNSID): a dataset with `quantity`, `units` and a dimension scale on each axis, which states its `units` and
whether it is SPATIAL or SPECTRAL. **USID** (pyUSID): a dataset (positions, spectra) that refers to `Position_Indices`,
`Position_Values`, `Spectroscopic_Indices` and `Spectroscopic_Values`, with the `labels` and `units` of their columns.

What these layouts leave open is never guessed. A force curve is taken where one dataset alone holds a deflection or a
force, and its z is either the spectral axis, a length, or one other dataset of the same shape. Where z turns is the end
of the approach; if it falls first, it is a distance from the sample. A calibration is taken from attributes that
Asylum's notes bring along (`SpringConstant`, `InvOLS`); else the options give it. All else needs a mapping file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import h5py
import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers import mapping
from fvproc.readers.channel_units import FORCES, LENGTHS, VOLTS
from fvproc.storage import read_hdf5
from fvproc.volume import ForceVolume

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "nsid"
description = "NSID or USID cube of force curves (.h5 of sidpy, pyNSID, pyUSID)"
suffixes = (".hf5",)

read = mapping.read
vendor_maps = mapping.vendor_maps

_MAGIC = b"\x89HDF\r\n\x1a\n"
_REFERENCES = ("Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values")
_MOST_OBJECTS = 5000
_MOST_NUMBERS = 1 << 24  # of an axis, or of the indices of positions
_LOOKED_AT = 16  # curves whose turning point is looked for
_DEFLECTION = ("defl", "force")
_Z = ("z", "height", "raw", "lvdt")
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
_REMEDY = "say what lies where by a mapping file: --mapping FILE"


@dataclass(frozen=True)
class _Cube:
    """A main dataset as its attributes describe it."""

    where: str
    shape: tuple[int, ...]
    quantity: str
    units: str
    axes: str  # as in a mapping
    spectral: str  # dataset of the spectral axis
    spectral_axes: str
    spectral_units: str
    grid: tuple[int, int] | None
    sizes: tuple[float | None, float | None]  # y, x in m
    rows: str

    def is_a(self, words: tuple[str, ...]) -> bool:
        """Tell whether quantity or name begins with one of the words."""
        texts = (self.quantity.lower(), self.where.rsplit("/", 1)[-1].lower())
        return any(text.startswith(word) for text in texts for word in words)


def sniff(head: bytes, path: str) -> bool:
    """Tell whether an HDF5 file holds a dataset with the marks of NSID or USID."""
    if not head.startswith(_MAGIC):
        return False
    try:
        with read_hdf5(path) as file:
            return next(_marked(file), None) is not None
    except _DAMAGE:
        return False


def open(path: str) -> ForceVolume:
    """Describe the force curves of a cube.

    Raises
    ------
    FileFormatError
        If the file holds no force curves, or leaves open which dataset, axis or direction is which.
    """
    try:
        with read_hdf5(path) as file:
            told = _mapping(path, file)
    except FileFormatError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{path}: the HDF5 file cannot be read: {error}; fetch it again") from None
    return replace(mapping.open_with(path, told), format=name)


def _refuse(path: str, what: str) -> NoReturn:
    raise FileFormatError(f"{path}: {what}; {_REMEDY}")


# ---- what the file says


def _marked(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Yield the main datasets; of the file itself, for links are not followed."""
    groups, seen = [file["/"]], 0
    while groups:
        group = groups.pop()
        for key in group:
            seen += 1
            if seen > _MOST_OBJECTS:
                return
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            kind = group.get(key, getclass=True)
            if kind is h5py.Group and group.name.count("/") < 8:
                groups.append(group[key])
            elif kind is h5py.Dataset:
                attributes = group[key].attrs
                is_nsid = "DIMENSION_LIST" in attributes and "main_data_name" in attributes
                if "quantity" in attributes and (is_nsid or all(one in attributes for one in _REFERENCES)):
                    yield group[key]


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _numbers(dataset: Any) -> np.ndarray:
    if not isinstance(dataset, h5py.Dataset) or not _is_readable(dataset) or dataset.size > _MOST_NUMBERS:
        raise ValueError(f"{dataset} is no axis")
    return np.asarray(dataset[...], np.float64)


def _is_readable(dataset: h5py.Dataset) -> bool:
    """Tell whether the numbers lie in this file, in pieces that fit into memory."""
    chunk = math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize
    return not dataset.external and not dataset.is_virtual and chunk <= 8 * _MOST_NUMBERS


def _cube(path: str, file: h5py.File, dataset: h5py.Dataset) -> _Cube:
    if not _is_readable(dataset):
        _refuse(path, f"{dataset.name}: its numbers lie in other files, or in chunks of over {8 * _MOST_NUMBERS} bytes")
    units = _text(dataset.attrs.get("units", ""))
    quantity = _text(dataset.attrs["quantity"])
    read_axes = _nsid_axes if "DIMENSION_LIST" in dataset.attrs else _usid_axes
    return _Cube(dataset.name, dataset.shape, quantity, units, *read_axes(path, file, dataset))


_Axes = tuple[str, str, str, str, "tuple[int, int] | None", "tuple[float | None, float | None]", str]


def _nsid_axes(path: str, file: h5py.File, dataset: h5py.Dataset) -> _Axes:
    axes, spectral, units = [], "", ""
    sizes: dict[str, float | None] = {"y": None, "x": None}
    rows = "up"
    for number in range(dataset.ndim):
        scale = _scale(file, dataset, number)
        kind = _text(scale.attrs.get("dimension_type", "")).rsplit(".", 1)[-1].upper()
        label = _text(scale.attrs.get("name", scale.name.rsplit("/", 1)[-1])).lower()
        if kind == "SPECTRAL":
            axes.append("sample")
            spectral, units = scale.name, _text(scale.attrs.get("units", ""))
        elif kind == "SPATIAL" and label[:1] in ("x", "y") and label[:1] not in axes:
            axes.append(label[:1])
            values = _numbers(scale)
            sizes[label[:1]] = _edge(values, _text(scale.attrs.get("units", "")))
            if values.size > 1 and values[-1] < values[0]:
                if label.startswith("x"):
                    _refuse(path, f"{scale.name}: x falls along its axis: columns run from right to left")
                rows = "down"
        else:
            _refuse(
                path, f"{dataset.name}: axis {number} ({label!r}, {kind or 'of no type'}) is neither x, y nor spectral"
            )
    if axes.count("sample") != 1:
        _refuse(path, f"{dataset.name}: {axes.count('sample')} spectral axes: expected one")
    if len(axes) == 2:  # a line of curves
        axes = ["sample" if axis == "sample" else "curve" for axis in axes]
    return " ".join(axes), spectral, "sample", units, None, (sizes["y"], sizes["x"]), rows


def _usid_axes(path: str, file: h5py.File, dataset: h5py.Dataset) -> _Axes:
    indices, values, _, spectral = (file[dataset.attrs[key]] for key in _REFERENCES)
    if dataset.ndim != 2 or spectral.shape != (1, dataset.shape[1]) or indices.shape != values.shape:
        _refuse(path, f"{dataset.name}: shape {dataset.shape} with spectral axes {spectral.shape}: expected one")
    labels = [_text(label).strip().lower()[:1] for label in np.atleast_1d(indices.attrs["labels"])]
    units = [_text(unit) for unit in np.atleast_1d(values.attrs["units"])]
    at, place = _numbers(indices), _numbers(values)
    if at.shape != (dataset.shape[0], len(labels)):
        _refuse(path, f"{indices.name}: shape {at.shape}: expected {(dataset.shape[0], len(labels))}")
    columns = {label: at[:, number] for number, label in enumerate(labels)}
    x = columns.pop("x", np.zeros(len(at)))
    y = columns.pop("y", np.zeros(len(at)))
    nx, ny = int(x.max()) + 1, int(y.max()) + 1
    count = np.arange(len(at))
    if any(column.any() for column in columns.values()) or nx * ny != len(at):
        _refuse(path, f"{indices.name}: positions {', '.join(labels)} are no grid of {ny} × {nx} curves")
    if (x != count % nx).any() or (y != count // nx).any():
        _refuse(path, f"{indices.name}: positions do not run along x, row by row")
    sizes: dict[str, float | None] = {"y": None, "x": None}
    rows = "up"
    for number, label in enumerate(labels):
        if label in sizes:
            along = place[:: nx if label == "y" else 1, number][: ny if label == "y" else nx]
            sizes[label] = _edge(along, units[number])
            if along[-1] < along[0]:
                if label == "x":
                    _refuse(path, f"{values.name}: x falls along its axis: columns run from right to left")
                rows = "down"
    unit = _text(np.atleast_1d(spectral.attrs["units"])[0])
    return "curve sample", spectral.name, "- sample", unit, (ny, nx), (sizes["y"], sizes["x"]), rows


def _scale(file: h5py.File, dataset: h5py.Dataset, axis: int) -> h5py.Dataset:
    """Return the dimension scale of an axis; `dataset.dims` would not come back from some damaged files."""
    scale = file[dataset.attrs["DIMENSION_LIST"][axis][0]]
    if not isinstance(scale, h5py.Dataset):
        raise ValueError(f"{dataset.name}: the scale of axis {axis} is no dataset")
    return scale


def _edge(values: np.ndarray, units: str) -> float | None:
    """Return the length of an edge in m from the places of its pixels' middles."""
    if values.size < 2 or units not in LENGTHS:
        return None
    edge = float(abs(values[-1] - values[0])) * LENGTHS[units] * values.size / (values.size - 1)
    return edge if math.isfinite(edge) and edge > 0 else None


# ---- the mapping that follows


def _mapping(path: str, file: h5py.File) -> dict[str, Any]:
    cubes = []
    for dataset in _marked(file):
        # a refusal of one that holds something else must not hide the curves beside it
        if dataset.ndim in (1, 2, 3) and _cube_like(file, dataset):
            cubes.append(_cube(path, file, dataset))
    found = [cube for cube in cubes if cube.is_a(_DEFLECTION) and cube.units in {*LENGTHS, *VOLTS, *FORCES}]
    if len(found) != 1:
        told = "; ".join(f"{cube.where} ({cube.quantity}, {cube.units})" for cube in found or cubes)[:500]
        _refuse(path, f"{len(found)} datasets hold a deflection or a force: {told or 'none has a spectral axis'}")
    cube = found[0]
    heights = [one for one in cubes if one is not cube and one.is_a(_Z) and one.units in LENGTHS]
    heights = [one for one in heights if (one.shape, one.axes) == (cube.shape, cube.axes)]
    if cube.spectral_units in LENGTHS:
        z = {"dataset": cube.spectral, "units": cube.spectral_units, "axes": cube.spectral_axes}
        turn, sign = _turn(path, cube.spectral, _numbers(file[cube.spectral]).ravel())
    elif len(heights) == 1:
        z = {"dataset": heights[0].where, "units": heights[0].units, "axes": cube.axes}
        turn, sign = _common_turn(path, file, heights[0])
    else:
        told = ", ".join(one.where for one in heights) or "no dataset of a height like it"
        _refuse(path, f"{cube.where}: its spectral axis is in {cube.spectral_units!r}, no length; beside it {told}")
    count = dict(zip(cube.axes.split(), cube.shape, strict=True))["sample"]
    result: dict[str, Any] = {"version": 1, "rows": cube.rows}
    if cube.grid is not None:
        result["shape"] = list(cube.grid)
    for branch, samples in (("approach", [0, turn]), ("retract", [turn, count])):
        result[branch] = {
            "deflection": {"dataset": cube.where, "units": cube.units, "axes": cube.axes, "samples": samples},
            "z": {**z, "samples": samples, "scale": sign},
        }
    result["calibration"] = _calibration(file, cube.where)
    if cube.units in FORCES and "spring_constant" not in result["calibration"]:
        _refuse(
            path,
            f"{cube.where}: units {cube.units!r}: no attribute SpringConstant tells what made them of a deflection",
        )
    result["scan"] = {key: size for key, size in zip(("size_y", "size_x"), cube.sizes, strict=True) if size is not None}
    return result


def _cube_like(file: h5py.File, dataset: h5py.Dataset) -> bool:
    """Tell whether a main dataset has an axis along which spectra run."""
    if "DIMENSION_LIST" not in dataset.attrs:
        return dataset.ndim == 2 and dataset.shape[1] > 1
    scales = [_scale(file, dataset, number) for number in range(dataset.ndim)]
    return any(_text(scale.attrs.get("dimension_type", "")).upper().endswith("SPECTRAL") for scale in scales)


def _turn(path: str, where: str, z: np.ndarray) -> tuple[int, float]:
    """Return the number of samples of the approach, and the sign that makes z grow along it."""
    sign = 1.0 if z.size and abs(z.max() - z[0]) >= abs(z.min() - z[0]) else -1.0
    turn = int(np.argmax(sign * z)) + 1 if z.size else 0
    steps = sign * np.diff(z)
    falls, rises = np.count_nonzero(steps[: turn - 1] < 0), np.count_nonzero(steps[turn:] > 0)
    # a measured z trembles; one that goes to and fro is no pair of ramps
    if not 2 <= turn <= z.size - 2 or falls > 0.4 * turn or rises > 0.4 * (z.size - turn) or not np.isfinite(z).all():
        _refuse(path, f"{where}: z does not run to the sample and back once: it turns at sample {turn} of {z.size}")
    return turn, sign


def _common_turn(path: str, file: h5py.File, cube: _Cube) -> tuple[int, float]:
    """Return where z turns, the same in all curves that are looked at."""
    axes = cube.axes.split()
    lengths = dict(zip(axes, cube.shape, strict=True))
    count = math.prod(n for axis, n in lengths.items() if axis != "sample")
    turns = set()
    for number in np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int)):
        at = {"curve": number, "y": number // lengths.get("x", 1), "x": number % lengths.get("x", 1)}
        curve = file[cube.where][tuple(slice(None) if axis == "sample" else int(at[axis]) for axis in axes)]
        turns.add(_turn(path, cube.where, np.asarray(curve, np.float64)))
    if len(turns) != 1:
        told = ", ".join(str(turn) for turn, _ in sorted(turns)[:6])
        _refuse(path, f"{cube.where}: z turns at different samples ({told} …): the branches have no common end")
    return turns.pop()


def _calibration(file: h5py.File, where: str) -> dict[str, float]:
    """Return what Asylum's notes left in the attributes about the dataset; nothing else has a known unit."""
    beside = where.rsplit("/", 1)[0] or "/"
    places = [file[where].attrs]
    for key in ("original_metadata", "metadata"):
        if isinstance(file[beside].get(key, getlink=True), h5py.HardLink):
            places.append(file[beside][key].attrs)
    result: dict[str, float] = {}
    for key, note in (("spring_constant", "SpringConstant"), ("deflection_sensitivity", "InvOLS")):
        for attributes in places:
            try:
                value = float(_text(attributes[note]))
            except (KeyError, ValueError):
                continue
            if key not in result and math.isfinite(value) and value > 0:
                result[key] = value
    return result
