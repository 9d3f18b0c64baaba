"""The float32 planes that image formats hold: every quantity of the registry, and the flags split in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fvproc.errors import OutputError
from fvproc.maps import ParameterMaps
from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, Flag

# A float32 holds whole numbers exactly up to 2^24 only, so the 32 bits of the flags go into two planes of 16 bits:
# the low half are the warnings, the high half, shifted right by 16, are the fatal ones.
_HALF = 16
_HALF_MASK = np.uint32(0xFFFF)


@dataclass(frozen=True, slots=True)
class Band:
    """One plane of an image stack.

    Parameters
    ----------
    name, unit, label, meaning : str
        As in the registry.
    shift : int or None
        None for a quantity; for flags, by how many bits they are shifted right before the low 16 are taken.
    """

    name: str
    unit: str
    label: str
    meaning: str
    shift: int | None = None

    @property
    def title(self) -> str:
        """Name and unit, as in ``"modulus (Pa)"``."""
        return f"{self.name} ({self.unit})" if self.unit != "1" else self.name

    @property
    def flags(self) -> Mapping[int, Flag]:
        """The flag behind each power of two of this plane; empty for a quantity."""
        if self.shift is None:
            return {}
        halves = {flag: int(flag) >> self.shift for flag in FLAG_MEANINGS}
        return {half: flag for flag, half in halves.items() if 0 < half <= _HALF_MASK}


BANDS: tuple[Band, ...] = (
    *(Band(q.name, q.unit, q.label, q.meaning) for q in QUANTITIES.values()),
    Band("flags_warning", "1", "Warning flags", "bits 0-15 of the flags; the values are kept", 0),
    Band("flags_fatal", "1", "Fatal flags", "bits 16-31 of the flags, divided by 65536; values are NaN", _HALF),
)


def bands_of(maps: ParameterMaps, quantities: Sequence[str] | None = None) -> tuple[Band, ...]:
    """Return the planes of some quantities and of the flags, in the order of the registry; all that there are for None.

    Raises
    ------
    OutputError
        If a quantity is unknown, or not among the maps.
    """
    asked = maps.quantities if quantities is None else quantities
    for name in asked:
        if name not in maps.quantities:
            raise OutputError(f"quantity {name!r}: not among the maps; choose from {', '.join(maps)}")
    return tuple(band for band in BANDS if band.shift is not None or band.name in asked)


def plane(maps: ParameterMaps, band: Band, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Return the image rows [start, stop) of one plane, little-endian float32, contiguous, top row of the scan first.

    No more of the records is read than these rows: they may lie in a file larger than memory.
    """
    ny = maps.shape[0]
    stop = ny if stop is None else min(stop, ny)
    rows = slice(ny - stop, ny - start)
    values = maps[band.name][rows] if band.shift is None else (maps.flags[rows] >> np.uint32(band.shift)) & _HALF_MASK
    return np.ascontiguousarray(values[::-1], "<f4")
