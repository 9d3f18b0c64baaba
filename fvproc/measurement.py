"""The measurement that maps came from: whether a volume is it, and the volume as it was processed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fvproc import provenance
from fvproc.errors import CalibrationError, FvprocError
from fvproc.maps import ParameterMaps
from fvproc.volume import CALIBRATION_FIELDS, ForceVolume

_SAME = 1e-6  # values that agree so well are the same: they went through a text
_FOLDERS = ("asylum",)  # the size of a folder is the file system's own affair


@dataclass(frozen=True, slots=True)
class _Identity:
    """What tells one input from another, whatever it is called and wherever it lies."""

    format: str
    size: int
    digest: str

    def same(self, other: _Identity) -> bool:
        """Tell whether both are of one input."""
        return self.digest == other.digest and (self.size == other.size or self.format in _FOLDERS)


def as_processed(volume: ForceVolume, maps: ParameterMaps) -> ForceVolume:
    """Return the measurement of maps with the calibration that they were made with, so that curves and maps agree.

    Parameters
    ----------
    volume : ForceVolume
        The file that the maps came from, under whatever name, or a copy that `fvproc.convert` made of it.
    maps : ParameterMaps
        With provenance; what it does not tell is not checked.

    Raises
    ------
    FvprocError
        If it is another measurement; the message says by what it differs.
    CalibrationError
        If the user has given the volume another calibration than that of the maps.
    """
    _require_same(volume, maps)
    settings = provenance.calibration_of(maps.provenance)
    for name, (option, unit) in CALIBRATION_FIELDS.items() if settings else ():
        own = getattr(volume.calibration, name)
        then = settings[name].value if name in settings else None
        if own is not None and own.source == "user" and not _agree(own.value, then):
            _refuse(volume, name, f"({option})", own.value, unit, then)
    _require_tip(volume, maps.provenance)
    known = {name: getattr(volume.calibration, name) for name in CALIBRATION_FIELDS}
    return volume.with_calibration(type(volume.calibration)(**{**known, **settings}))


def _require_same(volume: ForceVolume, maps: ParameterMaps) -> None:
    if volume.shape != maps.shape:
        raise FvprocError(f"{volume.path}: its grid is {volume.shape}, that of the maps {maps.shape}")
    source = maps.provenance.get("input")
    if not isinstance(source, Mapping):
        return
    here = _Identity(volume.format, volume.file_size, volume.header_digest)
    then = _Identity(str(source.get("format")), source.get("size", 0), str(source.get("header_digest", "")))
    origins = [then, *_originals(maps.provenance.get("header") or {})]
    # a copy of the original, or the original of a copy
    if any(one.same(origin) for one in (here, *_originals(volume.header)) for origin in origins):
        return
    told = [
        f"{what} {own}, that of the maps {other}"
        for what, own, other in (
            ("format", here.format, then.format),
            ("size in bytes", here.size, then.size),
            ("SHA-256 of the header", f"{here.digest[:12]}…", f"{then.digest[:12]}…"),
        )
        if own != other
    ]
    raise FvprocError(
        f"{volume.path}: is not the measurement that the maps came from: {'; '.join(told)}; give that one,"
        f" {source.get('name')} by its name then, or a copy of it by fvproc convert"
    )


def _originals(header: Mapping[str, Any]) -> Iterator[_Identity]:
    """Yield what a converted copy tells of its original, of the original of that one, and so on."""
    prefix = "source_"
    while f"{prefix}header_sha256" in header:
        format, size, digest = (header.get(prefix + key) for key in ("format", "size", "header_sha256"))
        yield _Identity(str(format), size if isinstance(size, int) else 0, str(digest))
        prefix += "source_"


def _require_tip(volume: ForceVolume, made: Mapping[str, Any]) -> None:
    """Refuse a length of the tip that the user gave with the volume and that the maps were not made with."""
    for length, unit in (("radius", "m"), ("half_angle", "rad")):
        own = getattr(volume, f"tip_{length}")
        if own is None or own.source != "user":
            continue
        told = (
            made.get("tip_in_file", {}).get(length, {}).get("value"),
            made.get("recipe", {}).get("tip", {}).get(length),
        )
        # the recipe's goes before the volume's, which then was the same and of no matter
        if told != (None, None) and not any(_agree(own.value, then) for then in told):
            _refuse(volume, f"tip_{length}", "(of the calibration file)", own.value, unit, told[1])


def _agree(value: float, then: float | None) -> bool:
    return then is not None and math.isclose(value, then, rel_tol=_SAME)


def _refuse(volume: ForceVolume, name: str, option: str, value: float, unit: str, then: float | None) -> None:
    made = "without one" if then is None else f"with {then:g} {unit}"
    raise CalibrationError(
        f"{volume.path}: {name} = {value:g} {unit} {option}: the maps were made {made}; leave it out, since curves are"
        " shown with the calibration of the maps"
    )
