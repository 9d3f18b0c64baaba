"""OME-TIFF: all maps as the channels of one image stack for ImageJ, Fiji (Bio-Formats), napari and tifffile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, product
from os import PathLike
from xml.etree import ElementTree

import tifffile

from fvproc.maps import ParameterMaps
from fvproc.writers import geotiff, packing
from fvproc.writers.bands import Band, bands_of, plane

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_ANNOTATION = "Annotation:0"
STRIP_BYTES = 2**16  # what a strip holds before compression; ImageJ without plug-ins reads strips, not tiles
_TOGETHER = 16  # strips that a thread packs at a time


def write(maps: ParameterMaps, path: str | PathLike[str], *, quantities: Sequence[str] | None = None) -> None:
    """Write the image stack: one float32 page per band, top row of the scan first, described by OME-XML.

    Pages are those of `fvproc.writers.bands`, each with the geographic tags and GDAL's metadata, so that GDAL shows
    them as named subdatasets. Vendor maps are left to HDF5.

    Parameters
    ----------
    maps : ParameterMaps
        What to write.
    path : path-like
        An existing file is overwritten in place; `fvproc.writers.save` puts a finished file in its place instead.
    quantities : sequence of str, optional
        Which to write, beside the flags; by default all.

    Raises
    ------
    OutputError
        If a quantity is unknown.
    """
    bands = bands_of(maps, quantities)
    ny, nx = maps.shape
    # ImageJ without plug-ins reads classic TIFF only, so BigTIFF is for files that need it
    large = 4 * len(bands) * ny * nx > geotiff.CLASSIC_LIMIT
    rows = max(1, min(ny, STRIP_BYTES // (4 * nx)))
    description = _ome_xml(maps, bands)
    # tifffile's own OME mode makes one image per call to `write`, hence metadata=None and our own XML
    strips = _strips(maps, bands, rows)
    with tifffile.TiffWriter(path, bigtiff=large, byteorder="<") as file:
        for number, band in enumerate(bands):
            file.write(
                islice(strips, -(-ny // rows)),
                shape=(ny, nx),
                dtype="<f4",
                photometric="minisblack",
                rowsperstrip=rows,
                description=description if number == 0 else None,
                extratags=[
                    geotiff.ascii_tag(geotiff.PAGE_NAME, band.title),
                    *geotiff.geographic_tags(maps.grid),
                    geotiff.metadata_tag(maps, (band,)),
                ],
                **geotiff.page_settings(maps.grid),
            )


def _strips(maps: ParameterMaps, bands: tuple[Band, ...], rows: int) -> Iterator[bytes]:
    """Yield the packed strips of all pages, so that some of them are in memory."""
    ny = maps.shape[0]

    def packed(place: tuple[Band, int]) -> list[bytes]:
        band, start = place
        values = plane(maps, band, start, start + _TOGETHER * rows)
        return [packing.zlib_stream(values[row : row + rows]) for row in range(0, len(values), rows)]

    yield from chain.from_iterable(packing.in_order(packed, product(bands, range(0, ny, _TOGETHER * rows))))


def _ome_xml(maps: ParameterMaps, bands: tuple[Band, ...]) -> bytes:
    """Return the OME-XML in ASCII, its elements in the order that the schema asks for."""
    ny, nx = maps.shape
    dy, dx = geotiff.pixel_in_nanometres(maps.grid)
    facts = geotiff.facts(maps)
    root = ElementTree.Element(
        "OME",
        {"xmlns": _NAMESPACE, "xmlns:xsi": _INSTANCE, "xsi:schemaLocation": f"{_NAMESPACE} {_SCHEMA}"},
    )
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name="parameter maps")
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="float",
        BigEndian="false",
        Interleaved="false",
        SizeX=str(nx),
        SizeY=str(ny),
        SizeC=str(len(bands)),
        SizeZ="1",
        SizeT="1",
        PhysicalSizeX=repr(dx),
        PhysicalSizeXUnit="nm",
        PhysicalSizeY=repr(dy),
        PhysicalSizeYUnit="nm",
    )
    for number, band in enumerate(bands):
        ElementTree.SubElement(pixels, "Channel", ID=f"Channel:0:{number}", Name=band.title, SamplesPerPixel="1")
    for number in range(len(bands)):
        ElementTree.SubElement(
            pixels, "TiffData", IFD=str(number), FirstC=str(number), FirstZ="0", FirstT="0", PlaneCount="1"
        )
    ElementTree.SubElement(image, "AnnotationRef", ID=_ANNOTATION)
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    annotation = ElementTree.SubElement(annotations, "MapAnnotation", ID=_ANNOTATION, Namespace="fvproc")
    value = ElementTree.SubElement(annotation, "Value")
    for key, text in facts.items():
        ElementTree.SubElement(value, "M", K=geotiff.legal(key)).text = geotiff.legal(text)
    header = b'<?xml version="1.0" encoding="UTF-8"?>'
    return header + ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False)
