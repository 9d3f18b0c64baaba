"""Whatever the package afmformats reads and fvproc does not: AFM Workshop, Chiaro, its own .h5 and .tab.

Asked last, after fvproc's own readers and the plug-ins, and for small sets: it makes every curve in Python.

**Numbers.** afmformats gives force in N and height in m. Deflection is force by the spring constant that it tells, z is
minus the height. Where it asks for spring constant and sensitivity, which a file of AFM Workshop may not tell, the
numbers are left in volts and the user gives both. Text of NT-MDT, where it asks as well, is refused: its numbers are no
volts.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.channel_units import require_direction
from fvproc.storage import read_hdf5
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "afmformats"
description = "other formats of the package afmformats: AFM Workshop, Chiaro, .tab (.txt, .csv, .zip, .h5)"
suffixes = (".csv", ".tab", ".txt", ".zip")  # and .h5, which is rarely one of afmformats

_REMEDY = "install it: pip install 'fvproc[afmformats]'"
_HEIGHTS = ("height (measured)", "height (piezo)")
_INDENTATION = ("Optics11 Life",)  # makers whose "height (measured)" is none, but minus the indentation
_VOLTS = ("AFM workshop",)  # makers whose deflection is in volts where no sensitivity is told
_ZIP_BYTES = 1 << 30
_KEPT = 2
_SPARSE = 100  # pixels a curve that a grid may have


@dataclass(frozen=True, slots=True)
class _Curves:
    """Curves of a file as arrays by branch: (deflection, z) of each, where they lie, and their calibration."""

    grid: Grid
    approach: list[tuple[np.ndarray, np.ndarray]]
    retract: list[tuple[np.ndarray, np.ndarray]]
    places: dict[int, int]  # pixel -> number in the lists
    unit: str
    spring_constant: float | None
    warnings: tuple[str, ...]


_KNOWN: OrderedDict[tuple[str, int, int], _Curves] = OrderedDict()
_LOCK = threading.Lock()


def sniff(head: bytes, path: str) -> bool:
    """Tell whether afmformats knows the file; without the package, whether it looks like what it reads."""
    suffix = Path(path).suffix.lower()
    if suffix not in (*suffixes, ".h5") or not _plausible(head, suffix, path):
        return False
    try:
        formats = importlib.import_module("afmformats.formats")
    except ImportError:
        return True  # `open` says what is missing
    try:
        formats.get_recipe(path)
    except Exception:  # it is not ours, and its detection may stumble over anything
        return False
    except BaseException as error:
        _raise_unless_theirs(error)
        return False
    return True


def open(path: str) -> ForceVolume:
    """Describe a file from its curves, which afmformats loads.

    Raises
    ------
    FileFormatError
        If the package afmformats is missing, or cannot read the file, or does not tell force or height.
    """
    status = Path(path).stat()
    found = _curves(path)
    parts = []
    for branch in ("approach", "retract"):
        samples = max(len(z) for _, z in getattr(found, branch))
        if samples < 1:
            _refuse(path, f"{branch}: no samples: these are no curves of approach and retract")
        parts.append(Branch(samples, Channel("float32", found.unit), Channel("float64", "m"), False))
    setting = None
    if found.spring_constant is not None:
        try:
            setting = Setting(found.spring_constant)
        except CalibrationError as error:
            _refuse(path, f"spring constant: {error}")
    digest = hashlib.sha256(repr((found.grid, found.places, found.unit, found.spring_constant)).encode())
    return ForceVolume(
        path=path,
        format=name,
        grid=found.grid,
        approach=parts[0],
        retract=parts[1],
        calibration=Calibration(setting),
        tile_alignment=found.grid.nx,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=digest.hexdigest(),
        warnings=found.warnings,
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile out of what afmformats has loaded."""
    found = _curves(volume.path)
    parts = []
    for branch in ("approach", "retract"):
        samples = getattr(volume, branch).samples
        deflection = np.zeros((len(tile), samples), np.float32)
        z = np.zeros((len(tile), samples))
        valid = np.zeros(len(tile), np.int32)
        for row, pixel in enumerate(range(tile.start, tile.stop)):
            if pixel in found.places:
                own, height = getattr(found, branch)[found.places[pixel]]
                valid[row] = len(own)
                deflection[row, : len(own)], z[row, : len(own)] = own, height
        parts.append(RawBranch(deflection, z, None if (valid == samples).all() else valid))
    return RawTile(parts[0], parts[1])


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return nothing: afmformats reads no images."""
    return {}


# ---- what afmformats tells


def _plausible(head: bytes, suffix: str, path: str) -> bool:
    if suffix == ".zip":
        return head.startswith(b"PK\x03\x04")
    if suffix == ".h5":
        try:
            with read_hdf5(path) as file:
                return "afmformats" in str(file.attrs.get("software", ""))
        except Exception:  # h5py raises whatever damage leads to
            return False
    return b"\0" not in head


def _curves(path: str) -> _Curves:
    status = Path(path).stat()
    key = (path, status.st_size, status.st_mtime_ns)
    with _LOCK:  # afmformats is not made for threads
        if key not in _KNOWN:
            _KNOWN[key] = _load(path)
            while len(_KNOWN) > _KEPT:
                _KNOWN.popitem(last=False)
        _KNOWN.move_to_end(key)
        return _KNOWN[key]


def _load(path: str) -> _Curves:
    try:
        package = importlib.import_module("afmformats")
        errors = importlib.import_module("afmformats.errors")
    except ImportError:
        raise FileFormatError(f"{path}: is read by the package afmformats, which is missing: {_REMEDY}") from None
    _require_small(path)
    unit = "m"
    log = logging.getLogger("afmformats.formats")
    before, log.disabled = log.disabled, True  # it logs tracebacks of errors that are answered here
    try:
        maker = importlib.import_module("afmformats.formats").get_recipe(path).maker
        try:
            found = package.load_data(path)
        except errors.MissingMetaDataError:
            if maker not in _VOLTS:
                _refuse(
                    path,
                    f"text of {maker} tells no units: afmformats takes its deflection for nanoamperes of a photodiode,"
                    " which no sensitivity in m/V turns into metres: read the columns yourself, and give the deflection"
                    ' in metres to fv.from_arrays(…, units="m", spring_constant=VALUE)',
                )
            # force then is the volts of the detector, since both are one
            found = package.load_data(path, meta_override={"spring constant": 1.0, "sensitivity": 1.0})
            unit = "V"
        return _arranged(path, list(found), unit, _HEIGHTS[1:] if maker in _INDENTATION else _HEIGHTS)
    except FileFormatError:
        raise
    except BaseException as error:  # some of its errors are no Exception
        _raise_unless_theirs(error)
        _refuse(path, f"afmformats cannot read it: {type(error).__name__}: {str(error)[:300]}")
    finally:
        log.disabled = before


def _raise_unless_theirs(error: BaseException) -> None:
    if not isinstance(error, Exception) and not type(error).__module__.startswith("afmformats"):
        raise error


def _require_small(path: str) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > _ZIP_BYTES:
                _refuse(path, f"holds {size} bytes: afmformats would take all memory; unpack and split it")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        _refuse(path, f"the archive is damaged: {error}")


def _arranged(path: str, found: list[Any], unit: str, heights: tuple[str, ...]) -> _Curves:
    if not found:
        _refuse(path, "there are no curves in it")
    warnings: list[str] = []
    first = found[0].metadata
    constant = None if unit == "V" else _number(first, "spring constant")
    if unit == "m" and constant is None:
        _refuse(
            path,
            "holds force, and not the spring constant that made it, without which there is no deflection:"
            ' read the numbers yourself and use fv.from_arrays(…, units="N", spring_constant=VALUE)',
        )
    grid = _grid(first, len(found), warnings)
    branches: tuple[list[tuple[np.ndarray, np.ndarray]], list[tuple[np.ndarray, np.ndarray]]] = ([], [])
    places: dict[int, int] = {}
    for number, data in enumerate(found):
        if unit == "m" and _number(data.metadata, "spring constant") != constant:
            _refuse(path, f"curve {number}: another spring constant than the first: split the file")
        height = next((key for key in heights if key in data.columns), None)
        if "force" not in data.columns or height is None:
            _refuse(path, f"curve {number}: columns {', '.join(data.columns)}: expected force and height")
        for part, segment in zip(branches, (data.appr, data.retr), strict=True):
            force, z = np.asarray(segment["force"], np.float64), -np.asarray(segment[height], np.float64)
            with np.errstate(all="ignore"):  # beyond float32 is infinite, which the kernel takes as invalid
                part.append(((force / (constant or 1.0)).astype(np.float32), z))
        x, y = _number(data.metadata, "grid index x"), _number(data.metadata, "grid index y")
        pixel = number if x is None or y is None or grid.ny == 1 else int(y) * grid.nx + int(x)
        if not 0 <= pixel < grid.curves or pixel in places:
            _refuse(path, f"curve {number}: grid index ({y}, {x}): outside the grid of {grid.shape}, or there twice")
        places[pixel] = number
    for branch, part in zip(("approach", "retract"), branches, strict=True):
        z = part[0][1]
        if len(z):
            require_direction(f"{path}: {branch}: minus {heights[0]}", branch, float(z[0]), float(z[-1]), 1.0)
    return _Curves(grid, branches[0], branches[1], places, unit, constant, tuple(warnings))


def _grid(metadata: Any, count: int, warnings: list[str]) -> Grid:
    nx, ny = _number(metadata, "grid shape x"), _number(metadata, "grid shape y")
    if count == 1 and not (nx and ny):
        return Grid(1, 1)
    if nx and ny and count <= nx * ny <= _SPARSE * count and _number(metadata, "grid index x") is not None:
        size_y, size_x = (
            size if size and 0 < size < 1 else None
            for size in (_number(metadata, "grid size y"), _number(metadata, "grid size x"))
        )
        return Grid(int(ny), int(nx), size_y, size_x)
    warnings.append(f"the file does not tell where its {count} curves lie: they come as one row")
    return Grid(1, count)


def _number(metadata: Any, key: str) -> float | None:
    try:
        value = float(metadata.get(key))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _refuse(path: str, why: str) -> NoReturn:
    raise FileFormatError(f"{path}: {why}")
