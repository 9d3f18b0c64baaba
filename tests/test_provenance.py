"""Provenance: complete, plain, reproducible, and its recipe comes back only if nobody changed it."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_writers_samples import RECIPE, film_maps, volume

from fvproc import provenance
from fvproc.errors import OutputError, RecipeError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe, Tip


def describe(**changes):
    known = {"kernel_version": "7", "flag_counts": {Flag.POOR_FIT: 3, Flag.NO_CONTACT: np.int64(2)}}
    return provenance.describe(volume(), RECIPE, **{**known, **changes})


def test_describe_tells_everything_and_survives_json():
    found = describe()
    assert json.loads(provenance.to_json(found)) == found
    assert found["program"] == "fvproc"
    assert found["kernel_version"] == "7"
    assert found["libraries"]["numpy"] == np.__version__
    assert set(found["libraries"]) == {"numpy", "h5py", "dask"}
    assert found["recipe"]["tip"]["radius"] == 25e-9
    assert found["recipe_digest"] == RECIPE.digest
    assert found["calibration"]["spring_constant"] == {"value": 42.0, "unit": "N/m", "source": "user", "rel_std": 0.1}
    assert found["calibration"]["deflection_sensitivity"]["source"] == "file"
    assert found["tip_in_file"]["radius"]["value"] == 25e-9
    assert found["input"] == {
        "name": "sei & <film>.spm",
        "format": "nanoscope",
        "size": 123456,
        "header_digest": "ab" * 32,
        "modified": "1970-01-01T00:00:00Z",
    }
    assert found["header"] == {"Scan Rate": 1.5, "Comment": "50 µm — «5 < 6 & 7»\x07", "missing": "nan"}
    assert found["warnings"] == ["Deflection limits corrected"]
    assert found["flag_counts"] == {"poor_fit": 3, "no_contact": 2}


@pytest.mark.parametrize("path", ["/home/someone/secret/map.spm", r"C:\Users\someone\secret\map.spm", "map.spm"])
def test_input_is_named_without_its_folder(path):
    found = provenance.describe(volume(path=path), RECIPE, kernel_version="1", flag_counts={})
    assert found["input"]["name"] == "map.spm"
    assert "someone" not in provenance.to_json(found)


def test_date_is_utc_and_the_only_difference_between_two_runs(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    moment = datetime(2024, 5, 17, 1, 30, 59, 999999, timezone(timedelta(hours=3)))
    first, second = describe(finished=moment), describe(finished=moment + timedelta(days=1))
    assert first["date"] == "2024-05-16T22:30:59Z"
    assert second.pop("date") != first.pop("date")
    assert first == second


def test_date_is_now_by_default(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    found = datetime.fromisoformat(describe()["date"].replace("Z", "+00:00"))
    assert before <= found <= datetime.now(timezone.utc)


def test_source_date_epoch_goes_before_any_other_time(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert describe(finished=datetime.now(timezone.utc))["date"] == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize("value", ["yesterday", "1.5", "9" * 30])
def test_source_date_epoch_that_is_no_time_is_refused(monkeypatch, value):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(OutputError, match="SOURCE_DATE_EPOCH"):
        describe()


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(), Recipe.from_dict({"fit": {"model": "sneddon_cone"}})])
def test_recipe_comes_back_equal(recipe):
    found = provenance.describe(volume(), recipe, kernel_version="1", flag_counts={})
    assert provenance.recipe_of(json.loads(provenance.to_json(found))) == recipe


def test_recipe_that_was_changed_is_refused():
    found = copy.deepcopy(describe())
    found["recipe"]["tip"]["radius"] = 26e-9
    with pytest.raises(RecipeError, match="changed after the run"):
        provenance.recipe_of(found)


def test_recipe_with_a_value_out_of_range_is_refused():
    found = copy.deepcopy(describe())
    found["recipe"]["baseline"]["fraction"] = 7.0
    del found["recipe_digest"]
    with pytest.raises(RecipeError, match=r"baseline\.fraction"):
        provenance.recipe_of(found)


@pytest.mark.parametrize("without", [{}, {"recipe": None}, {"recipe": "dmt"}])
def test_provenance_without_recipe_is_refused(without):
    with pytest.raises(RecipeError, match="no recipe"):
        provenance.recipe_of(without)


def test_flag_counts_come_from_the_maps():
    maps = film_maps(32, 32)
    assert maps.provenance["flag_counts"] == {flag.name.lower(): n for flag, n in maps.flag_counts().items()}
    assert maps.provenance["flag_counts"]["read_error"] > 0


def test_version_of_a_missing_package_is_unknown():
    assert provenance.version("no-such-package-as-this") == "unknown"


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(_plain)
def test_plain_values_are_standard_json_and_stay_what_they_are(value):
    once = provenance.plain(value)
    assert provenance.plain(once) == once
    text = provenance.to_json(value)
    assert text.isascii()
    assert json.loads(text) == once


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1.5), 1.5),
        (np.int64(7), 7),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.nan, "nan"),
        (-np.inf, "-inf"),
        (Flag.POOR_FIT, 4),
        (b"\xb5m", "\\xb5m"),
        ((1, (2,)), [1, [2]]),
        (Tip.sphere(1e-8), str(Tip.sphere(1e-8))),
    ],
)
def test_plain_turns_foreign_values_into_json_ones(value, expected):
    assert provenance.plain(value) == expected
