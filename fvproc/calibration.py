"""Calibration: spring constant and sensitivities, each with where it came from and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from fvproc.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class Setting:
    """A calibration value with where it came from.

    Parameters
    ----------
    value : float
        In SI units; finite and positive.
    source : str
        ``"file"`` or ``"user"``.
    rel_std : float, optional
        Relative standard uncertainty, such as 0.1 for 10 %.
    """

    value: float
    source: str = "file"
    rel_std: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise CalibrationError(f"a calibration value must be finite and above zero, not {self.value!r}")
        if self.source not in ("file", "user"):
            raise ValueError(f"source must be 'file' or 'user', not {self.source!r}")
        if self.rel_std is not None and not (math.isfinite(self.rel_std) and self.rel_std >= 0):
            raise CalibrationError(f"a relative uncertainty must be finite and not negative, not {self.rel_std!r}")


# field -> (option that supplies it, unit): errors and the command line are made from this table
CALIBRATION_FIELDS: dict[str, tuple[str, str]] = {
    "spring_constant": ("--spring-constant", "N/m"),
    "deflection_sensitivity": ("--deflection-sensitivity", "m/V"),
    "z_sensitivity": ("--z-sensitivity", "m/V"),
}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Spring constant (N/m), deflection sensitivity (m/V) and z sensitivity (m/V); None where unknown.

    Beside a channel in V a sensitivity is what will turn it into metres; beside one in m, what has made its metres.
    """

    spring_constant: Setting | None = None
    deflection_sensitivity: Setting | None = None
    z_sensitivity: Setting | None = None

    def override(self, **values: float | None) -> Calibration:
        """Return a copy in which every value given (SI units) is the user's; None leaves the file's.

        Raises
        ------
        CalibrationError
            If a value is not finite and positive, or a name is no calibration field.
        """
        changed = {}
        for name, value in values.items():
            if name not in CALIBRATION_FIELDS:
                raise CalibrationError(f"{name!r} is no calibration value; choose from {', '.join(CALIBRATION_FIELDS)}")
            if value is None:
                continue
            try:
                changed[name] = Setting(float(value), "user")
            except CalibrationError as error:
                option, unit = CALIBRATION_FIELDS[name]
                raise CalibrationError(f"{name} = {value!r} {unit} ({option}): {error}") from None
        return replace(self, **changed)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the known values with unit, source and uncertainty, ready for JSON."""
        known = {}
        for name, (_, unit) in CALIBRATION_FIELDS.items():
            setting = getattr(self, name)
            if setting is not None:
                known[name] = {
                    "value": setting.value,
                    "unit": unit,
                    "source": setting.source,
                    "rel_std": setting.rel_std,
                }
        return known
