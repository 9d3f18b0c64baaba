"""Calibration files: values with their uncertainties that `fvproc calibrate` found and that a run takes."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from fvproc import writers
from fvproc.errors import CalibrationError, OutputError
from fvproc.volume import CALIBRATION_FIELDS, ForceVolume, Setting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = "fvproc-calibration"
VERSION = 1
UNITS = {**{name: unit for name, (_, unit) in CALIBRATION_FIELDS.items()}, "tip_radius": "m", "tip_half_angle": "rad"}
_TIP = ("tip_radius", "tip_half_angle")
# Values that agree so well are the same: they went through a text.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One value that a reference measurement gave.

    Parameters
    ----------
    name : str
        What it is: ``"deflection_sensitivity"``, ``"tip_radius"`` …
    value : float
        SI units.
    parts : mapping of str to float
        Relative standard uncertainties, by where they come from.
    curves : int
        Of how many curves.
    notes : mapping
        How it was found, for people.
    depends : mapping of str to float
        ∂ln value/∂ln source: it was found with these values, and is off if they are.
    found_with : mapping of str to float
        The values of these sources.
    """

    name: str
    value: float
    parts: Mapping[str, float]
    curves: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    depends: Mapping[str, float] = field(default_factory=dict)
    found_with: Mapping[str, float] = field(default_factory=dict)

    @property
    def rel_std(self) -> float:
        """Root of the sum of squares of the parts."""
        return math.sqrt(sum(part * part for part in self.parts.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON and TOML."""
        entry: dict[str, Any] = {"value": self.value, "unit": UNITS[self.name], "rel_std": self.rel_std}
        entry["parts"] = dict(self.parts)
        if self.curves:
            entry["curves"] = self.curves
        for name in ("depends", "found_with", "notes"):
            if getattr(self, name):
                entry[name] = dict(getattr(self, name))
        return entry


def read(path: str | PathLike[str]) -> dict[str, Calibrated]:
    """Read a calibration file.

    Raises
    ------
    CalibrationError
        If there is none, it is none, or a value is not finite and positive: with the entry's name.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CalibrationError(f"{path}: no calibration file can be read there: {error}") from None
    if content.pop("format", None) != FORMAT:
        raise CalibrationError(f"{path}: is no calibration file: it does not begin with format = {FORMAT!r}")
    version = content.pop("version", None)
    if version != VERSION:
        raise CalibrationError(f"{path}: version = {version!r}; this fvproc reads version {VERSION}")
    return {name: _entry(path, name, entry) for name, entry in content.items()}


def _entry(path: str | PathLike[str], name: str, entry: Any) -> Calibrated:
    if name not in UNITS:
        raise CalibrationError(f"{path}: [{name}] is nothing that can be calibrated; known are {', '.join(UNITS)}")
    try:
        if entry.get("unit", UNITS[name]) != UNITS[name]:
            raise CalibrationError(f"unit = {entry['unit']!r}: expected {UNITS[name]!r}")
        parts = {key: float(part) for key, part in entry.get("parts", {}).items()}
        found = Calibrated(
            name,
            float(entry["value"]),
            parts or {"stated": float(entry.get("rel_std", 0.0))},
            int(entry.get("curves", 0)),
            entry.get("notes", {}),
            {key: float(factor) for key, factor in entry.get("depends", {}).items()},
            {key: float(value) for key, value in entry.get("found_with", {}).items()},
        )
        Setting(found.value, "user", found.rel_std)
    except (AttributeError, KeyError, TypeError, ValueError, CalibrationError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CalibrationError(f"{path}: [{name}]: {told}") from None
    return found


def write(path: str | PathLike[str], found: Calibrated) -> None:
    """Write an entry into a calibration file; other entries of one that exists stay.

    Raises
    ------
    CalibrationError
        If the file exists and is no calibration file.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    entries = read(path) if path.exists() else {}
    entries[found.name] = found
    lines = ["# written by fvproc calibrate; `fvproc run --calibration` takes it", f'format = "{FORMAT}"']
    lines.append(f"version = {VERSION}")
    for name, entry in entries.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in entry.to_dict().items())]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writers.replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(content)}" for key, content in value.items()) + " }"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{text}"'


def applied(
    volume: ForceVolume, path: str | PathLike[str], given: Mapping[str, float | None] | None = None
) -> ForceVolume:
    """Return the volume with the values of a calibration file in place of its own, but for those `given` by the user.

    A tip that was calibrated with another spring constant or sensitivity than the volume has now is taken, with a
    warning: the errors of the two no longer cancel.

    Raises
    ------
    CalibrationError
        If the file is none, or holds a sensitivity that the volume has nothing to apply to.
    """
    entries = read(path)
    for name, value in (given or {}).items():
        if value is not None:
            entries.pop(name, None)
    settings = {name: Setting(entry.value, "user", entry.rel_std) for name, entry in entries.items()}
    of_tip = {name: setting for name, setting in settings.items() if name in _TIP}
    calibration = replace(
        volume.calibration, **{name: setting for name, setting in settings.items() if name not in _TIP}
    )
    try:
        volume = volume.with_calibration(calibration)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    volume = replace(volume, **of_tip)  # type: ignore[arg-type]
    if of_tip:
        volume = replace(volume, tip_depends={})
    for name in of_tip:
        volume = _with_dependence(volume, entries[name], path)
    return volume


def _with_dependence(volume: ForceVolume, entry: Calibrated, path: str | PathLike[str]) -> ForceVolume:
    for source, then in entry.found_with.items():
        setting = getattr(volume.calibration, source, None)
        if setting is not None and abs(setting.value / then - 1.0) > _SAME:
            warning = (
                f"{path}: {entry.name} was calibrated with {source} = {then:g} {UNITS[source]}, this file has"
                f" {setting.value:g}: errors of the two do not cancel; calibrate it again with the new value"
            )
            return replace(volume, warnings=(*volume.warnings, warning))
    return replace(volume, tip_depends=dict(entry.depends))
