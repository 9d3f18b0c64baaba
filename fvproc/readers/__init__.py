"""The door to all file formats: finds the reader of a file, opens the file, reads its tiles."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from fvproc.errors import CalibrationError, FileFormatError
from fvproc.readers.hdf5_heaps import MAGIC, require_sound_heaps
from fvproc.storage import read_hdf5
from fvproc.volume import ForceVolume, RawTile, Tile, VendorMap

GROUP = "fvproc.readers"  # entry-point group: one module (or object) per format

# The formats that come with fvproc work even where the package's entry points are not installed. The order is that of
# asking: nanoscope and jpk need no h5py.
_BUILT_IN = {
    "nanoscope": "fvproc.readers.nanoscope",
    "jpk": "fvproc.readers.jpk",
    "asylum": "fvproc.readers.asylum",
    "ardf": "fvproc.readers.ardf",
    "nanosurf": "fvproc.readers.nanosurf",
    "curves": "fvproc.readers.curves",
    "arrays": "fvproc.readers.arrays",
    "nhf": "fvproc.readers.nhf",
    "nsid": "fvproc.readers.nsid",
    "mapping": "fvproc.readers.mapping",
    "afmformats": "fvproc.readers.afmformats",
}
# Whose files begin like this is asked first: the others' modules then need not be imported.
_BEGINNINGS = {"curves": b"\x89HDF\r\n\x1a\n", "jpk": b"PK\x03\x04"}
_LAST = "afmformats"  # claims what nobody else does, so that plug-ins go before it

_HEAD_BYTES = 4096
_TIME_TOLERANCE_NS = 2_000_000_000
# what is packed, where in the head that is told, and how
_ARCHIVES = {
    "gzip": (0, b"\x1f\x8b"),
    "tar": (257, b"ustar"),
    "xz": (0, b"\xfd7zXZ\0"),
    "bzip2": (0, b"BZh"),
    "zstd": (0, b"\x28\xb5\x2f\xfd"),
    "7z": (0, b"7z\xbc\xaf\x27\x1c"),
}
_Result = TypeVar("_Result")


class Reader(Protocol):
    """What a module has to supply to be a reader of one format.

    Every function may be called from several threads at once, and `read` and `vendor_maps` in another process than
    `open`: a reader keeps no open file in the volume.
    """

    @property
    def name(self) -> str:
        """Name of the format; the name of the entry point too."""

    @property
    def description(self) -> str:
        """One line for people: whose format, which suffixes."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Usual file name suffixes in lower case with the dot; used for wording errors only."""

    def sniff(self, head: bytes, path: str) -> bool:
        """Tell whether the file is of this format, from its first bytes, and its content where these do not tell.

        Of a folder, `head` is empty.
        """

    def open(self, path: str) -> ForceVolume:
        """Read the header; raise FileFormatError that names file, field, value and remedy.

        The volume's `format` is the reader's `name`, and its `file_size` and `modified_ns` those of the file.
        """

    def read(self, volume: ForceVolume, tile: Tile) -> RawTile:
        """Read a tile: raw numbers in native byte order, samples in the order of time."""

    def vendor_maps(self, volume: ForceVolume) -> dict[str, VendorMap]:
        """Return the maps that the instrument's software left in the file."""


def open_volume(
    path: str | PathLike[str],
    *,
    spring_constant: float | None = None,
    deflection_sensitivity: float | None = None,
    z_sensitivity: float | None = None,
    mapping: str | PathLike[str] | dict[str, Any] | None = None,
) -> ForceVolume:
    """Open a force volume: find its reader by content, read its header, apply the user's calibration.

    Parameters
    ----------
    path : path-like
        The file; a folder where the format is one of many files.
    spring_constant, deflection_sensitivity, z_sensitivity : float, optional
        Override the file's values, in N/m, m/V and m/V.
    mapping : path-like or dict, optional
        Of an HDF5 file: what lies where in it, as a TOML file or its content; see `fvproc.readers.mapping`.

    Returns
    -------
    ForceVolume
        Description of the file; the curves stay on disk.

    Raises
    ------
    FileFormatError
        If the file does not exist, is of no known format, is truncated or contradicts itself.
    CalibrationError
        If an override is not finite and positive, or a sensitivity is given for metres and the file does not tell what
        made them.
    """
    name = str(Path(os.fsdecode(path)).absolute())  # workers run in other folders
    head = _head(name)
    if head.startswith(MAGIC):
        require_sound_heaps(name)
    overrides = {
        "spring_constant": spring_constant,
        "deflection_sensitivity": deflection_sensitivity,
        "z_sensitivity": z_sensitivity,
    }
    if mapping is not None:
        from fvproc.readers.mapping import open_with

        volume = open_with(name, mapping)
        return volume.with_calibration(volume.calibration.override(**overrides))
    broken: list[str] = []
    for reader in _readers(broken, head):
        if reader.sniff(head, name):
            volume = _named(name, reader.open, name)
            return volume.with_calibration(volume.calibration.override(**overrides))
    raise FileFormatError(_unknown(name, head, broken))


def read_tile(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read the curves of a tile: raw numbers, contiguous, native byte order.

    Raises
    ------
    FileFormatError
        If the file is gone, or no longer the one that was opened.
    ValueError
        If the tile reaches beyond the volume.
    """
    if tile.stop > volume.grid.curves:
        raise ValueError(f"{volume.path}: {tile} reaches beyond the {volume.grid.curves} curves of the volume")
    require_unchanged(volume)
    return _named(volume.path, reader_of(volume).read, volume, tile)


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the maps that the instrument's own software left in the file, by name; empty if none.

    Raises
    ------
    FileFormatError
        If the file is gone, or no longer the one that was opened.
    """
    require_unchanged(volume)
    return _named(volume.path, reader_of(volume).vendor_maps, volume)


def _named(path: str, work: Callable[..., _Result], *given: Any) -> _Result:
    """Do it; see to it that an error names the file, as one of a value that a reader passed on may not."""
    try:
        return work(*given)
    except (FileFormatError, CalibrationError) as error:
        if Path(path).name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None


def reader_of(volume: ForceVolume) -> Reader:
    """Return the reader that opened a volume; FileFormatError if this installation has none of that name."""
    try:
        return _load(volume.format)
    except KeyError:
        raise FileFormatError(
            f"{volume.path}: opened by the reader {volume.format!r}, which this Python does not have:"
            f" install the package that supplies it (entry-point group {GROUP!r}) here as well"
        ) from None


def formats() -> dict[str, str]:
    """Return name and description of every format that can be read."""
    return {reader.name: reader.description for reader in _readers([])}


def _readers(broken: list[str], head: bytes = b"") -> Iterator[Reader]:
    """Yield the built-in readers, then the plug-ins, then the last resort; `broken` notes what cannot be loaded."""
    likely = [name for name, beginning in _BEGINNINGS.items() if head.startswith(beginning)]
    for name in dict.fromkeys((*likely, *_BUILT_IN)):
        if name != _LAST:
            yield _load(name)
    for name in _plug_ins():
        try:
            reader = _load(name)
        except Exception as error:  # a faulty plug-in must not keep other files from opening
            broken.append(f"{name} ({type(error).__name__}: {error})")
        else:
            yield reader
    yield _load(_LAST)


@cache
def _plug_ins() -> dict[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in found if point.name not in _BUILT_IN}


@cache
def _load(name: str) -> Reader:
    if name in _BUILT_IN:
        return cast(Reader, importlib.import_module(_BUILT_IN[name]))
    return cast(Reader, _plug_ins()[name].load())


def _head(name: str) -> bytes:
    """Return the first bytes of a file; none of a folder, which a reader may know by what lies in it."""
    if Path(name).is_dir():
        return b""
    try:
        with Path(name).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise FileFormatError(f"{name}: no such file") from None
    except OSError as error:
        raise FileFormatError(f"{name}: the file cannot be read: {error.strerror or error}") from None
    if not head:
        raise FileFormatError(f"{name}: the file is empty")
    return head


def _unknown(name: str, head: bytes, broken: list[str]) -> str:
    if _holds_maps(name, head):
        return f"{name}: holds the maps of a run and no curves: `fv.load` opens it, `fvproc info` describes it"
    archive = next((kind for kind, (place, magic) in _ARCHIVES.items() if head[place:].startswith(magic)), None)
    if archive is not None:
        return f"{name}: no known format of force volumes but an archive ({archive}): unpack it and give what is in it"
    known = "; ".join(f"{format}: {description}" for format, description in formats().items())
    suffix = Path(name).suffix.lower()
    usual = [reader.name for reader in _readers([]) if suffix and suffix in reader.suffixes]
    hint = f" It is named like a {' or '.join(usual)} file, but its content is not one's." if usual else ""
    if suffix in (".h5", ".hdf5", ".nhf"):
        hint += " HDF5 of any other layout can be read with a mapping that says what lies where: --mapping FILE."
    if Path(name).is_dir():
        hint = " It is a folder, which cannot be read as one map."
    faulty = f" Readers that could not be loaded: {', '.join(broken)}." if broken else ""
    return f"{name}: no known format of force volumes.{hint} Known are {known}.{faulty}"


def _holds_maps(name: str, head: bytes) -> bool:
    """Tell whether a file is an HDF5 or NPZ output of a run; those who ask for curves in it took one for the other."""
    try:
        if head.startswith(MAGIC):
            with read_hdf5(name) as file:
                return bool(file.attrs.get("format") == "fvproc-maps")
        if head.startswith(_BEGINNINGS["jpk"]):
            with zipfile.ZipFile(name) as archive:
                return {"layout.npy", "provenance.npy", "flags.npy"} <= set(archive.namelist())
    except Exception:  # h5py and zipfile raise whatever damage leads to
        pass
    return False


def same_time(one_ns: int, other_ns: int) -> bool:
    """Return whether two times of modification may be one: clients of a share may round it by up to 2 s (FAT)."""
    return abs(one_ns - other_ns) <= _TIME_TOLERANCE_NS


def require_unchanged(volume: ForceVolume) -> None:
    """Refuse to mix two states of a file: its size and time must be those of opening."""
    if volume.format == "arrays":
        return  # no file
    try:
        status = Path(volume.path).stat()
    except OSError as error:
        raise FileFormatError(f"{volume.path}: the file cannot be reached: {error.strerror or error}") from None
    if status.st_size != volume.file_size or not same_time(status.st_mtime_ns, volume.modified_ns):
        raise FileFormatError(
            f"{volume.path}: the file has changed since it was opened ({volume.file_size} bytes then,"
            f" {status.st_size} now): open it again"
        )
