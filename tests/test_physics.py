"""The contact models against their textbook forms, their limits, and finite differences of themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from fvproc import physics
from fvproc.errors import FvprocError

MODULI = st.floats(5.0, 11.0).map(lambda power: 10.0**power)
SPRINGS = st.floats(-2.0, 2.5).map(lambda power: 10.0**power)
RADII = st.floats(1e-9, 5e-6)
SIZES = {"sphere": 3e-8, "cone": 0.35, "punch": 5e-8}
ν = 0.3


def compliance(shape, k, modulus, size=None):
    size = SIZES[shape] if size is None else size
    return physics.compliance(shape, k, physics.prefactor(shape, physics.reduced_modulus(modulus, ν), size))


def differences(function, travel, b, r):
    """Central differences by c, B and r, in units of 1e-9 m, so that every argument is of order one."""
    found = []
    for i, value in enumerate((travel, b, r)):
        step = 1e-5 * value
        arguments = [[travel, b, r], [travel, b, r]]
        arguments[0][i] = value - step
        arguments[1][i] = value + step
        found.append((function(*arguments[1]).load - function(*arguments[0]).load) / (2.0 * step))
    return found


@pytest.mark.parametrize("shape", SIZES)
@given(modulus=MODULI, k=SPRINGS, depth=st.floats(1e-13, 1e-6), adhesion=st.floats(0.0, 1e-7))
@settings(max_examples=60, deadline=None)
def test_load_inverts_the_force_over_indentation(shape, modulus, k, depth, adhesion):
    reduced, size = physics.reduced_modulus(modulus, ν), SIZES[shape]
    force = physics.contact_force(shape, depth, reduced, size, adhesion=adhesion)
    travel = depth + (force + adhesion) / k
    found = physics.load(shape, travel, compliance(shape, k, modulus))
    assert found.load == pytest.approx((force + adhesion) / k, rel=1e-7)
    assert travel - found.load == pytest.approx(depth, rel=1e-7, abs=1e-12 * travel)


@pytest.mark.parametrize("shape", SIZES)
@given(modulus=MODULI, k=SPRINGS, travel=st.floats(1e-12, 1e-6))
@settings(max_examples=60, deadline=None)
def test_derivatives_of_load(shape, modulus, k, travel):
    b = float(compliance(shape, k, modulus))
    found = physics.load(shape, travel, b)
    by_travel, by_b, _ = differences(lambda c, b, r: physics.load(shape, c, b), travel, b, 1.0)
    assert found.by_travel == pytest.approx(by_travel, rel=1e-6)
    assert found.by_compliance * b == pytest.approx(by_b * b, rel=1e-5, abs=1e-9 * travel)
    assert found.by_reach == 0.0
    assert 0.0 < found.by_travel <= 1.0


def test_limits_of_load():
    for shape in SIZES:
        rigid = physics.load(shape, np.array([-1.0, 0.0, 1e-9, 2e-7]), 0.0)
        np.testing.assert_allclose(rigid.load, [0.0, 0.0, 1e-9, 2e-7], rtol=1e-14)
        np.testing.assert_allclose(rigid.by_travel[2:], 1.0, rtol=1e-14)
        np.testing.assert_array_equal(rigid.by_travel[:2], 0.0)
    c, b = 7e-9, 3e-5
    assert physics.load("cone", c, b).load == pytest.approx((2 * c / (b + math.sqrt(b * b + 4 * c))) ** 2, rel=1e-14)
    assert physics.load("punch", c, 0.25).load == pytest.approx(c / 1.25, rel=1e-15)


def test_scalars_and_broadcasting():
    found = physics.load("sphere", np.full((3, 1), 1e-9), np.full(4, 1e-4))
    assert all(values.shape == (3, 4) and values.dtype == np.float64 for values in found)
    assert physics.jkr_load(np.full((3, 1), 1e-9), np.full(4, 1e-4), 1e-10).load.shape == (3, 4)


# films ----------------------------------------------------------------------------------------------------------------


def test_film_coefficients_are_those_printed():
    np.testing.assert_allclose(physics.film_coefficients("sphere", 0.5), [1.0, 1.133, 1.283, 0.769, -0.0975], atol=6e-4)
    np.testing.assert_allclose(
        physics.film_coefficients("sphere", 0.5, bonded=False), [1.0, 0.884, 0.781, 0.386, 0.0048], atol=6e-4
    )


def test_film_of_the_sei_is_overestimated_as_measured():
    f = [
        physics.film_factor(
            physics.film_coefficients("sphere", 0.3), physics.confinement("sphere", 3e-9, 30e-9, thickness)
        )
        for thickness in (50e-9, 20e-9)
    ]
    np.testing.assert_allclose(f, [1.2, 1.6], atol=0.05)


FILMS = [
    ("sphere", 0.3, True),
    ("sphere", 0.5, True),
    ("sphere", 0.0, True),
    ("sphere", 0.4, False),
    ("cone", 0.5, True),
]


@pytest.mark.parametrize(("shape", "poisson", "bonded"), FILMS)
@given(modulus=MODULI, k=SPRINGS, chi=st.floats(0.01, 1.2), depth=st.floats(1e-11, 1e-7))
@settings(max_examples=40, deadline=None)
def test_film_load_inverts_the_force_and_has_its_derivatives(shape, poisson, bonded, modulus, k, chi, depth):
    size = SIZES[shape]
    thickness = float(physics.confinement(shape, depth, size, 1.0)) / chi
    coefficients = physics.film_coefficients(shape, poisson, bonded=bonded)
    factor = physics.film_factor(coefficients, physics.confinement(shape, depth, size, thickness))
    q = float(factor * physics.contact_force(shape, depth, physics.reduced_modulus(modulus, ν), size) / k)
    b = float(compliance(shape, k, modulus))

    def function(c, b, r=0.0):
        return physics.film_load(shape, c, b, size, thickness, poisson, bonded=bonded)

    found = function(q + depth, b)
    assert found.load == pytest.approx(q, rel=1e-7)
    by_travel, by_b, _ = differences(function, q + depth, b, 1.0)
    assert found.by_travel == pytest.approx(by_travel, rel=1e-5)
    assert found.by_compliance * b == pytest.approx(by_b * b, rel=1e-4, abs=1e-8 * (q + depth))


@given(modulus=MODULI, k=SPRINGS, travel=st.floats(1e-11, 1e-6))
@settings(max_examples=40, deadline=None)
def test_a_thick_film_is_a_half_space_and_a_thin_one_stiffer(modulus, k, travel):
    b = compliance("sphere", k, modulus)
    bare = physics.load("sphere", travel, b)
    thick = physics.film_load("sphere", travel, b, SIZES["sphere"], 1.0, ν)
    for one, other in zip(bare, thick, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5)
    chi = physics.confinement("sphere", travel - bare.load, SIZES["sphere"], 1.0)
    solved = physics.solved_coefficients("sphere", ν)
    closer = physics.film_load("sphere", travel, b, SIZES["sphere"], 1e3, coefficients=solved)
    np.testing.assert_allclose(closer.load, bare.load, rtol=1e-6)
    thin = physics.film_load("sphere", travel, b, SIZES["sphere"], chi / 0.5, ν)
    assert thin.load >= bare.load


def test_a_film_says_where_its_series_ends():
    b = compliance("sphere", 5.0, 45e6)
    found = physics.film_load("sphere", np.array([-1e-9, 1e-9, 1e-6]), b, 30e-9, 10e-9, 0.3)
    assert found.load[0] == 0.0 and found.load[1] > 0.0
    assert all(math.isnan(values[2]) for values in found[:3])
    assert physics.film_holds("sphere", 1e-9, 30e-9, 20e-9)
    assert not physics.film_holds("sphere", 1e-9, 30e-9, 20e-9, tolerance=0.01), "χ = 0.27"
    assert not physics.film_holds("sphere", 3e-9, 5e-9, 20e-9), "deeper than a tenth of the film, χ = 0.19"
    assert not physics.film_holds("sphere", 1e-9, 1e-6, 20e-9), "a contact wider than the film"
    for shape, poisson, bonded in (
        ("punch", 0.3, True),
        ("cone", 0.3, True),
        ("cone", 0.5, False),
        ("sphere", 0.6, True),
    ):
        with pytest.raises(FvprocError, match=r"tip\.shape|poisson_ratio"):
            physics.film_coefficients(shape, poisson, bonded=bonded)


@pytest.mark.parametrize("shape", ["sphere", "cone"])
@pytest.mark.parametrize(("poisson", "bonded"), [(0.0, True), (0.3, True), (0.5, True), (0.3, False)])
def test_the_solved_film_has_its_asymptotes(shape, poisson, bonded):
    """Thick: the substrate lifts the surface evenly, to second order in the load. Thin: a bed of springs."""
    kappa = 3 - 4 * poisson

    def missing(w):
        if bonded:
            return 1 - (2 * kappa * math.sinh(2 * w) - 4 * w) / (2 * kappa * math.cosh(2 * w) + 4 * w**2 + 1 + kappa**2)
        return 1 - (math.cosh(2 * w) - 1) / (math.sinh(2 * w) + 2 * w)

    lift = quad(missing, 1e-9, 30.0)[0] / math.pi  # δ_eff = δ + lift·F/(E*·h)
    m, first = (1.5, 4 / 3) if shape == "sphere" else (2.0, 2 / math.pi)
    chi = np.array([0.005, 0.01, 0.02])
    x = lift * first * chi
    thick = 1 + m * x + (m**2 + m * (m - 1) / 2) * x**2
    found = physics.film_factor_solved(shape, chi, poisson, bonded=bonded)
    np.testing.assert_allclose(found, thick, atol=3e-5)
    assert np.all(np.abs(found - thick) < 0.2 * x**2), "the second order is there"
    if poisson < 0.5 and shape == "sphere":
        stiffness = (1 - poisson) ** 2 / (1 - 2 * poisson) if bonded else 1.0  # of the confined film over E*
        near, far = physics.film_factor_solved(shape, np.array([2.5, 3.0]), poisson, bonded=bonded)
        assert (far - near) / 0.5 == pytest.approx(0.75 * math.pi * stiffness, rel=0.05)


@pytest.mark.parametrize(("shape", "poisson", "bonded"), FILMS)
def test_series_and_polynomial_against_the_solved_film(shape, poisson, bonded):
    assert physics.film_factor_solved(shape, 0.0, poisson, bonded=bonded) == 1.0
    limit = physics.film_limit(shape, poisson, bonded=bonded, tolerance=0.05)
    assert 0.35 < limit < 2.0
    chi = np.linspace(0.0, limit, 50)
    truth = physics.film_factor_solved(shape, chi, poisson, bonded=bonded)
    series = physics.film_factor(physics.film_coefficients(shape, poisson, bonded=bonded), chi)
    np.testing.assert_allclose(series, truth, rtol=0.05)
    chi = np.linspace(0.0, 2.0, 333)
    truth = physics.film_factor_solved(shape, chi, poisson, bonded=bonded)
    polynomial = physics.film_factor(physics.solved_coefficients(shape, poisson, bonded=bonded), chi)
    np.testing.assert_allclose(polynomial, truth, rtol=1e-3)
    assert np.all(np.diff(truth) > 0)


def test_garcias_cone_is_the_solved_one_and_its_sphere_too():
    chi = np.linspace(0.0, 0.5, 20)
    for shape, series in (
        ("cone", physics.film_coefficients("cone")),
        ("sphere", np.array([1.0, 1.133, 1.497, 1.469, 0.755])),
    ):
        np.testing.assert_allclose(physics.film_factor(series, chi), physics.film_factor_solved(shape, chi), rtol=0.01)


def test_the_solved_film_refuses_what_it_cannot():
    for shape, chi, poisson in (
        ("punch", 0.1, 0.3),
        ("sphere", 4.0, 0.3),
        ("sphere", math.nan, 0.3),
        ("cone", 0.1, 0.7),
    ):
        with pytest.raises(FvprocError, match=r"tip\.shape|chi|poisson_ratio"):
            physics.film_factor_solved(shape, chi, poisson)


# JKR ------------------------------------------------------------------------------------------------------------------


@given(modulus=MODULI, k=SPRINGS, radius=RADII, adhesion=st.floats(1e-11, 1e-6), above=st.floats(1e-3, 20.0))
@settings(max_examples=150, deadline=None)
def test_jkr_load_is_the_textbook_contact_under_its_cantilever(modulus, k, radius, adhesion, above):
    reduced = float(physics.reduced_modulus(modulus, ν))
    work = float(physics.work_of_adhesion(adhesion, radius, "jkr"))
    b, r = float(compliance("sphere", k, modulus, radius)), adhesion / k
    # contact radii from the pull-off of load control upward: a³ = 9πwR²/(8E*) there
    a = (1.0 + above) * (9.0 * math.pi * work * radius**2 / (8.0 * reduced)) ** (1.0 / 3.0)
    force, depth = physics.jkr_contact(a, reduced, radius, work)
    travel = float(depth + force / k + r)
    found = physics.jkr_load(travel, b, r)
    assert found.load - r == pytest.approx(force / k, rel=1e-6, abs=1e-9 * (r + abs(travel)))
    by_travel, by_b, by_r = differences(physics.jkr_load, travel, b, r)
    scale = 1e-5 * (1.0 + r / abs(travel))  # c is a difference: its rounding stands against it
    assert found.by_travel == pytest.approx(by_travel, rel=1e-4, abs=scale)
    assert found.by_compliance * b == pytest.approx(by_b * b, rel=1e-4, abs=1e-7 * (r + abs(travel)))
    assert found.by_reach == pytest.approx(by_r, rel=1e-4, abs=1e-5)


@given(modulus=MODULI, k=SPRINGS, radius=RADII, adhesion=st.floats(1e-11, 1e-6))
@settings(max_examples=100, deadline=None)
def test_jkr_leaves_contact_between_load_control_and_fixed_grips(modulus, k, radius, adhesion):
    b, r = compliance("sphere", k, modulus, radius), adhesion / k
    c, q = physics.jkr_jump(b, r)
    assert -1e-12 * r <= q <= 4.0 / 9.0 * r * (1 + 1e-12)
    assert np.isnan(physics.jkr_load(c - 1e-6 * (abs(c) + r), b, r).load)
    # past the jump no contact: the spring's line is tangent to the contact's curve, so it turns back there
    for beyond in (0.999, 1.001):
        y = ((math.sqrt(r) - math.sqrt(q)) * 1.0) ** (1 / 3) * beyond
        turned = (y**3 - math.sqrt(r)) ** 2 + b * y * (y**3 - 4 / 3 * math.sqrt(r))
        assert turned >= c - 1e-9 * (abs(c) + r)


def test_jkr_pull_off_is_three_halves_pi_work_radius():
    radius, work, modulus, k = 50e-9, 0.05, 5e6, 0.5
    reduced = float(physics.reduced_modulus(modulus, ν))
    a = np.linspace(0.01, 3.0, 200001) * (9 * math.pi * work * radius**2 / (8 * reduced)) ** (1 / 3)
    force, depth = physics.jkr_contact(a, reduced, radius, work)
    assert force.min() == pytest.approx(-1.5 * math.pi * work * radius, rel=1e-9)
    r = 1.5 * math.pi * work * radius / k
    b = compliance("sphere", k, modulus, radius)
    c, q = physics.jkr_jump(b, r)
    travel = depth + force / k + r
    assert travel.min() == pytest.approx(c, rel=1e-6), "the smallest travel at which any contact exists"
    assert (force[travel.argmin()] / k + r) == pytest.approx(q, rel=1e-3)
    swept = physics.jkr_load(np.linspace(float(c), 40 * r, 4001), b, r).load
    assert swept.min() == pytest.approx(0.0, abs=1e-4 * r), "the pull-off force is met before the jump"
    for compliance_, share in ((1e-12, 0.0), (1e6, 4 / 9)):
        assert physics.jkr_jump(compliance_, r)[1] == pytest.approx(share * r, abs=1e-4 * r)


@given(modulus=MODULI, k=SPRINGS, travel=st.floats(1e-11, 1e-6))
@settings(max_examples=60, deadline=None)
def test_jkr_without_adhesion_is_hertz(modulus, k, travel):
    b = compliance("sphere", k, modulus)
    bare, sticky = physics.load("sphere", travel, b), physics.jkr_load(travel, b, 0.0)
    for one, other in zip(bare[:3], sticky[:3], strict=True):
        assert other == pytest.approx(one, rel=1e-10)
    assert physics.jkr_load(-travel, b, 0.0).load == 0.0
    assert physics.jkr_load(travel, b, 1e-16 * travel).load == pytest.approx(bare.load, rel=1e-5)
    assert physics.jkr_load(travel, 0.0, 0.1 * travel).load == pytest.approx(travel, rel=1e-9), "rigid: δ = 0"


# validity -------------------------------------------------------------------------------------------------------------


def test_work_of_adhesion_and_tabor_parameter():
    assert physics.work_of_adhesion(1.5 * math.pi * 0.07 * 2e-8, 2e-8, "jkr") == pytest.approx(0.07)
    assert physics.work_of_adhesion(2.0 * math.pi * 0.07 * 2e-8, 2e-8) == pytest.approx(0.07)
    assert physics.tabor_parameter(1e-6, 0.1, 1e6) > 100 and physics.tabor_parameter(1e-8, 0.05, 1e11) < 0.1
    with pytest.raises(FvprocError, match="dmt or jkr"):
        physics.work_of_adhesion(1e-9, 1e-8, "hertz")


def test_the_paraboloid_against_sneddons_sphere():
    radius, a = 1.0, np.linspace(0.05, 0.6, 30)
    depth = a / 2 * np.log((radius + a) / (radius - a))
    force = (radius**2 + a**2) / 2 * np.log((radius + a) / (radius - a)) - a * radius
    excess = 1.0 - force / physics.contact_force("sphere", depth, 1.0, radius)
    np.testing.assert_allclose(physics.paraboloid_excess(depth, radius), excess, atol=1e-4)


def test_reduced_modulus_and_unknown_shapes():
    assert physics.reduced_modulus(70e9, 0.3) == pytest.approx(70e9 / 0.91)
    both = physics.reduced_modulus(70e9, 0.3, 70e9, 0.3)
    assert both == pytest.approx(35e9 / 0.91)
    for refused in (lambda: physics.prefactor("pyramid", 1e9, 1e-8), lambda: physics.load("pyramid", 1e-9, 1e-4)):
        with pytest.raises(FvprocError, match="sphere, cone, punch"):
            refused()
