"""Any input as a curves file or in the layout of afmformats, tile by tile."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import engine, readers
from fvproc.errors import OutputError
from fvproc.job import refuse_input
from fvproc.schedule import cut
from fvproc.volume import ForceVolume

PathName = str | PathLike[str]
LAYOUTS = ("curves", "afmformats")


def convert(
    path: PathName | ForceVolume,
    output: PathName,
    *,
    overwrite: bool = False,
    compress: bool = False,
    layout: str = "curves",
) -> None:
    """Write any input in another layout; see `fvproc.convert`."""
    from fvproc.readers.afmformats_writer import AfmformatsWriter
    from fvproc.readers.curves import CurvesWriter

    if layout not in LAYOUTS:
        raise OutputError(f"layout {layout!r}: choose from {', '.join(LAYOUTS)}")
    volume = path if isinstance(path, ForceVolume) else readers.open_volume(path)
    output = Path(output)
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists; choose another name or ask to overwrite it")
    refuse_input(output, volume)
    tiles = cut(volume)
    compression = "gzip" if compress else None
    writer: AfmformatsWriter | CurvesWriter
    if layout == "afmformats":
        writer = AfmformatsWriter(output, volume, attributes=_origin(volume), compression=compression)
    else:
        first = engine.read_tile(volume, tiles[0])
        shared = None
        if volume.approach.z_shared and volume.retract.z_shared:
            shared = (np.ascontiguousarray(first.approach.z), np.ascontiguousarray(first.retract.z))
        writer = CurvesWriter(
            output,
            volume.grid,
            volume.approach,
            volume.retract,
            calibration=volume.calibration,
            tip_radius=volume.tip_radius,
            tip_half_angle=volume.tip_half_angle,
            poisson_ratio=volume.poisson_ratio,
            shared_z=shared,
            has_height=volume.has_height,
            attributes={**_origin(volume), **{f"source_{key}": value for key, value in volume.header.items()}},
            compression=compression,
            chunk_curves=len(tiles[0]) if compress else None,
        )
    with writer:
        for tile in tiles:
            writer.write(tile, engine.read_tile(volume, tile))


def _origin(volume: ForceVolume) -> dict[str, Any]:
    """Return what tells where curves come from."""
    return {
        "source_name": Path(volume.path).name,
        "source_format": volume.format,
        "source_size": volume.file_size,
        "source_header_sha256": volume.header_digest,
    }
