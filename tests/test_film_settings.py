"""Films in a recipe and in a simulation: maps of the thickness, where they lie, and one series for both."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fvproc as fv
from fvproc import provenance, simulate
from fvproc.cli import main
from fvproc.errors import RecipeError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe, merged, read_settings

SCENE = {"ny": 4, "nx": 5, "samples": 128, "modulus": 45e6, "adhesion": 1e-9, "peak_force": 5e-9}
PROBE = simulate.Probe(0.5, 60e-9)


@pytest.fixture
def curves(tmp_path, monkeypatch):
    """A map of a film of 60 nm, and the working directory of the user beside it."""
    simulate.write_map(tmp_path / "map.h5", **SCENE, probe=PROBE, thickness=60e-9)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "map.h5"


def saved(folder, values=60e-9, name="thickness.npy"):
    folder.mkdir(exist_ok=True)
    np.save(folder / name, np.broadcast_to(np.asarray(values, float), (4, 5)))
    return folder / name


@pytest.mark.parametrize("wrong", [20.0, 1e-3, math.inf])
def test_a_map_of_no_possible_thickness_is_refused_as_the_number_is(curves, wrong):
    thickness = np.full((4, 5), 60e-9)
    thickness[1, 2] = wrong
    saved(curves.parent, thickness)
    with pytest.raises(RecipeError, match=r"film\.thickness = 'thickness\.npy': 1 of 20 values .*\(0, 0\.001\).*in m"):
        fv.process(curves, Recipe.from_dict({"film": {"thickness": "thickness.npy"}}))
    with pytest.raises(RecipeError, match=r"film\.thickness.*\(0, 0\.001\)"):
        Recipe.from_dict({"film": {"thickness": wrong if wrong < math.inf else 20.0}})


def test_values_that_say_no_thickness_stay_allowed(curves):
    thickness = np.full((4, 5), 60e-9)
    thickness[0, :3] = [np.nan, 0.0, -1.0]
    saved(curves.parent, thickness)
    maps = fv.process(curves, Recipe.from_dict({"film": {"thickness": "thickness.npy"}}))
    assert maps.flag_counts()[Flag.NO_THICKNESS] == 3


def test_an_output_tells_the_map_from_any_folder(curves, tmp_path, monkeypatch, capsys):
    saved(tmp_path / "sub")
    assert main(["run", "map.h5", "--film-thickness", "sub/thickness.npy", "-o", "d.h5", "--quiet"]) == 0
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    assert main(["run", str(curves), "--recipe", "../d.h5", "-o", "again.h5", "--quiet"]) == 0
    assert main(["plot", "../d.h5", "--curves", str(curves), "--kind", "curves", "-o", "curve.svg"]) == 0
    first, again = fv.load(tmp_path / "d.h5"), fv.load("again.h5")
    assert first.records.tobytes() == again.records.tobytes()
    assert first.provenance["recipe_digest"] == again.provenance["recipe_digest"]
    # another film over the recipe of an output: what told the old map is of no use to it
    assert main(["run", str(curves), "--recipe", "../d.h5", "--film-thickness", "80nm", "-o", "x.h5", "--quiet"]) == 0
    saved(away, 80e-9)
    arguments = [
        "run",
        str(curves),
        "--recipe",
        "../d.h5",
        "--film-thickness",
        "thickness.npy",
        "-o",
        "y.h5",
        "--quiet",
    ]
    assert main(arguments) == 0, capsys.readouterr().err


def test_a_recipe_file_names_a_map_beside_it(curves, tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    path = saved(folder)
    (folder / "film.toml").write_text('[film]\nthickness = "thickness.npy"\n')
    (folder / "film.json").write_text(json.dumps({"film": {"thickness": "thickness.npy"}}))
    for name in ("film.toml", "film.json"):
        assert Recipe.load(f"recipes/{name}").film.thickness == str(path)
        assert read_settings(folder / name)["film"]["thickness"] == str(path)
    assert main(["run", "map.h5", "--recipe", "recipes/film.toml", "-o", "d.h5", "--quiet"]) == 0


def test_the_digest_of_a_completed_recipe_goes_by_what_the_map_holds(curves, tmp_path):
    volume = fv.open(curves)
    near, far = saved(tmp_path), saved(tmp_path / "sub")
    recipes = [Recipe.from_dict({"film": {"thickness": path}}).completed(volume) for path in (near, str(far))]
    assert recipes[0] != recipes[1] and recipes[0].digest == recipes[1].digest
    other = Recipe.from_dict({"film": {"thickness": str(saved(tmp_path, 61e-9, "other.npy"))}}).completed(volume)
    assert other.digest != recipes[0].digest
    told = {"recipe": recipes[0].to_dict(), "recipe_digest": recipes[0].digest}
    assert provenance.recipe_of(told) == recipes[0]
    told["recipe"]["film"]["map_digest"] = other.film.map_digest
    with pytest.raises(RecipeError, match="changed after the run"):
        provenance.recipe_of(told)


def test_the_provenance_of_before_counted_the_place_of_the_map():
    import hashlib

    stored = Recipe.from_dict({"film": {"thickness": "a.npy", "map_digest": "0" * 64}}).to_dict()
    told = {"recipe": stored, "recipe_digest": hashlib.sha256(provenance.to_json(stored).encode()).hexdigest()}
    assert provenance.recipe_of(told).film.thickness == "a.npy"


def test_a_map_that_is_gone_says_how_to_tell_its_place(curves):
    with pytest.raises(RecipeError, match=r"gone\.npy.*cannot be read: No such file.*--film-thickness"):
        fv.process(curves, Recipe.from_dict({"film": {"thickness": "gone.npy"}}))


def test_changes_of_the_thickness_take_the_digest_of_the_map_away():
    base = {"film": {"thickness": "a.npy", "map_digest": "0", "bonding": "free"}}
    assert merged(base, {"film": {"thickness": 1e-8}}) == {"film": {"thickness": 1e-8, "bonding": "free"}}
    assert merged(base, {"film": {"bonding": "bonded"}})["film"]["map_digest"] == "0"
    assert base["film"]["map_digest"] == "0"


def test_a_simulated_film_is_that_of_the_default_recipe(tmp_path):
    """χ = 0.4, where the series of the literature errs by 3 %."""
    for series in ("solved", "published"):
        path = tmp_path / f"{series}.h5"
        arguments = ["simulate", str(path), "--ny", "6", "--nx", "6", "--modulus", "45MPa", "--adhesion", "1nN"]
        arguments += ["--peak-force", "5nN", "--spring-constant", "0.5", "--tip-radius", "60nm", "--noise", "1pm"]
        arguments += ["--thickness", "40nm", *(["--series", series] if series != "solved" else [])]
        assert main(arguments) == 0
        error = {}
        for own in ("solved", "published"):
            maps = fv.process(path, Recipe.from_dict({"film": {"thickness": "40nm", "series": own}}))
            error[own] = float(np.median(maps["modulus"])) / 45e6 - 1
        other = "published" if series == "solved" else "solved"
        assert abs(error[series]) < 2e-3 < 1e-2 < abs(error[other])
