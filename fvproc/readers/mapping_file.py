"""The mapping file: what it may say, with every default filled in; what `mapping` reads HDF5 files by."""

from __future__ import annotations

import math
import sys
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from fvproc.errors import FileFormatError

CALIBRATION = ("spring_constant", "deflection_sensitivity", "z_sensitivity", "tip_radius", "tip_half_angle")
SCAN = ("size_y", "size_x", "rotation")
_ROOT = ("version", "axes", "shape", "rows", "back_and_forth", "approach", "retract", "calibration", "scan")
_DATASET = ("dataset", "units", "scale", "offset", "samples", "reversed", "axes")
_AXES = (["sample"], ["curve", "sample"], ["sample", "x", "y"])  # each in any order
_FILE_BYTES = 1 << 20


def load(mapping: str | PathLike[str] | dict[str, Any]) -> dict[str, Any]:
    """Read a mapping file, or take its content, and return it with every default filled in.

    Raises
    ------
    FileFormatError
        If it cannot be read, or says something that is not known, contradicts itself or lacks a unit.
    """
    where = "mapping" if isinstance(mapping, dict) else f"{mapping}"
    content = dict(mapping) if isinstance(mapping, dict) else _parse(Path(mapping))
    _known(where, content, _ROOT)
    if content.get("version") != 1:
        _refuse(where, "version", content.get("version"), "expected version = 1")
    rows = content.get("rows", "up")
    if rows not in ("up", "down"):
        _refuse(where, "rows", rows, 'expected "up" (the first row is the bottom of the scan) or "down"')
    back_and_forth = content.get("back_and_forth", False)
    if not isinstance(back_and_forth, bool):
        _refuse(where, "back_and_forth", back_and_forth, "expected true or false")
    shape = content.get("shape")
    if shape is not None and not (
        isinstance(shape, (list, tuple)) and len(shape) == 2 and all(_whole(n) and 0 < n < 1 << 31 for n in shape)
    ):
        _refuse(where, "shape", shape, "expected [rows, columns]")
    told: dict[str, Any] = {
        "version": 1,
        "rows": rows,
        "back_and_forth": back_and_forth,
        "shape": None if shape is None else list(shape),
    }
    for branch in ("approach", "retract"):
        section = _table(where, content, branch)
        _known(f"{where}: {branch}", section, ("deflection", "z"))
        told[branch] = {
            part: _dataset(where, f"{branch}.{part}", _table(where, section, part, branch), content.get("axes"))
            for part in ("deflection", "z")
        }
        deflection, z = (plain_axes(told[branch][part]["axes"]) for part in ("deflection", "z"))
        if deflection == ["sample"] and z != ["sample"]:
            _refuse(where, f"{branch}.z.axes", told[branch]["z"]["axes"], "deflection is a single curve")
    for section_name, keys in (("calibration", CALIBRATION), ("scan", SCAN)):
        section = content.get(section_name, {})
        if not isinstance(section, dict):
            _refuse(where, section_name, section, "expected a table")
        _known(f"{where}: {section_name}", section, keys)
        told[section_name] = {key: _number(where, f"{section_name}.{key}", value) for key, value in section.items()}
    return told


def plain_axes(axes: list[str]) -> list[str]:
    """Return the axes without those of length 1 that mean nothing."""
    return [axis for axis in axes if axis != "-"]


def _parse(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise FileFormatError(f"{path}: the mapping cannot be read: {error.strerror or error}") from None
    if len(content) > _FILE_BYTES:
        raise FileFormatError(f"{path}: more than {_FILE_BYTES} bytes: this is no mapping")
    try:
        return dict(tomllib.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # of TOML, and of UTF-8
        raise FileFormatError(f"{path}: the mapping is no TOML: {error}") from None


def _dataset(where: str, field: str, section: dict[str, Any], common: Any) -> dict[str, Any]:
    _known(f"{where}: {field}", section, _DATASET)
    if not isinstance(section.get("dataset"), str) or not section["dataset"].strip("/"):
        _refuse(where, f"{field}.dataset", section.get("dataset"), "expected the name of a dataset")
    if not isinstance(section.get("units"), str):
        _refuse(where, f"{field}.units", section.get("units"), "expected a unit such as m, nm, V, nN; never guessed")
    axes = section.get("axes", common)
    if not isinstance(axes, str) or sorted(plain_axes(axes.split())) not in _AXES:
        told = 'expected "y x sample", "curve sample" or "sample", in any order, "-" for an axis of length 1'
        _refuse(where, f"{field}.axes", axes, told)
    numbers = {}
    for key, default in (("scale", 1.0), ("offset", 0.0)):
        value = section.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            _refuse(where, f"{field}.{key}", value, "expected a finite number")
        numbers[key] = float(value)
    samples = section.get("samples")
    if samples is not None and not (
        isinstance(samples, (list, tuple)) and len(samples) == 2 and all(_whole(n) for n in samples)
    ):
        _refuse(where, f"{field}.samples", samples, "expected [first, beyond the last]")
    if not isinstance(section.get("reversed", False), bool):
        _refuse(where, f"{field}.reversed", section["reversed"], "expected true or false")
    return {
        "dataset": section["dataset"],
        "units": section["units"],
        "axes": axes.split(),
        "samples": None if samples is None else list(samples),
        "reversed": section.get("reversed", False),
        **numbers,
    }


def _number(where: str, field: str, value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) != {"from", "units"} or not all(isinstance(text, str) for text in value.values()):
            _refuse(where, field, value, 'expected { from = "/group@attribute", units = "…" }')
        return dict(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(where, field, value, 'expected a number in SI units, or { from = "/group@attribute", units = "…" }')
    return float(value)


def _table(where: str, content: dict[str, Any], key: str, inside: str = "") -> dict[str, Any]:
    section = content.get(key)
    field = f"{inside}.{key}" if inside else key
    if not isinstance(section, dict):
        _refuse(where, field, section, f"expected a table [{field}]")
    return section


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _known(where: str, section: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in section:
        if key not in keys:
            raise FileFormatError(f"{where}: {key!r} is unknown; choose from {', '.join(keys)}")


def _refuse(where: str, field: str, value: Any, remedy: str) -> NoReturn:
    raise FileFormatError(f"{where}: {field} = {str(value)[:80]}: {remedy}")
