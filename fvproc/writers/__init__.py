"""The door to all output formats: chooses the writer by suffix, and puts only finished files in place."""

from __future__ import annotations

import glob
import importlib.util
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fvproc import provenance
from fvproc.errors import FileFormatError, OutputError

if TYPE_CHECKING:
    from fvproc.maps import CurveFit, ParameterMaps

# The libraries behind the formats take longer to import than a small map to process, so each writer is imported when
# it is needed: hence the functions here and not a table of modules.


def _hdf5(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import hdf5

    hdf5.write(maps, path)


def _bands(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import geotiff

    geotiff.write(maps, path)


def _stack(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import ometiff

    ometiff.write(maps, path)


def _figure(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import figure

    figure.write(maps, path, curve=curve)


def _npz(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import tables

    tables.write_npz(maps, path)


def _csv(maps: ParameterMaps, path: Path, curve: CurveFit | None) -> None:
    from fvproc.writers import tables

    tables.write_csv(maps, path)


def _read_hdf5(path: Path) -> ParameterMaps:
    from fvproc.writers import hdf5

    return hdf5.read(path)


def _read_npz(path: Path) -> ParameterMaps:
    from fvproc.writers import tables

    return tables.read_npz(path)


@dataclass(frozen=True, slots=True)
class Format:
    """What one suffix stands for.

    `write` and `read` are the functions behind it; `per_map` says that each map becomes a file of its own;
    `needs` is a module beyond the required ones, supplied by the optional dependencies `extra`.
    """

    description: str
    write: Callable[[ParameterMaps, Path, CurveFit | None], None] | None
    read: Callable[[Path], ParameterMaps] | None = None
    per_map: bool = False
    needs: str = ""
    extra: str = ""


_HDF5 = Format("HDF5 with everything, for fvproc.load, xarray, NeXus viewers", _hdf5, _read_hdf5)
_STACK = Format("OME-TIFF stack, one page per map, for ImageJ, Fiji, napari", _stack)
_BANDS = Format("multi-band GeoTIFF, for GDAL, QGIS, rasterio", _bands)
_FIGURE = Format("picture of the maps, histograms and a curve", _figure, needs="matplotlib", extra="plot")

SUFFIXES: dict[str, Format] = {
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".ome.tif": _STACK,
    ".ome.tiff": _STACK,
    ".tif": _BANDS,
    ".tiff": _BANDS,
    ".png": _FIGURE,
    ".svg": _FIGURE,
    ".pdf": _FIGURE,
    ".gsf": Format("Gwyddion fields, one file X_<map>.gsf per map", None, per_map=True),
    ".npz": Format("NumPy arrays, one per map", _npz, _read_npz),
    ".csv": Format("table, one row per curve", _csv),
}


def save(
    maps: ParameterMaps, path: str | PathLike[str], *, curve: CurveFit | None = None, overwrite: bool = True
) -> tuple[Path, ...]:
    """Write maps to a file whose suffix names the format; the file appears only when it is complete.

    Parameters
    ----------
    maps : ParameterMaps
        What to write.
    path : path-like
        Ends in one of `SUFFIXES`; missing folders are made.
    curve : CurveFit, optional
        A typical curve for pictures; other formats pass it over.
    overwrite : bool
        Whether to replace a file that exists.

    Returns
    -------
    tuple of Path
        The files written: one, except for ``.gsf``, where there is one per map.

    Raises
    ------
    OutputError
        If the suffix is unknown, the file exists and must not be overwritten, a library is missing, or the disk
        refuses. An earlier file is then still what it was.
    """
    path = Path(path)
    kind = _format(path)
    _require_library(path, kind)
    targets = _targets(path, kind)
    if not overwrite:
        _refuse_existing(targets)
    writing = shown(path)
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        if kind.write is not None:
            with replacing(path) as temporary:
                kind.write(maps, temporary, curve)
        else:
            from fvproc.writers import gsf
            from fvproc.writers.bands import bands_of

            parts = gsf.parts(path)
            targets = tuple(target for target, band in parts.items() if band in bands_of(maps))
            _refuse_maps_of_others(path, targets)
            for writing in targets:
                with replacing(writing) as temporary:
                    gsf.write(maps, temporary, parts[writing])
            for writing in parts:  # a map of the run before would pass for one of this
                if writing not in targets and gsf.title(writing) == parts[writing].label:
                    writing.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{writing}: cannot be written: {error.strerror or error}") from error
    return targets


def holds_maps(path: str | PathLike[str]) -> bool:
    """Return whether a file is an HDF5 output of a run; False for anything else, without complaint."""
    if suffix_of(path) not in (".h5", ".hdf5"):
        return False
    from fvproc.writers import hdf5

    return hdf5.holds_maps(path)


def load(path: str | PathLike[str]) -> ParameterMaps:
    """Read maps that `save` wrote as HDF5 or NPZ.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, no output of fvproc, or of a format that does not hold everything.
    """
    path = Path(path)
    readers = {suffix: kind.read for suffix, kind in SUFFIXES.items() if kind.read is not None}
    read = readers.get(suffix_of(path))
    if read is None:
        raise FileFormatError(f"{path}: maps are read from {', '.join(readers)} only")
    return read(path)


def check_writable(path: str | PathLike[str], overwrite: bool = True) -> None:
    """Make sure, before any work starts, that `save` will be able to write this path.

    The nearest folder that exists is tried with a real file: permission bits say little about network shares and
    read-only mounts.

    Raises
    ------
    OutputError
        If the suffix is unknown, a library is missing, the file exists and must not be overwritten, or the folder
        cannot be written or made; the message names the remedy.
    """
    path = Path(path)
    kind = _format(path)
    _require_library(path, kind)
    provenance.date()  # refuses a SOURCE_DATE_EPOCH that could not be written at the end
    targets = _targets(path, kind)
    for target in targets:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder; name a file")
    if kind.per_map:
        _refuse_maps_of_others(path, targets)
    if not overwrite:
        _refuse_existing(targets)
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{shown(path)}: {folder} is a file, not a folder; choose another output")
    probe = folder / f".fvproc-{secrets.token_hex(8)}.tmp"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{shown(path)}: {folder} cannot be written: {error.strerror or error}; choose another folder, or ask for"
            " the right to write there"
        ) from None


def shown(path: str | PathLike[str]) -> Path:
    """Return how to call an output before people: by its name, or ``X_*.gsf`` where each map is a file of its own."""
    path = Path(path)
    kind = SUFFIXES.get(suffix_of(path))
    return path.with_name(f"{path.stem}_*{path.suffix}") if kind is not None and kind.per_map else path


def suffix_of(path: str | PathLike[str]) -> str:
    """Return the longest known suffix that a path ends in, in lower case; else its last one."""
    name = Path(path).name.lower()
    known = [suffix for suffix in SUFFIXES if name.endswith(suffix) and name != suffix]
    return max(known, key=len, default=Path(name).suffix)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; put it in place when the block ends well, else remove it.

    The content is on disk before the name is: after a crash `path` is the old file or the new one, never a part.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, and the file behind it is replaced
    # Unique, so that two runs that write the same output cannot mix; the suffix stays last, as libraries go by it.
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the name itself; not every system can open a folder
        _to_disk(target.parent)


def sweep(path: str | PathLike[str]) -> None:
    """Remove the unfinished files of a run that was killed while it wrote `path`; for when no other writes it."""
    for name in _targets(Path(path), _format(Path(path))):
        target = Path(os.path.realpath(name))
        pattern = f".{glob.escape(target.stem)}.{'[0-9a-f]' * 8}.tmp{glob.escape(target.suffix)}"
        for left in target.parent.glob(pattern):
            with suppress(OSError):
                left.unlink()


def _to_disk(path: Path) -> None:
    # Windows flushes only what is open for writing; a folder opens for reading only
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _format(path: Path) -> Format:
    try:
        return SUFFIXES[suffix_of(path)]
    except KeyError:
        raise OutputError(
            f"{path}: no output format has the suffix {path.suffix!r}; known are {', '.join(SUFFIXES)}"
        ) from None


def _require_library(path: Path, kind: Format) -> None:
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        raise OutputError(f"{path}: pictures need {kind.needs}: pip install fvproc[{kind.extra}]")


def files(path: str | PathLike[str]) -> tuple[Path, ...]:
    """Return the files that stand for one output: itself, or one for each map there may be.

    Raises
    ------
    OutputError
        If the suffix is unknown.
    """
    return _targets(Path(path), _format(Path(path)))


def _targets(path: Path, kind: Format) -> tuple[Path, ...]:
    if not kind.per_map:
        return (path,)
    from fvproc.writers import gsf

    return tuple(gsf.parts(path))


def _refuse_maps_of_others(path: Path, targets: tuple[Path, ...]) -> None:
    from fvproc.writers import gsf

    parts = gsf.parts(path)
    for target in targets:
        if gsf.of_another(target, parts[target]):
            raise OutputError(
                f"{target}: holds “{gsf.title(target)}” of another output, which {shown(path)} would replace; choose"
                " another name"
            )


def _refuse_existing(targets: tuple[Path, ...]) -> None:
    for target in targets:
        if target.exists():
            raise OutputError(f"{target}: exists already; give --overwrite (overwrite=True) or another name")
