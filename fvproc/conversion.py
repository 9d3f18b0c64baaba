"""Any input as a curves file or in the layout of afmformats, tile by tile."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import engine, readers
from fvproc.errors import OutputError
from fvproc.job import refuse_input
from fvproc.provenance import plain
from fvproc.schedule import cut
from fvproc.volume import ForceVolume, Setting

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
    from fvproc.readers.curves_layout import SOURCE_WARNINGS, VENDOR_RECIPE

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
        kept = {
            name: plain(told)
            for name, told in ((VENDOR_RECIPE, volume.vendor_recipe), (SOURCE_WARNINGS, volume.warnings))
            if told
        }
        writer = CurvesWriter(
            output,
            volume.grid,
            volume.approach,
            volume.retract,
            calibration=replace(
                volume.calibration,
                spring_constant=_with_spread(volume, "spring_constant", volume.calibration.spring_constant),
                deflection_sensitivity=_with_spread(
                    volume, "deflection_sensitivity", volume.calibration.deflection_sensitivity
                ),
            ),
            tip_radius=_with_spread(volume, "tip_radius", volume.tip_radius),
            tip_half_angle=_with_spread(volume, "tip_half_angle", volume.tip_half_angle),
            poisson_ratio=volume.poisson_ratio,
            poisson_ratio_rel_std=volume.relative_std("poisson_ratio"),
            tip_depends=volume.tip_depends,
            shared_z=shared,
            has_height=volume.has_height,
            attributes={**{f"source_{key}": value for key, value in volume.header.items()}, **_origin(volume), **kept},
            compression=compression,
            chunk_curves=len(tiles[0]) if compress else None,
        )
    with writer:
        for tile in tiles:
            writer.write(tile, engine.read_tile(volume, tile))
        if isinstance(writer, CurvesWriter):
            for vendor in readers.vendor_maps(volume).values():
                writer.write_vendor_map(vendor)


def _with_spread(volume: ForceVolume, name: str, setting: Setting | None) -> Setting | None:
    """Return a setting with the uncertainty that holds: the user's goes before the file's."""
    return None if setting is None else replace(setting, rel_std=volume.relative_std(name))


def _origin(volume: ForceVolume) -> dict[str, Any]:
    """Return what tells where curves come from."""
    return {
        "source_name": Path(volume.path).name,
        "source_format": volume.format,
        "source_size": volume.file_size,
        "source_header_sha256": volume.header_digest,
    }
