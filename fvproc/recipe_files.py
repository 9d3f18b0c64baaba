"""Recipes as files and as nested dicts: reading TOML and JSON, writing commented TOML, one put over another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from fvproc.errors import RecipeError
from fvproc.models import MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Leaf = tuple[tuple[str, str], dataclasses.Field[Any]]


def read_settings(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the nested dict of a recipe file (TOML or JSON, by suffix) without building the recipe.

    The key ``recipe = "nanoscope"`` at the top says that the rest goes over the vendor's settings. A map of the film's
    thickness is looked for beside the file that names it.

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
    film = data.get("film")
    if isinstance(film, dict) and is_map(film.get("thickness")):
        film["thickness"] = str(path.absolute().parent / film["thickness"])
    return data


def is_map(thickness: Any) -> bool:
    """Return whether a film's thickness is the path of a map, by its suffix."""
    return isinstance(thickness, (str, PathLike)) and str(thickness).lower().endswith(".npy")


def digest_of(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a recipe as a nested dict of plain values.

    A map that its own digest tells is the same wherever it lies.
    """
    film = settings.get("film")
    if isinstance(film, Mapping) and film.get("map_digest") is not None and is_map(film.get("thickness")):
        settings = {**settings, "film": {**film, "thickness": "map"}}
    return hashlib.sha256(canonical(settings).encode()).hexdigest()


def canonical(settings: Mapping[str, Any]) -> str:
    """Return JSON that is equal for equal settings: sorted keys, no white space."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def as_toml(version: int, settings: Iterable[tuple[Leaf, Any]], *, comments: bool) -> str:
    """Return settings with their values as TOML; with `comments`, each is preceded by what it means."""
    lines = [f"version = {version}"]
    section = ""
    for (path, leaf), value in settings:
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


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dict `base` with the leaves of `changes` put over it.

    Where the changes choose another shape of tip, by its name or by a model, the shape and lengths of `base` go; where
    they choose the film's thickness, so does what tells the map of `base`.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    shapes = [_shape(base), _shape(changes)]
    if isinstance(result.get("tip"), dict) and None not in shapes and shapes[0] != shapes[1]:
        result["tip"] = {k: v for k, v in result["tip"].items() if k not in ("shape", "radius", "half_angle")}
    film, thickness = result.get("film"), changes.get("film")
    if isinstance(film, dict) and isinstance(thickness, Mapping) and "thickness" in thickness:
        film.pop("map_digest", None)
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
