"""Maps that the recipe asks for: the values they have among all others, and nothing else computed, kept or drawn."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from any_input import SHAPES, deflection, many_recipes, positions, settings_for
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import CASES, measure

import fvproc as fv
from fvproc import _core, cli, reference, systematic, writers
from fvproc.errors import FvprocError, OutputError, RecipeError
from fvproc.maps import NoSuchMap
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.recipe import Maps, Recipe
from fvproc.volume import Channel, RawBranch, RawTile

FEW = {"maps": {"quantities": ["adhesion", "modulus"]}}
KEPT = ("modulus", "modulus_std", "modulus_lower", "adhesion", "adhesion_std")
RECIPES = tuple(many_recipes(60))


# ---- the setting


def test_a_quantity_comes_with_its_error_in_the_order_of_the_registry():
    assert Maps().names == tuple(QUANTITIES)
    assert Maps(["adhesion", "modulus"]).names == KEPT
    assert Maps(("peak_force",)).names == ("peak_force",)
    assert Maps("contact_point, height").names == ("contact_point", "contact_point_std", "height")
    assert Maps(list(QUANTITIES)) == Maps(["height", "all"]) == Maps()


def test_what_is_no_quantity_is_refused_by_name():
    with pytest.raises(RecipeError, match=r"maps\.quantities: 'hardness' is unknown; choose from all, modulus"):
        Recipe.from_dict({"maps": {"quantities": ["modulus", "hardness"]}})
    for nothing in ([], "", 3, [["modulus"]]):
        with pytest.raises(RecipeError, match=r"maps\.quantities"):
            Maps(nothing)


def test_it_travels_with_the_recipe():
    recipe = Recipe.from_dict(FEW)
    assert recipe.digest != Recipe().digest
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert "maps" not in json.loads(Recipe().to_json()), "digests of before there was a choice stay"
    assert json.loads(recipe.to_json())["maps"] == {"quantities": list(KEPT)}
    assert '[maps]\nquantities = ["modulus", "modulus_std"' in recipe.to_toml()


# ---- the kernel and its twin


@settings(max_examples=60)
@given(
    st.sampled_from(RECIPES),
    st.sets(st.sampled_from(list(QUANTITIES)), min_size=1, max_size=4),
    st.sampled_from(SHAPES),
    st.integers(0, 2**32 - 1),
)
def test_asking_for_less_changes_no_value(recipe, asked, shape, seed):
    generator = np.random.default_rng(seed)
    channel = Channel("int16", "m", 1e-7 / 32767)
    z = np.sort(positions(generator, "sine", "float64", (96,))) * 1e-7
    raw = RawTile(
        RawBranch(deflection(generator, shape, "int16", 20, 96)[:, ::-1].copy(), z),
        RawBranch(deflection(generator, shape, "int16", 20, 96), z[::-1].copy()),
    )
    everything = settings_for(recipe, channel, channel)
    less = dataclasses.replace(everything, quantities=Maps(tuple(asked)).names)
    whole, part = (_core.fit_tile(raw, each) for each in (everything, less))
    # what overflows is told of the curve, and only where somebody asked
    whole, part = (records[(whole["flags"] & np.uint32(Flag.NOT_FINITE)) == 0] for records in (whole, part))
    for name in QUANTITIES:
        expected = whole[name] if name in less.quantities else np.full(len(whole), np.nan)
        np.testing.assert_array_equal(part[name], expected, err_msg=name)
        fatal = np.uint32(QUANTITIES[name].fatal)
        if name in less.quantities:
            assert (((part["flags"] & fatal) != 0) == ((whole["flags"] & fatal) != 0)).all(), name
    assert not (part["flags"] & ~whole["flags"]).any(), "a flag that the whole record has not"


@pytest.mark.parametrize("asked", ["modulus", "adhesion", "snap_in", "deformation", "dissipation", "peak_force"])
@pytest.mark.parametrize("method", ["ml", "qnm"])
def test_the_twin_leaves_out_the_same(asked, method):
    measured = measure(CASES["1.5 GPa"], curves=10, fit={"method": method}, maps={"quantities": [asked]})
    kernel, twin = (f(measured.raw, measured.settings) for f in (_core.fit_tile, reference.fit_tile))
    np.testing.assert_array_equal(kernel["flags"], twin["flags"])
    for name in QUANTITIES:
        if name in Maps((asked,)).names:
            np.testing.assert_allclose(kernel[name], twin[name], rtol=5e-3, err_msg=name)
            assert np.isfinite(kernel[name]).all()
        else:
            assert np.isnan(kernel[name]).all() and np.isnan(twin[name]).all(), name


def test_flags_of_what_is_not_asked_for_are_not_raised():
    """Nothing on approach looks for contact where only the modulus is asked for, and nothing is fitted for a force."""
    for case, sigma, recipe, asked, flag in (
        ("1.5 GPa", 2e-10, {"contact": {"method": "threshold", "threshold": 100.0}}, "modulus", Flag.CONTACT_NOT_FOUND),
        ("70 GPa", 4e-10, {}, "peak_force", Flag.MODULUS_UNBOUNDED),
    ):
        measured = measure(CASES[case], curves=40, samples=128, sigma=sigma, **recipe)
        assert (_core.fit_tile(measured.raw, measured.settings)["flags"] & flag).any()
        less = dataclasses.replace(measured.settings, quantities=Maps((asked,)).names)
        assert not (_core.fit_tile(measured.raw, less)["flags"] & flag).any()


def test_a_curve_to_look_at_has_its_fit_whatever_was_asked_for(curves_file):
    volume = fv.open(curves_file)
    least = fv.explain(volume, Recipe.from_dict({"maps": {"quantities": ["peak_force"]}}), 3, 4)
    whole = fv.explain(volume, None, 3, 4)
    assert least.record.tobytes() == whole.record.tobytes()
    assert len(least.fit_z) == len(whole.fit_z) > 0


# ---- the maps and their files


@pytest.fixture(scope="module")
def few(curves_file):
    return fv.process(curves_file, Recipe.from_dict(FEW))


def test_maps_hold_what_was_asked_for(few, curves_file):
    whole = fv.process(curves_file)
    assert few.quantities == tuple(few) == KEPT
    assert len(few) == 5 and "flags" in few and "dissipation" not in few
    for name in KEPT:
        np.testing.assert_array_equal(few[name], whole[name])
    assert few.errors("modulus") is not None and few.errors("peak_force") is None
    with pytest.raises(NoSuchMap, match=r"dissipation: not among these maps, whose recipe asked for modulus, .*again"):
        few["dissipation"]
    with pytest.raises(KeyError, match="no quantity 'hardness'; choose from modulus"):
        few["hardness"]


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_they_come_back_equal(few, tmp_path, suffix):
    path = tmp_path / f"few{suffix}"
    fv.save(few, path)
    back = fv.load(path)
    assert back.quantities == KEPT
    assert back.provenance == few.provenance
    for name in (*KEPT, "flags"):
        assert back[name].tobytes() == few[name].tobytes()
    assert all(np.isnan(back.records[name]).all() for name in QUANTITIES if name not in KEPT)
    assert writers.holds_maps(path) == (suffix == ".h5")


def test_files_hold_them_and_no_others(few, tmp_path):
    import tifffile

    for suffix in (".h5", ".npz", ".csv", ".tif", ".ome.tif", ".gsf"):
        fv.save(few, tmp_path / f"few{suffix}")
    with h5py.File(tmp_path / "few.h5") as file:
        group = file["entry/maps"]
        assert set(group) == {*KEPT, "flags", "x", "y"}
        assert [group.attrs["signal"], *group.attrs["auxiliary_signals"]] == list(KEPT)
        assert group["modulus"].attrs["ancillary_variables"] == "modulus_std flags"
    with np.load(tmp_path / "few.npz") as archive:
        assert set(archive) == {*KEPT, "flags", "x", "y", "layout", "provenance"}
    header, first = (tmp_path / "few.csv").read_text().splitlines()[:2]
    assert header.split(",")[4:] == [
        *(f"{name} ({'N' if name.startswith('adhesion') else 'Pa'})" for name in KEPT),
        "flags",
        "flag_names",
    ]
    assert float(first.split(",")[4]) == pytest.approx(float(few["modulus"][0, 0]), rel=1e-8)
    assert len(tifffile.imread(tmp_path / "few.tif")) == len(tifffile.imread(tmp_path / "few.ome.tif")) == 7
    found = {path.stem.removeprefix("few_") for path in tmp_path.glob("*.gsf")}
    assert found == {*KEPT, "flags_warning", "flags_fatal"}


def test_a_field_of_the_run_before_does_not_stay_beside_those_of_this_one(few, curves_file, tmp_path):
    fv.save(fv.process(curves_file), tmp_path / "map.gsf")
    assert (tmp_path / "map_dissipation.gsf").exists()
    written = writers.save(few, tmp_path / "map.gsf")
    assert set(written) == set(tmp_path.glob("*.gsf"))
    assert len(written) == 7


def test_without_a_modulus_another_map_is_shown_first(curves_file, tmp_path):
    maps = fv.process(curves_file, Recipe.from_dict({"maps": {"quantities": ["height"]}}))
    fv.save(maps, tmp_path / "height.h5")
    with h5py.File(tmp_path / "height.h5") as file:
        assert file["entry/maps"].attrs["signal"] == "height"
        assert "auxiliary_signals" not in file["entry/maps"].attrs
    assert fv.load(tmp_path / "height.h5").quantities == ("height",)


def test_other_readers_open_it(few, tmp_path):
    xarray = pytest.importorskip("xarray")
    fv.save(few, tmp_path / "few.h5")
    with xarray.open_dataset(tmp_path / "few.h5", group="entry/maps", engine="h5netcdf") as found:
        assert set(found.data_vars) == {*KEPT, "flags"}
    assert set(few.to_xarray().data_vars) == {*KEPT, "flags"}


def test_lazy_records_are_those_of_process(few, curves_file):
    pytest.importorskip("dask.array")
    volume = fv.open(curves_file)
    records = fv.lazy(volume, Recipe.from_dict(FEW)).compute(scheduler="synchronous")
    for name in RECORD.names:
        np.testing.assert_array_equal(records[name], few.records[name])


def test_a_run_for_other_maps_is_not_gone_on_with(curves_file, tmp_path):
    from fvproc.job import MapJob, agree

    volume = fv.open(curves_file)
    output = tmp_path / "map.h5"
    run = MapJob(volume, agree(volume, Recipe.from_dict(FEW)), [output])
    records = _core.fit_tile(fv.readers.read_tile(volume, fv.Tile(0, 20)), _core.kernel_settings(volume, run.recipe))
    run.place(fv.Tile(0, 20), records)
    run.pause()
    with pytest.raises(OutputError, match="the recipe is another"):
        fv.process(volume, output=output)
    assert fv.process(volume, Recipe.from_dict(FEW), output=output).quantities == KEPT


# ---- the command line, pictures and tables


def test_the_command_line_asks_for_them_and_all_that_follows_gets_along(curves_file, tmp_path, capsys):
    output = tmp_path / "few.h5"
    asked = ["--maps-quantities", "modulus,peak_force"]
    picture, page = tmp_path / "few.png", tmp_path / "few.html"
    assert cli.main(["run", str(curves_file), "-o", str(output), *asked, "--figure", str(picture), "--quiet"]) == 0
    assert fv.load(output).quantities == ("modulus", "modulus_std", "modulus_lower", "peak_force")
    assert cli.main(["run", str(curves_file), "-o", str(output), *asked, "--json", "--resume"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert set(told["medians"]) == {"modulus", "peak_force"}
    assert told["valued"] == 12 * 17
    for kind in ("overview", "maps", "histogram", "flags"):
        assert cli.main(["plot", str(output), "--kind", kind, "-o", str(tmp_path / f"{kind}.png")]) == 0
    assert cli.main(["stats", str(output), "--quantity", "all"]) == 0
    assert "peak_force" in capsys.readouterr().out
    if find_spec("plotly") is not None:
        assert cli.main(["report", str(output), "--curves", str(curves_file), "-o", str(page), "--embed", "2"]) == 0
    systematic = fv.load(output).provenance["systematic"]["quantities"]
    assert set(systematic) == {"modulus", "modulus_lower", "peak_force"}


def test_maps_without_a_modulus_can_be_looked_at_too(curves_file, tmp_path):
    output = tmp_path / "force.h5"
    assert cli.main(["run", str(curves_file), "-o", str(output), "--maps-quantities", "peak_force", "--quiet"]) == 0
    assert fv.load(output).provenance["systematic"]["quantities"]["peak_force"]
    for kind in ("overview", "maps", "histogram", "curves"):
        command = ["plot", str(output), "--kind", kind, "-o", str(tmp_path / f"{kind}.png")]
        assert cli.main([*command, "--curves", str(curves_file)]) == 0
    assert cli.main(["stats", str(output)]) == 0


@pytest.mark.parametrize(
    "command",
    [
        ["plot", "few.h5", "--kind", "maps", "--quantity", "dissipation"],
        ["plot", "few.h5", "--kind", "correlation", "--quantity", "modulus", "--quantity", "dissipation"],
        ["plot", "few.h5", "--kind", "topography"],
        ["stats", "few.h5", "--where", "dissipation>1eV"],
        ["stats", "few.h5", "--quantity", "dissipation"],
        ["export", "few.h5", "out.tif", "--quantity", "dissipation"],
    ],
    ids=lambda command: " ".join(command[2:]),
)
def test_what_they_lack_is_told_and_not_guessed(few, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    fv.save(few, "few.h5")
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "among the" in said and "Traceback" not in said


def test_a_sum_of_errors_asks_for_the_maps_it_needs(curves_file):
    maps = fv.process(curves_file, Recipe.from_dict({"maps": {"quantities": ["peak_force"]}}))
    with pytest.raises(FvprocError, match="modulus_std: not among these maps"):
        systematic.total_std(maps, "modulus")


def test_what_compares_all_maps_computes_all(tmp_path):
    """A recipe that asks for little serves the benchmark, and the demo's comparison with the truth, too."""
    from fvproc import benchmark, truth

    (path,) = benchmark.write_set(tmp_path, curves=100, samples=128)[:1]
    asked = {"maps": {"quantities": ["peak_force"]}}
    (few,), (all_of_them,) = (benchmark.evaluate([path], settings) for settings in (asked, {}))
    assert dataclasses.replace(few, curves_per_second=0.0) == dataclasses.replace(all_of_them, curves_per_second=0.0)
    maps = fv.process(path, Recipe.from_dict({"maps": {"quantities": ["modulus"]}}))
    (row,) = truth.compare(maps, path)
    assert abs(row.error) < 0.05 and np.isnan(row.adhesion_error)


def test_the_summary_counts_the_curves_with_what_was_asked_for(curves_file, tmp_path, capsys):
    command = ["run", str(curves_file), "-o", str(tmp_path / "force.h5"), "--maps-quantities", "peak_force"]
    assert cli.main(command) == 0
    assert "204 with a peak force" in capsys.readouterr().out


def test_the_order_in_which_maps_are_named_is_of_no_matter_and_nonsense_is_refused(few, tmp_path):
    maps = fv.ParameterMaps(few.grid, few.records, quantities=("adhesion", "modulus"))
    assert maps.quantities == ("modulus", "adhesion")
    fv.save(maps, tmp_path / "m.csv")
    first = (tmp_path / "m.csv").read_text().splitlines()[1].split(",")
    assert float(first[4]) == pytest.approx(float(few["modulus"][0, 0]))
    writers.save(maps, tmp_path / "m.png")  # a modulus without its error
    for nonsense in ((), ("hardness",)):
        with pytest.raises(ValueError, match="quantities must be some of modulus"):
            fv.ParameterMaps(few.grid, few.records, quantities=nonsense)


def test_lazy_maps_are_written_as_others_are(curves_file, tmp_path):
    pytest.importorskip("dask.array")
    volume = fv.open(curves_file)
    recipe = Recipe.from_dict(FEW)
    lazy = fv.ParameterMaps(volume.grid, fv.lazy(volume, recipe), quantities=recipe.maps.names)
    assert set(lazy.to_xarray().data_vars) == {*KEPT, "flags"}
    for suffix in (".h5", ".tif"):
        fv.save(lazy, tmp_path / f"lazy{suffix}")
    assert fv.load(tmp_path / "lazy.h5")["modulus"].tobytes() == fv.process(volume, recipe)["modulus"].tobytes()


def test_an_output_says_what_its_curves_have(curves_file, tmp_path, capsys):
    output = tmp_path / "force.h5"
    assert cli.main(["run", str(curves_file), "-o", str(output), "--maps-quantities", "peak_force", "--quiet"]) == 0
    assert cli.main(["info", str(output)]) == 0
    assert "204 with a peak force" in capsys.readouterr().out
