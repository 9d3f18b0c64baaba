"""What a Nanosurf .nhf file says of its force curves: segments, channels, blocks, calibrations; no curve is read here.

The layout is that of Nanosurf's own public reader (package nanosurf, nhf_reader), file versions 1.1 and 2.x: groups are
measurements, their groups segments, their datasets channels, all known by attributes and not by their keys. The numbers
of a channel are those of all curves, one after another; another dataset tells how many each has.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from fvproc.readers.nanosurf_header import refuse

MOST = 1 << 24  # curves; calibrations and objects are far fewer
_OBJECTS = 2000
_NUMBERS = 1000  # of an attribute
_BRANCHES = {
    "approach": re.compile(r"advance|approach|forward|extend", re.IGNORECASE),
    "retract": re.compile(r"retract|backward|withdraw|retreat", re.IGNORECASE),
}
_PAUSE = re.compile(r"pause|hold|dwell|wait", re.IGNORECASE)
_DEFLECTION = re.compile(r"deflection", re.IGNORECASE)
# a sensor tells where the scanner is, the others where it was sent
_Z = [
    re.compile(p, re.IGNORECASE) for p in (r"z.*sensor|sensor.*z\b", r"position z|z.position", r"z.axis.*|z.out.*|^z$")
]
# of version 2, where the lowest integer marks what was not measured; of version 1, by number
_TYPES: dict[Any, tuple[str, float, float]] = {
    "int32": ("int32", -(2.0**31) + 1, 2.0**31 - 1),
    "int16": ("int16", -(2.0**15) + 1, 2.0**15 - 1),
    "double": ("float64", 0.0, 1.0),
    0: ("int32", -(2.0**31), 2.0**31 - 1),
    5: ("int16", -(2.0**15), 2.0**15 - 1),
    7: ("float64", 0.0, 1.0),
}


@dataclass(frozen=True)
class Channel:
    """A dataset of numbers: value = (raw · scale + offset) unit."""

    where: str
    dtype: str
    unit: str
    scale: float
    offset: float
    invalid: int | None
    gains: dict[str, float]  # by unit: slope of raw numbers along the calibrations that the file knows


@dataclass(frozen=True)
class Segment:
    """One branch of all curves."""

    name: str
    deflection: Channel
    z: Channel
    blocks: str  # dataset of the samples of each curve


@dataclass(frozen=True)
class Layout:
    """A measurement of force curves."""

    name: str
    shape: tuple[int, int] | None  # ny, nx; None where the file does not tell
    size: tuple[float | None, float | None]
    rotation: float
    approach: Segment
    retract: Segment
    warnings: tuple[str, ...]


def version(file: h5py.File) -> tuple[int, int] | None:
    """Return the version of a .nhf file; None of any other HDF5 file."""
    found = []
    for key in ("nsf_file_version_major", "nsf_file_version_minor"):
        if key not in file.attrs:
            return None
        found.append(int(np.asarray(_attribute(file, key)).item()))
    return found[0], found[1]


def layout(path: str, file: h5py.File) -> Layout:
    """Find the one measurement of force curves and describe it.

    Raises
    ------
    FileFormatError
        If there is none, or more than one, or its segments or channels cannot be told apart.
    """
    known = version(file)
    if known is None or not (known == (1, 1) or known[0] == 2):
        refuse(path, "nsf_file_version", str(known), "versions 1.1 and 2.x are known: save the file in one of them")
    measurements = [group for group in _children(file) if isinstance(group, h5py.Group) and _is_spectroscopy(group)]
    if len(measurements) != 1:
        names = ", ".join(_text(group, "measurement_name", "name") for group in measurements)
        refuse(path, "spectroscopy", f"{len(measurements)} measurements {names}", "expected one: export it alone")
    measurement = measurements[0]
    nodes = _calibrations(file)
    segments, warnings = _segments(path, measurement)
    parts = {branch: _segment(path, known, segments[branch], nodes) for branch in _BRANCHES}
    shape, size, rotation = _grid(measurement, [*segments.values()])
    return Layout(
        _text(measurement, "measurement_name", "name"),
        shape,
        size,
        rotation,
        parts["approach"],
        parts["retract"],
        tuple(warnings),
    )


def _children(group: h5py.Group) -> list[Any]:
    """Return what lies in a group itself: links out of it are not followed."""
    keys = list(group)[:_OBJECTS]
    return [group[key] for key in keys if isinstance(group.get(key, getlink=True), h5py.HardLink)]


def _attribute(item: Any, key: str) -> Any:
    """Return an attribute, unless it is longer than any of this format: the library would take memory for all of it."""
    shape = item.attrs.get_id(key).shape
    if shape is None or math.prod(shape) > _NUMBERS:
        raise ValueError(f"{item.name}: the attribute {key} has the shape {shape}")
    return item.attrs[key]


def _text(item: Any, *keys: str) -> str:
    for key in keys:
        if key in item.attrs:
            value = np.asarray(_attribute(item, key)).item()
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return ""


def _number(item: Any, key: str) -> float:
    return float(np.asarray(_attribute(item, key)).item())


def _is_spectroscopy(group: h5py.Group) -> bool:
    return _text(group, "group_type", "measurement_type") in ("spectroscopy", "spectroscopy_grid")


def _segments(path: str, measurement: h5py.Group) -> tuple[dict[str, h5py.Group], list[str]]:
    """Return the first approach and the first retract after it by the names of the segments."""
    found: dict[str, h5py.Group] = {}
    names, warnings = [], []
    for group in _children(measurement):
        if not isinstance(group, h5py.Group):
            continue
        label = _text(group, "segment_name", "name")
        names.append(label)
        kinds = [branch for branch, pattern in _BRANCHES.items() if pattern.search(label) and not _PAUSE.search(label)]
        wanted = len(kinds) == 1 and kinds[0] not in found and (kinds[0] == "approach" or "approach" in found)
        if wanted:
            found[kinds[0]] = group
        elif label:
            warnings.append(f"segment {label!r} is left out")
    if len(found) != 2:
        refuse(path, "segments", ", ".join(names) or "none", "no approach and retract after it among these names")
    return found, warnings


def _segment(path: str, known: tuple[int, int], group: h5py.Group, nodes: list[_Node]) -> Segment:
    datasets = [item for item in _children(group) if isinstance(item, h5py.Dataset)]
    key = "signal_name" if known[0] >= 2 else "name"
    named = {_text(item, key): item for item in datasets if key in item.attrs}
    label = _text(group, "segment_name", "name")
    deflections = [item for text, item in named.items() if _DEFLECTION.search(text)]
    heights: list[h5py.Dataset] = []
    for pattern in _Z:
        heights = heights or [item for text, item in named.items() if pattern.search(text)]
    for what, items in (("Deflection", deflections), ("z", heights)):
        if len(items) != 1:
            refuse(path, f"segment {label}: {what}", f"{len(items)} channels", f"the file has {', '.join(named)[:300]}")
    if known[0] >= 2:
        source = _text(deflections[0], "dataset_block_size_source")
        blocks = [one for one in datasets if source and _text(one, "dataset_block_size_id") == source]
    else:
        blocks = [item for text, item in named.items() if text == "number_of_datapoints_acquired"]
    if len(blocks) != 1:
        refuse(path, f"segment {label}", "no dataset tells the samples of each curve", "fetch the file again")
    channels = [_channel(path, known, item, nodes) for item in (deflections[0], heights[0])]
    return Segment(label, channels[0], channels[1], blocks[0].name)


def _channel(path: str, known: tuple[int, int], dataset: h5py.Dataset, nodes: list[_Node]) -> Channel:
    where = dataset.name
    if dataset.external or dataset.is_virtual or dataset.ndim != 1:
        refuse(
            path, where, f"{dataset.ndim} axes, or numbers in other files", "expected one run of numbers in the file"
        )
    prefix = "signal_calibration" if known[0] >= 2 else "base_calibration"
    told = _attribute(dataset, "dataset_element_type")
    element = _text(dataset, "dataset_element_type") if known[0] >= 2 else int(np.asarray(told).item())
    if element not in _TYPES or dataset.dtype.newbyteorder("=").name != _TYPES[element][0]:
        refuse(
            path, f"{where} dataset_element_type", f"{told} stored as {dataset.dtype}", "expected int16, int32, double"
        )
    dtype, first, last = _TYPES[element]
    low, high = (_number(dataset, f"{prefix}_{end}") for end in ("min", "max"))
    scale = (high - low) / (last - first)
    unit = _unit(_text(dataset, f"{prefix}_unit"))
    invalid = None
    if known[0] >= 2 and dtype != "float64":
        invalid = int(dataset.fillvalue)
    gains = _gains(_text(dataset, "signal_id"), nodes)
    return Channel(where, dtype, unit, scale, low - first * scale, invalid, gains)


def _unit(text: str) -> str:
    """Return m of 'Meter (m)'."""
    inside = re.search(r"\(([^)]{1,20})\)", text)
    return inside[1] if inside else text


def _grid(
    measurement: h5py.Group, segments: list[h5py.Group]
) -> tuple[tuple[int, int] | None, tuple[float | None, float | None], float]:
    shape, size, rotation = None, (None, None), 0.0
    sizes: tuple[float | None, float | None] = size
    for item in (measurement, *segments):
        attributes = item.attrs
        if "rect_axis_size" in attributes and shape is None:
            ny, nx = (int(n) for n in np.ravel(_attribute(item, "rect_axis_size"))[:2])
            shape = ny, nx
        if "grid_number_of_columns" in attributes and shape is None:
            shape = int(_number(item, "grid_number_of_rows")), int(_number(item, "grid_number_of_columns"))
        if "rect_axis_range" in attributes and sizes == size:
            sizes = _edges(*np.ravel(_attribute(item, "rect_axis_range"))[:2])
        if "grid_width" in attributes and sizes == size:
            sizes = _edges(_number(item, "grid_height"), _number(item, "grid_width"))
        for key in ("rect_rotation", "scanner_rotation"):
            if key in attributes and rotation == 0.0:
                rotation = _number(item, key)
    return shape, sizes, rotation if math.isfinite(rotation) else 0.0


def _edges(*lengths: float) -> tuple[float | None, float | None]:
    y, x = (float(n) if 0 < n < 1 else None for n in lengths)
    return y, x


# ---- the graph of calibrations


@dataclass(frozen=True)
class _Node:
    """A straight line from one signal to another."""

    source: str
    sink: str
    unit: str
    slope: float


def _calibrations(file: h5py.File) -> list[_Node]:
    """Return the linear calibrations of the file, both ways where they have two."""
    nodes: list[_Node] = []
    groups = [item for item in _children(file) if _text(item, "group_type") == "calibration"]
    for item in _children(groups[0]) if groups and isinstance(groups[0], h5py.Group) else []:
        way = _text(item, "signal_invertibility")
        if not _text(item, "signal_mapping_type").startswith("linear") or "signal_mapping_parameters" not in item.attrs:
            continue
        slope = float(np.ravel(_attribute(item, "signal_mapping_parameters"))[0])
        if not math.isfinite(slope) or slope == 0:
            continue
        source, sink = _text(item, "signal_source_id"), _text(item, "signal_sink_id")
        if way in ("right", "two_way"):
            unit = _unit(_text(item, "signal_sink_unit"))
            nodes.append(_Node(source, sink, unit, slope if way == "right" else 1.0 / slope))
        if way in ("left", "two_way"):
            nodes.append(_Node(sink, source, _unit(_text(item, "signal_source_unit")), slope))
    return nodes


def _gains(signal: str, nodes: list[_Node]) -> dict[str, float]:
    """Return the slope of the raw numbers in each unit that calibrations lead to; the shortest way counts."""
    gains: dict[str, float] = {}
    reached, front = {signal}, [(signal, 1.0)]
    while front and signal:
        following = []
        for at, gain in front:
            for node in nodes:
                if node.source == at and node.sink not in reached:
                    reached.add(node.sink)
                    following.append((node.sink, gain * node.slope))
                    gains.setdefault(node.unit, gain * node.slope)
        front = following
    return gains
