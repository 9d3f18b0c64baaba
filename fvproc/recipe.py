"""Recipe and Tip: everything that changes the numbers, frozen, validated in one place, stored in every output."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc.errors import RecipeError
from fvproc.models import MODELS, film_series
from fvproc.volume import ForceVolume

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1

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


def _option(default: Any, help: str, *, unit: str | None = None, choices: Collection[str] = ()) -> Any:
    """Declare a leaf of the recipe; command line, commented default and checks are made from this."""
    return field(default=default, metadata={"help": help, "unit": unit, "choices": choices})


def _check(section: str, settings: Any) -> None:
    """Apply what the metadata says of each leaf: unit text to SI, choices, finite."""
    for leaf in dataclasses.fields(settings):
        if "help" not in leaf.metadata:
            continue
        name, value = f"{section}.{leaf.name}", getattr(settings, leaf.name)
        choices, unit = leaf.metadata["choices"], leaf.metadata["unit"]
        if choices and value not in choices:
            raise RecipeError(f"{name} = {value!r}: choose from {', '.join(choices)}")
        if unit is not None and value is not None and not isinstance(value, (tuple, list)):
            value = parse_quantity(value, unit, name)
            if not math.isfinite(value):
                raise RecipeError(f"{name} = {value!r}: must be finite")
            object.__setattr__(settings, leaf.name, value)


def _in_range(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    inside = low <= value <= high if closed else low < value < high
    if not inside:
        bounds = f"[{low:g}, {high:g}]" if closed else f"({low:g}, {high:g})"
        raise RecipeError(f"{name} = {value!r}: allowed range is {bounds}")


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

    shape: str = _option("sphere", "shape of the tip", choices=SHAPES)
    radius: float | None = _option(None, "tip radius of sphere or punch; from the file if not given", unit="m")
    half_angle: float | None = _option(None, "half angle of the cone; from the file if not given", unit="rad")
    modulus: float | None = _option(None, "Young's modulus of the tip; rigid if not given", unit="Pa")
    poisson_ratio: float = _option(0.27, "Poisson's ratio of the tip, used with tip.modulus", unit="")

    def __post_init__(self) -> None:
        _check("tip", self)
        if self.shape == "cone" and self.radius is not None:
            raise RecipeError(f"tip.radius = {self.radius!r}: a cone has a half_angle and no radius")
        if self.shape != "cone" and self.half_angle is not None:
            raise RecipeError(f"tip.half_angle = {self.half_angle!r}: a {self.shape} has a radius and no half_angle")
        if self.radius is not None:
            _in_range("tip.radius", self.radius, 0.0, 1e-3)
        if self.half_angle is not None:
            _in_range("tip.half_angle", self.half_angle, 0.0, math.pi / 2)
        if self.modulus is not None:
            _in_range("tip.modulus", self.modulus, 0.0, 1e14)
        _in_range("tip.poisson_ratio", self.poisson_ratio, -1.0, 0.5, closed=True)

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

    fraction: float = _option(0.3, "part of each branch farthest from the surface", unit="")
    order: int = _option(1, "0 subtracts an offset, 1 an offset and a tilt")
    source: str = _option(
        "each", "each: every branch its own; approach: that of the approach for both", choices=("each", "approach")
    )
    interference_period: float | None = _option(
        None, "period in z of optical interference that is taken off each branch; none if not given", unit="m"
    )
    drag: str = _option(
        "none", "none; velocity: a term proportional to the velocity of z is taken off", choices=("none", "velocity")
    )

    def __post_init__(self) -> None:
        _check("baseline", self)
        _in_range("baseline.fraction", self.fraction, 0.01, 0.7, closed=True)
        if self.order not in (0, 1) or isinstance(self.order, bool):
            raise RecipeError(f"baseline.order = {self.order!r}: allowed values are 0 and 1")
        if self.interference_period is not None:
            _in_range("baseline.interference_period", self.interference_period, 1e-9, 1e-3, closed=True)


@dataclass(frozen=True, slots=True)
class Contact:
    """How the contact point on approach is found."""

    method: str = _option(
        "piecewise",
        "piecewise: fit of the whole approach; the others detect the first sample in contact",
        choices=("piecewise", "threshold", "gradient", "ratio_of_variances"),
    )
    threshold: float = _option(
        5.0, "threshold: in units of the noise; gradient: in standard errors of the slope", unit=""
    )
    window: float = _option(
        1.0 / 16.0,
        "of the detection and of the fit back to zero load: part of the branch, or samples from 1 on",
        unit="",
    )
    position: str = _option(
        "zero_load",
        "zero_load: carried back by a fit of the contact model; detected: where the method sees it",
        choices=("zero_load", "detected"),
    )

    def __post_init__(self) -> None:
        _check("contact", self)
        _in_range("contact.threshold", self.threshold, 1.0, 100.0, closed=True)
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

    model: str = _option("dmt", "contact model", choices=MODELS)
    branch: str = _option("retract", "branch that is fitted", choices=("retract", "approach"))
    method: str = _option("ml", "ml: maximum likelihood; qnm: as the instruments do", choices=("ml", "qnm"))
    window: tuple[float, float] = field(
        default=(0.3, 0.9),
        metadata={"help": "part of F_peak - F_min that qnm fits", "unit": "", "choices": ()},
    )
    adhesion: str = _option(
        "free", "free: unbiased estimate of the pull-off; minimum: the lowest sample", choices=("free", "minimum")
    )

    def __post_init__(self) -> None:
        _check("fit", self)
        window = self.window
        if isinstance(window, str):
            window = tuple(part.strip(" []()") for part in window.split(","))
        if not isinstance(window, (tuple, list)) or len(window) != 2:
            raise RecipeError(f"fit.window = {window!r}: expected two fractions such as [0.3, 0.9]")
        low, high = (parse_quantity(part, "", "fit.window") for part in window)
        if not 0.0 <= low < high <= 1.0:
            raise RecipeError(f"fit.window = [{low!r}, {high!r}]: allowed is 0 <= low < high <= 1")
        object.__setattr__(self, "window", (low, high))


@dataclass(frozen=True, slots=True)
class Film:
    """A film of finite thickness on a rigid substrate."""

    thickness: float | str | None = _option(
        None, "thickness of the film, or a .npy map of it (ny, nx) in m; none if not given", unit="m"
    )
    bonding: str = _option("bonded", "whether the film sticks to the substrate", choices=("bonded", "free"))
    series: str = _option(
        "solved",
        "solved: of the contact's integral equation; published: of the literature, for parity",
        choices=("solved", "published"),
    )
    map_digest: str | None = field(
        default=None,
        metadata={"help": "SHA-256 of the map of the thickness; filled in", "unit": None, "choices": ()},
    )

    def __post_init__(self) -> None:
        if isinstance(self.thickness, str) and self.thickness.lower().endswith(".npy"):
            path = self.thickness
            object.__setattr__(self, "thickness", None)
            _check("film", self)
            object.__setattr__(self, "thickness", path)
            return
        _check("film", self)
        if self.thickness is not None:
            _in_range("film.thickness", float(self.thickness), 0.0, 1e-3)

    def map(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Return the map of the thickness, (ny, nx) float64 in m, row 0 at the bottom; None where it is a number.

        Raises
        ------
        RecipeError
            If the file is no such map, or is another than that of `map_digest`.
        """
        if not isinstance(self.thickness, str):
            return None
        try:
            values = np.load(self.thickness, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RecipeError(f"film.thickness = {self.thickness!r}: the map cannot be read: {error}") from None
        if values.shape != shape or values.dtype.kind != "f":
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: holds {values.dtype.name} of shape {values.shape};"
                f" expected floats in m of shape {shape}, as the scan"
            )
        values = np.ascontiguousarray(values, np.float64)
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        if self.map_digest not in (None, digest):
            raise RecipeError(
                f"film.thickness = {self.thickness!r}: the map has changed since the recipe was completed;"
                " remove film.map_digest to take it as it is now"
            )
        return values

    def completed(self, shape: tuple[int, int]) -> Film:
        """Return the film with the digest of its map, which then is part of the recipe's own."""
        values = self.map(shape)
        return self if values is None else replace(self, map_digest=hashlib.sha256(values.tobytes()).hexdigest())


@dataclass(frozen=True, slots=True)
class Deformation:
    """Which part of the approach counts as deformation."""

    region: float = _option(0.85, "from (1 - region) of the peak force to the peak force", unit="")

    def __post_init__(self) -> None:
        _check("deformation", self)
        _in_range("deformation.region", self.region, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Stiffness:
    """What is called contact stiffness."""

    definition: str = _option(
        "peak", "peak: slope at peak force; window: straight line through fit.window", choices=("peak", "window")
    )

    def __post_init__(self) -> None:
        _check("stiffness", self)


_SECTIONS: dict[str, type] = {
    "tip": Tip,
    "baseline": Baseline,
    "contact": Contact,
    "fit": Fit,
    "film": Film,
    "deformation": Deformation,
    "stiffness": Stiffness,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that changes the numbers and nothing else; same recipe, same kernel, same file: same bytes.

    Parameters
    ----------
    tip : Tip
        The probe.
    poisson_ratio : float or None
        Of the sample; None takes the file's, or 0.3.
    baseline, contact, fit, film, deformation, stiffness
        The sections; see each class.
    version : int
        Of the recipe's layout; older ones are migrated by `from_dict`.

    Raises
    ------
    RecipeError
        If any value is out of range or two contradict each other.
    """

    tip: Tip = field(default_factory=Tip)
    poisson_ratio: float | None = _option(None, "Poisson's ratio of the sample; from the file, else 0.3", unit="")
    baseline: Baseline = field(default_factory=Baseline)
    contact: Contact = field(default_factory=Contact)
    fit: Fit = field(default_factory=Fit)
    film: Film = field(default_factory=Film)
    deformation: Deformation = field(default_factory=Deformation)
    stiffness: Stiffness = field(default_factory=Stiffness)
    version: int = VERSION

    def __post_init__(self) -> None:
        _check("sample", self)
        if self.version != VERSION:
            raise RecipeError(f"version = {self.version!r}: this fvproc writes version {VERSION}")
        for name, kind in _SECTIONS.items():
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"{name} = {getattr(self, name)!r}: expected a {kind.__name__}")
        if self.poisson_ratio is not None:
            _in_range("sample.poisson_ratio", self.poisson_ratio, -1.0, 0.5, closed=True)
        shape = MODELS[self.fit.model].shape
        if self.tip.shape != shape:
            raise RecipeError(
                f"fit.model = {self.fit.model!r} needs tip.shape = {shape!r}, not {self.tip.shape!r}:"
                f" set both, as in --fit-model {self.fit.model} --tip-shape {shape}"
            )
        if self.film.thickness is not None:
            if MODELS[self.fit.model].adhesion == "inside":
                raise RecipeError(
                    f"film.thickness with fit.model = {self.fit.model!r}: no theory of such a contact on a film is"
                    " built in; use dmt or hertz"
                )
            if self.poisson_ratio is not None and not (self.tip.radius is None and self.tip.half_angle is None):
                film_series(self.tip, self.film.bonding, self.film.series, self.poisson_ratio)
        if self.stiffness.definition == "window" and self.fit.method != "qnm":
            raise RecipeError('stiffness.definition = "window" is defined by the window of fit.method = "qnm" only')

    # ---- to and from plain data

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as a nested dict of plain values; `from_dict` turns it back into an equal one."""
        data: dict[str, Any] = {"version": self.version, "sample": {"poisson_ratio": self.poisson_ratio}}
        for name in _SECTIONS:
            section = dataclasses.asdict(getattr(self, name))
            data[name] = {key: list(v) if isinstance(v, tuple) else v for key, v in section.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Build a recipe from a nested dict; what is not given keeps its default.

        A model implies the shape of the tip where the dict names only the model.

        Raises
        ------
        RecipeError
            If a section or a name is unknown, or a value is out of range.
        """
        data = {key: value for key, value in data.items() if key != "recipe"}
        version = data.pop("version", VERSION)
        if version != VERSION:
            raise RecipeError(f"version = {version!r}: this fvproc reads version {VERSION}; update fvproc")
        sections: dict[str, dict[str, Any]] = {}
        for name, content in data.items():
            if name not in (*_SECTIONS, "sample"):
                raise RecipeError(
                    f"[{name}] is no section of a recipe; choose from {', '.join((*_SECTIONS, 'sample'))}"
                )
            if not isinstance(content, Mapping):
                raise RecipeError(f"[{name}] = {content!r}: expected a table of settings")
            sections[name] = dict(content)
        model = sections.get("fit", {}).get("model")
        if model in MODELS:
            sections.setdefault("tip", {}).setdefault("shape", MODELS[model].shape)
        built: dict[str, Any] = {}
        for name, content in sections.items():
            known = (
                ("poisson_ratio",) if name == "sample" else tuple(f.name for f in dataclasses.fields(_SECTIONS[name]))
            )
            for key in content:
                if key not in known:
                    raise RecipeError(f"{name}.{key} is no setting of a recipe; [{name}] knows {', '.join(known)}")
            if name == "sample":
                built["poisson_ratio"] = content.get("poisson_ratio")
            else:
                built[name] = _SECTIONS[name](**content)
        return cls(**built)

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no white space; the digest is taken over it."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Build a recipe from the JSON of `to_json` (or any JSON of the same nested layout)."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecipeError(f"the recipe is not valid JSON: {error}") from None
        return cls.from_dict(data)

    def to_toml(self, *, comments: bool = False) -> str:
        """Return the recipe as TOML; with `comments`, each setting is preceded by what it means."""
        lines = [f"version = {self.version}"]
        section = ""
        for path, leaf, value in self._leaves():
            if path[0] != section:
                section = path[0]
                lines += ["", f"[{section}]"]
            if comments:
                unit, choices = leaf.metadata["unit"], leaf.metadata["choices"]
                lines.append(f"# {leaf.metadata['help']}" + (f", {unit}" if unit else ""))
                if choices:
                    lines.append(f"# one of: {', '.join(choices)}")
            if value is None:
                lines += [f"# {path[1]} ="] if comments else []
            else:
                lines.append(f"{path[1]} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Recipe:
        """Read a recipe from a TOML or JSON file.

        Raises
        ------
        RecipeError
            If the file cannot be read, is malformed, or its values are refused; the message names the file.
        """
        return cls.from_dict(read_settings(path))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def _leaves(self) -> Iterator[tuple[tuple[str, str], dataclasses.Field[Any], Any]]:
        yield from ((path, leaf, self._value(path)) for path, leaf in leaves())

    def _value(self, path: tuple[str, str]) -> Any:
        value = self.poisson_ratio if path[0] == "sample" else getattr(getattr(self, path[0]), path[1])
        return list(value) if isinstance(value, tuple) else value

    # ---- together with a volume

    def completed(self, volume: ForceVolume) -> Recipe:
        """Return the recipe with what it leaves to the file taken from `volume`.

        Raises
        ------
        RecipeError
            If neither recipe nor file tells the tip's radius or half angle, the message names the option; if the map
            of the film's thickness cannot be read, does not fit the grid, or is not the one that the recipe knows.
        """
        tip, ratio = self.tip, self.poisson_ratio
        length, option, found = "radius", "--tip-radius 10nm", volume.tip_radius
        if tip.shape == "cone":
            length, option, found = "half_angle", "--tip-half-angle 18deg", volume.tip_half_angle
        if getattr(tip, length) is None:
            if found is None:
                raise RecipeError(
                    f"{volume.path}: neither the file nor the recipe tells tip.{length}:"
                    f" give {option}, or {length} under [tip] in the recipe"
                )
            tip = replace(tip, **{length: found.value})  # type: ignore[arg-type]
        if ratio is None:
            ratio = volume.poisson_ratio if volume.poisson_ratio is not None else 0.3
        return replace(self, tip=tip, poisson_ratio=ratio, film=self.film.completed(volume.shape))

    @classmethod
    def vendor(cls, volume: ForceVolume, **changes: Any) -> Recipe:
        """Return the recipe of the instrument's own software as the file's header tells it.

        Parameters
        ----------
        volume : ForceVolume
            An open file whose reader found fit settings.
        **changes
            Sections that override the vendor's, as nested dicts.

        Raises
        ------
        RecipeError
            If the file holds no fit settings.
        """
        if not volume.vendor_recipe:
            raise RecipeError(f"{volume.path}: a {volume.format} file without fit settings has no vendor recipe")
        return cls.from_dict(merged(volume.vendor_recipe, changes))


def leaves() -> Iterator[tuple[tuple[str, str], dataclasses.Field[Any]]]:
    """Yield ((section, name), dataclass field) of every setting, in the order in which they are documented."""
    for name, kind in _SECTIONS.items():
        for leaf in dataclasses.fields(kind):
            yield (name, leaf.name), leaf
        if name == "tip":
            yield ("sample", "poisson_ratio"), next(f for f in dataclasses.fields(Recipe) if f.name == "poisson_ratio")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dict `base` with the leaves of `changes` put over it.

    Where the changes choose another shape of tip, by its name or by a model, the shape and lengths of `base` go.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    shapes = [_shape(base), _shape(changes)]
    if isinstance(result.get("tip"), dict) and None not in shapes and shapes[0] != shapes[1]:
        result["tip"] = {k: v for k, v in result["tip"].items() if k not in ("shape", "radius", "half_angle")}
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = {**result[key], **value}
        else:
            result[key] = dict(value) if isinstance(value, Mapping) else value
    return result


def _shape(settings: Mapping[str, Any]) -> Any:
    """Return the shape of tip that the nested dict of a recipe asks for; None if it leaves that open."""
    tip, fit = (part if isinstance(part := settings.get(name), Mapping) else {} for name in ("tip", "fit"))
    model = MODELS.get(str(fit.get("model")))
    return tip.get("shape", model.shape if model is not None else None)


def read_settings(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the nested dict of a recipe file (TOML or JSON, by suffix) without building the recipe.

    The key ``recipe = "nanoscope"`` at the top says that the rest goes over the vendor's settings.

    Raises
    ------
    RecipeError
        If the file cannot be read or is malformed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error}") from None
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise RecipeError(
            f"{path}: not valid {'JSON' if path.suffix.lower() == '.json' else 'TOML'}: {error}"
        ) from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: expected a table of settings, found {type(data).__name__}")
    return data
