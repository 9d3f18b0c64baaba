"""Recipes of every kind, settings for any numbers, and what must hold of every record; for fuzzing and comparing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fvproc._core import KernelSettings, kernel_settings
from fvproc.errors import RecipeError
from fvproc.quantities import QUANTITIES, Flag
from fvproc.recipe import Recipe, leaves
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting

# what stands for a tile that was never fitted is no business of the kernel's
KERNEL_BITS = sum(Flag) & ~(Flag.NOT_COMPUTED | Flag.READ_ERROR | Flag.WORKER_LOST)


@cache
def choices() -> dict[tuple[str, str], tuple[Any, ...]]:
    """Every setting of a recipe that is a choice; a new one, or a new model, is covered without a word here."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {
        path: leaf.metadata["choices"] for path, leaf in leaves() if leaf.metadata["choices"] and path[0] != "tip"
    }
    found["baseline", "order"] = (0, 1)
    return found


def chosen(options: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    """The nested dict of a recipe of these options, in the order of `choices`."""
    recipe: dict[str, dict[str, Any]] = {}
    for (section, name), value in zip(choices(), options, strict=True):
        recipe.setdefault(section, {})[name] = value
    return recipe


def every_recipe() -> Iterator[dict[str, dict[str, Any]]]:
    """The nested dict of every combination of choices that a recipe may hold."""
    for options in itertools.product(*choices().values()):
        recipe = chosen(options)
        try:
            Recipe.from_dict(recipe)
        except RecipeError:
            continue
        yield recipe


def settings_for(
    recipe: dict[str, Any],
    approach: Channel,
    retract: Channel,
    z: Channel = Channel("float64", "m"),  # noqa: B008 (frozen)
    *,
    spring_constant: float = 0.4,
    tip_radius: float = 30e-9,
    half_angle: float = math.radians(18),
) -> KernelSettings:
    """Settings of the kernel for channels in m; the tip is the one that the recipe's model needs."""
    branches = (Branch(1, channel, z, True) for channel in (approach, retract))
    volume = ForceVolume(
        "any",
        "any",
        Grid(1, 1),
        *branches,
        calibration=Calibration(Setting(spring_constant)),
        tip_radius=Setting(tip_radius),
        tip_half_angle=Setting(half_angle),
    )
    return kernel_settings(volume, Recipe.from_dict(recipe).completed(volume))


def assert_values_or_flags(records: np.ndarray) -> None:
    """Each number is finite, or NaN and a fatal flag of its quantity says why; no bit is set that means nothing."""
    flags = records["flags"]
    assert not np.any(flags & np.uint32(~KERNEL_BITS & 0xFFFFFFFF)), [hex(int(f)) for f in flags]
    for name, quantity in QUANTITIES.items():
        fatal = (flags & np.uint32(quantity.fatal)) != 0
        wrong = np.flatnonzero(np.where(fatal, ~np.isnan(records[name]), ~np.isfinite(records[name])))
        assert not wrong.size, f"{name} = {records[name][wrong]} with {[str(Flag(int(f))) for f in flags[wrong]]}"
