"""The forward model of a branch: it obeys its contact's equation, and begins and ends where physics says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvproc import physics, simulate
from fvproc.errors import FvprocError

PROBES = {
    "sphere": simulate.Probe(0.5, 60e-9),
    "cone": simulate.Probe(0.5, None, 0.3, poisson_ratio=0.5),
    "punch": simulate.Probe(0.5, None, punch_radius=40e-9),
}


def sample(modulus=20e6, adhesion=0.4e-9, peak=4e-9, **more):
    return simulate.Sample(np.array([modulus]), np.array([adhesion]), np.array([peak]), **more)


def branches(what, probe, z, **more):
    z0 = what.contact_point(probe, float(z[0].max()))
    curves = [simulate.deflection(z[i], what, probe, z0, retract=bool(i), **more)[0] for i in (0, 1)]
    return curves, float(z0[0])


@pytest.mark.parametrize("shape", PROBES)
@given(modulus=st.floats(1e6, 1e9), adhesion=st.floats(0.0, 2e-9), peak=st.floats(1e-10, 1e-8))
@settings(max_examples=30, deadline=None)
def test_a_dmt_branch_obeys_force_over_indentation(shape, modulus, adhesion, peak):
    probe, what = PROBES[shape], sample(modulus, adhesion, peak)
    z = simulate.ramp(200, 400e-9, "linear")[1]
    z0 = what.contact_point(probe, float(z.max()))
    d = simulate.deflection(z, what, probe, z0, retract=True)[0]
    depth = z - z0 - d
    reduced = physics.reduced_modulus(modulus, probe.poisson_ratio)
    touching = z > z0 - adhesion / probe.spring_constant
    expected = physics.contact_force(shape, depth[touching], reduced, probe.size, adhesion=adhesion)
    np.testing.assert_allclose(d[touching] * probe.spring_constant, expected, rtol=1e-6, atol=1e-6 * (peak + adhesion))
    np.testing.assert_array_equal(d[~touching], 0.0)
    assert d.max() * probe.spring_constant == pytest.approx(peak, rel=1e-7)


@pytest.mark.parametrize("shape", PROBES)
def test_the_load_of_many_is_that_of_physics(shape):
    b = PROBES[shape].stiffness_factor(3e7)
    compliance = physics.compliance(shape, 0.5, b)
    travel = np.linspace(-5e-9, 80e-9, 200)
    many = simulate.load_at(compliance, travel, physics.EXPONENT[shape])
    np.testing.assert_allclose(many, physics.load(shape, travel, compliance).load, rtol=1e-12)
    np.testing.assert_allclose(
        b, physics.prefactor(shape, physics.reduced_modulus(3e7, PROBES[shape].poisson_ratio), PROBES[shape].size)
    )


@pytest.mark.parametrize(("shape", "thickness"), [("sphere", 100e-9), ("sphere", 40e-9), ("cone", 30e-9)])
def test_a_film_obeys_its_factor_and_peaks_where_told(shape, thickness):
    probe, what = PROBES[shape], sample(2e7, 0.3e-9, 2e-9, thickness=thickness, series="published")
    z = simulate.ramp(300, 200e-9)
    curves, z0 = branches(what, probe, z)
    d = curves[1]
    touching = z[1] > z0 - 0.3e-9 / 0.5
    depth = z[1][touching] - z0 - d[touching]
    coefficients = physics.film_coefficients(shape, probe.poisson_ratio)
    factor = physics.film_factor(coefficients, physics.confinement(shape, depth, probe.size, thickness))
    load = factor * probe.stiffness_factor(2e7) * np.maximum(depth, 0) ** physics.EXPONENT[shape]
    np.testing.assert_allclose(d[touching] * 0.5, load - 0.3e-9, rtol=1e-6, atol=1e-15)
    assert d.max() * 0.5 == pytest.approx(2e-9, rel=2e-3)
    assert what.indentation(probe)[0] < sample(2e7, 0.3e-9, 2e-9).indentation(probe)[0]
    thick = sample(2e7, 0.3e-9, 2e-9, thickness=1e-3, series="published")
    assert thick.indentation(probe)[0] == pytest.approx(sample(2e7, 0.3e-9, 2e-9).indentation(probe)[0], rel=1e-3)


def test_a_map_of_films_of_different_thickness():
    films = np.array([30e-9, 60e-9, 120e-9])
    what = simulate.Sample(np.full(3, 2e7), np.full(3, 1e-10), np.full(3, 2e-9), thickness=films)
    depth = what.indentation(PROBES["sphere"])
    assert np.all(np.diff(depth) > 0), "a thinner film gives way less"


@given(modulus=st.floats(1e6, 1e9), adhesion=st.floats(1e-11, 4e-9), peak=st.floats(1e-10, 1e-8))
@settings(max_examples=40, deadline=None)
def test_a_jkr_branch_peaks_where_told_and_pulls_off_at_its_adhesion(modulus, adhesion, peak):
    probe, what = PROBES["sphere"], sample(modulus, adhesion, peak, model="jkr")
    turning = 600e-9
    z0 = what.contact_point(probe, turning)
    k = probe.spring_constant
    d = simulate.deflection(np.array([turning]), what, probe, z0, retract=True)[0, 0]
    assert d * k == pytest.approx(peak, rel=1e-6, abs=1e-6 * adhesion)
    end, last = (value[0] for value in physics.jkr_jump(what.compliance(probe), what.adhesion / k))
    jump = z0[0] + end - adhesion / k
    span = adhesion / k
    z = np.linspace(jump - 0.2 * span, z0[0] + span, 4000)
    d = simulate.deflection(z, what, probe, z0, retract=True)[0]
    assert d.min() * k == pytest.approx(-adhesion, rel=1e-4), "the largest attraction is the pull-off force"
    assert np.all(d[z < jump - 1e-6 * span] == 0.0) and np.all(
        d[(z > jump + 1e-3 * span) & (z < z0[0] - 0.5 * span)] < 0
    )
    first = d[z > jump + 1e-9 * span][0]
    assert -adhesion / k * (1 + 1e-9) <= first <= last - adhesion / k + 0.1 * span
    approach = simulate.deflection(z, what, probe, z0, retract=False)[0]
    np.testing.assert_array_equal(approach[z < z0[0]], 0.0)
    np.testing.assert_array_equal(approach[z > z0[0]], d[z > z0[0]])


@given(modulus=st.floats(1e6, 1e9), adhesion=st.floats(1e-11, 4e-9), z0=st.sampled_from([0.0, 1e-9, 3e-7]))
@settings(max_examples=100, deadline=None)
def test_a_jkr_branch_is_finite_to_the_last_digit_of_its_end(modulus, adhesion, z0):
    probe, what = PROBES["sphere"], sample(modulus, adhesion, model="jkr")
    reach = adhesion / probe.spring_constant
    end = z0 + float(physics.jkr_jump(what.compliance(probe), reach)[0][0]) - reach
    z = end + np.arange(-20, 21) * np.spacing(end)
    assert np.all(np.isfinite(simulate.deflection(z, what, probe, np.array([z0]), retract=True)))


def test_the_solved_film_serves_a_cone_of_any_poisson_ratio():
    probe = simulate.Probe(0.5, None, 0.3, poisson_ratio=0.3)
    what = sample(2e7, 0.3e-9, 2e-9, thickness=60e-9)
    (_, d), _ = branches(what, probe, simulate.ramp(300, 200e-9))
    depth = float(what.indentation(probe)[0])
    chi = physics.confinement("cone", depth, 0.3, 60e-9)
    factor = physics.film_factor_solved("cone", chi, 0.3)
    assert factor * probe.stiffness_factor(2e7) * depth**2 == pytest.approx(2.3e-9, rel=1e-3)
    assert d.max() * 0.5 == pytest.approx(2e-9, rel=2e-3)
    with pytest.raises(FvprocError, match="solved, published"):
        sample(series="exact")


def test_refusals_name_value_and_remedy():
    with pytest.raises(FvprocError, match=r"model = 'hertz'.*dmt, jkr"):
        sample(model="hertz")
    with pytest.raises(FvprocError, match="no JKR model of a film"):
        sample(model="jkr", thickness=1e-8)
    with pytest.raises(FvprocError, match="not a cone"):
        sample(model="jkr").indentation(PROBES["cone"])
    with pytest.raises(FvprocError, match="one shape"):
        simulate.Probe(1.0, None, 0.3, punch_radius=1e-8)
    with pytest.raises(FvprocError, match="thicker film"):
        sample(peak=100e-9, thickness=5e-9).contact_point(PROBES["sphere"], 1e-7)
    thin = sample(thickness=20e-9)
    with pytest.raises(FvprocError, match="thicker film"):
        simulate.deflection(np.array([1e-6]), thin, PROBES["sphere"], np.array([0.0]), retract=True)
    for wrong in ({"hamaker": -1.0}, {"decay": math.inf}, {"tethers": ((2.0, 1e-9),)}, {"tethers": ((0.5, 0.0),)}):
        with pytest.raises(FvprocError, match="attraction"):
            simulate.Attraction(**wrong)
    with pytest.raises(FvprocError, match="sphere"):
        branches(sample(), PROBES["cone"], simulate.ramp(64, 2e-7), attraction=simulate.Attraction(hamaker=1e-19))


# attraction of the free tip -------------------------------------------------------------------------------------------


@given(hamaker=st.floats(1e-21, 1e-18), k=st.floats(0.02, 50.0), share=st.floats(1.0, 50.0))
@settings(max_examples=80, deadline=None)
def test_van_der_waals_balances_the_spring_until_it_snaps(hamaker, k, share):
    radius = 60e-9
    _, snap = simulate.van_der_waals(np.zeros(1), hamaker, "sphere", radius, k)
    gap0 = np.array([snap * share])
    d, _ = simulate.van_der_waals(gap0, hamaker, "sphere", radius, k)
    gap = gap0 + d
    assert k * d[0] == pytest.approx(-hamaker * radius / (6 * gap[0] ** 2), rel=1e-5)
    gradient = hamaker * radius / (3 * gap[0] ** 3)
    assert gradient <= k * (1 + 1e-6), "beyond the snap-in the tip is stable"
    at_snap = snap + simulate.van_der_waals(np.array([snap]), hamaker, "sphere", radius, k)[0][0]
    assert hamaker * radius / (3 * at_snap**3) == pytest.approx(k, rel=1e-6)


def test_snap_in_comes_before_the_contact_point():
    probe, what = PROBES["sphere"], sample(adhesion=2e-9)
    attraction = simulate.Attraction(hamaker=1e-19)
    z = simulate.ramp(4000, 150e-9, "linear")
    (approach, retract), z0 = branches(what, probe, z, attraction=attraction)
    (bare, bare_retract), _ = branches(what, probe, z)
    snap = 1.5 * (1e-19 * 60e-9 / (3 * 0.5)) ** (1 / 3)
    jump = int(np.argmin(np.diff(approach)))
    assert z[0][jump + 1] == pytest.approx(z0 - snap, abs=2 * 150e-9 / 4000)
    free = z[0] < z0 - snap
    assert np.all(approach[free] < 0) and np.all(np.diff(approach[free]) < 0)
    np.testing.assert_array_equal(approach[z[0] > z0], bare[z[0] > z0])
    touching = z[1] > z0 - 2e-9 / 0.5
    np.testing.assert_array_equal(retract[touching], bare_retract[touching])
    assert np.all(retract[~touching] < 0)


@pytest.mark.parametrize("model", ["dmt", "jkr"])
def test_a_blunt_pull_off_decays_without_a_jump(model):
    probe, what = PROBES["sphere"], sample(model=model)
    z = simulate.ramp(20000, 150e-9, "linear")
    (approach, d), _ = branches(what, probe, z, attraction=simulate.Attraction(decay=5e-9))
    (bare_approach, bare), _ = branches(what, probe, z)
    np.testing.assert_array_equal(approach, bare_approach)
    assert np.max(np.abs(np.diff(bare))) > 0.5 * 0.4e-9 / 0.5, "without it there is a jump"
    assert np.max(np.abs(np.diff(d))) < 0.05 * 0.4e-9 / 0.5
    assert d.min() == bare.min()
    after = np.flatnonzero((bare == 0.0) & (d < 0.0))
    tail = d[after[0] :]
    steps = round(5e-9 / (150e-9 / 20000))
    assert tail[steps] / tail[0] == pytest.approx(math.exp(-1), rel=2e-3)


def test_multiple_pull_offs_are_steps_of_their_shares():
    probe, what = PROBES["sphere"], sample()
    z = simulate.ramp(3000, 150e-9, "linear")
    tethers = ((0.3, 10e-9), (0.2, 25e-9))
    (_, d), z0 = branches(what, probe, z, attraction=simulate.Attraction(tethers=tethers))
    since = z0 - 0.4e-9 / 0.5 - z[1]
    for lower, upper, share in ((0.0, 10e-9, 0.5), (10e-9, 25e-9, 0.2), (25e-9, 1.0, 0.0)):
        np.testing.assert_allclose(d[(since > lower) & (since < upper)] * 0.5, -share * 0.4e-9, rtol=1e-9, atol=1e-30)
    (_, full), _ = branches(what, probe, z, attraction=simulate.Attraction(tethers=((0.8, 1e-8), (0.9, 1e-8))))
    assert full.min() * 0.5 >= -0.4e-9 * (1 + 1e-12), "no tether pulls more than the pull-off"


@pytest.mark.parametrize("material", simulate.REFERENCE_MATERIALS, ids=lambda material: material.name)
def test_reference_materials_are_measurable(material):
    assert material.name.split()[0] == f"{material.modulus / (1e6 if 'MPa' in material.name else 1e9):g}"
    depth, radius = material.indentation, material.tip_radius
    assert 1e-9 <= depth <= 10e-9 or 0.02 <= depth / radius <= 0.05
    assert physics.paraboloid_excess(depth, radius) < 0.014
    assert 0.1 <= material.stiffness / material.spring_constant <= 10.0
    assert material.tabor_parameter < 1.5
    assert 100 * 2e-11 < material.peak_force / material.spring_constant < 20e-9
    assert material.travel > 5 * (depth + (material.peak_force + material.adhesion) / material.spring_constant)
    assert material.adhesion / material.spring_constant > 4 * 2e-11, "stands out of the noise"
    (approach, _), z0 = branches(material.sample(), material.probe, simulate.ramp(256, material.travel))
    assert 0 < z0 < material.travel and np.count_nonzero(approach) >= 8


def test_reference_materials_are_those_of_the_review():
    moduli = [0.7e6, 23e6, 45e6, 67e6, 916e6, 1.5e9, 2.4e9, 10.7e9, 30e9, 40e9, 58e9, 75e9]
    assert [material.modulus for material in simulate.REFERENCE_MATERIALS] == moduli
    assert len({material.name for material in simulate.REFERENCE_MATERIALS}) == 12
    sticky = simulate.REFERENCE_MATERIALS[0].sample(3, "jkr")
    assert sticky.model == "jkr" and sticky.modulus.shape == (3,)
