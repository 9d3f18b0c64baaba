"""Gwyddion Simple Field: one file per map, which Gwyddion opens with units and shows NaN as a mask."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from fvproc.maps import ParameterMaps
from fvproc.writers.bands import BANDS, Band, plane

_MAGIC = "Gwyddion Simple Field 1.0\n"


def parts(path: Path) -> dict[Path, Band]:
    """Return the files that stand for one path: ``X.gsf`` becomes ``X_modulus.gsf`` and so on."""
    return {path.with_name(f"{path.stem}_{band.name}{path.suffix}"): band for band in BANDS}


def title(path: Path) -> str | None:
    """Return what a file says it holds; None where there is none, or it is no such file."""
    try:
        with path.open("rb") as file:
            header, end, _ = file.read(4096).partition(b"\0")
    except OSError:
        return None
    first, *lines = header.decode("utf-8", "replace").split("\n")
    if not end or f"{first}\n" != _MAGIC:
        return None
    return next((line.removeprefix("Title = ") for line in lines if line.startswith("Title = ")), None)


def of_another(path: Path, band: Band) -> bool:
    """Return whether a file holds another map of ours: X_approach_contact_point.gsf may be one of X_approach.gsf."""
    return title(path) in {other.label for other in BANDS if other != band}


def write(maps: ParameterMaps, path: str | PathLike[str], band: Band) -> None:
    """Write one band, top row of the scan first, as the format wants it."""
    dy, dx = maps.grid.pixel
    fields = {
        "XRes": maps.grid.nx,
        "YRes": maps.grid.ny,
        "XReal": repr(dx * maps.grid.nx),
        "YReal": repr(dy * maps.grid.ny),
        "XYUnits": "m",
        "ZUnits": band.unit if band.unit != "1" else "",
        "Title": band.label,
    }
    header = (_MAGIC + "".join(f"{key} = {value}\n" for key, value in fields.items())).encode()
    # one to four NULs end the header, so that the numbers start at a multiple of four bytes
    padding = b"\0" * (4 - len(header) % 4)
    Path(path).write_bytes(header + padding + plane(maps, band).tobytes())
