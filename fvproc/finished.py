"""What an earlier run of the same has finished: an output's own provenance tells, and the maps come out of it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from fvproc import engine, provenance, readers, writers
from fvproc.errors import FileFormatError, FvprocError
from fvproc.maps import ParameterMaps, not_computed
from fvproc.recipe import Recipe
from fvproc.storage import read_hdf5
from fvproc.volume import ForceVolume, Tile

PathName = str | PathLike[str]

# of the provenance: what makes a run this very one, and how that is said to people
_SAME = {
    "version": "fvproc is of another version",
    "kernel_version": "the kernel is of another version",
    "recipe_digest": "the recipe is another",
    "calibration": "the calibration is another",
    "input": "the input is another",
}
_GDAL_METADATA = 42112  # tag of TIFF with GDAL's XML
_PREFIX = "FVPROC_"  # of the provenance's items in it
_TEXTS = ("program", "version", "kernel_version", "date", "recipe_digest")  # items that are no JSON
_FLAGS = {"flags_warning": 0, "flags_fatal": 16}  # bands with 16 bits of the flags each: by how much they are shifted


@dataclass(frozen=True, slots=True)
class Finished:
    """The maps of an earlier run of the same, and what its outputs are worth.

    Parameters
    ----------
    maps : ParameterMaps
        Those with the fewest curves that failed.
    outputs : tuple of path-like
        Those that hold these maps.
    stale : tuple of path-like
        Those of the same run whose maps are worse, or cannot be read.
    """

    maps: ParameterMaps
    outputs: tuple[PathName, ...]
    stale: tuple[PathName, ...] = ()


def tells(path: PathName) -> bool:
    """Return whether outputs of this format tell the run that wrote them: HDF5, NPZ and TIFF do."""
    return writers.suffix_of(path) in _TOLD


def another(path: PathName, volume: ForceVolume, recipe: Recipe) -> str | None:
    """Return why an output that tells is not of a run of this input, recipe and version; None if it is."""
    if volume.format == "arrays":
        return "arrays in memory cannot be recognised when they come again"
    try:
        told = _told(path, recipe)
    except FvprocError as error:
        return str(error).removeprefix(f"{path}: ")
    now = _described_now(volume, recipe)
    reasons = [reason for name, reason in _SAME.items() if _untimed(told.get(name)) != _untimed(now[name])]
    reasons += _changed(path, told, volume) if _SAME["input"] not in reasons else []
    return "; ".join(reasons) or None


def failed(told: Mapping[str, Any]) -> list[Tile]:
    """Return the runs of curves that could not be computed, in order, by a provenance."""
    return sorted(Tile(*failure["curves"]) for failure in told.get("failures") or ())


def failed_in(path: PathName) -> int:
    """Return how many curves could not be computed, by what an output tells; 0 if it tells nothing."""
    if not tells(path) or not Path(path).is_file():
        return 0
    try:
        return sum(len(tile) for tile in failed(_told(path, None)))
    except (FvprocError, KeyError, TypeError, ValueError):
        return 0


def find(volume: ForceVolume, recipe: Recipe, outputs: Sequence[PathName]) -> Finished | None:
    """Return what an earlier run of this input, recipe and version has finished; None if no output holds its maps."""
    there = [path for path in outputs if tells(path) and Path(path).is_file()]
    own = [path for path in there if another(path, volume, recipe) is None]
    lost = {path: failed_in(path) for path in own}
    # a run that goes on may have been killed between two outputs; the others than TIFF hold vendor maps, too
    for path in sorted(own, key=lambda path: (lost[path], _is_tiff(path))):
        try:
            maps = _bands(Path(path), volume, recipe) if _is_tiff(path) else writers.load(path)
        except FvprocError:
            continue
        # JSON comes back in the order of the alphabet; in that of a run, what is written now has the bytes of a run
        maps.provenance = _ordered(maps.provenance, _described_now(volume, recipe))
        same = tuple(other for other in own if lost[other] == lost[path])
        return Finished(maps, same, tuple(other for other in own if other not in same))
    return None


def _told(path: PathName, recipe: Recipe | None) -> Mapping[str, Any]:
    return _TOLD[writers.suffix_of(path)](Path(path), recipe)


def _untimed(told: Any) -> Any:
    """Return the same without the time of modification, which is known to a few seconds only."""
    return {name: told[name] for name in told if name != "modified"} if isinstance(told, Mapping) else told


def _changed(path: PathName, told: Mapping[str, Any], volume: ForceVolume) -> list[str]:
    """Return what tells that samples may be others under the same header."""
    then, now = told["input"].get("modified"), volume.modified_ns
    if not now:
        return []
    if isinstance(then, str):
        told_now = provenance.moment(now)
        if then == told_now or readers.same_time(_nanoseconds(then), _nanoseconds(told_now)):
            return []
        return [f"the input has changed since: modified {then} then, {told_now} now"]
    # it says nothing of that: it was made under SOURCE_DATE_EPOCH, or by an older fvproc
    written = Path(path).stat().st_mtime_ns
    if now <= written or readers.same_time(now, written):
        return []
    return [f"the input was modified {provenance.moment(now)}, the output written {provenance.moment(written)}"]


def _nanoseconds(moment: str) -> int:
    try:
        return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _described_now(volume: ForceVolume, recipe: Recipe) -> dict[str, Any]:
    return provenance.describe(volume, recipe, kernel_version=engine.KERNEL_VERSION, flag_counts={})


def _ordered(told: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested dict in the order of another; what that does not have comes last."""
    keys = [*(key for key in like if key in told), *(key for key in told if key not in like)]
    return {
        key: _ordered(told[key], like[key])
        if isinstance(told[key], Mapping) and isinstance(like.get(key), Mapping)
        else told[key]
        for key in keys
    }


def _is_tiff(path: PathName) -> bool:
    return writers.suffix_of(path).endswith((".tif", ".tiff"))


# ---- the provenance in an output


def _of_hdf5(path: Path, recipe: Recipe | None) -> Mapping[str, Any]:
    try:
        with read_hdf5(path) as file:
            return _mapping(json.loads(file["entry/process/provenance/data"][()]))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # h5py answers damage with any of these
        raise _foreign(path) from error


def _of_npz(path: Path, recipe: Recipe | None) -> Mapping[str, Any]:
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as archive:
            return _mapping(json.loads(str(archive["provenance"])))
    except (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        raise _foreign(path) from error


def _of_tiff(path: Path, recipe: Recipe | None) -> Mapping[str, Any]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            names, told = _described(file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, ElementTree.ParseError) as error:
        raise _foreign(path) from error
    if recipe is not None and names != [*recipe.maps.names, *_FLAGS]:
        raise FileFormatError(f"{path}: it holds other quantities")
    return told


_TOLD: dict[str, Callable[[Path, Recipe | None], Mapping[str, Any]]] = {
    ".h5": _of_hdf5,
    ".hdf5": _of_hdf5,
    ".npz": _of_npz,
    **dict.fromkeys((".tif", ".tiff", ".ome.tif", ".ome.tiff"), _of_tiff),
}


def _foreign(path: Path) -> FileFormatError:
    return FileFormatError(f"{path}: it is no output of fvproc, or damaged")


def _mapping(told: Any) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        raise ValueError("no provenance")
    return told


def _described(file: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the bands of a TIFF and its provenance, both out of GDAL's metadata."""
    names: list[str] = []
    told: dict[str, Any] = {}
    for page in file.pages:
        root = ElementTree.fromstring(page.tags[_GDAL_METADATA].value)
        for item in root.iter("Item"):
            name, text = str(item.get("name")), (item.text or "").replace("&amp;", "&")  # escaped twice, as GDAL does
            if item.get("role") == "description":
                names.append(text)
            elif name.startswith(_PREFIX):
                key = name.removeprefix(_PREFIX).lower()
                told[key] = text
    texts = (*_TEXTS, "scan_rotation", "pixel_size")
    return names, {key: text if key in texts else json.loads(text) for key, text in told.items()}


def _bands(path: Path, volume: ForceVolume, recipe: Recipe) -> ParameterMaps:
    """Return the maps of a TIFF with one band for each quantity, equal to the bit to those that were written.

    Raises
    ------
    FileFormatError
        If the file is damaged, or its bands are not on the grid of the volume.
    """
    import tifffile

    records = not_computed(volume.grid.curves).reshape(volume.shape)
    records["flags"] = 0
    try:
        with tifffile.TiffFile(path) as file:
            names, told = _described(file)
            values = file.pages[0].asarray() if len(file.pages) == 1 else (page.asarray() for page in file.pages)
            for name, band in zip(names, values, strict=True):
                upward = band[::-1]  # row 0 of the maps is the bottom of the scan
                if name in _FLAGS:
                    records["flags"] |= upward.astype(np.uint32) << np.uint32(_FLAGS[name])
                else:
                    records[name] = upward
    except Exception as error:  # tifffile and its codecs answer damage with whatever they stumble over
        raise _foreign(path) from error
    for name in ("scan_rotation", "pixel_size"):
        told.pop(name, None)  # of the frame of the scan, no part of the provenance
    return ParameterMaps(
        volume.grid, records, provenance=told, vendor_maps=readers.vendor_maps(volume), quantities=recipe.maps.names
    )
