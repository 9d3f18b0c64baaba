"""Recipe: everything that changes the numbers, frozen, validated in one place, stored in every output."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from fvproc.errors import RecipeError
from fvproc.models import MODELS, film_series
from fvproc.recipe_files import Leaf, as_toml, canonical, digest_of, merged, read_settings
from fvproc.recipe_sections import (
    SECTIONS,
    SHAPES,
    Baseline,
    Contact,
    Deformation,
    Film,
    Fit,
    Maps,
    Noise,
    Stiffness,
    Tip,
)
from fvproc.recipe_settings import check, in_range, option, parse_quantity, whole
from fvproc.volume import ForceVolume

__all__ = [
    "SHAPES",
    "VERSION",
    "Baseline",
    "Contact",
    "Deformation",
    "Film",
    "Fit",
    "Maps",
    "Noise",
    "Recipe",
    "Stiffness",
    "Tip",
    "digest_of",
    "leaves",
    "merged",
    "parse_quantity",
    "read_settings",
]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that changes the numbers and nothing else; same recipe, same kernel, same file: same bytes.

    Parameters
    ----------
    tip : Tip
        The probe.
    poisson_ratio : float or None
        Of the sample; None takes the file's, or 0.3.
    baseline, noise, contact, fit, film, deformation, stiffness, maps
        The sections; see each class.
    version : int
        Of the recipe's layout; older ones are migrated by `from_dict`.

    Raises
    ------
    RecipeError
        If any value is out of range or two contradict each other.
    """

    tip: Tip = field(default_factory=Tip)
    poisson_ratio: float | None = option(None, "Poisson's ratio of the sample; from the file, else 0.3", unit="")
    baseline: Baseline = field(default_factory=Baseline)
    noise: Noise = field(default_factory=Noise)
    contact: Contact = field(default_factory=Contact)
    fit: Fit = field(default_factory=Fit)
    film: Film = field(default_factory=Film)
    deformation: Deformation = field(default_factory=Deformation)
    stiffness: Stiffness = field(default_factory=Stiffness)
    maps: Maps = field(default_factory=Maps)
    version: int = VERSION

    def __post_init__(self) -> None:
        check("sample", self)
        if whole(self.version) != VERSION:
            raise RecipeError(f"version = {self.version!r}: this fvproc writes version {VERSION}")
        object.__setattr__(self, "version", VERSION)
        for name, kind in SECTIONS.items():
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"{name} = {getattr(self, name)!r}: expected a {kind.__name__}")
        if self.poisson_ratio is not None:
            in_range("sample.poisson_ratio", self.poisson_ratio, -1.0, 0.5, closed=True)
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
        """Return the recipe as a nested dict of plain values; `from_dict` turns it back into an equal one.

        A recipe for all maps says nothing of them, so that digests of before there was a choice are still the same.
        """
        data: dict[str, Any] = {"version": self.version, "sample": {"poisson_ratio": self.poisson_ratio}}
        for name in SECTIONS:
            section = dataclasses.asdict(getattr(self, name))
            data[name] = {key: list(v) if isinstance(v, tuple) else v for key, v in section.items()}
        if self.maps == Maps():
            del data["maps"]
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
        if whole(version) != VERSION:
            raise RecipeError(f"version = {version!r}: this fvproc reads version {VERSION}; update fvproc")
        sections: dict[str, dict[str, Any]] = {}
        for name, content in data.items():
            if name not in (*SECTIONS, "sample"):
                raise RecipeError(f"[{name}] is no section of a recipe; choose from {', '.join((*SECTIONS, 'sample'))}")
            if not isinstance(content, Mapping):
                raise RecipeError(f"[{name}] = {content!r}: expected a table of settings")
            sections[name] = dict(content)
        model = sections.get("fit", {}).get("model")
        if isinstance(model, str) and model in MODELS:
            sections.setdefault("tip", {}).setdefault("shape", MODELS[model].shape)
        built: dict[str, Any] = {}
        for name, content in sections.items():
            known = (
                ("poisson_ratio",) if name == "sample" else tuple(f.name for f in dataclasses.fields(SECTIONS[name]))
            )
            for key in content:
                if key not in known:
                    raise RecipeError(f"{name}.{key} is no setting of a recipe; [{name}] knows {', '.join(known)}")
            if name == "sample":
                built["poisson_ratio"] = content.get("poisson_ratio")
            else:
                built[name] = SECTIONS[name](**content)
        return cls(**built)

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no white space."""
        return canonical(self.to_dict())

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
        values = ((leaf, self._value(leaf[0])) for leaf in leaves())
        return as_toml(self.version, values, comments=comments)

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
        """SHA-256 of the canonical JSON; a map of the film counts by what it holds, once the recipe is completed."""
        return digest_of(self.to_dict())

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


def leaves() -> Iterator[Leaf]:
    """Yield ((section, name), dataclass field) of every setting, in the order in which they are documented."""
    for name, kind in SECTIONS.items():
        for leaf in dataclasses.fields(kind):
            yield (name, leaf.name), leaf
        if name == "tip":
            yield ("sample", "poisson_ratio"), next(f for f in dataclasses.fields(Recipe) if f.name == "poisson_ratio")
