"""What the curves of an Asylum Research input are, one file or a folder of them: found once, kept as columns."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.asylum_wave import HEADER_BYTES, Wave, WaveError, bytes_at, labels_of, note_of, opened, parse, value

_NAME = re.compile(r"Line(\d{4,6})Point(\d{4,6})([A-Za-z]*)\.ibw", re.IGNORECASE)
_DEPTH = 3
_FILES = 4_000_000
_SPARSE = 100  # pixels a curve that a grid may have, so that a single name cannot ask for all memory
_IMAGES = 16
_KEPT = 4
SEGMENTS = 8
DEFLECTION = ("Defl", "DeflV")
Z = ("ZSnsr", "LVDT", "Raw")


@dataclass(frozen=True, slots=True)
class Index:
    """The curves of an input.

    Parameters
    ----------
    shape : (int, int)
        Lines and points.
    files : list of (str, str)
        Path of the deflection's and of z's wave, the same where one wave holds both; curves in rising pixel number.
    pixels : ndarray of int64, shape (curves,)
        Pixel number of each.
    start : ndarray of int64, shape (curves, 2)
        Byte at which deflection and z begin.
    points : ndarray of int32, shape (curves,)
        Samples of each, all segments.
    bounds : ndarray of int32, shape (curves, SEGMENTS + 1)
        Its ``Indexes``; −1 beyond the last.
    waves : (str, str)
        dtype of deflection and z as stored.
    names : (str, str)
        What deflection and z are called.
    units : (str, str)
        Of the waves.
    note : bytes
        That of the first curve or of the map's image, whichever is longer: it holds the settings.
    images : list of (str, Wave, list of str)
        Waves of three dimensions in the folder, with their layers' names.
    warnings : tuple of str
    digest : str
        SHA-256 of all headers and notes of curves.
    """

    shape: tuple[int, int]
    files: list[tuple[str, str]]
    pixels: np.ndarray
    start: np.ndarray
    points: np.ndarray
    bounds: np.ndarray
    waves: tuple[str, str]
    names: tuple[str, str]
    units: tuple[str, str]
    note: bytes
    images: list[tuple[str, Wave, list[str]]]
    warnings: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class _Curve:
    files: tuple[str, str]
    start: tuple[int, int]
    points: int
    bounds: list[int]
    waves: tuple[str, str]
    names: tuple[str, str]
    units: tuple[str, str]
    note: bytes


_KNOWN: OrderedDict[tuple[str, int, int], Index] = OrderedDict()
_LOCK = threading.Lock()


def index(path: str, *, fresh: bool = False) -> Index:
    """Return the curves of a file or folder; one that is known, by path, size and time, is not searched again.

    `fresh` searches in any case: the time of a folder does not tell what has changed deeper in it.

    Raises
    ------
    FileFormatError
        If there are none, or the file is damaged.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be reached: {error.strerror or error}") from None
    key = (path, status.st_size, status.st_mtime_ns)
    with _LOCK:
        if fresh or key not in _KNOWN:
            _KNOWN[key] = _folder(path) if Path(path).is_dir() else _single(path)
            while len(_KNOWN) > _KEPT:
                _KNOWN.popitem(last=False)
        _KNOWN.move_to_end(key)
        return _KNOWN[key]


def waves_in(folder: str, depth: int = _DEPTH) -> Iterator[os.DirEntry[str]]:
    """Yield the .ibw files of a folder and those within it; links are not followed, so that nothing outside is read."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise FileFormatError(f"{folder}: the folder cannot be read: {error.strerror or error}") from None
    for entry in found:
        if entry.is_file(follow_symlinks=False):
            if entry.name[-4:].lower() == ".ibw":
                yield entry
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from waves_in(entry.path, depth - 1)


def curve_name(name: str) -> bool:
    """Tell whether a file is named as a curve of a map is."""
    return _NAME.fullmatch(name) is not None


def _single(path: str) -> Index:
    try:
        curve, digest = _curve(path, path)
    except (WaveError, OSError) as error:
        raise FileFormatError(f"{path}: {error}") from None
    return _columns((1, 1), {0: curve}, [], (), digest)


def _folder(path: str) -> Index:
    found: dict[tuple[int, int], dict[str, str]] = {}
    others: list[str] = []
    for count, entry in enumerate(waves_in(path)):
        if count >= _FILES:
            raise FileFormatError(f"{path}: more than {_FILES} files: give the folder of one map")
        match = _NAME.fullmatch(entry.name)
        if match is None:
            others.append(entry.path)
            continue
        channels = found.setdefault((int(match[1]), int(match[2])), {})
        if match[3] in channels:
            raise FileFormatError(
                f"{path}: {channels[match[3]]} and {entry.path} are the same curve: give one's folder"
            )
        channels[match[3]] = entry.path
    curves: dict[tuple[int, int], _Curve] = {}
    digest = hashlib.sha256()
    failures: list[str] = []
    for place in sorted(found):
        channels = found[place]
        deflection = next((channels[name] for name in (*DEFLECTION, "") if name in channels), None)
        z = next((channels[name] for name in (*Z, "") if name in channels), None)
        if deflection is None or z is None:
            failures.append(
                f"Line{place[0]:04d}Point{place[1]:04d}: has {', '.join(channels)}, not both Defl and ZSnsr"
            )
            continue
        try:
            curve, own = _curve(deflection, z)
        except (WaveError, OSError) as error:
            failures.append(f"{Path(deflection).name}: {error}")
            continue
        digest.update(own.encode())
        # a note may take 16 kB: only the first is kept
        curves[place] = replace(curve, note=b"") if curves else curve
    if not curves:
        why = failures[0] if failures else "no LineXXXXPointXXXX.ibw in it"
        raise FileFormatError(f"{path}: no force curve of a map can be read: {why}")
    lines, points = (max(place[axis] for place in curves) + 1 for axis in (0, 1))
    images = list(_images(others))
    for _, wave, _ in images:
        # a map that was stopped has fewer curves than its images have pixels
        if wave.shape[0] >= points and wave.shape[1] >= lines and wave.shape[0] * wave.shape[1] < 1 << 24:
            points, lines = wave.shape[:2]
            break
    if lines * points > _SPARSE * len(curves) + (1 << 14):
        raise FileFormatError(
            f"{path}: {len(curves)} curves, the last in line {lines - 1} and point {points - 1}: these are not the"
            " curves of one map; give its folder"
        )
    first = next(iter(curves.values()))
    alike = {
        place: curve for place, curve in curves.items() if (curve.waves, curve.names) == (first.waves, first.names)
    }
    failures += [f"Line{y:04d}Point{x:04d}: has other channels than the first" for y, x in curves.keys() - alike.keys()]
    warnings = []
    if failures:
        warnings.append(f"{len(failures)} curves cannot be read and have no samples; the first: {failures[0]}")
    by_pixel = {y * points + x: curve for (y, x), curve in alike.items()}
    return _columns((lines, points), by_pixel, images, tuple(warnings), digest.hexdigest(), _notes(others))


def _columns(
    shape: tuple[int, int],
    curves: dict[int, _Curve],
    images: list[tuple[str, Wave, list[str]]],
    warnings: tuple[str, ...],
    digest: str,
    note: bytes = b"",
) -> Index:
    pixels = sorted(curves)
    ordered = [curves[pixel] for pixel in pixels]
    bounds = np.full((len(ordered), SEGMENTS + 1), -1, np.int32)
    for row, curve in zip(bounds, ordered, strict=True):
        row[: len(curve.bounds)] = curve.bounds
    return Index(
        shape=shape,
        files=[curve.files for curve in ordered],
        pixels=np.array(pixels, np.int64),
        start=np.array([curve.start for curve in ordered], np.int64),
        points=np.array([curve.points for curve in ordered], np.int32),
        bounds=bounds,
        waves=ordered[0].waves,
        names=ordered[0].names,
        units=ordered[0].units,
        note=max([note, *(curve.note for curve in ordered[:1])], key=len),
        images=images,
        warnings=warnings,
        digest=digest,
    )


def _curve(deflection: str, z: str) -> tuple[_Curve, str]:
    """Read header, note and labels of one curve; return it with a digest of them."""
    column, wave, note = _column(deflection, DEFLECTION)
    other, z_wave = _column(z, Z)[:2] if z != deflection else (_column(z, Z)[0], wave)
    if wave.shape[0] != z_wave.shape[0]:
        raise WaveError(f"{wave.shape[0]} samples of deflection, {z_wave.shape[0]} of z: one file is damaged")
    text = value(note, b"Indexes")
    if text is None:
        raise WaveError("Indexes: missing in the note: it is no force curve")
    try:
        bounds = [int(part) for part in text.split(b",") if part.strip()]
    except ValueError:
        raise WaveError(f"Indexes: {text[:60].decode('latin-1')!r}: expected whole numbers") from None
    points = wave.shape[0]
    if not 3 <= len(bounds) <= SEGMENTS + 1 or sorted(bounds) != bounds or bounds[0] < 0 or bounds[-1] >= points:
        raise WaveError(
            f"Indexes: {text[:60].decode('latin-1')}: expected 3 to {SEGMENTS + 1} rising numbers below {points}"
        )
    start = tuple(
        HEADER_BYTES + place * points * np.dtype(one.dtype).itemsize
        for (place, _), one in ((column, wave), (other, z_wave))
    )
    found = _Curve(
        (deflection, z),
        (start[0], start[1]),
        points,
        bounds,
        (wave.dtype, z_wave.dtype),
        (column[1], other[1]),
        (wave.unit, z_wave.unit),
        note,
    )
    return found, hashlib.sha256(note + repr((wave, z_wave)).encode()).hexdigest()


def _column(path: str, wanted: tuple[str, ...]) -> tuple[tuple[int, str], Wave, bytes]:
    """Return number and name of the column of a wave that is called one of `wanted`, the wave and its note."""
    with opened(path) as handle:
        wave = parse(bytes_at(handle, HEADER_BYTES, 0), os.fstat(handle).st_size)
        if wave.dtype[1:] not in ("f4", "f8") or len(wave.shape) > 2:
            raise WaveError(f"{wave.dtype} of shape {wave.shape}: a force curve has float columns")
        note = note_of(handle, wave)
        match = _NAME.fullmatch(path.rpartition(os.sep)[2])
        if len(wave.shape) == 1 and match and match[3]:
            return (0, match[3]), wave, note
        names = labels_of(handle, wave, 1)[: wave.shape[1]] if len(wave.shape) == 2 else []
    for name in wanted:
        if name in names:
            return (names.index(name), name), wave, note
    raise WaveError(f"columns {', '.join(names)[:80] or 'without names'}: none of {', '.join(wanted)} is there")


def _images(paths: list[str]) -> Iterator[tuple[str, Wave, list[str]]]:
    for path in paths[:_IMAGES]:
        try:
            with opened(path) as handle:
                wave = parse(bytes_at(handle, HEADER_BYTES, 0), os.fstat(handle).st_size)
                names = labels_of(handle, wave, 2)
        except (WaveError, OSError):
            continue  # what is not a wave of images is no concern of the curves
        if len(wave.shape) == 3 and any(name.startswith("Map") for name in names):
            yield path, wave, names


def _notes(paths: list[str]) -> bytes:
    """Return the note of the map's image, which holds the settings where the curves' own notes are short."""
    for path, wave, _ in _images(paths):
        with opened(path) as handle:
            return note_of(handle, wave)
    return b""
