"""Systematic errors: the factors against maps processed again with a wrong calibration, and where they are told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import fvproc as fv
from fvproc import simulate, systematic
from fvproc.cli import main
from fvproc.errors import CalibrationError, FvprocError
from fvproc.recipe import Recipe
from fvproc.volume import Setting

NAMES = ("modulus", "reduced_modulus", "adhesion", "peak_force", "stiffness", "indentation", "deformation")
MATERIALS = {
    "soft": (45e6, 1e-9, 5e-9, 150e-9, simulate.Probe(0.4, 30e-9)),
    "medium": (1.5e9, 4e-9, 20e-9, 100e-9, simulate.Probe(5.0, 30e-9)),
    "stiff": (10e9, 10e-9, 60e-9, 60e-9, simulate.Probe(40.0, 30e-9)),
}
KNOWN = {"spring_constant": 0.1, "deflection_sensitivity": 0.03, "tip_radius": 0.2, "poisson_ratio": 0.15}


@pytest.fixture(scope="module", params=list(MATERIALS))
def measured(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("systematic") / "map.h5"
    settings = dict(
        zip(("modulus", "adhesion", "peak_force", "travel", "probe"), MATERIALS[request.param], strict=True)
    )
    simulate.write_map(path, ny=3, nx=5, samples=512, sigma=2e-12, dtype="float32", seed=2, spread=1e-9, **settings)
    return fv.open(path)


def wrong(volume, recipe, source, factor):
    """The maps of a calibration that is off by a factor in one source."""
    if source == "tip_radius":
        recipe = replace(recipe, tip=replace(recipe.tip, radius=factor * recipe.tip.radius))
    elif source == "poisson_ratio":
        recipe = replace(recipe, poisson_ratio=factor * recipe.poisson_ratio)
    elif source == "spring_constant":
        k = volume.calibration.spring_constant.value
        volume = replace(volume, calibration=volume.calibration.override(spring_constant=factor * k))
    else:
        branches = {
            name: replace(branch, deflection=replace(branch.deflection, scale=factor * branch.deflection.scale))
            for name in ("approach", "retract")
            if (branch := getattr(volume, name))
        }
        volume = replace(volume, **branches)
    return fv.process(volume, recipe)


def test_a_large_map_is_asked_for_few_of_its_curves_in_few_places(tmp_path, monkeypatch):
    path = tmp_path / "map.h5"
    simulate.write_map(path, ny=24, nx=20, samples=128, sigma=2e-12, seed=3)
    volume = fv.open(path)
    maps = fv.process(volume)
    maps.records["flags"][3, 4] |= 1  # a run with a gap
    tiles = []
    read = systematic.engine.read_tile
    monkeypatch.setattr(systematic.engine, "read_tile", lambda v, tile: tiles.append(tile) or read(v, tile))
    factors = systematic.factors(volume, Recipe().completed(volume), maps)
    assert len(tiles) == 6 and 24 <= sum(len(tile) for tile in tiles) < 60
    assert tiles[0].start < 20 and tiles[-1].stop > 460
    assert factors["modulus"]["tip_radius"] == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("method", ["ml", "qnm"])
@pytest.mark.parametrize("source", list(KNOWN))
def test_the_factors_are_those_of_maps_processed_again(measured, source, method):
    recipe = Recipe.from_dict({"fit": {"method": method}}).completed(measured)
    factors = systematic.factors(measured, recipe, fv.process(measured, recipe))
    high, low = wrong(measured, recipe, source, 1.01), wrong(measured, recipe, source, 1 / 1.01)
    for name in NAMES:
        seen = np.median(np.log(high[name].astype(float) / low[name].astype(float))) / (2 * np.log(1.01))
        assert factors[name].get(source, 0.0) == pytest.approx(seen, rel=0.01, abs=2e-3), name


def test_the_factors_are_those_of_theory(measured):
    """Forces go as k and s; E as k, 1/√R and 1 − ν²; what s does to E grows with the contact's stiffness over k."""
    recipe = Recipe.from_dict({"fit": {"method": "qnm"}}).completed(measured)
    maps = fv.process(measured, recipe)
    found = systematic.factors(measured, recipe, maps)
    for name in ("modulus", "adhesion", "peak_force", "dissipation", "stiffness"):
        assert found[name]["spring_constant"] == pytest.approx(1.0, abs=1e-3)
    assert found["peak_force"]["deflection_sensitivity"] == pytest.approx(1.0, abs=1e-3)
    assert found["modulus"]["tip_radius"] == pytest.approx(-0.5, abs=1e-3)
    assert found["modulus"]["poisson_ratio"] == pytest.approx(-2 * 0.09 / 0.91, rel=0.01)
    assert "poisson_ratio" not in found["reduced_modulus"] and "tip_radius" not in found["adhesion"]
    ratio = np.median(maps["stiffness"]) / measured.calibration.spring_constant.value
    # 1.25: the slope of the load against δ^(3/2)'s root in the window, over that of the line to the origin
    assert found["modulus"]["deflection_sensitivity"] == pytest.approx(1 + 1.25 * ratio, rel=0.03)


def test_what_is_known_is_added_in_quadrature_and_what_is_not_is_named(measured):
    known = fv.open(measured.path, rel_std={"spring_constant": 0.1, "tip_radius": 0.2})
    maps = fv.process(known)
    error = maps.provenance["systematic"]["quantities"]["modulus"]
    assert error["parts"]["spring_constant"] == pytest.approx(0.1, rel=1e-3)
    assert error["parts"]["tip_radius"] == pytest.approx(0.1, rel=1e-3)
    assert error["rel_std"] == pytest.approx(np.hypot(0.1, 0.1), rel=1e-3)
    assert error["unknown"] == ["deflection_sensitivity", "poisson_ratio"]
    adhesion = maps.provenance["systematic"]["quantities"]["adhesion"]
    assert (
        "spring_constant" in adhesion["parts"]
        and "tip_radius" not in adhesion["parts"]
        and "tip_radius" not in adhesion["unknown"]
    )
    total = systematic.total_std(maps, "modulus")
    random = maps["modulus_std"].astype(float)
    np.testing.assert_allclose(total**2, random**2 + (error["rel_std"] * maps["modulus"].astype(float)) ** 2)
    with pytest.raises(KeyError, match="choose from modulus"):
        systematic.total_std(maps, "height")


def test_it_is_told_in_every_place(measured, tmp_path, capsys):
    out = tmp_path / "out.h5"
    options = [text for name, value in KNOWN.items() for text in ("--rel-std", f"{name}={value:.0%}")]
    assert main(["run", measured.path, "-o", str(out), *options]) == 0
    assert "systematic (spring constant 10" in capsys.readouterr().out
    maps = fv.load(out)
    expected = maps.provenance["systematic"]["quantities"]["modulus"]["rel_std"]
    assert 0.17 < expected < 0.35
    import h5py

    with h5py.File(out) as file:
        assert file["entry/maps/modulus"].attrs["systematic_rel_std"] == pytest.approx(expected)
        assert json.loads(file["entry/maps/modulus"].attrs["systematic_parts"])["tip_radius"] == pytest.approx(
            0.1, rel=1e-3
        )
    assert main(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "% systematic (" in told and "spring constant 10" in told
    assert main(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["systematic"]["sources"]["tip_radius"] == pytest.approx(0.2)
    assert main(["info", measured.path, *options]) == 0
    assert "spring constant 10.00%" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    from fvproc.writers import figure

    assert any("% systematic" in part for part in figure.summary(maps))
    xarray = pytest.importorskip("xarray")
    assert isinstance(maps.to_xarray(), xarray.Dataset)
    assert maps.to_xarray()["modulus"].attrs["systematic_rel_std"] == pytest.approx(expected)


def test_nothing_known_is_said_and_not_taken_as_zero(measured, tmp_path, capsys):
    assert main(["run", measured.path, "-o", str(tmp_path / "out.h5")]) == 0
    assert "systematic uncertainty unknown: spring constant" in capsys.readouterr().out


CONE = simulate.Probe(0.4, half_angle=0.35, poisson_ratio=0.5)


@pytest.fixture(scope="module")
def cone(tmp_path_factory):
    path = tmp_path_factory.mktemp("systematic") / "cone.h5"
    settings = dict(zip(("modulus", "adhesion", "peak_force", "travel"), MATERIALS["soft"], strict=False))
    simulate.write_map(path, ny=3, nx=5, samples=256, sigma=2e-12, seed=2, probe=CONE, **settings)
    return fv.open(path, rel_std={"poisson_ratio": 0.1})


def test_a_source_at_the_end_of_what_it_can_be_is_stepped_to_the_side_that_is(cone, measured):
    """The published series of the cone is for 0.5 alone; a ratio, an angle and a radius have an end."""
    film = {"thickness": 200e-9}
    given = {"fit": {"model": "sneddon_cone"}, "sample": {"poisson_ratio": 0.5}, "tip": {"half_angle": 0.35}}
    solved, published = (
        fv.process(cone, Recipe.from_dict(given | {"film": film | {"series": series}})).provenance["systematic"]
        for series in ("solved", "published")
    )
    parts = [told["quantities"]["modulus"]["parts"]["poisson_ratio"] for told in (solved, published)]
    assert parts[0] == pytest.approx(parts[1], rel=0.1)
    assert "poisson_ratio" in solved["quantities"]["modulus"]["parts"] and "failed" not in published
    alone = fv.process(cone, Recipe.from_dict(given)).provenance["systematic"]["quantities"]["modulus"]
    assert alone["parts"]["poisson_ratio"] == pytest.approx(0.1 * 2 / 3, rel=0.02)  # 2ν²/(1 − ν²)
    recipe = Recipe(tip=fv.Tip.sphere(radius=0.9999e-3), poisson_ratio=0.5).completed(measured)
    found = systematic.factors(measured, recipe, fv.process(measured, recipe))
    assert found["modulus"]["tip_radius"] == pytest.approx(-0.5, abs=1e-3)


@pytest.mark.parametrize("degrees", [20.0, 89.0, 89.99, 89.9999999])
def test_the_factor_of_a_blunt_cone_is_that_of_the_tangent(cone, degrees):
    """−2α/sin 2α, beyond any bound near 90°: one per cent of α would be no small step there."""
    angle = np.radians(degrees)
    recipe = Recipe.from_dict({"fit": {"model": "sneddon_cone"}, "tip": {"half_angle": angle}}).completed(cone)
    found = systematic.factors(cone, recipe, fv.process(cone, recipe))
    assert found["modulus"]["tip_half_angle"] == pytest.approx(-2 * angle / np.sin(2 * angle), rel=1e-3)
    assert "tip_half_angle" not in found["adhesion"]


def test_a_half_angle_that_was_calibrated_goes_with_the_spring_constant_however_blunt(cone):
    angle = np.radians(89.9)
    volume = replace(
        cone, tip_half_angle=Setting(angle, "user"), tip_depends={"spring_constant": np.sin(2 * angle) / (2 * angle)}
    )
    recipe = Recipe.from_dict({"fit": {"model": "sneddon_cone", "method": "qnm"}}).completed(volume)
    found = systematic.factors(volume, recipe, fv.process(volume, recipe))
    assert "spring_constant" not in found["modulus"] and found["adhesion"]["spring_constant"] == pytest.approx(
        1, abs=1e-3
    )
    volume = replace(volume, tip_depends={"spring_constant": 2.0})
    found = systematic.factors(volume, recipe, fv.process(volume, recipe))
    assert found["modulus"]["spring_constant"] == pytest.approx(1 - 4 * angle / np.sin(2 * angle), rel=1e-3)


def test_a_factor_that_there_is_not_is_named_unknown(cone):
    """At ν = −1 there is no modulus, and no logarithm of it."""
    recipe = Recipe.from_dict({"tip": {"radius": 30e-9}, "sample": {"poisson_ratio": -1.0}})
    errors = fv.process(cone, recipe).provenance["systematic"]["quantities"]
    assert "poisson_ratio" in errors["modulus"]["unknown"] and "poisson_ratio" not in errors["modulus"]["parts"]
    assert "poisson_ratio" not in errors["adhesion"]["unknown"] and np.isfinite(errors["modulus"]["rel_std"])


@pytest.mark.parametrize("error", [OSError("the share is gone"), ZeroDivisionError("a bug")])
def test_whatever_goes_wrong_costs_nothing_that_is_done_and_is_said(measured, tmp_path, capsys, monkeypatch, error):
    def wrong(*_):
        raise error

    monkeypatch.setattr(systematic.sampling, "read", wrong)
    monkeypatch.setattr("fvproc.noise.measured", lambda volume, recipe: recipe.noise)
    out = tmp_path / "out.h5"
    assert main(["run", measured.path, "-o", str(out)]) == 0
    assert str(error) in capsys.readouterr().out
    maps = fv.load(out)
    assert np.isfinite(maps["modulus"]).any() and not maps.provenance["systematic"]["quantities"]
    assert maps.provenance["systematic"]["failed"] == f"{type(error).__name__}: {error}"
    assert main(["info", str(out)]) == 0
    assert f"systematic uncertainty unknown, the maps are whole: {type(error).__name__}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, words",
    [
        ({"spring_constant": 1.5}, "spring_constant = 1.5: expected 0 to 1"),
        ({"spring_constant": -0.1}, "expected 0 to 1"),
        ({"spring_constant": float("nan")}, "expected 0 to 1"),
        ({"stiffness": 0.1}, "choose from spring_constant"),
    ],
)
def test_uncertainties_that_cannot_be_are_refused(measured, given, words):
    with pytest.raises(CalibrationError, match=words):
        fv.open(measured.path, rel_std=given)


def test_the_command_line_names_what_it_cannot_read(measured, capsys):
    for text, words in (("spring_constant", "expected NAME=X"), ("tip_radius=much", "--rel-std tip_radius = 'much'")):
        assert main(["info", measured.path, "--rel-std", text]) == 2
        assert words in capsys.readouterr().err
    assert issubclass(CalibrationError, FvprocError)
