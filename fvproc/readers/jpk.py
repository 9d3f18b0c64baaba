r"""JPK (Bruker BioAFM): single force curves, force maps and QI maps, in their ZIP archives.

::

    header.properties                        what was measured: grid, order of the curves
    shared-data/header.properties            newer files: descriptions of channels and segments, by number
    index/N/segments/M/segment-header.properties     segment M of curve N (a single curve: segments/M/…)
    index/N/segments/M/channels/NAME.dat     its samples in the order of time, big-endian
    data-image.force, data-image.jpk-qi-image        maps of the instrument's software, a TIFF

**Numbers.** stored → encoder → volts or metres → conversions (*distance*, *force*; *nominal*, *calibrated*), all
linear, from the shared header where the segment refers to it by ``lcd-info.*=N``, else from the segment's own. The
deflection stays as stored; *distance* is the deflection sensitivity, *force* after *distance* the spring constant. One
that is not defined is missing, and never assumed. z is minus the best height channel (sensor before piezo) in the
calibration that the file calls its default. Where the curves of a map do not share one encoder, each is converted with
its own: volts as float32, metres as float64.

**Segments.** A curve may have more than two. The approach is the *extend* segment before the first *retract* one; the
pause between them and what follows are left out, with a warning. The segments of a map are a setting of the map, so
that those of one curve tell those of all; a curve that lacks one, or ends early, has fewer valid samples, down to none.

**Grid.** Curve N lies in row N // nx, counted from the bottom (from the top where the grid is reflected). Force maps
go back and forth, QI maps always from left to right; the header tells.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fvproc.readers.jpk_description import Layout, branches, calibration, facts, grid, note_missing, sample_curve
from fvproc.readers.jpk_directory import directory
from fvproc.readers.jpk_entries import read_entry
from fvproc.readers.jpk_header import parse
from fvproc.readers.jpk_images import images_of
from fvproc.readers.jpk_tiles import read_curves
from fvproc.volume import ForceVolume, RawTile, Tile, VendorMap

__all__ = ["description", "name", "open", "read", "sniff", "suffixes", "vendor_maps"]

name = "jpk"
description = "JPK force curve, force map or QI map (.jpk-force, .jpk-force-map, .jpk-qi-data, .jpk-qi-series)"
suffixes = (".jpk-force", ".jpk-force-map", ".jpk-qi-data", ".jpk-qi-series")

_HEADER = "header.properties"
_SHARED = "shared-data/header.properties"
_FIRST = (b"header.properties", b"index/", b"segments/", b"shared-data/", b"data-image.", b"thumbnail.png")


def sniff(head: bytes, path: str) -> bool:
    """Tell whether it is a ZIP archive whose first entry is one of those of a JPK file, or that is named like one."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    return head[30:].startswith(_FIRST) or path.lower().endswith(suffixes)


def open(path: str) -> ForceVolume:
    """Describe a JPK file from the archive's directory, its headers and those of one curve.

    Raises
    ------
    FileFormatError
        If the archive is truncated or damaged, or a header lacks what is needed or contradicts itself.
    """
    status = Path(path).stat()
    found = directory(path)
    content = read_entry(path, _HEADER)
    shared_content = read_entry(path, _SHARED) if _SHARED in found.plain else b""
    header, shared = parse(path, _HEADER, content), parse(path, _SHARED, shared_content)
    layout: Layout = {}
    warnings: list[str] = []
    number, segments = sample_curve(path, found, shared)
    frame = grid(header, found, layout, warnings)
    approach, retract = branches(path, found, shared, number, segments, layout, warnings)
    note_missing(found, frame, layout, warnings)
    digest = hashlib.sha256(content + shared_content)
    for segment in segments:
        digest.update(repr(sorted(segment.properties.values.items())).encode())
    return ForceVolume(
        path=path,
        format=name,
        grid=frame,
        approach=approach,
        retract=retract,
        calibration=calibration(layout, warnings),
        header=facts(header, segments, layout),
        layout=layout,
        file_size=status.st_size,
        modified_ns=status.st_mtime_ns,
        header_digest=digest.hexdigest(),
        warnings=tuple(warnings),
    )


def read(volume: ForceVolume, tile: Tile) -> RawTile:
    """Read a tile: the entries of its curves in runs, decompressed; see `jpk_tiles`."""
    return read_curves(volume, tile)


def vendor_maps(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the maps that the instrument's software left in the file, in SI units; see `jpk_images`."""
    return images_of(volume)
