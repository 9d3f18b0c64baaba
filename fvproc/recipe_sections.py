"""The sections of a recipe, from tip to maps: their settings with default and unit, and what each refuses."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvproc.errors import RecipeError
from fvproc.models import MODELS
from fvproc.recipe_files import is_map
from fvproc.recipe_settings import check, in_range, option, parse_quantity, whole

if TYPE_CHECKING:
    import numpy as np

THICKEST = 1e-3  # film, m
NOISE_COMPONENTS = 8  # of the noise's covariance; `fvproc._core.NOISE_CORRELATIONS`
SHAPES = ("sphere", "cone", "punch")


@dataclass(frozen=True, slots=True)
class Tip:
    """The probe's apex: a shape with exactly the lengths or angles of that shape.

    Use `Tip.sphere`, `Tip.cone` or `Tip.punch`. A `radius` or `half_angle` of None is to be found in the file.

    Parameters
    ----------
    shape : {"sphere", "cone", "punch"}
        A sphere is treated as a paraboloid.
    radius : float or None
        Of the sphere or punch, m.
    half_angle : float or None
        Of the cone, rad, between axis and side.
    modulus : float or None
        Young's modulus of the tip, Pa; None for a rigid tip.
    poisson_ratio : float
        Of the tip; used with `modulus` only.

    Raises
    ------
    RecipeError
        If a value is out of range, or belongs to another shape.
    """

    shape: str = option("sphere", "shape of the tip", choices=SHAPES)
    radius: float | None = option(None, "tip radius of sphere or punch; from the file if not given", unit="m")
    half_angle: float | None = option(None, "half angle of the cone; from the file if not given", unit="rad")
    modulus: float | None = option(None, "Young's modulus of the tip; rigid if not given", unit="Pa")
    poisson_ratio: float = option(0.27, "Poisson's ratio of the tip, used with tip.modulus", unit="")

    def __post_init__(self) -> None:
        check("tip", self)
        if self.shape == "cone" and self.radius is not None:
            raise RecipeError(f"tip.radius = {self.radius!r}: a cone has a half_angle and no radius")
        if self.shape != "cone" and self.half_angle is not None:
            raise RecipeError(f"tip.half_angle = {self.half_angle!r}: a {self.shape} has a radius and no half_angle")
        if self.radius is not None:
            in_range("tip.radius", self.radius, 0.0, 1e-3)
        if self.half_angle is not None:
            in_range("tip.half_angle", self.half_angle, 0.0, math.pi / 2)
        if self.modulus is not None:
            in_range("tip.modulus", self.modulus, 0.0, 1e14)
        in_range("tip.poisson_ratio", self.poisson_ratio, -1.0, 0.5, closed=True)

    @classmethod
    def sphere(cls, radius: float | None = None, **material: Any) -> Tip:
        """Return a spherical (paraboloidal) tip of that radius in m."""
        return cls("sphere", radius=radius, **material)

    @classmethod
    def cone(cls, half_angle: float | None = None, **material: Any) -> Tip:
        """Return a conical tip of that half angle in rad."""
        return cls("cone", half_angle=half_angle, **material)

    @classmethod
    def punch(cls, radius: float | None = None, **material: Any) -> Tip:
        """Return a flat cylindrical tip of that radius in m."""
        return cls("punch", radius=radius, **material)


@dataclass(frozen=True, slots=True)
class Baseline:
    """How the non-contact part of each branch becomes the zero of force."""

    fraction: float = option(0.3, "part of each branch farthest from the surface", unit="")
    order: int = option(1, "0 subtracts an offset, 1 an offset and a tilt, 2 a bow as well")
    source: str = option(
        "each", "each: every branch its own; approach: that of the approach for both", choices=("each", "approach")
    )
    interference_period: float | None = option(
        None, "period in z of optical interference that is taken off each branch; none if not given", unit="m"
    )
    drag: str = option(
        "none", "none; velocity: a term proportional to the velocity of z is taken off", choices=("none", "velocity")
    )

    def __post_init__(self) -> None:
        check("baseline", self)
        in_range("baseline.fraction", self.fraction, 0.01, 0.7, closed=True)
        order = whole(self.order)
        if order not in (0, 1, 2):
            raise RecipeError(f"baseline.order = {self.order!r}: allowed values are 0, 1 and 2")
        object.__setattr__(self, "order", order)
        if self.interference_period is not None:
            in_range("baseline.interference_period", self.interference_period, 1e-9, 1e-3, closed=True)


@dataclass(frozen=True, slots=True)
class Noise:
    """How the correlation of the noise is known, which the standard errors allow for."""

    correlation: str = option(
        "map",
        "map: measured once, on some curves of the map; curve: each curve's own free samples tell",
        choices=("map", "curve"),
    )
    approach: tuple[float, ...] | None = field(
        default=None,
        metadata={"help": "variances of its components on approach; measured", "unit": None, "choices": ()},
    )
    retract: tuple[float, ...] | None = field(
        default=None,
        metadata={"help": "variances of its components on retract; measured", "unit": None, "choices": ()},
    )

    def __post_init__(self) -> None:
        check("noise", self)
        for name in ("approach", "retract"):
            values = getattr(self, name)
            if values is None:
                continue
            if not isinstance(values, (tuple, list)) or len(values) != NOISE_COMPONENTS:
                raise RecipeError(f"noise.{name} = {values!r}: expected {NOISE_COMPONENTS} variances")
            variances = tuple(parse_quantity(value, "", f"noise.{name}") for value in values)
            if not all(0.0 <= value < math.inf for value in variances) or not any(variances):
                raise RecipeError(f"noise.{name} = {values!r}: variances are finite, none negative, one above zero")
            object.__setattr__(self, name, variances)
        if (self.approach is None) != (self.retract is None):
            raise RecipeError("noise.approach and noise.retract: give both, or neither and they are measured")


@dataclass(frozen=True, slots=True)
class Contact:
    """How the contact point on approach is found."""

    method: str = option(
        "piecewise",
        "piecewise: fit of the whole approach; the others detect the first sample in contact",
        choices=("piecewise", "threshold", "gradient", "ratio_of_variances"),
    )
    threshold: float = option(
        5.0, "threshold: in units of the noise; gradient: in standard errors of the slope", unit=""
    )
    window: float = option(
        1.0 / 16.0,
        "of the detection and of the fit back to zero load: part of the branch, or samples from 1 on",
        unit="",
    )
    position: str = option(
        "zero_load",
        "zero_load: carried back by a fit of the contact model; detected: where the method sees it",
        choices=("zero_load", "detected"),
    )

    def __post_init__(self) -> None:
        check("contact", self)
        in_range("contact.threshold", self.threshold, 1.0, 100.0, closed=True)
        if not (0.0 < self.window < 1.0 or (self.window <= 1e9 and self.window == int(self.window) >= 1)):
            raise RecipeError(
                f"contact.window = {self.window!r}: give a part of the branch between 0 and 1, such as 0.0625,"
                " or a whole number of samples"
            )
        if self.method == "piecewise" and self.position == "detected":
            raise RecipeError(
                'contact.position = "detected" has no meaning with contact.method = "piecewise", which is a fit:'
                ' leave "zero_load", or choose threshold, gradient or ratio_of_variances'
            )


@dataclass(frozen=True, slots=True)
class Fit:
    """The contact model and how it is fitted."""

    model: str = option("dmt", "contact model", choices=MODELS)
    branch: str = option("retract", "branch that is fitted", choices=("retract", "approach"))
    method: str = option("ml", "ml: maximum likelihood; qnm: as the instruments do", choices=("ml", "qnm"))
    window: tuple[float, float] = field(
        default=(0.3, 0.9),
        metadata={"help": "part of F_peak - F_min that qnm fits", "unit": None, "choices": ()},
    )
    adhesion: str = option(
        "free", "free: unbiased estimate of the pull-off; minimum: the lowest sample", choices=("free", "minimum")
    )

    def __post_init__(self) -> None:
        check("fit", self)
        window = self.window
        if isinstance(window, str):
            window = tuple(part.strip(" []()") for part in window.split(","))
        if not isinstance(window, (tuple, list)) or len(window) != 2:
            raise RecipeError(f"fit.window = {window!r}: expected two fractions such as 0.3,0.9")
        low, high = (parse_quantity(part, "", "fit.window") for part in window)
        if not 0.0 <= low < high <= 1.0:
            raise RecipeError(f"fit.window = [{low!r}, {high!r}]: allowed is 0 <= low < high <= 1")
        object.__setattr__(self, "window", (low, high))


@dataclass(frozen=True, slots=True)
class Film:
    """A film of finite thickness on a rigid substrate."""

    thickness: float | str | None = option(
        None, "thickness of the film, or a .npy map of it (ny, nx) in m; none if not given", unit="m"
    )
    bonding: str = option("bonded", "whether the film sticks to the substrate", choices=("bonded", "free"))
    series: str = option(
        "solved",
        "solved: of the contact's integral equation; published: of the literature, for parity",
        choices=("solved", "published"),
    )
    map_digest: str | None = field(
        default=None,
        metadata={"help": "SHA-256 of the map of the thickness; filled in", "unit": None, "choices": ()},
    )

    def __post_init__(self) -> None:
        if is_map(self.thickness):
            path = os.fspath(self.thickness)  # type: ignore[arg-type]
            object.__setattr__(self, "thickness", None)
            check("film", self)
            object.__setattr__(self, "thickness", path)
            return
        check("film", self)
        if self.thickness is not None:
            in_range("film.thickness", float(self.thickness), 0.0, THICKEST)

    def map(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the map of the thickness, (ny, nx) float64 in m, row 0 at the bottom; None where it is a number.

        Raises
        ------
        RecipeError
            If the file is no such map, holds a thickness that no film has, or is another than that of `map_digest`.
        """
        if not isinstance(self.thickness, str):
            return None
        import numpy as np

        try:
            values = np.load(self.thickness, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: the map cannot be read: {reason}; where it lies now is told by"
                " --film-thickness FILE.npy"
            ) from None
        if values.shape != shape or values.dtype.kind != "f":
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: holds {values.dtype.name} of shape {values.shape};"
                f" expected floats in m of shape {shape}, as the scan"
            )
        values = np.ascontiguousarray(values, np.float64)
        beyond = int(np.count_nonzero(values >= THICKEST))
        if beyond:
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: {beyond} of {values.size} values are as large as"
                f" {float(np.nanmax(values)):g}; allowed range is (0, {THICKEST:g}), in m, and NaN or 0 where there"
                " is no thickness"
            )
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        if self.map_digest not in (None, digest):
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: the map has changed since the recipe was completed;"
                " remove film.map_digest to take it as it is now"
            )
        return values

    def completed(self, shape: tuple[int, int]) -> Film:
        """Return the film with the digest of its map, which then is part of the recipe's own, and where it truly lies.

        Workers, and those who take the recipe out of an output, may be in other folders.
        """
        values = self.map(shape)
        if values is None:
            return self
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        return replace(self, thickness=str(Path(str(self.thickness)).absolute()), map_digest=digest)


@dataclass(frozen=True, slots=True)
class Deformation:
    """Which part of the approach counts as deformation."""

    region: float = option(0.85, "from (1 - region) of the peak force to the peak force", unit="")

    def __post_init__(self) -> None:
        check("deformation", self)
        in_range("deformation.region", self.region, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Stiffness:
    """What is called contact stiffness."""

    definition: str = option(
        "peak", "peak: slope at peak force; window: straight line through fit.window", choices=("peak", "window")
    )

    def __post_init__(self) -> None:
        check("stiffness", self)


@dataclass(frozen=True, slots=True)
class Maps:
    """Which quantities are computed and written; those not asked for cost no time and no room.

    Parameters
    ----------
    quantities : "all" or sequence of str
        Names of the registry. A quantity comes with its standard error, the modulus with its lower limit, too. What is
        asked for has the values that it has among all; flags of what is not are not raised.

    Raises
    ------
    RecipeError
        If a name is unknown, or none is given.
    """

    quantities: str | tuple[str, ...] = option("all", "all, or a list of those to compute, such as modulus, adhesion")

    def __post_init__(self) -> None:
        from fvproc.quantities import QUANTITIES  # needs NumPy, which --help does without

        check("maps", self)
        given = self.quantities
        if isinstance(given, str):
            given = tuple(part.strip(" []()\"'") for part in given.split(","))
        if not isinstance(given, (tuple, list)) or not given or not all(isinstance(name, str) for name in given):
            raise RecipeError(f'maps.quantities = {self.quantities!r}: expected "all" or a list of names')
        for name in given:
            if name != "all" and name not in QUANTITIES:
                raise RecipeError(f"maps.quantities: {name!r} is unknown; choose from all, {', '.join(QUANTITIES)}")
        asked = {*given, *(f"{name}_std" for name in given), *(["modulus_lower"] if "modulus" in given else [])}
        names = tuple(name for name in QUANTITIES if name in asked or "all" in given)
        object.__setattr__(self, "quantities", "all" if len(names) == len(QUANTITIES) else names)

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities, in the order of the registry."""
        from fvproc.quantities import QUANTITIES

        return tuple(QUANTITIES) if isinstance(self.quantities, str) else self.quantities


SECTIONS: dict[str, type] = {
    "tip": Tip,
    "baseline": Baseline,
    "noise": Noise,
    "contact": Contact,
    "fit": Fit,
    "film": Film,
    "deformation": Deformation,
    "stiffness": Stiffness,
    "maps": Maps,
}
