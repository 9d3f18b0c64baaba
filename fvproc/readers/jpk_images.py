"""Maps that the instrument's software left in JPK files: a TIFF whose private tags tell names, units and scales."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from fvproc.errors import FileFormatError
from fvproc.readers.jpk_directory import directory
from fvproc.readers.jpk_entries import read_entry
from fvproc.volume import ForceVolume, VendorMap

_ENTRIES = ("data-image.jpk-qi-image", "data-image.force")
_CHANNEL, _RETRACE, _LABEL = 0x8050, 0x8051, 0x8052
_SLOTS, _DEFAULT = 0x8080, 0x8081
_SLOT, _SLOT_STEP = 0x8090, 0x30  # each calibration slot has so many tags
_UNIT, _SCALING, _MULTIPLIER, _OFFSET = 0x12, 0x13, 0x14, 0x15
_GRID_SHAPE = (0x8047, 0x8046)  # of the first page: rows, columns
_UNITS = {"m", "V", "N", "N/m", "V/m", "m/m", "Pa", "J", "s", "Hz", "deg"}


def images_of(volume: ForceVolume) -> dict[str, VendorMap]:
    """Return the images that lie on the grid of the curves, by channel name; row 0 is the bottom of the scan.

    Each is given in the calibration that the file calls its default, which is in SI units. JPK stores the rows in the
    order in which the grid counts them, as it does the curves. Where trace and retrace are there, the latter's name
    ends with ``" retrace"``.

    Raises
    ------
    FileFormatError
        If the image is damaged.
    """
    found = directory(volume.path)
    entry = next((name for name in _ENTRIES if name in found.plain), None)
    if entry is None:
        return {}
    content = read_entry(volume.path, entry)
    import tifffile  # only here: it costs a tenth of a second

    maps: dict[str, VendorMap] = {}
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            for page in file.pages:
                one = _image(volume, page)
                if one is not None:
                    maps.setdefault(one.name, one)
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise FileFormatError(f"{volume.path}: {entry} cannot be read: {error}; fetch the file again") from error
    return maps


def _image(volume: ForceVolume, page: Any) -> VendorMap | None:
    tags = {tag.code: tag.value for tag in page.tags.values()}
    if _CHANNEL not in tags or tags.get(_SLOTS) is None or page.shape != volume.shape:
        return None  # the thumbnail, or an image of another size
    name = str(tags[_CHANNEL]) + (" retrace" if tags.get(_RETRACE) else "")
    scale = _scale(tags)
    if scale is None:
        return None
    multiplier, offset, unit = scale
    values = np.asarray(page.asarray(), np.float64) * multiplier + offset
    if volume.layout["from top"]:
        values = values[::-1].copy()
    return VendorMap(name, "" if unit == "m/m" else unit, values, str(tags.get(_LABEL, name)))


def _scale(tags: dict[int, Any]) -> tuple[float, float, str] | None:
    """Return multiplier, offset and unit of the default slot, which count from the stored integers; None if odd."""
    for number in range(int(tags[_SLOTS])):
        base = _SLOT + number * _SLOT_STEP
        if tags.get(base) != tags.get(_DEFAULT):
            continue
        unit = str(tags.get(base + _UNIT, ""))
        if tags.get(base + _SCALING) != "LinearScaling" or unit not in _UNITS:
            return None
        multiplier, offset = float(tags[base + _MULTIPLIER]), float(tags[base + _OFFSET])
        return (multiplier, offset, unit) if math.isfinite(multiplier) and math.isfinite(offset) else None
    return None
