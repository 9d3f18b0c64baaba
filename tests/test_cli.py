"""The command line, run as a user runs it: in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_data import real_file

import fvproc as fv
from fvproc import cli, journal, progress, simulate, truth
from fvproc.quantities import QUANTITIES, Flag
from fvproc.recipe import Recipe, leaves

TESTS = Path(
    __file__
).parent  # not the checkout, whose fvproc/ has no compiled kernel and would go before the installed


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fvproc", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd or TESTS,
        check=False,
        timeout=300,  # what hangs fails
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def done(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    result = run(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return result


def refused(*arguments: object, **options: object) -> str:
    result = run(*arguments, **options)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_help_names_every_command_and_every_setting():
    text = done("--help").stdout
    for command in ("run", "info", "simulate", "convert", "plot", "quantities", "recipe", "demo"):
        assert f"\n    {command}" in text
    text = done("run", "--help").stdout
    for (section, name), _ in leaves():
        assert f"--{section}-{name}".replace("_", "-") in text
    assert done("--version").stdout.strip() == f"fvproc {fv.__version__}"
    assert run().returncode == 2


def test_run_writes_what_the_api_writes(sei_file, tmp_path):
    out = tmp_path / "out.h5"
    done("run", sei_file, "-o", out, "--tiff", tmp_path / "out.ome.tif", "--figure", tmp_path / "out.png")
    assert fv.load(out).records.tobytes() == fv.process(sei_file).records.tobytes()
    assert (tmp_path / "out.ome.tif").stat().st_size > 1000
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    # an output is not overwritten unless asked for, and then it is
    assert "out.h5" in refused("run", sei_file, "-o", out)
    done("run", sei_file, "-o", out, "--overwrite", "--threads", 1)


def test_outputs_are_the_same_bytes_each_time(curves_file, tmp_path):
    files = []
    for name, threads in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        done(
            "run", curves_file, "-o", folder / "out.h5", "--tiff", folder / "out.tif", "--threads", threads,
            SOURCE_DATE_EPOCH="1700000000",
        )  # fmt: skip
        files.append([(folder / part).read_bytes() for part in ("out.h5", "out.tif")])
    assert files[0] == files[1]


def test_the_summary_names_numbers_and_flags(sei_file, tmp_path):
    text = done("run", sei_file, "-o", tmp_path / "a.npz").stdout
    assert "1,920 curves" in text and "Young's modulus" in text and "GPa" in text and "(no_contact)" in text
    result = json.loads(done("run", sei_file, "-o", tmp_path / "b.npz", "--json").stdout)[0]
    maps = fv.load(tmp_path / "b.npz")
    assert result["medians"]["modulus"]["median"] == pytest.approx(float(np.nanmedian(maps["modulus"])))
    assert result["flags"]["no_contact"] == maps.flag_counts()[Flag.NO_CONTACT]
    assert done("run", sei_file, "-o", tmp_path / "c.npz", "--quiet").stdout == ""


def test_the_summary_is_of_what_this_run_computed(sei_file, tmp_path):
    """And its grammar is that of any quantity."""
    out = tmp_path / "a.h5"
    first = done("run", sei_file, "-o", out, "--maps-quantities", "adhesion").stdout
    assert "1,920 curves in" in first and "with an adhesion" in first
    again = ("run", sei_file, "-o", out, "--maps-quantities", "adhesion", "--resume")
    text = done(*again).stdout
    assert "1,920 curves that an earlier run has computed" in text and "curves/s" not in text
    assert json.loads(done(*again, "--json").stdout)[0]["computed"] == 0


def test_the_summary_of_a_run_that_was_stopped_before(sei_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)

    class Stops(progress.Tally):
        def advance(self, tile, failed):
            if tile.start > 900:
                raise KeyboardInterrupt

    out = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        fv.process(sei_file, output=out, tile_bytes=50_000, threads=1, progress=Stops())
    assert cli.main(["run", str(sei_file), "-o", str(out)]) == 0
    told = re.search(r"1,920 curves of which (\d+) in .* s \(.* curves/s.*\), the others by", capsys.readouterr().out)
    assert told and 0 < int(told[1]) < 1100


def test_info_describes_an_npz_output(curves_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for suffix in (".h5", ".npz"):
        fv.process(curves_file, output=tmp_path / f"out{suffix}")
    texts = [done("info", tmp_path / f"out{suffix}").stdout.partition("\n")[2] for suffix in (".h5", ".npz")]
    assert texts[0].replace("out.h5", "") == texts[1].replace("out.npz", "") and "204 curves" in texts[0]
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    assert "other.npz" in refused("info", tmp_path / "other.npz")


def test_what_is_missing_is_refused_naming_the_option(bare_file, tmp_path):
    out = tmp_path / "out.h5"
    assert "--spring-constant" in refused("run", bare_file, "-o", out)
    known = ("--spring-constant", "0.4N/m", "--deflection-sensitivity", "30 nm/V")
    assert "--tip-radius" in refused("run", bare_file, "-o", out, *known)
    assert not out.exists()
    done("run", bare_file, "-o", out, *known, "--tip-radius", "10nm")
    assert fv.load(out).provenance["calibration"]["spring_constant"]["source"] == "user"


def test_a_length_with_a_unit_and_one_in_metres_are_the_same(curves_file, tmp_path):
    (tmp_path / "recipe.toml").write_text("version = 1\n[tip]\nradius = 1e-8\n")
    ways = {
        "option": ["--tip-radius", "10nm"],
        "set": ["--set", "tip.radius=1e-8"],
        "file": ["--recipe", tmp_path / "recipe.toml"],
    }
    digests = set()
    for name, arguments in ways.items():
        done("run", curves_file, "-o", tmp_path / f"{name}.h5", *arguments)
        digests.add(fv.load(tmp_path / f"{name}.h5").provenance["recipe_digest"])
    assert len(digests) == 1
    # the recipe of an output is a recipe
    done("run", curves_file, "-o", tmp_path / "again.h5", "--recipe", tmp_path / "file.h5")
    assert fv.load(tmp_path / "again.h5").records.tobytes() == fv.load(tmp_path / "file.h5").records.tobytes()


def test_options_go_before_the_recipe_file(curves_file, tmp_path):
    (tmp_path / "recipe.toml").write_text('[fit]\nmethod = "qnm"\nwindow = [0.2, 0.8]\n')
    done(
        "run", curves_file, "-o", tmp_path / "out.h5", "--recipe", tmp_path / "recipe.toml",
        "--set", "fit.window=[0.1, 0.7]", "--poisson-ratio", "0.5",
    )  # fmt: skip
    recipe = fv.load(tmp_path / "out.h5").provenance["recipe"]
    assert recipe["fit"]["method"] == "qnm"
    assert recipe["fit"]["window"] == [0.1, 0.7]
    assert recipe["sample"]["poisson_ratio"] == 0.5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--set", "fit.modle=dmt"], "fit.modle"),
        (["--set", "nonsense"], "SECTION.NAME=VALUE"),
        (["--tip-radius", "10 miles"], "tip.radius = '10 miles'"),
        (["--recipe", "nowhere.toml"], "nowhere.toml"),
        (["--recipe", "nanoscope"], "without fit settings"),
        (["--threads", "0"], "--threads: 0: at least one is needed"),
        (["--spring-constant", "-1"], "--spring-constant"),
        (["--fit-model", "sneddon_cone"], "--tip-half-angle"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(curves_file, tmp_path, arguments, words):
    assert words in refused("run", curves_file, "-o", tmp_path / "out.h5", *arguments)
    assert not (tmp_path / "out.h5").exists()


def test_several_files_go_to_a_folder_and_a_bad_one_stops_nothing(curves_file, sei_file, tmp_path):
    bad = tmp_path / "bad.spm"
    bad.write_bytes(b"\x00" * 100)
    result = run("run", curves_file, bad, sei_file, "-o", tmp_path / "maps")
    assert result.returncode == 1
    assert "bad.spm" in result.stderr
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["homogeneous.h5", "sei.h5"]


@pytest.mark.parametrize(
    "arguments", [["--set", "fit.modle=dmt"], ["--recipe", "nowhere.toml"], ["--threads", "0"], ["--tip-radius", "-1"]]
)
def test_settings_that_no_input_could_mend_are_a_usage_error(curves_file, sei_file, tmp_path, arguments):
    """With several inputs, too: not one failure for each of them and status 1."""
    assert "curves in" not in refused("run", curves_file, sei_file, "-o", tmp_path / "maps", *arguments)
    assert not (tmp_path / "maps").exists()


def test_several_outputs_of_one_input(curves_file, tmp_path):
    done("run", curves_file, "-o", tmp_path / "a.h5", "-o", tmp_path / "a.npz", "--tiff", tmp_path / "a.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.npz", "a.tif"]
    text = refused("run", curves_file, "-o", tmp_path / "b.h5", "--tiff", tmp_path / "b.h5")
    assert "twice" in text and "%" not in text
    assert "folder" in refused("run", curves_file, "-o", tmp_path, "-o", tmp_path / "b.h5")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--scheduler", "nonsense"], "missing port number"),
        (["--scheduler", "foo://x:1"], "unknown address scheme"),
        (["--scheduler-file", "nowhere.json"], "nowhere.json: no scheduler's address"),
    ],
)
def test_a_scheduler_that_is_none_is_refused_and_nothing_hangs(curves_file, tmp_path, arguments, words):
    assert words in refused("run", curves_file, "-o", tmp_path / "out.h5", *arguments)


def test_a_folder_that_cannot_be_made_is_refused(curves_file):
    assert "cannot be made" in refused("demo", curves_file)


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_leaves_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "fvproc", "quantities"],
        stdout=write, stderr=subprocess.PIPE, text=True, cwd=TESTS, check=False,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_stops_a_run_keeps_what_is_done_and_leaves_outputs_as_they_were(sei_file, tmp_path):
    out = tmp_path / "out.npz"
    out.write_bytes(b"precious")
    code = (
        "import itertools, os, signal, sys\n"
        "from fvproc import engine\n"
        "from fvproc.cli import main\n"
        "honest, seen = engine.run_tile, itertools.count(1)\n"  # a list's length may have grown by two threads at once
        "def run_tile(volume, recipe, tile):\n"
        "    if next(seen) == 5:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return honest(volume, recipe, tile)\n"
        "engine.run_tile = run_tile\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "run", sei_file, "-o", out, "--overwrite", "--tile-bytes", "1000"],
        capture_output=True, text=True, cwd=TESTS, check=False,
    )  # fmt: skip
    assert result.returncode == 130, result.stderr
    assert "stopped" in result.stderr and "Traceback" not in result.stderr
    assert "out.npz.partial: run the same again and it goes on from there" in result.stderr
    assert out.read_bytes() == b"precious"


def test_an_unknown_file_is_refused(tmp_path):
    assert "no such file" in refused("info", tmp_path / "nothing.spm")


def test_info_says_what_is_there_and_what_is_missing(curves_file, bare_file):
    text = done("info", curves_file).stdout
    assert "12 rows × 17 columns" in text and "spring constant: 5 N/m (from the file)" in text
    told = json.loads(done("info", bare_file, "--json").stdout)
    assert [entry["option"] for entry in told["missing"]] == [
        "--spring-constant",
        "--deflection-sensitivity",
        "--tip-radius",
    ]
    assert "MISSING" in done("info", bare_file).stdout


def test_quantities_and_recipe_print_the_registry_and_the_defaults():
    text = done("quantities").stdout
    assert all(name in text for name in QUANTITIES)
    assert set(json.loads(done("quantities", "--json").stdout)["quantities"]) == set(QUANTITIES)
    text = done("recipe").stdout
    assert "# half angle of the cone" in text


def test_the_end_of_the_program_is_quick_and_that_of_a_call_leaves_the_collector_alone(monkeypatch, capsys):
    # what is frozen is not searched for cycles: right for a process that ends, wrong for one that goes on
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    assert cli.main(["quantities"]) == 0
    assert not frozen
    monkeypatch.setattr(sys, "argv", ["fvproc", "quantities"])
    assert cli.main() == 0
    assert frozen


def test_the_printed_recipe_is_the_default(tmp_path):
    (tmp_path / "recipe.toml").write_text(done("recipe").stdout, encoding="utf-8")
    assert Recipe.load(tmp_path / "recipe.toml") == Recipe()


def test_simulate_convert_plot(tmp_path):
    curves = tmp_path / "curves.h5"
    scene = {"ny": 6, "nx": 5, "modulus": "45MPa", "spring-constant": 0.4, "travel": "150nm", "peak-force": "5nN"}
    done("simulate", curves, "--adhesion", "1nN", *(part for k, v in scene.items() for part in (f"--{k}", v)))
    assert np.all(truth.read_truth(curves)["modulus"] == 45e6)
    assert "curves.h5" in refused("simulate", curves)
    done("convert", curves, tmp_path / "copy.h5", "--compress")
    for name in ("curves", "copy"):
        done("run", tmp_path / f"{name}.h5", "-o", tmp_path / f"{name}-maps.h5")
    maps = [fv.load(tmp_path / f"{name}-maps.h5") for name in ("curves", "copy")]
    assert maps[0].records.tobytes() == maps[1].records.tobytes()
    assert np.median(maps[0]["modulus"]) == pytest.approx(45e6, rel=0.02)
    done("plot", tmp_path / "curves-maps.h5", "-o", tmp_path / "a.png", "--curves", curves, "--curve", "2,3")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "6 rows and 5 columns" in refused(
        "plot", tmp_path / "curves-maps.h5", "-o", tmp_path / "b.png", "--curves", curves, "--curve", "6,0"
    )


def test_demo_ends_in_four_files_and_a_table(tmp_path):
    text = done("demo", tmp_path / "demo", "--size", 40).stdout
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"curves.h5", "demo.h5", "demo.tif", "demo.ome.tif", "demo.png"}
    for material in simulate.MATERIALS:
        assert material.name in text


def test_demo_refuses_what_it_cannot_write_before_it_simulates(tmp_path):
    (tmp_path / "demo.tif").mkdir()
    assert "demo.tif" in refused("demo", tmp_path)
    assert not (tmp_path / "curves.h5").exists()


def test_the_instruments_own_maps_are_met(tmp_path):
    """Modulus, stiffness and adhesion of a real force volume against the maps of the instrument's software."""
    source = real_file("bruker/egel2_fv16.spm")
    reference = np.genfromtxt(real_file("reference/egel2_fv16_vendor_even_rows.csv"), delimiter=",", names=True)
    done("run", source, "--recipe", "nanoscope", "-o", tmp_path / "out.h5")
    maps = fv.load(tmp_path / "out.h5")
    at = reference["row"].astype(int), reference["col"].astype(int)
    for name, column, unit in (
        ("modulus", "modulus_sneddon_Pa", 1.0),
        ("stiffness", "stiffness_N_per_m", 1.0),
        ("adhesion", "adhesion_nN", 1e-9),
    ):
        ratio = maps[name][at] / (reference[column] * unit)
        assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.01), name
        assert np.mean(np.abs(ratio - 1.0) < 0.02) > 0.85, name


@pytest.mark.parametrize(
    ("adhesion", "model", "told"), [(0.0, "dmt", True), (0.0, "hertz", False), (4e-9, "dmt", False)]
)
def test_who_fits_adhesion_where_there_is_none_is_told(tmp_path, adhesion, model, told):
    """Without adhesion a model that has one is biased by not knowing it; see docs/uncertainty.md."""
    path = tmp_path / "map.h5"
    simulate.write_map(path, ny=10, nx=10, samples=128, modulus=1.5e9, adhesion=adhesion, seed=1)
    hint = "--fit-model hertz has smaller errors"
    said = done("run", path, "-o", tmp_path / "out.h5", "--fit-model", model).stdout
    assert (hint in said) == told
    for elsewhere in (["--maps-quantities", "peak_force"], ["--fit-adhesion", "minimum"], ["--fit-method", "qnm"]):
        command = ["run", path, "-o", tmp_path / "out.h5", "--overwrite", "--fit-model", model, *elsewhere]
        assert hint not in done(*command).stdout
