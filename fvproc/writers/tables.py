"""Tables: NPZ (one array per quantity, for NumPy) and CSV (one row per curve, for spreadsheets)."""

from __future__ import annotations

import io
import json
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import provenance as origin
from fvproc.errors import FileFormatError
from fvproc.maps import ParameterMaps, not_computed
from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, RECORD
from fvproc.volume import Grid, VendorMap
from fvproc.writers.bands import bands_of

FORMAT = "fvproc-maps"
_VENDOR = "vendor/"  # members of the archive that hold vendor maps, numbered
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a ZIP archive can hold: equal maps give equal bytes


def write_npz(maps: ParameterMaps, path: str | PathLike[str]) -> None:
    """Write an archive for `numpy.load`: an array per quantity, flags, y, x, and JSON texts.

    ``provenance`` is the provenance as JSON; ``layout`` tells format, grid and the units of all arrays, as JSON too.
    """
    grid = maps.grid
    vendor = list(maps.vendor_maps.items())
    layout = {
        "format": FORMAT,
        "grid": {"size_y": grid.size_y, "size_x": grid.size_x, "rotation": grid.rotation},
        "units": {name: QUANTITIES[name].unit for name in maps} | {"y": "m", "x": "m"},
        "vendor": [{"key": key, "name": v.name, "unit": v.unit, "label": v.label} for key, v in vendor],
    }
    y, x = maps.coordinates()
    arrays: dict[str, np.ndarray] = {name: maps[name] for name in (*maps, "flags")}
    arrays |= {"y": y, "x": x}
    arrays |= {f"{_VENDOR}{number}": v.values for number, (_, v) in enumerate(vendor)}
    arrays |= {"layout": np.array(origin.to_json(layout)), "provenance": np.array(origin.to_json(maps.provenance))}
    # numpy.savez would do, but how it dates its members is not part of its contract
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(values, order="C"), allow_pickle=False)
            # noise leaves a higher level nothing to gain, and it takes three times as long
            archive.writestr(member, content.getbuffer(), zipfile.ZIP_DEFLATED, compresslevel=1)


def read_npz(path: str | PathLike[str]) -> ParameterMaps:
    """Read what `write_npz` wrote: equal grid, records equal to the bit, provenance and vendor maps.

    Raises
    ------
    FileFormatError
        If the file is missing, is no such archive, or is damaged.
    """
    name = str(Path(path))
    try:
        with np.load(path, allow_pickle=False) as archive:
            layout: dict[str, Any] = json.loads(str(archive["layout"]))
            if layout.get("format") != FORMAT:
                raise FileFormatError(f"{name}: an NPZ archive, but no maps of fvproc")
            shape = archive["flags"].shape
            grid = Grid(*shape, **layout["grid"])
            quantities = tuple(name for name in QUANTITIES if name in layout["units"])
            records = not_computed(grid.curves).reshape(shape)
            for field in (*quantities, "flags"):
                values = archive[field]
                if values.shape != shape or values.dtype != RECORD[field]:
                    raise FileFormatError(f"{name}: {field} is {values.dtype} {values.shape}, expected {RECORD[field]}")
                records[field] = values
            vendor = {
                item["key"]: VendorMap(item["name"], item["unit"], archive[f"{_VENDOR}{number}"], item["label"])
                for number, item in enumerate(layout["vendor"])
            }
            provenance = json.loads(str(archive["provenance"]))
    except FileNotFoundError:
        raise FileFormatError(f"{name}: no such file") from None
    except (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        # NumPy answers what is no archive, or a damaged one, with any of these
        raise FileFormatError(f"{name}: not an output of fvproc, or damaged: {error}") from error
    return ParameterMaps(grid, records, provenance=provenance, vendor_maps=vendor, quantities=quantities)


def write_csv(maps: ParameterMaps, path: str | PathLike[str]) -> None:
    """Write one row per curve: pixel, position, quantities in SI units, flags as number and as names.

    The first line names columns with units; missing values are ``nan``; nine digits give float32 back exactly.
    """
    header = ["row", "column", "y (m)", "x (m)"]
    header += [band.title for band in bands_of(maps) if band.shift is None]
    header += ["flags", "flag_names"]
    # in the order of the registry, with the flags last
    fields = [*maps, "flags"]
    row_format = "%d,%d,%.12g,%.12g," + "%.9g," * len(maps) + "%d,%s\n"
    names = {
        int(flags): " ".join(str(flag.name).lower() for flag in FLAG_MEANINGS if int(flags) & int(flag))
        for flags in np.unique(maps.flags)
    }
    y, x = (centres.tolist() for centres in maps.coordinates())
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(header) + "\n")
        for row, records in enumerate(maps.records):
            lines = io.StringIO()
            for column, record in enumerate(records[fields].tolist()):
                lines.write(row_format % (row, column, y[row], x[column], *record, names[record[-1]]))
            file.write(lines.getvalue())
