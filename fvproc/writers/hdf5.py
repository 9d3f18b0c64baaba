"""HDF5: the complete output, laid out for NeXus and CF at once, and the way back into ParameterMaps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fvproc import provenance as origin
from fvproc.errors import FileFormatError
from fvproc.maps import ParameterMaps, not_computed
from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, RECORD
from fvproc.storage import new_hdf5, read_hdf5
from fvproc.volume import CALIBRATION_FIELDS, Grid, VendorMap
from fvproc.writers import packing

FORMAT = "fvproc-maps"
FORMAT_VERSION = 1
SIGNAL = "modulus"  # what viewers show first
CHUNK = 256  # pixels along each edge


def write(maps: ParameterMaps, path: str | PathLike[str]) -> None:
    """Write maps, coordinates, flags, vendor maps and provenance to a new HDF5 file.

    Parameters
    ----------
    maps : ParameterMaps
        What to write.
    path : path-like
        An existing file is overwritten in place; `fvproc.writers.save` puts a finished file in its place instead.

    Raises
    ------
    ValueError
        If a vendor map is not on the grid of the maps.
    OSError
        If the disk is full or refuses.
    """
    for name, vendor in maps.vendor_maps.items():
        if vendor.values.shape != maps.shape:
            raise ValueError(f"vendor map {name!r} has shape {vendor.values.shape}, the maps have {maps.shape}")
    with new_hdf5(path) as file, ThreadPoolExecutor(packing.workers()) as pool:
        file.attrs.update(
            NX_class="NXroot",
            default="entry",
            creator=origin.PROGRAM,
            creator_version=origin.version(),
            format=FORMAT,
            format_version=FORMAT_VERSION,
        )
        entry = _group(file, "entry", "NXentry", default="maps")
        _write_maps(entry, maps, pool)
        _write_scan(entry, maps.grid)
        _write_process(entry, maps.provenance)
        if maps.vendor_maps:
            _write_vendor(entry, maps, pool)


def _group(parent: h5py.Group, name: str, nexus_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update(NX_class=nexus_class, **attributes)
    return group


def _write_maps(entry: h5py.Group, maps: ParameterMaps, pool: ThreadPoolExecutor) -> None:
    signal = SIGNAL if SIGNAL in maps else maps.quantities[0]
    group = _group(entry, "maps", "NXdata", signal=signal)
    if others := [name for name in maps if name != signal]:
        group.attrs["auxiliary_signals"] = others
    axes = _write_axes(group, maps)
    systematic = origin.plain(maps.provenance.get("systematic", {})).get("quantities", {})
    chunk = _chunk(maps.shape)
    fills = {**dict.fromkeys(maps, np.float32(np.nan)), "flags": np.uint32(0)}
    # threads pack while the datasets get their attributes
    chunks = packing.of_fields(maps.records, fills, chunk, pool)
    made = []
    for quantity in map(QUANTITIES.__getitem__, maps):
        dataset = _new_map(group, quantity.name, maps[quantity.name], axes, fill=np.float32(np.nan))
        made.append(dataset)
        dataset.attrs.update(units=quantity.unit, long_name=quantity.label, comment=quantity.meaning)
        error = f"{quantity.name}_std"
        # CF: what tells how far to trust this one
        dataset.attrs["ancillary_variables"] = f"{error} flags" if error in maps else "flags"
        common = systematic.get(quantity.name)
        if common is not None:
            # of all pixels alike, beside the map of random errors
            dataset.attrs["systematic_rel_std"] = float(common["rel_std"])
            dataset.attrs["systematic_parts"] = origin.to_json(common["parts"])
            dataset.attrs["systematic_unknown"] = " ".join(common["unknown"])
    flags = _new_map(group, "flags", maps.flags, axes)
    chunks.write([*made, flags])
    flags.attrs.update(
        long_name="Flags",
        standard_name="status_flag",
        flag_masks=np.array([int(flag) for flag in FLAG_MEANINGS], "<u4"),
        flag_meanings=" ".join(str(flag.name).lower() for flag in FLAG_MEANINGS),
        comment="; ".join(f"{str(flag.name).lower()}: {meaning}" for flag, meaning in FLAG_MEANINGS.items()),
    )


def _write_axes(group: h5py.Group, maps: ParameterMaps) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Write y and x as dimension scales and make the group NeXus data over them, CF alike."""
    group.attrs.update(axes=["y", "x"], y_indices=0, x_indices=1, Conventions="CF-1.11")
    axes = []
    for name, centres in zip(("y", "x"), maps.coordinates(), strict=True):
        axis = group.create_dataset(name, data=centres, dtype="<f8", track_times=False)
        axis.attrs.update(units="m", long_name=f"{name}, pixel centres", axis=name.upper())
        axis.make_scale(name)
        axes.append(axis)
    return axes[0], axes[1]


def _chunk(shape: tuple[int, ...]) -> tuple[int, int]:
    return min(CHUNK, shape[0]), min(CHUNK, shape[1])


def _new_map(
    group: h5py.Group,
    name: str,
    values: np.ndarray,
    axes: tuple[h5py.Dataset, h5py.Dataset],
    fill: Any = None,
) -> h5py.Dataset:
    """Return a dataset for a map, compressed in chunks, over its axes; without times, so that equal maps are equal."""
    dataset = group.create_dataset(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=_chunk(values.shape),
        fillvalue=fill,
        track_times=False,
        **packing.COMPRESSION,
    )
    if fill is not None:
        dataset.attrs["_FillValue"] = fill
    for dimension, axis in zip(dataset.dims, axes, strict=True):
        dimension.attach_scale(axis)
    return dataset


def _write_scan(entry: h5py.Group, grid: Grid) -> None:
    """Write what the coordinates cannot tell: the frame's size if it is known, and its rotation."""
    scan = _group(entry, "scan", "NXcollection")
    for name, value, unit in (
        ("size_y", grid.size_y, "m"),
        ("size_x", grid.size_x, "m"),
        ("rotation", grid.rotation, "deg"),
    ):
        if value is not None:
            scan.create_dataset(name, data=value, dtype="<f8", track_times=False).attrs["units"] = unit


def _write_process(entry: h5py.Group, provenance: Mapping[str, Any]) -> None:
    """Write the provenance as JSON, which `read` takes, and its parts once more where any HDF5 viewer shows them."""
    process = _group(entry, "process", "NXprocess")
    note = _group(process, "provenance", "NXnote")
    known = origin.plain(provenance)
    source = known.get("input") if isinstance(known.get("input"), dict) else {}
    texts = {
        "program": known.get("program", origin.PROGRAM),
        "version": known.get("version", origin.version()),
        "date": known.get("date"),
        "kernel_version": known.get("kernel_version"),
        "recipe": known.get("recipe"),
        "recipe_digest": known.get("recipe_digest"),
        "flag_counts": known.get("flag_counts"),
        **{f"input_{name}": content for name, content in _in_order(source, origin.INPUT_FIELDS)},
    }
    for name, content in texts.items():
        if content is not None:
            _write_text(process, name, content if isinstance(content, str) else origin.to_json(content))
    _write_text(note, "type", "application/json")
    _write_text(note, "data", origin.to_json(provenance))
    calibration = known.get("calibration")
    if isinstance(calibration, dict):
        group = _group(process, "calibration", "NXcollection")
        for name, setting in _in_order(calibration, CALIBRATION_FIELDS):
            if not isinstance(setting, dict) or not isinstance(setting.get("value"), (int, float)):
                continue
            dataset = group.create_dataset(name, data=setting["value"], dtype="<f8", track_times=False)
            dataset.attrs.update(units=str(setting.get("unit", "")), source=str(setting.get("source", "")))
            if setting.get("rel_std") is not None:
                dataset.attrs["rel_std"] = float(setting["rel_std"])


def _in_order(entries: Mapping[str, Any], known: Iterable[str]) -> list[tuple[str, Any]]:
    """Return entries in the order of a run, others after them by name: one read from JSON has forgotten its own."""
    first = [name for name in known if name in entries]
    return [(name, entries[name]) for name in [*first, *sorted(entries.keys() - set(first))]]


def _write_text(group: h5py.Group, name: str, text: str) -> None:
    # a slash would make a group
    group.create_dataset(name.replace("/", "_"), data=_clean(text), dtype=h5py.string_dtype(), track_times=False)


def _clean(text: str) -> str:
    """Return a text that HDF5 can hold: without NUL, which ends it, and without halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _write_vendor(entry: h5py.Group, maps: ParameterMaps, pool: ThreadPoolExecutor) -> None:
    # a key may hold a slash, be empty, or be the name of an axis: datasets have safe names and carry the key
    names: dict[str, str] = {}
    for key in maps.vendor_maps:
        name = _clean(key).replace("/", "_")
        while name in ("", ".", "x", "y", *names.values()):
            name += "_"
        names[key] = name
    first, *others = names.values()
    group = _group(entry, "vendor", "NXdata", signal=first)
    if others:
        group.attrs["auxiliary_signals"] = others
    axes = _write_axes(group, maps)
    for key, vendor in maps.vendor_maps.items():
        dataset = _new_map(group, names[key], vendor.values, axes)
        packing.of_map(vendor.values, dataset.fillvalue, dataset.chunks, pool).write([dataset])
        texts = {"units": vendor.unit, "long_name": vendor.label or vendor.name, "vendor_key": key}
        texts |= {"vendor_name": vendor.name, "vendor_label": vendor.label}
        dataset.attrs.update({name: _clean(text) for name, text in texts.items()})


def holds_maps(path: str | PathLike[str]) -> bool:
    """Return whether a file is HDF5 with maps of a run in it; False for anything else, without complaint."""
    try:
        with read_hdf5(path) as file:
            return "entry/maps/flags" in file
    except OSError:
        return False


def read(path: str | PathLike[str]) -> ParameterMaps:
    """Read what `write` wrote: equal grid, records equal to the bit, provenance and vendor maps.

    Raises
    ------
    FileFormatError
        If the file is missing, is no output of fvproc, is damaged, or was written by another version of the layout.
    """
    name = str(Path(path))
    try:
        with read_hdf5(path) as file:
            _require_output(file, name)
            entry = file["entry"]
            grid = _read_grid(entry)
            records, quantities = _read_records(entry["maps"], grid, name)
            provenance = json.loads(entry["process/provenance/data"][()])
            vendor = _read_vendor(entry["vendor"]) if "vendor" in entry else {}
    except FileNotFoundError:
        raise FileFormatError(f"{name}: no such file") from None
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # h5py answers damage with any of these
        raise FileFormatError(f"{name}: not an output of fvproc, or damaged: {error}") from error
    return ParameterMaps(grid, records, provenance=provenance, vendor_maps=vendor, quantities=quantities)


def _require_output(file: h5py.File, name: str) -> None:
    kind = file.attrs.get("format")
    if kind != FORMAT:
        found = "force curves, not maps; process them first" if kind == "fvproc-curves" else "an HDF5 file, but no maps"
        raise FileFormatError(f"{name}: {found} (root attribute format is {kind!r}, expected {FORMAT!r})")
    number = file.attrs.get("format_version")
    if number != FORMAT_VERSION:
        raise FileFormatError(f"{name}: layout {number} of {FORMAT}; this fvproc reads layout {FORMAT_VERSION}")


def _read_grid(entry: h5py.Group) -> Grid:
    scan = entry["scan"]
    ny, nx = entry["maps/flags"].shape
    sizes = {name: float(scan[name][()]) if name in scan else None for name in ("size_y", "size_x")}
    return Grid(ny, nx, **sizes, rotation=float(scan["rotation"][()]))


def _read_records(group: h5py.Group, grid: Grid, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the records, and which quantities there are."""
    there = {str(group.attrs["signal"]), *map(str, group.attrs.get("auxiliary_signals", []))}
    quantities = tuple(field for field in QUANTITIES if field in there)
    records = not_computed(grid.curves).reshape(grid.shape)
    for field in (*quantities, "flags"):
        if field not in group:
            raise FileFormatError(f"{name}: no map {field!r}: written by another version of fvproc; process again")
        dataset = group[field]
        if dataset.shape != grid.shape or dataset.dtype != RECORD[field]:
            raise FileFormatError(
                f"{name}: map {field!r} is {dataset.dtype} {dataset.shape}, expected {RECORD[field]} {grid.shape}"
            )
        records[field] = dataset[()]
    return records, quantities


def _read_vendor(group: h5py.Group) -> dict[str, VendorMap]:
    # HDF5 lists names in alphabetical order; the attributes of the group keep the order of the maps
    names = [group.attrs["signal"], *group.attrs.get("auxiliary_signals", [])]
    found = {}
    for name in names:
        dataset = group[name]
        attributes = dataset.attrs
        found[attributes["vendor_key"]] = VendorMap(
            attributes["vendor_name"], attributes["units"], dataset[()], attributes["vendor_label"]
        )
    return found
