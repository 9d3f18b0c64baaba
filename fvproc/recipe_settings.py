"""How a setting of a recipe is declared, read from text with a unit, and checked."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Collection
from dataclasses import field
from typing import Any

from fvproc.errors import RecipeError

_FACTORS = {
    "m": {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12},
    "rad": {"rad": 1.0, "deg": math.pi / 180, "°": math.pi / 180},
    "Pa": {"Pa": 1.0, "kPa": 1e3, "MPa": 1e6, "GPa": 1e9},
    "N": {"N": 1.0, "uN": 1e-6, "µN": 1e-6, "nN": 1e-9, "pN": 1e-12},
    "N/m": {"N/m": 1.0, "mN/m": 1e-3, "pN/nm": 1e-3, "nN/nm": 1.0},
    "m/V": {"m/V": 1.0, "nm/V": 1e-9, "um/V": 1e-6, "µm/V": 1e-6, "pm/V": 1e-12},
    "J": {"J": 1.0, "aJ": 1e-18, "fJ": 1e-15, "eV": 1.602176634e-19, "keV": 1.602176634e-16},
    "": {"": 1.0, "%": 0.01},
}


def parse_quantity(text: Any, unit: str, name: str) -> float:
    """Return a number in SI from a number, or from text such as ``"10nm"``.

    Parameters
    ----------
    text : float or str
        A bare number is taken to be in `unit`.
    unit : str
        The SI unit wanted: ``"m"``, ``"rad"``, ``"Pa"``, ``"N"``, ``"N/m"``, ``"m/V"``, ``"J"`` or ``""``.
    name : str
        What is being parsed, for the message.

    Raises
    ------
    RecipeError
        If the text is no number with a unit of that kind.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    match = re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\D*?)\s*", str(text))
    factors = _FACTORS[unit]
    if match is None or (match[2] and match[2] not in factors):
        known = ", ".join(repr(u) for u in factors if u) or "none"
        raise RecipeError(f"{name} = {text!r}: expected a number, bare in {unit or 'no unit'} or with a unit ({known})")
    return float(match[1]) * factors[match[2] or unit]


def option(default: Any, help: str, *, unit: str | None = None, choices: Collection[str] = ()) -> Any:
    """Declare a leaf of the recipe; command line, commented default and checks are made from this."""
    return field(default=default, metadata={"help": help, "unit": unit, "choices": choices})


def check(section: str, settings: Any) -> None:
    """Apply what the metadata says of each leaf: unit text to SI, choices, finite."""
    for leaf in dataclasses.fields(settings):
        if "help" not in leaf.metadata:
            continue
        name, value = f"{section}.{leaf.name}", getattr(settings, leaf.name)
        choices, unit = leaf.metadata["choices"], leaf.metadata["unit"]
        if choices and not (isinstance(value, str) and value in choices):
            raise RecipeError(f"{name} = {value!r}: choose from {', '.join(choices)}")
        if unit is not None and value is not None:
            value = parse_quantity(value, unit, name)
            if not math.isfinite(value):
                raise RecipeError(f"{name} = {value!r}: must be finite")
            object.__setattr__(settings, leaf.name, value)


def whole(value: Any) -> int | None:
    """Return a whole number of any type (1, 1.0, NumPy's) as an int; None for what is none, truth values too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or value % 1 != 0:
        return None
    return int(float(value))


def in_range(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    """Refuse a value outside (low, high), or outside [low, high] if `closed`."""
    inside = low <= value <= high if closed else low < value < high
    if not inside:
        bounds = f"[{low:g}, {high:g}]" if closed else f"({low:g}, {high:g})"
        raise RecipeError(f"{name} = {value!r}: allowed range is {bounds}")
