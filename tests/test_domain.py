"""The nouns and what is always true of them: recipe, tip, calibration, grid, tile, volume, maps, registry."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fvproc as fv
from fvproc import schedule
from fvproc.errors import CalibrationError, FileFormatError, RecipeError
from fvproc.maps import ParameterMaps, not_computed
from fvproc.quantities import FATAL_BITS, FLAG_MEANINGS, QUANTITIES, RECORD, Flag, readable
from fvproc.recipe import Baseline, Contact, Deformation, Fit, Recipe, Tip, merged, parse_quantity, read_settings
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting, Tile

fractions = st.floats(0.01, 0.7)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    model = draw(st.sampled_from(["dmt", "hertz", "sneddon_cone"]))
    material = {"modulus": draw(st.none() | st.floats(1e6, 1e13)), "poisson_ratio": draw(st.floats(-1.0, 0.5))}
    if model == "sneddon_cone":
        tip = Tip.cone(draw(st.none() | st.floats(0.01, 1.5)), **material)
    else:
        tip = Tip.sphere(draw(st.none() | st.floats(1e-10, 1e-4)), **material)
    low = draw(st.floats(0.0, 0.5))
    return Recipe(
        tip=tip,
        poisson_ratio=draw(st.none() | st.floats(-1.0, 0.5)),
        baseline=Baseline(draw(fractions), draw(st.sampled_from([0, 1])), draw(st.sampled_from(["each", "approach"]))),
        contact=Contact(draw(st.sampled_from(["piecewise", "threshold"])), draw(st.floats(1.0, 100.0))),
        fit=Fit(
            model,
            draw(st.sampled_from(["approach", "retract"])),
            draw(st.sampled_from(["ml", "qnm"])),
            (low, draw(st.floats(low + 0.01, 1.0))),
            draw(st.sampled_from(["free", "minimum"])),
        ),
        deformation=Deformation(draw(st.floats(0.01, 0.99))),
    )


@given(recipe=recipes())
def test_a_recipe_survives_json_and_toml(recipe, tmp_path_factory):
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    for comments in (False, True):
        path.write_text(recipe.to_toml(comments=comments), encoding="utf-8")
        assert Recipe.load(path) == recipe
    assert Recipe.from_json(recipe.to_json()).digest == recipe.digest
    assert hash(recipe) == hash(Recipe.from_json(recipe.to_json()))


def test_the_digest_is_pinned_and_tells_recipes_apart():
    """A digest that changes makes every stored output look foreign: pinned for version 1 of the recipe."""
    assert Recipe().digest == "8005f2d4f4058bc9a1446dbb56911f7ace82030f7e90d30e894a7706f5d2d423"
    assert Recipe().digest != Recipe(poisson_ratio=0.31).digest


def test_a_radius_may_carry_a_unit():
    assert Recipe.from_dict({"tip": {"radius": "10nm"}}) == Recipe(tip=Tip.sphere(radius=1e-8))
    assert Recipe.from_dict({"fit": {"model": "sneddon_cone"}, "tip": {"half_angle": "18 deg"}}).tip == Tip.cone(
        math.radians(18)
    )


@pytest.mark.parametrize("one", [1, 1.0, np.int64(1), np.float32(1.0)], ids=repr)
def test_a_whole_number_of_any_type_is_the_same_recipe(one):
    recipe = Recipe.from_dict({"version": one, "baseline": {"order": one}, "contact": {"window": 16 * one}})
    assert recipe.digest == Recipe.from_dict({"contact": {"window": 16}}).digest
    assert type(recipe.baseline.order) is int and type(recipe.version) is int
    assert Recipe.from_json(recipe.to_json()) == recipe == Recipe.from_dict(recipe.to_dict())


@pytest.mark.parametrize("given", ["0.2,0.8", "[0.2, 0.8]", "20%, 80%", [0.2, "80%"], (0.2, 0.8)], ids=str)
def test_a_window_may_be_written_with_a_comma(given):
    assert Recipe.from_dict({"fit": {"window": given}}).fit.window == pytest.approx((0.2, 0.8))


@pytest.mark.parametrize(
    "data, words",
    [
        ({"baseline": {"order": True}}, r"baseline\.order = True: allowed values are 0, 1 and 2"),
        ({"baseline": {"order": 0.5}}, r"baseline\.order = 0\.5: allowed values are 0, 1 and 2"),
        ({"baseline": {"order": "1"}}, r"baseline\.order = '1': allowed values are 0, 1 and 2"),
        ({"version": True}, "version = True"),
        ({"fit": {"model": ["dmt"]}}, r"fit\.model = \['dmt'\]: choose from dmt"),
        ({"fit": {"window": "0.3"}}, r"fit\.window = .*two fractions such as 0\.3,0\.9"),
        ({"fit": {"window": "0.3,much"}}, r"fit\.window = 'much': expected a number"),
        ({"tip": {"radius": [1e-8]}}, r"tip\.radius = \[1e-08\]: expected a number"),
        ({"noise": {"approach": "1,2"}}, r"noise\.approach = '1,2': expected 8 variances"),
        ({"fitt": {}}, r"\[fitt\] is no section.*fit"),
        ({"fit": {"modle": "dmt"}}, r"fit\.modle is no setting.*model"),
        ({"fit": 3}, r"\[fit\] = 3: expected a table"),
        ({"fit": {"model": "jrk"}}, r"fit\.model = 'jrk': choose from dmt"),
        ({"fit": {"window": [0.9, 0.3]}}, r"fit\.window = .*allowed is 0 <= low < high <= 1"),
        ({"fit": {"window": [0.1]}}, r"fit\.window = .*two fractions"),
        ({"tip": {"radius": -1e-9}}, r"tip\.radius = .*allowed range"),
        ({"tip": {"radius": math.nan}}, r"tip\.radius = nan: must be finite"),
        ({"tip": {"radius": "10 bananas"}}, r"tip\.radius = '10 bananas'.*'nm'"),
        ({"tip": {"shape": "cone", "radius": 1e-8}}, "a cone has a half_angle and no radius"),
        ({"tip": {"half_angle": 0.3}}, "a sphere has a radius and no half_angle"),
        ({"tip": {"shape": "cone"}}, r"fit\.model = 'dmt' needs tip\.shape = 'sphere'.*--tip-shape"),
        ({"sample": {"poisson_ratio": 0.7}}, r"sample\.poisson_ratio = 0\.7.*\[-1, 0\.5\]"),
        ({"sample": {"poisson": 0.3}}, r"sample\.poisson is no setting"),
        ({"baseline": {"fraction": 0.95}}, r"baseline\.fraction = 0\.95"),
        ({"baseline": {"order": 3}}, r"baseline\.order = 3"),
        ({"contact": {"threshold": 0.1}}, r"contact\.threshold = 0\.1"),
        ({"deformation": {"region": 1.0}}, r"deformation\.region = 1\.0"),
        ({"stiffness": {"definition": "window"}}, r"fit\.method = \"qnm\""),
        ({"version": 99}, "version = 99"),
    ],
)
def test_a_recipe_refuses_what_is_wrong_and_says_what_is_right(data, words):
    with pytest.raises(RecipeError, match=words):
        Recipe.from_dict(data)


def test_recipe_files_that_cannot_be_read_name_the_file(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        Recipe.load(tmp_path / "nowhere.toml")
    for name, text in (("bad.toml", "[fit"), ("bad.json", "{"), ("list.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError, match=name):
            read_settings(tmp_path / name)


def test_merged_goes_leaf_by_leaf_and_leaves_its_arguments_alone():
    base, changes = {"fit": {"model": "dmt", "method": "ml"}, "x": 1}, {"fit": {"method": "qnm"}, "tip": {"radius": 2}}
    assert merged(base, changes) == {"fit": {"model": "dmt", "method": "qnm"}, "x": 1, "tip": {"radius": 2}}
    assert base["fit"]["method"] == "ml"


@pytest.mark.parametrize(
    "text, unit, value",
    [("10nm", "m", 1e-8), ("0.4 N/m", "N/m", 0.4), ("27.39 nm/V", "m/V", 27.39e-9), (3, "m", 3.0), ("1e-8", "m", 1e-8)],
)
def test_quantities_with_units(text, unit, value):
    assert parse_quantity(text, unit, "x") == pytest.approx(value, rel=1e-15)


def volume(**changes: object) -> ForceVolume:
    branch = Branch(64, Channel("int16", "V", 1e-4), Channel("float64", "m"), True)
    values = {
        "path": "map.spm",
        "format": "test",
        "grid": Grid(3, 5, 3e-8, 5e-8),
        "approach": branch,
        "retract": branch,
        "calibration": Calibration(Setting(0.4), Setting(3e-8)),
        **changes,
    }
    return ForceVolume(**values)


def test_a_volume_is_frozen_small_and_the_same_after_a_journey():
    v = volume(layout={"offset": 4096}, vendor_recipe={"fit": {"model": "dmt"}}, header={"version": "9.2"})
    again = pickle.loads(pickle.dumps(v))
    assert again == v
    assert len(pickle.dumps(v)) < 10_000
    with pytest.raises(AttributeError):
        v.path = "other"
    with pytest.raises(TypeError):
        v.layout["offset"] = 3
    assert v.shape == (3, 5)


def test_a_missing_calibration_names_the_option():
    v = volume(calibration=Calibration())
    assert v.missing() == ["spring_constant", "deflection_sensitivity"]
    with pytest.raises(CalibrationError, match=r"map\.spm.*--spring-constant.*--deflection-sensitivity"):
        v.require_calibration()
    assert volume().missing() == []
    assert volume().deflection_scale("retract") == pytest.approx((3e-12, 0.0))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_calibration_value_is_finite_and_positive(value):
    with pytest.raises(CalibrationError, match="finite and above zero"):
        Setting(value)
    with pytest.raises(CalibrationError, match="--spring-constant"):
        Calibration().override(spring_constant=value)


def test_overrides_are_the_users_and_keep_the_rest():
    calibration = Calibration(Setting(0.4, "file", 0.1), Setting(3e-8)).override(spring_constant=0.5)
    assert calibration.spring_constant == Setting(0.5, "user")
    assert calibration.deflection_sensitivity == Setting(3e-8)
    assert calibration.to_dict()["spring_constant"] == {"value": 0.5, "unit": "N/m", "source": "user", "rel_std": None}
    with pytest.raises(CalibrationError, match="no calibration value"):
        calibration.override(springiness=1.0)


def test_grids_channels_and_tiles_refuse_nonsense():
    for bad in ({"ny": 0, "nx": 1}, {"ny": 1, "nx": 1, "size_x": -1.0}, {"ny": 1, "nx": 1, "size_y": math.nan}):
        with pytest.raises(FileFormatError):
            Grid(**bad)
    for bad in (("int8", "m"), ("int16", "nm"), ("int16", "m", 0.0), ("int16", "m", math.inf)):
        with pytest.raises(FileFormatError):
            Channel(*bad)
    for bad in ((-1, 3), (3, 3), (4, 3)):
        with pytest.raises(ValueError, match="0 <= start < stop"):
            Tile(*bad)


@given(
    ny=st.integers(1, 60),
    nx=st.integers(1, 60),
    alignment=st.integers(1, 500),
    tile_bytes=st.integers(1, 10**6),
)
def test_tiles_partition_the_grid_on_the_alignment(ny, nx, alignment, tile_bytes):
    tiles = schedule.cut(volume(grid=Grid(ny, nx), tile_alignment=alignment), tile_bytes)
    assert tiles[0].start == 0 and tiles[-1].stop == ny * nx
    assert all(a.stop == b.start for a, b in pairwise(tiles))
    assert all(tile.start % alignment == 0 for tile in tiles)


def test_a_recipe_is_completed_from_the_file():
    from_file = volume(tip_radius=Setting(2e-8), tip_half_angle=Setting(0.3), poisson_ratio=0.4)
    assert Recipe().completed(from_file).tip.radius == 2e-8
    assert Recipe().completed(from_file).poisson_ratio == 0.4
    assert Recipe(tip=Tip.sphere(1e-8), poisson_ratio=0.2).completed(from_file) == Recipe(
        tip=Tip.sphere(1e-8), poisson_ratio=0.2
    )
    cone = Recipe.from_dict({"fit": {"model": "sneddon_cone"}})
    assert cone.completed(from_file).tip.half_angle == 0.3
    for recipe, option in ((Recipe(), "--tip-radius"), (cone, "--tip-half-angle")):
        with pytest.raises(RecipeError, match=option):
            recipe.completed(volume())
    assert Recipe().completed(volume(tip_radius=Setting(1e-8))).poisson_ratio == 0.3


def test_a_model_of_another_tip_shape_takes_the_old_shapes_lengths_away():
    vendor = {"fit": {"model": "sneddon_cone", "method": "qnm"}, "tip": {"shape": "cone", "half_angle": 0.3}}
    found = volume(vendor_recipe=vendor)
    recipe = Recipe.vendor(found, fit={"model": "dmt"}, tip={"radius": "10nm"})
    assert (recipe.tip, recipe.fit.method) == (Tip.sphere(1e-8), "qnm")
    # the same shape keeps them, and a shape that contradicts the model is still refused
    assert Recipe.vendor(found, fit={"method": "ml"}).tip == Tip.cone(0.3)
    assert (
        merged({"tip": {"radius": 1e-8}, "fit": {"model": "dmt"}}, {"fit": {"model": "hertz"}})["tip"]["radius"] == 1e-8
    )
    with pytest.raises(RecipeError, match=r"needs tip\.shape = 'cone'"):
        Recipe.vendor(found, tip={"shape": "sphere"})


def test_the_vendors_recipe_needs_one_in_the_file():
    with pytest.raises(RecipeError, match="without fit settings"):
        Recipe.vendor(volume())
    found = volume(vendor_recipe={"fit": {"method": "qnm", "window": [0.2, 0.8]}})
    assert Recipe.vendor(found, fit={"adhesion": "minimum"}).fit == Fit(
        method="qnm", window=(0.2, 0.8), adhesion="minimum"
    )


# numbers that outputs already carry: they never change
BITS = {
    "few_points": 0,
    "no_adhesion": 1,
    "poor_fit": 2,
    "baseline_tilted": 3,
    "noise_correlated": 4,
    "snap_in": 5,
    "invalid_samples": 6,
    "branches_disagree": 7,
    "beyond_tip_shape": 8,
    "dmt_doubtful": 9,
    "spikes": 10,
    "multiple_pull_offs": 11,
    "blunt_pull_off": 12,
    "pull_off_disagrees": 13,
    "not_computed": 16,
    "read_error": 17,
    "worker_lost": 18,
    "invalid_curve": 19,
    "baseline_too_short": 20,
    "no_contact": 21,
    "contact_not_left": 22,
    "saturated": 23,
    "too_few_points": 24,
    "fit_failed": 25,
    "modulus_unbounded": 26,
    "contact_not_found": 27,
    "not_finite": 31,
}


def test_flags_keep_their_bits_and_have_a_meaning():
    for name, bit in BITS.items():
        assert int(Flag[name.upper()]) == 1 << bit
    assert set(FLAG_MEANINGS) == set(Flag)
    for flag in Flag:
        assert bool(flag & FATAL_BITS) == (int(flag) >= 1 << 16)
    for quantity in QUANTITIES.values():
        assert quantity.fatal & ~FATAL_BITS == Flag(0)
        assert quantity.fatal & Flag.NOT_COMPUTED


def test_the_record_has_no_padding_and_ends_in_the_flags():
    assert RECORD.names == (*QUANTITIES, "flags")
    assert RECORD.itemsize == 4 * len(RECORD.names)


def test_maps_start_as_not_computed_and_are_filled_by_tiles():
    maps = ParameterMaps(Grid(2, 3))
    assert np.all(maps.flags == Flag.NOT_COMPUTED)
    assert all(np.isnan(maps[name]).all() for name in maps)
    records = not_computed(2, Flag.READ_ERROR)
    maps.place(Tile(2, 4), records)
    assert maps.flags.ravel().tolist() == [1 << 16, 1 << 16, 1 << 17, 1 << 17, 1 << 16, 1 << 16]
    assert maps.flag_counts() == {Flag.NOT_COMPUTED: 4, Flag.READ_ERROR: 2}
    assert maps.flag_summary()[1].startswith("2 of 6 curves: the tile of this curve could not be read")
    assert len(not_computed(0)) == 0
    with pytest.raises(KeyError, match="no quantity 'modulos'"):
        maps["modulos"]
    with pytest.raises(ValueError, match="records must be"):
        ParameterMaps(Grid(2, 2), np.zeros((2, 3), RECORD))


def test_maps_as_xarray():
    maps = ParameterMaps(Grid(2, 3, 2e-8, 6e-8))
    dataset = maps.to_xarray()
    assert dataset["modulus"].attrs["units"] == "Pa"
    np.testing.assert_allclose(dataset["x"], [1e-8, 3e-8, 5e-8])
    np.testing.assert_allclose(dataset["y"], [0.5e-8, 1.5e-8])
    assert dataset["y"].attrs == {"units": "m", "long_name": "y, pixel centres", "axis": "Y"}
    assert len(dataset["flags"].attrs["flag_meanings"].split()) == len(dataset["flags"].attrs["flag_masks"])
    maps.provenance = {"recipe": {"fit": {"model": "dmt"}}}
    assert json.loads(maps.to_xarray().attrs["provenance"]) == maps.provenance


@pytest.mark.parametrize(
    "unit, value, expected",
    [("Pa", 2.3e9, (2.3, "GPa")), ("N", 5e-9, (5.0, "nN")), ("m", 1.2e-10, (120.0, "pm")), ("1", 3.0, (3.0, ""))],
)
def test_readable_units(unit, value, expected):
    factor, name = readable(unit, np.array([value, np.nan]))
    assert (pytest.approx(value * factor), name) == expected


def test_energies_are_read_in_electronvolts():
    factor, unit = readable("J", np.array([1.602176634e-17]))
    assert (1.602176634e-17 * factor, unit) == (pytest.approx(100.0), "eV")


def test_the_public_names_are_there_and_documented():
    for name in fv.__all__:
        assert getattr(fv, name).__doc__ or name.isupper(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fv.nothing  # noqa: B018
    assert json.dumps(fv.__version__)
