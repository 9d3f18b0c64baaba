"""The verb `export` and the command `fvproc export`: an output again in another format, with choices of its own."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from fvproc import writers
from fvproc.errors import OutputError
from fvproc.maps import ParameterMaps


def export(
    maps: ParameterMaps,
    path: str | PathLike[str],
    *,
    quantities: Sequence[str] | None = None,
    rotated: bool = False,
    cloud: bool = False,
    overwrite: bool = True,
) -> None:
    """Write maps as `fvproc.save` does, or as a TIFF of some quantities, in the rotated frame, or for the cloud.

    Parameters
    ----------
    maps : ParameterMaps
        What to write.
    path : path-like
        Any suffix of `fvproc.save`; with one of the following choices ``.tif`` or, for `quantities`, ``.ome.tif``.
    quantities : sequence of str, optional
        Which to write, beside the flags.
    rotated : bool
        ``.tif``: in the frame of the sample, turned by the scan angle.
    cloud : bool
        ``.tif``: as a Cloud Optimised GeoTIFF with overviews; needs rasterio.
    overwrite : bool
        Whether a file that exists is replaced.

    Raises
    ------
    OutputError
        If a choice does not go with the suffix, a quantity is unknown, rasterio is missing, or the file cannot be
        written; an earlier file is then still whole.
    """
    path = Path(path)
    suffix = writers.suffix_of(path)
    bands, stack = suffix in (".tif", ".tiff"), suffix in (".ome.tif", ".ome.tiff")
    if not (rotated or cloud or quantities is not None):
        writers.save(maps, path, overwrite=overwrite)
        return
    if (rotated or cloud) and not bands:
        raise OutputError(f"{path}: a rotated frame and a cloud-optimised layout are for .tif")
    if not (bands or stack):
        raise OutputError(f"{path}: a choice of quantities is for .tif and .ome.tif")
    if cloud and importlib.util.find_spec("rasterio") is None:
        raise OutputError(f"{path}: a cloud-optimised GeoTIFF needs rasterio: pip install rasterio")
    writers.check_writable(path, overwrite)
    from fvproc.writers import geotiff, ometiff

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writers.replacing(path) as temporary:
            if stack:
                ometiff.write(maps, temporary, quantities=quantities)
            elif not cloud:
                geotiff.write(maps, temporary, quantities=quantities, rotated=rotated)
            else:
                plain = temporary.with_name(f"{temporary.stem}.plain.tif")
                try:
                    geotiff.write(maps, plain, quantities=quantities, rotated=rotated)
                    _optimise(plain, temporary)
                finally:
                    plain.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _optimise(source: Path, target: Path) -> None:
    """Copy a GeoTIFF into GDAL's cloud-optimised layout; means of pixels would be no measurement, so nearest ones."""
    from rasterio import shutil

    shutil.copy(source, target, driver="COG", compress="DEFLATE", overview_resampling="nearest", bigtiff="IF_SAFER")


def command(options: argparse.Namespace) -> int:
    """Run `fvproc export`; return the exit status."""
    export(
        writers.load(options.input),
        options.output,
        quantities=options.quantity or None,
        rotated=options.rotated,
        cloud=options.cloud,
        overwrite=options.overwrite,
    )
    print(writers.shown(options.output))
    return 0
