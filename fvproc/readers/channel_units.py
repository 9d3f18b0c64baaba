"""Units in which others state deflection and z, and the channel, in m or V, that each turns into."""

from __future__ import annotations

from fvproc.errors import FileFormatError
from fvproc.volume import Channel

LENGTHS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12}
VOLTS = {"V": 1.0, "mV": 1e-3}
FORCES = {"N": 1.0, "uN": 1e-6, "µN": 1e-6, "nN": 1e-9, "pN": 1e-12}


def channel(
    where: str,
    dtype: str,
    units: str | None,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    spring_constant: float | None = None,
    force: bool = False,
) -> Channel:
    """Return the channel of numbers in some unit: value = (raw · scale + offset) units.

    Parameters
    ----------
    where : str
        File and field, to begin an error with.
    dtype : str
        Of the numbers as the kernel gets them.
    units : str or None
        A length, volts, or a force where `force` allows one.
    scale, offset : float
        Into `units`.
    spring_constant : float, optional
        In N/m; what turned deflection into force.
    force : bool
        Whether a force may stand for a deflection.

    Raises
    ------
    FileFormatError
        If the unit is missing or none of these, a force comes without a spring constant, or the scale is 0.
    """
    known = [*LENGTHS, *VOLTS, *(FORCES if force else ())]
    if units is None or units not in known:
        raise FileFormatError(
            f"{where}: units = {units!r}: expected one of {', '.join(known)}; units are never guessed"
        )
    if units in FORCES:
        if spring_constant is None:
            raise FileFormatError(
                f"{where}: units = {units!r}: also give the spring_constant (N/m) that turned deflection into force"
            )
        unit, factor = "m", FORCES[units] / spring_constant
    else:
        unit, factor = ("m", LENGTHS[units]) if units in LENGTHS else ("V", VOLTS[units])
    try:
        return Channel(dtype, unit, scale * factor, offset * factor)
    except FileFormatError as error:
        raise FileFormatError(f"{where}: {error}") from None


def stored_as(where: str, dtype: str, *, z: bool = False) -> str:
    """Return the dtype in which the kernel takes numbers of a dtype.

    Small integers become int32, float16 and (deflection only) float64 float32; z keeps float64.

    Raises
    ------
    FileFormatError
        If the numbers do not fit any.
    """
    taken = {
        "int8": "int32",
        "uint8": "int32",
        "int16": "int16",
        "uint16": "int32",
        "int32": "int32",
        "float16": "float32",
        "float32": "float32",
        "float64": "float64" if z else "float32",
    }
    if dtype not in taken:
        raise FileFormatError(f"{where}: dtype {dtype}: expected one of {', '.join(taken)}; convert it")
    return taken[dtype]


def require_direction(where: str, branch: str, first: float, last: float, scale: float) -> None:
    """Refuse z that does not grow toward the sample along approach, and fall along retract, from its first curve."""
    rise = (last - first) * scale * (1 if branch == "approach" else -1)
    if rise < 0:
        raise FileFormatError(
            f"{where}: runs from {first * scale:g} to {last * scale:g}: z is the position toward the sample, growing"
            " along approach, falling along retract, samples in the order of time; use a negative scale, or reverse the"
            " samples"
        )
