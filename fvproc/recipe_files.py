"""Recipes as files and as nested dicts: reading TOML and JSON, writing commented TOML, one put over another."""

from __future__ import annotations

import dataclasses
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
