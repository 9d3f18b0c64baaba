"""Curves one by one: fit_curves for those in memory, curve and explain for one of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fvproc.errors import KernelError
from fvproc.job import agree, require_recipe
from fvproc.maps import CurveFit
from fvproc.recipe import Recipe
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile


def fit_curves(
    z: tuple[np.ndarray, np.ndarray],
    deflection: tuple[np.ndarray, np.ndarray],
    *,
    calibration: Calibration | float,
    recipe: Recipe,
) -> np.ndarray:
    """Fit curves that are in memory: arrays in, records out; for notebooks and for comparisons.

    Parameters
    ----------
    z : tuple of two ndarray, shape (samples,) or (curves, samples)
        Piezo extension in m on approach and on retract, growing toward the sample, samples in the order of time.
    deflection : tuple of two ndarray, shape (samples,) or (curves, samples)
        Cantilever deflection in m, or in V if the calibration holds a deflection sensitivity; any real dtype,
        computed from float32 (int16 and int32 are taken as they are).
    calibration : Calibration or float
        A bare number is the spring constant in N/m.
    recipe : Recipe
        With the length of its tip; ν defaults to 0.3.

    Returns
    -------
    ndarray of RECORD, shape (curves,)

    Raises
    ------
    CalibrationError, RecipeError
        If a value is missing.
    KernelError
        If `z` or `deflection` is no pair, the shapes do not fit each other, or there is no curve.
    TypeError
        If `recipe` is no Recipe.
    """
    from fvproc import _core, noise

    require_recipe(recipe)
    if not isinstance(calibration, Calibration):
        calibration = Calibration(spring_constant=Setting(float(calibration), "user"))
    unit = "V" if calibration.deflection_sensitivity is not None else "m"
    raw, described = [], []
    for positions, values in zip(_pair("z", z), _pair("deflection", deflection), strict=True):
        values = np.atleast_2d(np.asarray(values))
        positions = np.asarray(positions, np.float64)
        if values.ndim != 2 or not values.size or positions.ndim not in (1, 2):
            raise KernelError(
                f"deflection of shape {values.shape} on z of shape {positions.shape}: expected (curves, samples) or"
                " (samples,), of one curve and one sample at least"
            )
        if values.dtype.name not in ("int16", "int32"):
            values = values.astype(np.float32)
        if positions.ndim == 2 and positions.shape[0] == 1:
            positions = positions[0]
        raw.append(RawBranch(np.ascontiguousarray(values), np.ascontiguousarray(positions)))
        described.append(
            Branch(values.shape[1], Channel(values.dtype.name, unit), Channel("float64", "m"), positions.ndim == 1)
        )
    if len(raw[0].deflection) != len(raw[1].deflection):
        raise KernelError(
            f"deflection: {len(raw[0].deflection)} curves of approach and {len(raw[1].deflection)} of retract:"
            " expected as many"
        )
    volume = ForceVolume(
        "arrays in memory",
        "arrays",
        Grid(1, len(raw[0].deflection)),
        described[0],
        described[1],
        calibration=calibration,
    )
    volume.require_calibration()
    tile, recipe = RawTile(raw[0], raw[1]), recipe.completed(volume)
    recipe = replace(recipe, noise=noise.measured_on(tile, volume, recipe))
    return _core.fit_tile(tile, _core.kernel_settings(volume, recipe))


def _pair(name: str, branches: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return what is given for both branches, or raise KernelError."""
    count = len(branches) if hasattr(branches, "__len__") else 1
    if count != 2:
        raise KernelError(f"{name}: expected two arrays, ({name} of approach, {name} of retract), not {count}")
    return branches


def curve(volume: ForceVolume, y: int, x: int) -> dict[str, np.ndarray]:
    """Return one curve in SI: ``approach_z``, ``approach_deflection``, ``retract_z``, ``retract_deflection`` in m.

    Samples are in the order of time; invalid ones are NaN; no baseline is subtracted.

    Raises
    ------
    IndexError
        If the pixel is outside the grid.
    CalibrationError
        If the file lacks a sensitivity.
    """
    from fvproc import engine

    ny, nx = volume.shape
    if not (0 <= y < ny and 0 <= x < nx):
        raise IndexError(f"pixel ({y}, {x}) is outside the grid of {ny} × {nx}")
    number = y * nx + x
    raw = engine.read_tile(volume, Tile(number, number + 1))
    result = {}
    for name in ("approach", "retract"):
        part = getattr(raw, name)
        branch = getattr(volume, name)
        for channel, values, (scale, offset) in (
            ("z", part.z if part.z.ndim == 1 else part.z[0], volume.z_scale(name)),
            ("deflection", part.deflection[0], volume.deflection_scale(name)),
        ):
            metres = values.astype(np.float64) * scale + offset
            invalid = getattr(branch, channel).invalid
            if invalid is not None:
                metres[values == invalid] = np.nan
            if part.valid_length is not None:
                metres[part.valid_length[0] :] = np.nan
            result[f"{name}_{channel}"] = metres
    return result


def explain(volume: ForceVolume, recipe: Recipe | None, y: int, x: int) -> CurveFit:
    """Return one curve with its baseline subtracted and its fit, for eyes and plots.

    Raises
    ------
    IndexError
        If the pixel is outside the grid.
    CalibrationError, RecipeError
        As `process`.
    """
    from fvproc import engine

    return engine.explain(volume, agree(volume, recipe), y, x)
