"""--resume with outputs of every format: what is finished is taken, what is missing or cannot tell is made again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fvproc as fv
from fvproc import beside, engine, finished, journal, writers
from fvproc.cli import main
from fvproc.errors import OutputError
from fvproc.progress import Tally
from fvproc.recipe import Recipe
from fvproc.volume import Tile

TESTS = Path(__file__).parent
ALL = [".h5", ".npz", ".tif", ".ome.tif", ".png", ".svg", ".pdf", ".csv", ".gsf"]
TELLING = [".h5", ".npz", ".tif", ".ome.tif"]


@pytest.fixture(autouse=True)
def same_date(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture
def computed(monkeypatch):
    """The tiles that are computed."""
    honest, seen = engine.run_tile, []

    def run_tile(volume, recipe, tile):
        seen.append(tile)
        return honest(volume, recipe, tile)

    monkeypatch.setattr(engine, "run_tile", run_tile)
    return seen


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def outputs_of(folder, suffixes):
    if {".png", ".svg", ".pdf"} & set(suffixes):
        pytest.importorskip("matplotlib")
    return [folder / f"r{suffix}" for suffix in suffixes]


@pytest.mark.parametrize("suffix", ALL)
def test_the_same_command_with_resume_is_never_refused(curves_file, tmp_path, suffix, computed, capsys):
    (output,) = outputs_of(tmp_path, [suffix])
    assert main(["run", str(curves_file), "-o", str(output), "--resume"]) == 0
    first, times = content(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    computed.clear()
    assert main(["run", str(curves_file), "-o", str(output), "--resume"]) == 0, capsys.readouterr().err
    assert content(tmp_path) == first
    if suffix in TELLING:
        assert not computed and {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
        assert "204 curves that an earlier run has computed" in capsys.readouterr().out
    else:
        assert sum(map(len, computed)) == 204, "nothing told that it was finished"
    assert main(["run", str(curves_file), "-o", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("kept", TELLING)
def test_what_is_missing_is_made_of_the_maps_that_are_there(curves_file, tmp_path, kept, computed):
    outputs = outputs_of(tmp_path, ALL)
    maps = fv.process(curves_file, output=outputs)
    first = content(tmp_path)
    for path in tmp_path.iterdir():
        if path.name != f"r{kept}":
            path.unlink()
    computed.clear()
    again = fv.process(curves_file, output=outputs, resume=True)
    assert not computed
    assert again.records.tobytes() == maps.records.tobytes() and again.grid == maps.grid
    assert again.provenance == maps.provenance
    assert content(tmp_path) == first, "every byte, and nothing else beside them"


@pytest.mark.parametrize("suffix", TELLING)
@pytest.mark.parametrize("other", ["recipe", "calibration", "input"])
def test_an_output_of_another_run_is_refused_by_name_and_reason(curves_file, sei_file, tmp_path, suffix, other):
    output = tmp_path / f"r{suffix}"
    volume, recipe = fv.open(curves_file), Recipe()
    fv.process(volume, recipe, output=output)
    first = content(tmp_path)
    if other == "recipe":
        recipe = Recipe.from_dict({"fit": {"method": "qnm"}})
    elif other == "input":
        volume = fv.open(sei_file)
    else:
        volume = fv.open(curves_file, spring_constant=3.0)
    with pytest.raises(OutputError, match=rf"r\{suffix}: exists already.*the {other} is another.*--overwrite"):
        fv.process(volume, recipe, output=[tmp_path / "new.npz", output], resume=True)
    assert content(tmp_path) == first


@pytest.mark.parametrize("suffix", TELLING)
def test_what_is_no_output_of_fvproc_is_refused(curves_file, tmp_path, suffix):
    output = tmp_path / f"r{suffix}"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"exists already.*no output of fvproc"):
        fv.process(curves_file, output=output, resume=True)
    assert output.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_a_tiff_of_some_quantities_is_not_what_the_run_writes(curves_file, tmp_path, suffix):
    maps = fv.process(curves_file, output=tmp_path / "r.h5")
    fv.export(maps, tmp_path / f"r{suffix}", quantities=["modulus"])
    with pytest.raises(OutputError, match="holds other quantities"):
        fv.process(curves_file, output=[tmp_path / "r.h5", tmp_path / f"r{suffix}"], resume=True)
    asked = Recipe.from_dict({"maps": {"quantities": ["modulus"]}})
    first = fv.process(curves_file, asked, output=tmp_path / f"a{suffix}")
    again = fv.process(curves_file, asked, output=tmp_path / f"a{suffix}", resume=True)
    assert again.quantities == first.quantities and again.records.tobytes() == first.records.tobytes()


def test_flags_and_failures_come_back_out_of_a_tiff(sei_file, tmp_path, monkeypatch):
    honest = engine.run_tile

    def run_tile(volume, recipe, tile):
        if tile.start == 0:
            raise OSError("gone")
        return honest(volume, recipe, tile)

    monkeypatch.setattr(engine, "run_tile", run_tile)
    first = fv.process(sei_file, output=tmp_path / "r.tif", tile_bytes=100_000)
    again = fv.process(sei_file, output=tmp_path / "r.tif", resume=True)
    np.testing.assert_array_equal(again.flags, first.flags)
    assert again.provenance["failures"] == first.provenance["failures"] != []
    assert again.records.tobytes() == first.records.tobytes()


def test_a_damaged_tiff_is_not_taken(curves_file, tmp_path):
    """Its provenance is whole, its maps are not; the other output has them."""
    outputs = [tmp_path / "r.tif", tmp_path / "r.npz"]
    first = fv.process(curves_file, output=outputs)
    whole = outputs[0].read_bytes()
    outputs[0].write_bytes(whole[: len(whole) - 20_000])
    assert fv.process(curves_file, output=outputs, resume=True).records.tobytes() == first.records.tobytes()
    outputs[1].unlink()
    with pytest.raises(OutputError, match=r"r\.tif.*exists already"):
        fv.process(curves_file, output=outputs, resume=True)


def test_an_unfinished_run_may_still_replace_what_it_was_told_to(curves_file, tmp_path, monkeypatch, computed):
    """Killed with --overwrite, requeued with --resume: the old output is that of another run."""
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)
    output = tmp_path / "r.h5"
    fv.process(curves_file, Recipe.from_dict({"fit": {"method": "qnm"}}), output=output)

    class Stops(Tally):
        def advance(self, tile: Tile, failed: bool) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fv.process(curves_file, output=output, overwrite=True, tile_bytes=9000, threads=1, progress=Stops())
    assert beside.partial_path(output).exists()
    computed.clear()
    maps = fv.process(curves_file, output=output, resume=True)
    assert 0 < sum(map(len, computed)) < 204
    assert maps.provenance["recipe"]["fit"]["method"] == "ml"
    assert [path.name for path in tmp_path.iterdir()] == ["r.h5"]


def test_two_runs_do_not_write_what_is_missing_at_once(curves_file, tmp_path, monkeypatch):
    outputs = [tmp_path / "r.h5", tmp_path / "r.csv"]
    fv.process(curves_file, output=outputs)
    outputs[1].unlink()
    honest, seen = writers.save, []

    def save(*arguments, **options):
        with pytest.raises(OutputError, match="another run is writing it now"):
            seen.append(1)
            fv.process(curves_file, output=outputs, resume=True)
        return honest(*arguments, **options)

    monkeypatch.setattr(writers, "save", save)
    fv.process(curves_file, output=outputs, resume=True)
    assert seen == [1] and outputs[1].exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "r.h5"]


def test_arrays_cannot_be_recognised(tmp_path):
    z = np.linspace(0, 1e-7, 64)
    settings = {"z": (z, z[::-1]), "units": "m", "z_units": "m", "spring_constant": 1.0, "tip_radius": 1e-8}
    curves = np.random.default_rng(0).normal(0, 1e-11, (4, 64)).astype(np.float32)
    fv.process(fv.from_arrays(curves, curves, **settings), output=tmp_path / "r.h5")
    with pytest.raises(OutputError, match="arrays in memory cannot be recognised"):
        fv.process(fv.from_arrays(curves, curves, **settings), output=tmp_path / "r.h5", resume=True)


def test_many_files_with_several_suffixes(curves_file, sei_file, tmp_path, computed):
    given = {"output_dir": tmp_path, "suffixes": (".tif", ".csv", ".gsf")}
    fv.process_many([curves_file, sei_file], **given)
    first = content(tmp_path)
    (tmp_path / "sei.csv").unlink()
    computed.clear()
    results = fv.process_many([curves_file, sei_file], resume=True, **given)
    assert [result.status for result in results] == ["done before"] * 2 and not computed
    assert content(tmp_path) == first


def test_what_is_written_from_maps_that_are_there_is_in_the_log(curves_file, tmp_path, caplog):
    outputs = [tmp_path / "r.h5", tmp_path / "r.csv"]
    fv.process(curves_file, output=outputs[0])
    with caplog.at_level(logging.INFO, logger="fvproc"):
        fv.process(curves_file, output=outputs, resume=True)
    (record,) = (record for record in caplog.records if record.event == "file_done")
    assert record.facts["outputs"] == [str(outputs[1])]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("number", range(5))
def test_a_job_killed_between_two_outputs_and_queued_again_ends_them(sei_file, tmp_path, number):
    """After so many of its outputs; the requeued job is the same command."""
    code = (
        "import os, signal, sys\nfrom fvproc import journal, writers\nfrom fvproc.cli import main\n"
        "journal.COMMIT_SECONDS = 0.0\nhonest, left = writers.save, [int(sys.argv.pop(1))]\n"
        "def save(*arguments, **options):\n"
        "    if not left[0]:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left[0] -= 1\n    return honest(*arguments, **options)\n"
        "writers.save = save\nsys.exit(main(sys.argv[1:]))\n"
    )
    outputs = [tmp_path / f"r{suffix}" for suffix in (".csv", ".ome.tif", ".gsf", ".npz", ".h5")]
    command = ["run", str(sei_file), "--resume", "--quiet", "--tile-bytes", "50000"]
    command += [text for path in outputs for text in ("-o", str(path))]
    killed = subprocess.run([sys.executable, "-c", code, str(number), *command], cwd=TESTS, check=False)
    assert killed.returncode == -9
    assert main(command) == 0
    expected = tmp_path / "expected"
    fv.process(sei_file, output=[expected / path.name for path in outputs])
    assert content(tmp_path) == content(expected)


def test_which_formats_tell():
    assert [suffix for suffix in writers.SUFFIXES if finished.tells(f"x{suffix}")] == [
        ".h5", ".hdf5", ".ome.tif", ".ome.tiff", ".tif", ".tiff", ".npz",
    ]  # fmt: skip
