"""What must not matter: how curves are stored, cut into tiles, shifted or marked; and any bytes whatever end well."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from simulated import CASES, measure

from fvproc import _core, reference
from fvproc.errors import KernelError
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.volume import RawBranch, RawTile

SOFT = CASES["45 MPa"]


def part(raw: RawTile, rows: slice) -> RawTile:
    """The tile of some of the curves."""
    return RawTile(*(RawBranch(b.deflection[rows], b.z) for b in (raw.approach, raw.retract)))


def test_bytes_do_not_depend_on_the_tiles_or_on_threads():
    measured = measure(SOFT, curves=101)
    whole = _core.fit_tile(measured.raw, measured.settings)
    for width in (1, 7, 50):
        tiles = [slice(i, min(i + width, 101)) for i in range(0, 101, width)]
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda rows: _core.fit_tile(part(measured.raw, rows), measured.settings), tiles))
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("known", [False, True], ids=["white", "known noise"])
def test_a_far_part_shorter_than_a_block_leaves_nothing_to_chance(known):
    """Two hundredths of 607 samples are no whole block: what stood in memory told the baseline from the contact."""
    measured = measure(CASES["1.5 GPa"], curves=12, samples=607, baseline={"fraction": 0.02})
    kernel_settings = measured.settings
    if known:
        shape = (0.5, 0.0, 0.5, 0.0, 0.1, 0.0, 0.0, 0.0)
        kernel_settings = replace(kernel_settings, noise=(shape, shape))
    whole = _core.fit_tile(measured.raw, kernel_settings)
    assert np.isfinite(whole["modulus"]).all()
    alone = [_core.fit_tile(part(measured.raw, slice(i, i + 1)), kernel_settings) for i in range(12)]
    assert np.concatenate(alone).tobytes() == whole.tobytes()
    if not known:
        np.testing.assert_array_equal(reference.fit_tile(measured.raw, kernel_settings)["flags"], whole["flags"])


def test_bytes_do_not_depend_on_strides_or_on_z_being_shared():
    measured = measure(SOFT, curves=9)
    whole = _core.fit_tile(measured.raw, measured.settings)
    branches = []
    for branch in (measured.raw.approach, measured.raw.retract):
        spread = np.zeros((9, 2 * branch.deflection.shape[1]), np.int16)
        spread[:, ::-2] = branch.deflection
        branches.append(RawBranch(spread[:, ::-2], np.tile(branch.z, (9, 1))))
    assert _core.fit_tile(RawTile(*branches), measured.settings).tobytes() == whole.tobytes()


def test_integers_of_either_width_and_floats_say_the_same():
    measured = measure(SOFT, curves=9)
    whole = _core.fit_tile(measured.raw, measured.settings)
    for dtype in (np.int32, np.float32):
        raw = RawTile(
            *(RawBranch(b.deflection.astype(dtype), b.z) for b in (measured.raw.approach, measured.raw.retract))
        )
        other = _core.fit_tile(raw, measured.settings)
        for name in QUANTITIES:
            np.testing.assert_allclose(other[name], whole[name], rtol=2e-5, atol=1e-30, err_msg=name)


def test_a_ragged_curve_is_the_shorter_curve():
    measured = measure(SOFT, curves=4)
    raw = measured.raw
    short = RawTile(
        RawBranch(raw.approach.deflection, raw.approach.z),
        RawBranch(np.ascontiguousarray(raw.retract.deflection[:, :200]), raw.retract.z[:200].copy()),
    )
    ragged = RawTile(
        RawBranch(raw.approach.deflection, raw.approach.z),
        RawBranch(raw.retract.deflection, raw.retract.z, np.full(4, 200, np.int32)),
    )
    a, b = _core.fit_tile(short, measured.settings), _core.fit_tile(ragged, measured.settings)
    for name in QUANTITIES:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_ragged_approach_loses_its_end_in_time():
    """The first samples count: an approach that was cut short lacks the samples nearest to the surface."""
    measured = measure(SOFT, curves=4)
    raw = measured.raw
    cut = np.full(4, 250, np.int32)
    ragged = RawTile(RawBranch(raw.approach.deflection, raw.approach.z, cut), raw.retract)
    shorter = RawTile(
        RawBranch(np.ascontiguousarray(raw.approach.deflection[:, :250]), raw.approach.z[:250].copy()), raw.retract
    )
    a, b = _core.fit_tile(ragged, measured.settings), _core.fit_tile(shorter, measured.settings)
    for name in QUANTITIES:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("marker", ["integer", "nan"])
def test_marked_samples_do_not_count(marker):
    measured = measure(SOFT, curves=4, dtype="int16" if marker == "integer" else "float32")
    clean = _core.fit_tile(measured.raw, measured.settings)
    if marker == "integer":
        measured.raw.retract.deflection[:, 220:230] = -32768
        chosen = replace(
            measured.settings, retract_deflection=replace(measured.settings.retract_deflection, invalid=-32768)
        )
    else:
        measured.raw.retract.deflection[:, 220:230] = np.nan
        chosen = measured.settings
    marked = _core.fit_tile(measured.raw, chosen)
    np.testing.assert_allclose(marked["modulus"], clean["modulus"], rtol=0.01)
    if marker == "integer":
        wrong = _core.fit_tile(measured.raw, measured.settings)
        assert not np.allclose(wrong["modulus"], clean["modulus"], rtol=0.01)


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_a_line_of_the_approach_serves_the_retract_whatever_the_type(kind):
    """Numbers that are no int16 are counted from the last sample of their own branch, which the line must allow for."""
    measured = measure(SOFT, curves=20, baseline={"source": "approach"}, tilt=0.0, sigma=1e-10)
    whole = _core.fit_tile(measured.raw, measured.settings)
    for offset in (0, 1000):
        other = RawTile(
            *(
                RawBranch(branch.deflection.astype(np.int32).astype(kind) + np.array(offset * n, kind), branch.z)
                for n, branch in enumerate((measured.raw.approach, measured.raw.retract))
            )
        )
        # a constant of a branch's numbers that its channel takes off again is none
        conversion = measured.settings.retract_deflection
        shifted = replace(conversion, offset=conversion.offset - offset * conversion.scale)
        records = _core.fit_tile(other, replace(measured.settings, retract_deflection=shifted))
        for name in ("adhesion", "modulus", "peak_force", "dissipation"):
            np.testing.assert_allclose(records[name], whole[name], rtol=1e-3, err_msg=f"{name} {offset}")


@pytest.mark.parametrize("of_z", [False, True], ids=["deflection", "z"])
@pytest.mark.parametrize("z_type", ["int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_a_curve_with_marked_samples_is_the_curve_without_them(dtype, z_type, of_z):
    measured = measure(SOFT, curves=4, dtype=dtype)
    chosen, branches, shorter = measured.settings, [], []
    for name in ("approach", "retract"):
        branch = getattr(measured.raw, name)
        z, unit = branch.z, 1.0
        if z_type.startswith("int"):
            unit = 1.3 * np.abs(z).max() / np.iinfo(z_type).max
            z = np.rint(z / unit)
        z = np.array(np.broadcast_to(z.astype(z_type), branch.deflection.shape))
        deflection = branch.deflection.copy()
        holed = z if of_z else deflection
        integer = np.issubdtype(holed.dtype, np.integer)
        marker = np.iinfo(holed.dtype).min if integer else np.nan
        # the first and the last in time as well, from which what is stored counts
        holes = np.r_[0, 120:123, 200, deflection.shape[1] - 1]
        holed[1, holes] = marker
        kept = np.delete(np.arange(deflection.shape[1]), holes)
        valid = np.full(4, deflection.shape[1], np.int32)
        valid[1] = len(kept)
        deflection_2, z_2 = deflection.copy(), z.copy()
        deflection_2[1, : len(kept)], z_2[1, : len(kept)] = deflection[1, kept], z[1, kept]
        branches.append(RawBranch(deflection, z))
        shorter.append(RawBranch(deflection_2, z_2, valid))
        of_deflection = getattr(chosen, f"{name}_deflection")
        of_height = getattr(chosen, f"{name}_z")
        of_height = replace(of_height, scale=unit * of_height.scale)
        if integer and of_z:
            of_height = replace(of_height, invalid=int(marker))
        elif integer:
            of_deflection = replace(of_deflection, invalid=int(marker))
        chosen = replace(chosen, **{f"{name}_deflection": of_deflection, f"{name}_z": of_height})
    marked, without = _core.fit_tile(RawTile(*branches), chosen), _core.fit_tile(RawTile(*shorter), chosen)
    assert np.all((marked["flags"] & Flag.INVALID_SAMPLES > 0) == [False, True, False, False])
    assert np.all(np.isfinite(marked["modulus"]))
    for name in QUANTITIES:
        np.testing.assert_allclose(marked[name], without[name], rtol=2e-5, atol=1e-30, err_msg=name)


def test_marked_samples_of_a_shared_z_do_not_count_for_any_curve():
    measured = measure(SOFT, curves=4)
    retract = measured.raw.retract
    holed = retract.z.copy()
    holed[200:203] = np.nan
    shared, each = (
        _core.fit_tile(replace(measured.raw, retract=replace(retract, z=z)), measured.settings)
        for z in (holed, np.ascontiguousarray(np.broadcast_to(holed, retract.deflection.shape)))
    )
    assert shared.tobytes() == each.tobytes()
    assert np.all(shared["flags"] & Flag.INVALID_SAMPLES) and np.all(np.isfinite(shared["modulus"]))


@given(shift=st.floats(-1e-6, 1e-6), offset=st.floats(-5e-8, 5e-8), tilt=st.floats(-0.02, 0.02))
@settings(max_examples=25, deadline=None)
def test_shifting_z_or_the_baseline_moves_the_contact_point_only(shift, offset, tilt):
    case = CASES["916 MPa"]
    plain = measure(case, curves=3, dtype="int32", tilt=0.0)
    moved = measure(case, curves=3, dtype="int32", tilt=tilt, offset=offset)
    moved.raw.approach.z = moved.raw.approach.z + shift
    moved.raw.retract.z = moved.raw.retract.z + shift
    a, b = _core.fit_tile(plain.raw, plain.settings), _core.fit_tile(moved.raw, moved.settings)
    for name in ("modulus", "adhesion", "indentation", "deformation", "modulus_std", "peak_force"):
        np.testing.assert_allclose(b[name], a[name], rtol=2e-3, err_msg=name)
    np.testing.assert_allclose(b["contact_point"] - shift, a["contact_point"], atol=2e-12)


@given(factor=st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_the_spring_constant_scales_forces_and_moduli(factor):
    measured = measure(CASES["45 MPa"], curves=3)
    a = _core.fit_tile(measured.raw, measured.settings)
    stiffer = replace(measured.settings, spring_constant=factor * measured.settings.spring_constant)
    b = _core.fit_tile(measured.raw, stiffer)
    for name in ("modulus", "modulus_std", "adhesion", "peak_force", "dissipation", "baseline_noise", "stiffness"):
        np.testing.assert_allclose(b[name], factor * a[name], rtol=1e-5, err_msg=name)
    for name in ("contact_point", "indentation", "deformation", "height"):
        np.testing.assert_array_equal(b[name], a[name], err_msg=name)


@st.composite
def anything(draw):
    """Raw numbers of any kind: pure chance, constants, steps, extremes, NaN."""
    dtype = draw(st.sampled_from([np.int16, np.int32, np.float32]))
    samples = draw(st.integers(1, 90))
    if dtype is np.float32:
        elements = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])
    else:
        info = np.iinfo(dtype)
        elements = st.integers(int(info.min), int(info.max)) | st.sampled_from([0, int(info.min), int(info.max)])
    return [draw(hnp.arrays(dtype, (2, samples), elements=elements, fill=st.just(dtype(0)))) for _ in range(2)]


@given(deflections=anything(), method=st.sampled_from(["ml", "qnm"]), drive=st.sampled_from(["sine", "linear"]))
@settings(max_examples=300, deadline=None)
def test_any_numbers_end_in_values_or_in_flags(deflections, method, drive):
    from fvproc.simulate import ramp

    measured = measure(SOFT, curves=1, fit={"method": method}, dtype="float32")
    z = ramp(deflections[0].shape[1], 100e-9, drive)
    raw = RawTile(RawBranch(deflections[0], z[0]), RawBranch(deflections[1], z[1]))
    records = _core.fit_tile(raw, measured.settings)
    for name, quantity in QUANTITIES.items():
        assert np.all(np.isnan(records[name]) == ((records["flags"] & np.uint32(quantity.fatal)) != 0)), name
        assert not np.any(np.isinf(records[name])), name


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1.0, 3000.0), knee=st.integers(5, 90))
@settings(max_examples=200, deadline=None)
def test_curves_near_to_real_ones_end_in_values_or_in_flags(seed, scale, knee):
    """Ramps with a knee, jumps and noise of any size: what the steps of the fit can stumble over."""
    generator = np.random.default_rng(seed)
    measured = measure(SOFT, curves=1, dtype="int16", samples=96)
    i = np.arange(96)
    shape = scale * np.maximum(knee - i, 0) ** generator.uniform(0.5, 2.5)
    shape = shape - scale * generator.uniform(0, 20) * ((i > knee) & (i < knee + generator.integers(1, 30)))
    noisy = shape + generator.normal(0, generator.uniform(0, 3) * scale, (2, 96))
    values = np.clip(noisy, -32768, 32767).astype(np.int16)
    raw = RawTile(
        RawBranch(np.ascontiguousarray(values[:1, ::-1]), measured.raw.approach.z),
        RawBranch(values[1:], measured.raw.retract.z),
    )
    records = _core.fit_tile(raw, measured.settings)
    for name, quantity in QUANTITIES.items():
        assert np.all(np.isnan(records[name]) == ((records["flags"] & np.uint32(quantity.fatal)) != 0)), name
        assert not np.any(np.isinf(records[name])), name


def _spoilt(**changes):
    measured = measure(SOFT, curves=2)
    branch = RawBranch(measured.raw.approach.deflection, measured.raw.approach.z)
    for name, value in changes.items():
        setattr(branch, name, value(getattr(branch, name)))
    return RawTile(branch, measured.raw.retract), measured.settings


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"deflection": lambda d: d[0]}, "approach.deflection must have shape"),
        ({"deflection": lambda d: d[:1]}, "retract.deflection must have shape"),
        ({"deflection": lambda d: d.astype(np.uint16)}, "approach.deflection must be native"),
        ({"deflection": lambda d: d.astype(">i2")}, "approach.deflection must be native"),
        ({"z": lambda z: z[:-1]}, "approach.z must have shape"),
        ({"z": lambda z: z.astype(complex)}, "approach.z must be native"),
        ({"valid_length": lambda _: np.array([1, 2])}, "valid_length must be contiguous int32"),
        ({"valid_length": lambda _: np.array([1, 300], np.int32)}, "valid_length must lie in"),
    ],
)
def test_the_door_refuses_what_the_kernel_cannot_take(changes, words):
    raw, chosen = _spoilt(**changes)
    with pytest.raises(KernelError, match=words):
        _core.fit_tile(raw, chosen)


def test_the_door_refuses_records_of_another_layout():
    measured = measure(SOFT, curves=2)
    names = list(RECORD.names)
    swapped = np.dtype([(name, RECORD[name]) for name in [names[1], names[0], *names[2:]]])
    with pytest.raises(KernelError, match="out must be contiguous RECORD"):
        _core.fit_tile(measured.raw, measured.settings, out=np.zeros(2, swapped))
    measured.raw.height = np.zeros(2, np.float32)
    with pytest.raises(KernelError, match="height must be contiguous float64"):
        _core.fit_tile(measured.raw, measured.settings)


def test_explain_tells_the_same_as_the_record():
    measured = measure(SOFT, curves=5)
    records = _core.fit_tile(measured.raw, measured.settings)
    one = part(measured.raw, slice(3, 4))
    approach_z, approach_force, retract_z, retract_force, fit_z, fit_force, record = _core.explain(
        one, measured.settings
    )
    assert record.tobytes() == records[3].tobytes()
    assert np.all(np.diff(approach_z) > 0) and np.all(np.diff(retract_z) < 0)
    assert len(fit_z) == record["n_fit"]
    residual = retract_force[: len(fit_z)] - fit_force
    # that of the record is of the points of the fit, means of neighbours: the same but for chance
    assert np.sqrt(np.mean(residual**2)) == pytest.approx(record["fit_rmse"], rel=0.25)
    assert approach_force.max() == pytest.approx(max(record["peak_force"], approach_force.max()))


def test_a_tile_of_no_curves_is_no_fault():
    measured = measure(SOFT, curves=2)
    assert _core.fit_tile(part(measured.raw, slice(0, 0)), measured.settings).shape == (0,)
