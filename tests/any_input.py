"""Numbers and recipes of every kind, and what must hold of every record; for fuzzing and comparing."""

from __future__ import annotations

import math
import random
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


# of a map: as 1/f noise has it, nothing but drift, and what no map has
KNOWN_NOISE = (
    (0.05, 1.3, 0.0, 0.76, 0.76, 0.84, 0.98, 1.6),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e3),
    (1e-300, 0.0, 0.0, 1e300, 0.0, 0.0, 0.0, 0.0),
)


@cache
def choices() -> dict[tuple[str, str], tuple[Any, ...]]:
    """Every setting of a recipe that is a choice; a new one, or a new model, is covered without a word here."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {
        path: tuple(leaf.metadata["choices"])
        for path, leaf in leaves()
        if leaf.metadata["choices"] and path[0] != "tip"
    }
    found["film", "thickness"] = (None, 9e-9)
    found["baseline", "order"] = (0, 1, 2)
    found["noise", "known"] = (None, *KNOWN_NOISE)
    return found


def chosen(options: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    """The nested dict of a recipe of these options, in the order of `choices`."""
    recipe: dict[str, dict[str, Any]] = {}
    for (section, name), value in zip(choices(), options, strict=True):
        recipe.setdefault(section, {})[name] = value
    known = recipe["noise"].pop("known")
    if known is not None:
        recipe["noise"] |= {"approach": known, "retract": known}
    return recipe


def many_recipes(count: int = 400) -> Iterator[dict[str, dict[str, Any]]]:
    """The nested dict of `count` combinations of choices that a recipe may hold, each pair of choices among them."""
    generator = random.Random(0)
    while count:
        recipe = chosen(tuple(generator.choice(values) for values in choices().values()))
        try:
            Recipe.from_dict({**recipe, "sample": {"poisson_ratio": 0.3}, "tip": {"radius": 1e-8}})
        except RecipeError:
            continue
        count -= 1
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


_SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.4e38, -3.4e38]
SHAPES = ("chance", "constant", "extremes", "walk", "steps", "knee", "nearly constant")
ORDERS = ("sine", "linear", "unsorted", "constant", "reversed", "repeated", "special", "huge")
LAYOUTS = ("plain", "reversed", "spaced", "transposed", "every second curve")
DTYPES = ("int16", "int32", "float32")


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of about [-1, 1] as a dtype: integers over their whole range, floats as they are."""
    if dtype.startswith("float"):
        return values.astype(dtype)
    limit = np.iinfo(dtype)
    return np.clip(np.rint(values * limit.max), limit.min, limit.max).astype(dtype)


def deflection(generator: np.random.Generator, shape: str, dtype: str, curves: int, samples: int) -> np.ndarray:
    """Raw deflection of one shape, in surface order, with a few samples overwritten by what is special to the dtype."""
    i, white = np.arange(samples), generator.standard_normal((curves, samples))
    if shape == "chance":
        values = generator.uniform(-1.0, 1.0, (curves, samples))
    elif shape == "constant":
        values = np.repeat(generator.uniform(-1.0, 1.0, (curves, 1)), samples, axis=1)
    elif shape == "extremes":
        values = generator.choice([-1.1, -1.0, 0.0, 1.0], (curves, samples))
    elif shape == "walk":
        values = np.cumsum(white, axis=1) * 10.0 ** generator.uniform(-4, 0)
    elif shape == "steps":
        values = np.cumsum(white * (generator.random((curves, samples)) < 0.05), axis=1) * 0.3 + 1e-3 * white
    elif shape == "knee":
        knee = generator.integers(0, samples + 1, (curves, 1))
        values = np.maximum(knee - i, 0.0) ** generator.uniform(0.5, 2.5) / max(samples, 1) ** 1.5
        well = generator.integers(0, 20, (curves, 1))
        values = values - generator.uniform(0, 0.3) * ((i >= knee) & (i < knee + well))
        values = values + 10.0 ** generator.uniform(-6, -1) * white
    else:
        values = 0.5 + 10.0 ** generator.uniform(-9, -3) * white
    raw = stored(values, dtype)
    if generator.random() < 0.3:
        limit = np.iinfo(dtype if dtype != "float32" else "int16")
        special = _SPECIAL if dtype == "float32" else [limit.min, limit.max, 0, -1]
        marred = generator.random(raw.shape) < generator.choice([0.01, 0.3, 1.0])
        raw = np.where(marred, np.array(generator.choice(special, raw.shape)).astype(dtype), raw)
    return raw


def positions(generator: np.random.Generator, order: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Raw z, (samples,) or (curves, samples), increasing along a sane approach."""
    phase = (np.arange(shape[-1]) + 0.5) / shape[-1]
    values = np.broadcast_to(0.5 - 0.5 * np.cos(np.pi * phase) if order == "sine" else phase, shape).copy()
    if order == "unsorted":
        values = generator.uniform(-1.0, 1.0, shape)
    elif order == "constant":
        values[:] = generator.choice([0.0, 0.7])
    elif order == "reversed":
        values = values[..., ::-1]
    elif order == "repeated":
        values = np.floor(values * 7) / 7
    raw = stored(values, dtype)
    if order == "huge" and dtype.startswith("float"):
        raw *= np.array(1e30, dtype)
    if order == "special" and dtype.startswith("float"):
        raw = np.where(generator.random(shape) < 0.1, generator.choice(_SPECIAL, shape).astype(dtype), raw)
    return raw


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers at other places in memory."""
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if layout == "spaced":
        wide = np.zeros((*array.shape[:-1], 3 * array.shape[-1]), array.dtype)
        wide[..., 1::3] = array
        return wide[..., 1::3]
    if layout == "transposed":
        return np.asfortranarray(array)
    if layout == "every second curve" and array.ndim == 2:
        wide = np.zeros((2 * array.shape[0], array.shape[1]), array.dtype)
        wide[::-2] = array
        return wide[::-2]
    return array


def assert_values_or_flags(records: np.ndarray) -> None:
    """Each number is finite, or NaN and a fatal flag of its quantity says why; no bit is set that means nothing."""
    flags = records["flags"]
    assert not np.any(flags & np.uint32(~KERNEL_BITS & 0xFFFFFFFF)), [hex(int(f)) for f in flags]
    for name, quantity in QUANTITIES.items():
        fatal = (flags & np.uint32(quantity.fatal)) != 0
        wrong = np.flatnonzero(np.where(fatal, ~np.isnan(records[name]), ~np.isfinite(records[name])))
        assert not wrong.size, f"{name} = {records[name][wrong]} with {[str(Flag(int(f))) for f in flags[wrong]]}"
