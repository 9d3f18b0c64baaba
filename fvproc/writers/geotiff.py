"""GeoTIFF: all maps as the bands of one raster for GDAL, QGIS and rasterio, and the geographic tags of both stacks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, product
from os import PathLike
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from fvproc import provenance as origin
from fvproc.maps import ParameterMaps
from fvproc.quantities import FLAG_MEANINGS
from fvproc.volume import Grid
from fvproc.writers import packing
from fvproc.writers.bands import Band, bands_of, plane

TILE = 256  # pixels along each edge; TIFF wants multiples of 16
NANOMETRE = 1e-9  # unit of the coordinates: in metres QGIS and GDAL round them away

# types of a tag's values
ASCII = 2
SHORT = 3
DOUBLE = 12

# tags that tifffile has no argument for
PAGE_NAME = 285
MODEL_PIXEL_SCALE = 33550
MODEL_TIEPOINT = 33922
MODEL_TRANSFORMATION = 34264
GEO_KEY_DIRECTORY = 34735
GEO_DOUBLE_PARAMS = 34736
GEO_ASCII_PARAMS = 34737
GDAL_METADATA = 42112
GDAL_NODATA = 42113

# GeoKeys: numbers and values as GDAL writes them for an engineering coordinate system in nanometres
GEO_KEYS_VERSION = (1, 1, 0)  # directory version, revision, minor revision
GT_RASTER_TYPE = 1025
RASTER_PIXEL_IS_AREA = 1
GT_CITATION = 1026
PROJECTED_CITATION = 3073
PROJECTED_LINEAR_UNITS = 3076
USER_DEFINED = 32767
PROJECTED_LINEAR_UNIT_SIZE = 3077
_FRAME = "AFM scan frame|"
_UNIT = "LUnits = nanometre|"

# Offsets in a classic TIFF have 32 bits; the margin is for tags and for data that deflate makes longer.
CLASSIC_LIMIT = 2**32 - 2**26

TiffTag = tuple[int, int, int | None, Any, bool]


def write(
    maps: ParameterMaps,
    path: str | PathLike[str],
    *,
    quantities: Sequence[str] | None = None,
    rotated: bool = False,
) -> None:
    """Write the multi-band GeoTIFF: float32 bands in SI units, NaN as nodata, top row of the scan first.

    The bands are those of `fvproc.writers.bands`: every quantity of the registry, then the flags as two bands of 16
    bits each, which float32 holds exactly. Coordinates are nanometres in the unrotated frame of the scan, origin at
    its lower left corner. Vendor maps are left to HDF5.

    Parameters
    ----------
    maps : ParameterMaps
        What to write.
    path : path-like
        An existing file is overwritten in place; `fvproc.writers.save` puts a finished file in its place instead.
    quantities : sequence of str, optional
        Which to write, beside the flags; by default all.
    rotated : bool
        Whether the raster lies in the frame of the sample, turned counter-clockwise by the scan angle about the lower
        left corner, and not in that of the scan. GDAL and QGIS resample it for display.

    Raises
    ------
    OutputError
        If a quantity is unknown.
    """
    bands = bands_of(maps, quantities)
    ny, nx = maps.shape
    stored = 4 * len(bands) * math.ceil(ny / TILE) * math.ceil(nx / TILE) * TILE * TILE
    with tifffile.TiffWriter(path, bigtiff=stored > CLASSIC_LIMIT, byteorder="<") as file:
        file.write(
            _tiles(maps, bands),
            shape=(len(bands), ny, nx),
            dtype="<f4",
            tile=(TILE, TILE),
            planarconfig="separate",
            photometric="minisblack",
            extrasamples=["unspecified"] * (len(bands) - 1),
            extratags=[*geographic_tags(maps.grid, rotated), metadata_tag(maps, bands)],
            **page_settings(maps.grid),
        )


def _tiles(maps: ParameterMaps, bands: tuple[Band, ...]) -> Iterator[bytes]:
    """Yield the packed tiles band by band, filled up with NaN at the edges; some rows of tiles are in memory."""
    ny, nx = maps.shape

    def packed(place: tuple[Band, int]) -> list[bytes]:
        band, row = place
        values = plane(maps, band, row, row + TILE)
        made = []
        for column in range(0, nx, TILE):
            part = values[:, column : column + TILE]
            tile = np.full((TILE, TILE), np.nan, "<f4")
            tile[: part.shape[0], : part.shape[1]] = part
            made.append(packing.zlib_stream(tile))
        return made

    yield from chain.from_iterable(packing.in_order(packed, product(bands, range(0, ny, TILE))))


def page_settings(grid: Grid) -> dict[str, Any]:
    """Return the arguments of `TiffWriter.write` that both kinds of stack share."""
    dy, dx = grid.pixel
    return {
        # the number 8 that every reader knows: tifffile's "deflate" would write the older 32946
        "compression": "zlib",
        "predictor": False,  # Bio-Formats cannot undo the predictor for floats
        # without a unit Bio-Formats would read nanometres as micrometres
        "resolution": (_per_centimetre(dx), _per_centimetre(dy)),
        "resolutionunit": "CENTIMETER",
        "software": f"{origin.PROGRAM} {origin.version()}",
        "metadata": None,  # else tifffile puts a description of its own in tag 270
    }


def _per_centimetre(pixel: float) -> tuple[int, int]:
    """Return pixels per centimetre as the two 32-bit whole numbers of a TIFF rational."""
    density = Fraction(0.01 / pixel)
    top = 2**32 - 1
    if density > top:
        return top, 1
    # both have to fit: the larger the number, the smaller its denominator may be
    density = density.limit_denominator(max(1, int(top / max(density, Fraction(1)))))
    return max(density.numerator, 1), density.denominator


def geographic_tags(grid: Grid, rotated: bool = False) -> list[TiffTag]:
    """Return the tags that place the raster: lower left corner of the scan at (0, 0), y upward, in nanometres."""
    dy, dx = pixel_in_nanometres(grid)
    # key, where its value is (0: here, else the tag), how many, the value or its offset in that tag
    keys = (
        (GT_RASTER_TYPE, 0, 1, RASTER_PIXEL_IS_AREA),
        (GT_CITATION, GEO_ASCII_PARAMS, len(_FRAME), 0),
        (PROJECTED_CITATION, GEO_ASCII_PARAMS, len(_UNIT), len(_FRAME)),
        (PROJECTED_LINEAR_UNITS, 0, 1, USER_DEFINED),
        (PROJECTED_LINEAR_UNIT_SIZE, GEO_DOUBLE_PARAMS, 1, 0),
    )
    directory = (*GEO_KEYS_VERSION, len(keys), *(number for key in keys for number in key))
    # raster (0, 0) is the top left corner of the image, which is the upper left one of the scan
    tiepoint = (0.0, 0.0, 0.0, 0.0, grid.ny * dy, 0.0)
    nodata = "nan"
    place: list[TiffTag] = [
        (MODEL_PIXEL_SCALE, DOUBLE, 3, (dx, dy, 0.0), False),
        (MODEL_TIEPOINT, DOUBLE, len(tiepoint), tiepoint, False),
    ]
    if rotated:
        cosine, sine, top = math.cos(math.radians(grid.rotation)), math.sin(math.radians(grid.rotation)), grid.ny * dy
        rows = ((cosine * dx, sine * dy, 0.0, -sine * top), (sine * dx, -cosine * dy, 0.0, cosine * top))
        place = [(MODEL_TRANSFORMATION, DOUBLE, 16, (*rows[0], *rows[1], *(0.0,) * 4, 0.0, 0.0, 0.0, 1.0), False)]
    return [
        *place,
        (GEO_KEY_DIRECTORY, SHORT, len(directory), directory, False),
        (GEO_DOUBLE_PARAMS, DOUBLE, 1, (NANOMETRE,), False),
        ascii_tag(GEO_ASCII_PARAMS, _FRAME + _UNIT),
        ascii_tag(GDAL_NODATA, nodata),
    ]


def pixel_in_nanometres(grid: Grid) -> tuple[float, float]:
    """Return (dy, dx) in nm, rounded to 15 digits so that 500 nm does not become 499.99999999999994 nm."""
    dy, dx = (float(f"{pixel / NANOMETRE:.15g}") for pixel in grid.pixel)
    return dy, dx


def ascii_tag(tag: int, text: str) -> TiffTag:
    """Return a text tag; tifffile appends the NUL and counts."""
    return tag, ASCII, None, text, False


def metadata_tag(maps: ParameterMaps, bands: tuple[Band, ...]) -> TiffTag:
    """Return GDAL's XML: description, unit and label per band, then the provenance as FVPROC_* items."""
    root = ElementTree.Element("GDALMetadata")
    for sample, band in enumerate(bands):
        _item(root, "DESCRIPTION", band.name, sample, "description")
        _item(root, "UNITTYPE", band.unit if band.unit != "1" else "", sample, "unittype")
        _item(root, "long_name", band.label, sample)
        _item(root, "comment", band.meaning, sample)
        if band.flags:
            _item(root, "flag_masks", " ".join(str(mask) for mask in band.flags), sample)
            _item(root, "flag_meanings", " ".join(str(flag.name).lower() for flag in band.flags.values()), sample)
            sentences = "; ".join(f"{mask}: {FLAG_MEANINGS[flag]}" for mask, flag in band.flags.items())
            _item(root, "flag_sentences", sentences, sample)
    for key, text in facts(maps).items():
        _item(root, f"FVPROC_{key.upper()}", text)
    return ascii_tag(GDAL_METADATA, ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False).decode())


def _item(root: ElementTree.Element, name: str, text: str, sample: int | None = None, role: str = "") -> None:
    attributes = {"name": name}
    if sample is not None:
        attributes["sample"] = str(sample)
    if role:
        attributes["role"] = role
    # GDAL takes the escapes of XML back twice, as it writes them twice: with one, a text would end at its first "&"
    ElementTree.SubElement(root, "Item", attributes).text = legal(text).replace("&", "&amp;")


def facts(maps: ParameterMaps) -> dict[str, str]:
    """Return the provenance and the frame of the scan as named texts; what is nested becomes JSON.

    The JSON writes ``&`` as JSON's own escape, so that it is right however often a reader takes back those of XML.
    """
    grid = maps.grid
    found = {
        key: content if isinstance(content, str) else origin.to_json(content).replace("&", "\\u0026")
        for key, content in sorted(origin.plain(maps.provenance).items())
    }
    found["scan_rotation"] = f"{grid.rotation!r} deg"
    if grid.size_y is None or grid.size_x is None:
        found["pixel_size"] = "unknown: 1 nm stands for it"
    return found


def legal(text: str) -> str:
    """Return a text without the control characters and surrogates that XML 1.0 cannot hold, not even escaped."""
    return "".join(
        c if c in "\t\n\r" or ("\x20" <= c <= "\ufffd" and not "\ud800" <= c <= "\udfff") or c > "\uffff" else "\ufffd"
        for c in text
    )
