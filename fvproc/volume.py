"""What was measured: ForceVolume and its parts, plain frozen values that hold no array and no open file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fvproc.calibration import CALIBRATION_FIELDS as CALIBRATION_FIELDS
from fvproc.calibration import Calibration as Calibration
from fvproc.calibration import Setting as Setting
from fvproc.errors import CalibrationError, FileFormatError

if TYPE_CHECKING:
    import numpy as np


# field -> the channel of a branch that it turns from V into m
_SENSITIVITIES = {"deflection_sensitivity": "deflection", "z_sensitivity": "z"}


@dataclass(frozen=True, slots=True)
class Channel:
    """How the stored numbers of one channel turn into volts or metres: value = raw · scale + offset.

    Parameters
    ----------
    dtype : str
        NumPy dtype of the stored numbers in native byte order: ``"int16"``, ``"int32"`` or ``"float32"``
        (z may also be ``"float64"``).
    unit : str
        ``"m"`` or ``"V"``.
    scale, offset : float
        Into `unit`.
    invalid : int or None
        The raw integer that marks an invalid sample; NaN always does in float channels.
    """

    dtype: str
    unit: str
    scale: float = 1.0
    offset: float = 0.0
    invalid: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("int16", "int32", "float32", "float64"):
            raise FileFormatError(f"channel dtype must be int16, int32, float32 or float64, not {self.dtype!r}")
        if self.unit not in ("m", "V"):
            raise FileFormatError(f"channel unit must be 'm' or 'V', not {self.unit!r}")
        if not (math.isfinite(self.scale) and self.scale != 0 and math.isfinite(self.offset)):
            raise FileFormatError(
                f"channel scale {self.scale!r} and offset {self.offset!r} must be finite, scale not 0"
            )

    def times(self, factor: float) -> Channel:
        """Return the channel whose values are so many times as large."""
        return replace(self, scale=factor * self.scale, offset=factor * self.offset)


@dataclass(frozen=True, slots=True)
class Branch:
    """One direction of the ramp: samples per curve, its two channels, and whether all curves share one z."""

    samples: int
    deflection: Channel
    z: Channel
    z_shared: bool

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise FileFormatError(f"a branch needs at least one sample, not {self.samples}")


@dataclass(frozen=True, slots=True)
class Grid:
    """The scan frame: ny rows of nx pixels, row 0 at the bottom of the scan.

    Parameters
    ----------
    ny, nx : int
        Rows and columns.
    size_y, size_x : float or None
        Edge lengths in metres; None where the file does not say (a single curve).
    rotation : float
        Scan angle in degrees.
    """

    ny: int
    nx: int
    size_y: float | None = None
    size_x: float | None = None
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if self.ny < 1 or self.nx < 1:
            raise FileFormatError(f"a grid needs at least one row and one column, not {self.ny} × {self.nx}")
        for name in ("size_y", "size_x"):
            size = getattr(self, name)
            if size is not None and not (math.isfinite(size) and size > 0):
                raise FileFormatError(f"grid {name} must be finite and above zero, not {size!r}")

    @property
    def curves(self) -> int:
        """Number of curves."""
        return self.ny * self.nx

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.ny, self.nx

    @property
    def sized(self) -> bool:
        """Whether the file gives the size of the frame."""
        return self.size_y is not None and self.size_x is not None

    @property
    def pixel(self) -> tuple[float, float]:
        """(dy, dx) in metres; 1 nm where the file does not give the size of the frame."""
        return (self.size_y or self.ny * 1e-9) / self.ny, (self.size_x or self.nx * 1e-9) / self.nx


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A run [start, stop) of curve numbers in row-major order; carries no data."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"a tile needs 0 <= start < stop, not [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


# of which a relative standard uncertainty may be known: from the file, or given to `fvproc.open`
UNCERTAIN = ("spring_constant", "deflection_sensitivity", "tip_radius", "tip_half_angle", "poisson_ratio")


@dataclass(frozen=True, slots=True)
class ForceVolume:
    """A frozen description of one file of force-distance curves; the curves stay on disk.

    Parameters
    ----------
    path : str
        The file.
    format : str
        Name of the reader that understands it.
    grid : Grid
        Scan frame.
    approach, retract : Branch
        The two directions of the ramp.
    calibration : Calibration
        With sources; may lack values, which `missing` then names. Beside a channel in m a sensitivity is the one that
        made its metres; change it with `with_calibration`, which makes them again.
    tip_radius, tip_half_angle : Setting or None
        Of the tip, in m and rad, where the file tells.
    poisson_ratio : float or None
        Of the sample, where the file tells.
    has_height : bool
        Whether a scanner height per curve comes with the curves; otherwise z itself is absolute.
    vendor_recipe : mapping
        Fit settings of the instrument's own software as the nested dict of a recipe; empty if unknown.
    header : mapping of str to str or float
        Facts of the header worth keeping as provenance; small.
    layout : mapping of str to int, float or str
        What the reader needs to find a tile again: offsets, strides, dataset names.
    tile_alignment : int
        Tiles start at multiples of this number of curves (whole chunks, whole rows).
    file_size, modified_ns, header_digest : int, int, str
        Identity of the input: size in bytes, modification time, SHA-256 of the header.
    warnings : tuple of str
        What a reader had to correct or could not make sense of.
    rel_std : mapping of str to float
        Relative standard uncertainties that the user gave, by names of `UNCERTAIN`; they go before the file's.
    tip_depends : mapping of str to float
        ∂ln length/∂ln source of a tip that was calibrated on a reference sample with this very spring constant and
        sensitivity: an error of theirs is an error of the length, too; see `fvproc.calibrate`.
    """

    path: str
    format: str
    grid: Grid
    approach: Branch
    retract: Branch
    calibration: Calibration = field(default_factory=Calibration)
    tip_radius: Setting | None = None
    tip_half_angle: Setting | None = None
    poisson_ratio: float | None = None
    has_height: bool = False
    vendor_recipe: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)
    tile_alignment: int = 1
    file_size: int = 0
    modified_ns: int = 0
    header_digest: str = ""
    warnings: tuple[str, ...] = ()
    rel_std: Mapping[str, float] = field(default_factory=dict)
    tip_depends: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.rel_std.items():
            if name not in UNCERTAIN:
                raise CalibrationError(
                    f"{name!r} has no uncertainty that acts on the results; choose from {', '.join(UNCERTAIN)}"
                )
            if not 0.0 <= value < 1.0:
                raise CalibrationError(f"relative uncertainty of {name} = {value!r}: expected 0 to 1, as 0.1 for 10 %")
        for name in ("vendor_recipe", "header", "layout", "rel_std", "tip_depends"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy does not pickle; rebuild from plain dicts
        names = list(self.__dataclass_fields__)
        values = [getattr(self, name) for name in names]
        return _rebuild, (names, [dict(v) if isinstance(v, MappingProxyType) else v for v in values])

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.grid.shape

    @property
    def curve_bytes(self) -> int:
        """Bytes of one curve on disk, both branches, before compression."""
        import numpy as np

        total = 0
        for branch in (self.approach, self.retract):
            total += branch.samples * np.dtype(branch.deflection.dtype).itemsize
            if not branch.z_shared:
                total += branch.samples * np.dtype(branch.z.dtype).itemsize
        return total

    def relative_std(self, name: str) -> float | None:
        """Return the relative standard uncertainty of one of `UNCERTAIN`: the user's, else the file's, else None."""
        if name in self.rel_std:
            return self.rel_std[name]
        setting = getattr(self, name) if name.startswith("tip_") else getattr(self.calibration, name, None)
        return setting.rel_std if isinstance(setting, Setting) else None

    def with_calibration(self, calibration: Calibration) -> ForceVolume:
        """Return a copy with another calibration; a tip that was found with another value depends on none of them.

        Metres that the instrument has made of volts are made again with the new sensitivity: times new/old.

        Raises
        ------
        CalibrationError
            If a sensitivity is given for metres of which it is not known what made them: it would do nothing.
        """
        kept = all(getattr(calibration, source) == getattr(self.calibration, source) for source in self.tip_depends)
        branches = {"approach": self.approach, "retract": self.retract}
        for field_name, part in _SENSITIVITIES.items():
            for name, branch in branches.items():
                factor = self._made_again(calibration, field_name, getattr(branch, part))
                if factor != 1.0:
                    branches[name] = replace(branch, **{part: getattr(branch, part).times(factor)})
        return replace(self, **branches, calibration=calibration, tip_depends=self.tip_depends if kept else {})  # type: ignore[arg-type]

    def _made_again(self, calibration: Calibration, field_name: str, channel: Channel) -> float:
        """Return by what the metres of a channel change with another calibration; 1 for volts."""
        old, new = getattr(self.calibration, field_name), getattr(calibration, field_name)
        if channel.unit == "V" or new is None or new == old:
            return 1.0
        if old is not None:
            return float(new.value / old.value)
        option, unit = CALIBRATION_FIELDS[field_name]
        raise CalibrationError(
            f"{self.path}: {field_name} = {new.value:g} {unit}: {_SENSITIVITIES[field_name]} is stored in metres,"
            " and the file does not tell the sensitivity that made them: there is nothing to apply another one to;"
            f" leave it out ({option}, {field_name}=, or its table in a calibration file)"
        )

    def missing(self) -> list[str]:
        """Return the calibration fields without which no curve can be turned into force against z."""
        names = []
        if self.calibration.spring_constant is None:
            names.append("spring_constant")
        channels = [branch.deflection for branch in (self.approach, self.retract)]
        if any(c.unit == "V" for c in channels) and self.calibration.deflection_sensitivity is None:
            names.append("deflection_sensitivity")
        if any(b.z.unit == "V" for b in (self.approach, self.retract)) and self.calibration.z_sensitivity is None:
            names.append("z_sensitivity")
        return names

    def require_calibration(self) -> None:
        """Raise CalibrationError, naming the option for each value that is missing."""
        missing = self.missing()
        if missing:
            needs = "; ".join(
                f"{name} ({CALIBRATION_FIELDS[name][1]}): give {CALIBRATION_FIELDS[name][0]} VALUE"
                f" or fv.open(..., {name}=VALUE)"
                for name in missing
            )
            raise CalibrationError(f"{self.path}: the file does not tell {needs}")

    def deflection_scale(self, branch: str) -> tuple[float, float]:
        """Return (scale, offset) from raw deflection of ``"approach"`` or ``"retract"`` to metres."""
        channel = getattr(self, branch).deflection
        return self._to_metres(channel, self.calibration.deflection_sensitivity)

    def z_scale(self, branch: str) -> tuple[float, float]:
        """Return (scale, offset) from raw z of ``"approach"`` or ``"retract"`` to metres."""
        return self._to_metres(getattr(self, branch).z, self.calibration.z_sensitivity)

    def _to_metres(self, channel: Channel, sensitivity: Setting | None) -> tuple[float, float]:
        if channel.unit == "m":
            return channel.scale, channel.offset
        if sensitivity is None:
            self.require_calibration()
            raise AssertionError("unreachable: require_calibration raises")
        return channel.scale * sensitivity.value, channel.offset * sensitivity.value


def _rebuild(names: list[str], values: list[Any]) -> ForceVolume:
    return ForceVolume(**dict(zip(names, values, strict=True)))


@dataclass(slots=True)
class RawBranch:
    """The raw numbers of one branch of a tile, samples in the order of time.

    Parameters
    ----------
    deflection : ndarray, shape (curves, samples)
        int16, int32 or float32, native byte order; may be a view with any strides.
    z : ndarray, shape (samples,) or (curves, samples)
        Raw numbers of any channel dtype; one dimension where all curves share z.
    valid_length : ndarray of int32, shape (curves,), or None
        The first so many samples of each curve are valid; None where all are.
    """

    deflection: np.ndarray
    z: np.ndarray
    valid_length: np.ndarray | None = None


@dataclass(slots=True)
class RawTile:
    """What a reader returns for a tile: both branches, and the scanner height in m (curves,) float64 or None."""

    approach: RawBranch
    retract: RawBranch
    height: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class VendorMap:
    """A map that the instrument's own software left in the file, in SI units on the (ny, nx) grid."""

    name: str
    unit: str
    values: np.ndarray
    label: str = ""
