"""Whatever numbers reach the kernel, it ends, in values or in flags, and no curve knows of another."""

from __future__ import annotations

import faulthandler
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from any_input import (
    DTYPES,
    LAYOUTS,
    ORDERS,
    SHAPES,
    assert_values_or_flags,
    choices,
    chosen,
    deflection,
    laid_out,
    positions,
    settings_for,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulated import CASES, measure

from fvproc import _core
from fvproc.errors import RecipeError
from fvproc.quantities import RECORD
from fvproc.volume import Channel, RawBranch, RawTile

HANG = 120.0  # seconds; an example takes milliseconds


@pytest.fixture(scope="module", autouse=True)
def no_hang():
    """End the process with a traceback if the tests of this file hang: nothing in C can be interrupted otherwise."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@dataclass
class Input:
    """Everything that goes through the door."""

    raw: RawTile
    settings: _core.KernelSettings


def copied(raw: RawTile, curves: slice, *, plain: bool = False) -> RawTile:
    """Some curves of a tile; plain: as contiguous copies, a shared z written out for each curve."""

    def of(branch: RawBranch) -> RawBranch:
        d, z, valid = branch.deflection[curves], branch.z, branch.valid_length
        z = z if z.ndim == 1 else z[curves]
        if plain:
            d, z = np.ascontiguousarray(d), np.ascontiguousarray(np.broadcast_to(z, d.shape))
        return RawBranch(d, z, None if valid is None else valid[curves].copy())

    return RawTile(of(raw.approach), of(raw.retract), None if raw.height is None else raw.height[curves].copy())


@st.composite
def channels(draw: Any, dtype: str) -> Channel:
    """From raw to m: what instruments have, and what no instrument has."""
    full = 1.0 if dtype.startswith("float") else np.iinfo(dtype).max
    scale = draw(st.sampled_from([1e-10, 1e-8, 1e-7, -1e-8, 1e-6, 1.0, 1e-30, 1e-290, 1e290])) / full
    offset = draw(st.sampled_from([0.0, 0.0, 1e-8, -1e-5, 1e3, 1e280]))
    invalid = None if dtype.startswith("float") else draw(st.sampled_from([None, 0, -1, int(np.iinfo(dtype).min)]))
    return Channel(dtype, "m", scale, offset, invalid)


@st.composite
def recipes(draw: Any) -> dict[str, Any]:
    """Any combination of choices, with numbers anywhere in their allowed range."""
    recipe = chosen(tuple(draw(st.sampled_from(values)) for values in choices().values()))
    if draw(st.booleans()):
        low, high = draw(st.sampled_from([(0.0, 1.0), (0.0, 1e-9), (1 - 1e-9, 1.0), (0.3, 0.9), (0.5, 0.50001)]))
        recipe["fit"]["window"] = [low, high]
        recipe["baseline"]["fraction"] = draw(st.sampled_from([0.01, 0.1, 0.3, 0.7]))
        recipe["contact"]["threshold"] = draw(st.sampled_from([1.0, 5.0, 100.0]))
        recipe["contact"]["window"] = draw(st.sampled_from([1e-9, 0.0625, 0.999, 1, 7, 1e9]))
        recipe["deformation"] = {"region": draw(st.sampled_from([1e-9, 0.5, 1 - 1e-9]))}
        recipe["sample"] = {"poisson_ratio": draw(st.sampled_from([-1.0, 0.0, 0.5]))}
        recipe["tip"] = {"modulus": draw(st.sampled_from([1e-3, 169e9, 9e13]))}
    return recipe


@st.composite
def inputs(draw: Any) -> Input:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    curves, used = draw(st.integers(1, 19)), []
    branches, dtypes = [], [draw(st.sampled_from(DTYPES)), draw(st.sampled_from([*DTYPES, "float64"]))]
    for way in (-1, 1):
        samples = draw(st.integers(1, 12) | st.integers(13, 300))
        d = deflection(generator, draw(st.sampled_from(SHAPES)), dtypes[0], curves, samples)[:, ::way]
        z_shape = (samples,) if draw(st.booleans()) else (curves, samples)
        z = positions(generator, draw(st.sampled_from(ORDERS)), dtypes[1], z_shape)[..., ::-way]
        valid = None
        if draw(st.booleans()):
            valid = generator.integers(0, samples + 1, curves).astype(np.int32)
            valid[generator.random(curves) < 0.2] = 0
            valid[generator.random(curves) < 0.3] = samples
        branches.append(
            RawBranch(laid_out(d, draw(st.sampled_from(LAYOUTS))), laid_out(z, draw(st.sampled_from(LAYOUTS))), valid)
        )
        used.append(draw(channels(dtypes[0])))
    height = generator.choice([0.0, 1e-7, np.nan, np.inf, 1e300], curves) if draw(st.booleans()) else None
    try:
        chosen_settings = settings_for(
            draw(recipes()),
            used[0],
            used[1],
            draw(channels(dtypes[1])),
            spring_constant=draw(st.sampled_from([0.4, 0.4, 1e-3, 200.0, 1e-300, 1e300])),
            tip_radius=draw(st.sampled_from([30e-9, 30e-9, 1e-300, 9e-4])),
            half_angle=draw(st.sampled_from([0.3, 1e-300, 1.57079])),
        )
    except RecipeError:
        assume(False)
    return Input(RawTile(*branches, height), chosen_settings)


@given(inputs())
@settings(max_examples=600)
def test_any_numbers_end_in_values_or_in_flags_and_nothing_else_is_written(given_):
    curves = len(given_.raw.approach.deflection)
    padded = np.zeros(curves + 2, RECORD)
    padded.view(np.uint8)[:] = 0xA5
    before = padded.copy()
    branches = (given_.raw.approach, given_.raw.retract)
    inside = [array.copy() for branch in branches for array in (branch.deflection, branch.z)]
    records = _core.fit_tile(given_.raw, given_.settings, out=padded[1:-1])
    assert_values_or_flags(records)
    assert padded[[0, -1]].tobytes() == before[[0, -1]].tobytes()
    after = [array for branch in branches for array in (branch.deflection, branch.z)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(inside, after, strict=True))


@given(inputs())
@settings(max_examples=300)
def test_neither_neighbours_nor_places_in_memory_change_a_record(given_):
    """A curve beside others, alone, and as a contiguous copy with a z of its own: the same bytes."""
    raw = given_.raw
    curves = len(raw.approach.deflection)
    together = _core.fit_tile(raw, given_.settings)
    plain = copied(raw, slice(None), plain=True)
    assert _core.fit_tile(plain, given_.settings).tobytes() == together.tobytes()
    for i in {0, curves // 2, curves - 1}:
        alone = _core.fit_tile(copied(raw, slice(i, i + 1)), given_.settings)
        assert alone.tobytes() == together[i : i + 1].tobytes(), (i, alone, together[i])


@given(inputs())
@settings(max_examples=150)
def test_any_curve_can_be_explained(given_):
    one = copied(given_.raw, slice(0, 1))
    told = _core.explain(one, given_.settings)
    assert told[-1].tobytes() == _core.fit_tile(one, given_.settings).tobytes()
    for z, force, branch in ((told[0], told[1], one.approach), (told[2], told[3], one.retract)):
        assert len(z) == len(force) <= branch.deflection.shape[1]
    assert len(told[4]) == len(told[5])


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 8, 9, 27, 28])
@pytest.mark.parametrize("dtype", DTYPES)
def test_few_samples_are_no_fault(dtype, samples):
    generator = np.random.default_rng(samples)
    channel, z = Channel(dtype, "m", 1e-8), np.linspace(0.0, 1e-7, samples)
    shapes = [deflection(generator, "knee", dtype, 11, samples) for _ in range(2)]
    raw = RawTile(RawBranch(shapes[0][:, ::-1], z), RawBranch(shapes[1], z[::-1]))
    assert_values_or_flags(_core.fit_tile(raw, settings_for({}, channel, channel)))


def test_curves_without_valid_samples_are_invalid():
    measured = measure(CASES["45 MPa"], curves=3)
    for branch in (measured.raw.approach, measured.raw.retract):
        branch.valid_length = np.array([0, 256, 1], np.int32)
    records = _core.fit_tile(measured.raw, measured.settings)
    assert_values_or_flags(records)
    assert list(np.isfinite(records["modulus"])) == [False, True, False]
