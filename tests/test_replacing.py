"""What a run may replace: its own outputs and those it was told to, never what is somebody else's or being written."""

from __future__ import annotations

import os
import shutil
import threading

import h5py
import pytest

import fvproc as fv
from fvproc import beside, engine, journal, readers, writers
from fvproc.cli import main
from fvproc.errors import FileFormatError, OutputError
from fvproc.journal import Journal
from fvproc.progress import Tally
from fvproc.quantities import Flag
from fvproc.volume import Tile


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Every tile is made durable at once."""
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)


@pytest.fixture
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


class StopAfter(Tally):
    def __init__(self, tiles):
        super().__init__()
        self.tiles = tiles

    def advance(self, tile, failed):
        self.tiles -= 1
        if not self.tiles:
            raise KeyboardInterrupt


def interrupt(path, outputs, **given):
    with pytest.raises(KeyboardInterrupt):
        fv.process(path, output=outputs, tile_bytes=9_000, threads=1, progress=StopAfter(4), **given)


# ---- rights


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".tif", ".npz"])
def test_an_unfinished_run_gives_no_right_to_the_output_of_another(curves_file, sei_file, tmp_path, suffix, resume):
    out, precious = tmp_path / "out.h5", tmp_path / f"precious{suffix}"
    fv.process(sei_file, output=precious)
    before = precious.read_bytes()
    interrupt(curves_file, out)
    for outputs in ([out, precious], [precious, out]):
        with pytest.raises(OutputError, match=rf"precious\{suffix}: exists already"):
            fv.process(curves_file, output=outputs, resume=resume)
        assert precious.read_bytes() == before
    fv.process(curves_file, output=out, resume=resume)


def test_what_came_while_the_run_was_busy_or_away_is_not_replaced(curves_file, tmp_path):
    outputs = [tmp_path / "out.h5", tmp_path / "out.csv"]

    class Comes(Tally):
        def advance(self, tile, failed):
            outputs[1].write_text("precious")

    with pytest.raises(OutputError, match=r"out\.csv: exists already.*204 of 204 curves are kept"):
        fv.process(curves_file, output=outputs, progress=Comes())
    with pytest.raises(OutputError, match=r"out\.csv: exists already"):
        fv.process(curves_file, output=outputs)
    assert outputs[1].read_text() == "precious"


def test_a_run_stopped_between_its_outputs_replaces_what_it_has_written(curves_file, tmp_path, monkeypatch, same_date):
    outputs = [tmp_path / name for name in ("out.csv", "out.gsf", "out.h5")]
    honest = writers.save

    def save(maps, path, **given):
        honest(maps, path, **given)
        if path == outputs[1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writers, "save", save)
        fv.process(curves_file, output=outputs, tile_bytes=9_000)
    outputs[0].write_text("torn")
    monkeypatch.setattr(engine, "run_tile", None)
    fv.process(curves_file, output=outputs)
    assert outputs[0].read_text() != "torn"
    assert not list(tmp_path.glob("*partial*"))


def test_the_right_to_replace_goes_with_the_folder_and_not_with_a_flipped_bit(tmp_path):
    (tmp_path / "then").mkdir()
    out, other = tmp_path / "then" / "out.h5", tmp_path / "then" / "out.tif"
    kept = Journal(out, {"grid": [1, 4]}, 4)
    kept.place(Tile(0, 2), kept.records[:2])
    kept.commit()
    kept.grant([other])
    kept.close()
    (tmp_path / "then").rename(tmp_path / "now")
    out, other = tmp_path / "now" / "out.h5", tmp_path / "now" / "out.tif"
    again = Journal(out, {"grid": [1, 4]}, 4)
    assert again.kept() == 2
    assert again.may_replace(other) and not again.may_replace(out)
    again.close()
    again.path.write_bytes(again.path.read_bytes().replace(b"out.tif", b"out.tag"))
    again = Journal(out, {"grid": [1, 4]}, 4)
    assert not again.may_replace(other) and not again.may_replace(tmp_path / "now" / "out.tag")
    again.remove()


# ---- what is no longer true


@pytest.mark.parametrize("epoch", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".tif", ".ome.tif", ".npz"])
def test_samples_that_changed_under_the_same_header_are_another_input(
    curves_file, tmp_path, suffix, epoch, monkeypatch, capsys
):
    if epoch:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path, output = tmp_path / "map.h5", tmp_path / f"out{suffix}"
    shutil.copy2(curves_file, path)
    fv.process(path, output=output)
    before, size, digest = output.read_bytes(), path.stat().st_size, fv.open(path).header_digest
    with h5py.File(path, "r+") as file:
        file["retract/deflection"][3] = 0
    later = path.stat().st_mtime_ns + 3_600_000_000_000
    os.utime(path, ns=(later, later))
    assert (path.stat().st_size, fv.open(path).header_digest) == (size, digest)
    assert main(["run", str(path), "-o", str(output), "--resume"]) == 2
    assert "the input was modified 20" if epoch else "the input has changed since" in capsys.readouterr().err
    assert output.read_bytes() == before
    results = fv.process_many([path], output_dir=tmp_path / "many", resume=True)
    os.utime(path, ns=(later * 2, later * 2))
    results = fv.process_many([path], output_dir=tmp_path / "many", resume=True)
    assert results[0].status == "failed" and "exists already" in results[0].error


def test_a_copy_that_kept_its_time_is_the_same_input_and_one_that_a_share_rounds_too(curves_file, tmp_path, computed):
    output = tmp_path / "out.h5"
    fv.process(curves_file, output=output)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / curves_file.name
    shutil.copy2(curves_file, copy)
    computed.clear()
    fv.process(copy, output=output, resume=True)
    rounded = copy.stat().st_mtime_ns // 2_000_000_000 * 2_000_000_000
    os.utime(copy, ns=(rounded, rounded))
    fv.process(copy, output=output, resume=True)
    assert not computed


def test_outputs_of_old_that_do_not_tell_the_time_are_judged_by_their_own(curves_file, tmp_path, same_date, computed):
    path, output = tmp_path / "map.h5", tmp_path / "out.h5"
    shutil.copy2(curves_file, path)
    assert "modified" not in fv.process(path, output=output).provenance["input"]
    computed.clear()
    fv.process(path, output=output, resume=True)
    assert not computed
    written = output.stat().st_mtime_ns
    os.utime(path, ns=(written + 3_000_000_000,) * 2)
    with pytest.raises(OutputError, match=r"the input was modified .*, the output written .*--overwrite"):
        fv.process(path, output=output, resume=True)


# ---- what has failed


@pytest.fixture
def broken(monkeypatch):
    """Curves from 100 on cannot be read while it says so."""
    honest, state = readers.read_tile, {"broken": True}

    def read(volume, tile):
        if state["broken"] and tile.start >= 100:
            raise FileFormatError("truncated")
        return honest(volume, tile)

    monkeypatch.setattr(readers, "read_tile", read)
    return state


@pytest.mark.parametrize("names", [["r.h5"], ["r.tif"], ["r.npz", "r.csv"], ["r.gsf", "r.tif", "r.h5"]])
def test_what_failed_is_computed_again_and_the_rest_is_not(curves_file, tmp_path, names, broken, computed, same_date):
    outputs = [tmp_path / name for name in names]
    first = fv.process(curves_file, output=outputs, tile_bytes=9_000)
    assert first.provenance["failures"]
    lost = int((first.flags & int(Flag.READ_ERROR) != 0).sum())
    assert 0 < lost <= 104
    broken["broken"] = False
    computed.clear()
    again = fv.process(curves_file, output=outputs, resume=True)
    assert sum(map(len, computed)) == lost and min(tile.start for tile in computed) >= 100 - 8
    assert again.provenance["failures"] == []
    expected = [tmp_path / "expected" / name for name in names]
    fv.process(curves_file, output=expected)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()
    }


def test_what_fails_again_is_told_again_and_a_stop_loses_nothing(curves_file, tmp_path, broken, computed):
    output = tmp_path / "r.h5"
    first = fv.process(curves_file, output=output, tile_bytes=9_000)
    again = fv.process(curves_file, output=output, resume=True, tile_bytes=9_000)
    assert again.records.tobytes() == first.records.tobytes()
    assert again.provenance["failures"] == first.provenance["failures"]
    broken["broken"] = False
    with pytest.raises(KeyboardInterrupt):
        fv.process(curves_file, output=output, resume=True, tile_bytes=2_000, threads=1, progress=StopAfter(3))
    computed.clear()
    done = fv.process(curves_file, output=output, resume=True)
    assert 0 < sum(map(len, computed)) < 104
    assert done.records.tobytes() == fv.process(curves_file).records.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["r.h5"]


def test_of_two_outputs_of_a_retrial_that_was_killed_the_better_one_counts(curves_file, tmp_path, broken, computed):
    outputs = [tmp_path / "r.tif", tmp_path / "r.h5"]
    fv.process(curves_file, output=outputs, tile_bytes=9_000)
    broken["broken"] = False
    outputs[1].unlink()
    fv.process(curves_file, output=outputs[1])
    computed.clear()
    fv.process(curves_file, output=outputs, resume=True)
    assert not computed
    outputs[1].unlink()
    assert fv.process(curves_file, output=outputs, resume=True).provenance["failures"] == []
    assert not computed


def test_people_are_told_that_resume_tries_again(curves_file, tmp_path, broken, capsys):
    one = ["run", str(curves_file), "-o", str(tmp_path / "r.h5"), "--tile-bytes", "9000", "--quiet"]
    many = ["run", str(curves_file), "-o", f"{tmp_path / 'many'}{os.sep}", "--tile-bytes", "9000", "--quiet"]
    for command in (one, many):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert "read_error: truncated" in told and "--resume tries them again" in told
        assert main(command) == (2 if command is one else 1)
        assert "of its curves could not be computed; give --resume" in capsys.readouterr().err
        broken["broken"] = False
        assert main([*command, "--resume"]) == 0
        assert capsys.readouterr().err == ""
        broken["broken"] = True


# ---- links, and outputs that two runs share


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_followed_to_a_folder_that_is_missing_and_what_is_kept_goes_there(curves_file, tmp_path):
    link = tmp_path / "link.h5"
    link.symlink_to("disk/maps/out.h5")
    interrupt(curves_file, link)
    assert beside.partial_path(link) == tmp_path / "disk" / "maps" / "out.h5.partial"
    assert beside.partial_path(link).exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    fv.process(curves_file, output=tmp_path / "disk" / "maps" / "out.h5")  # the same run by another name
    assert link.is_symlink() and fv.load(link).shape == (12, 17)
    fv.save(fv.load(link), tmp_path / "disk" / "maps" / "more" / "x.npz")
    other = tmp_path / "other.npz"
    other.symlink_to("gone/x.npz")
    fv.save(fv.load(link), other)
    assert (tmp_path / "gone" / "x.npz").is_file()
    (tmp_path / "folder").symlink_to("made")
    fv.process(curves_file, output=[tmp_path / "folder" / "y.h5", tmp_path / "folder" / "y.csv"])
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["y.csv", "y.h5"]


def test_runs_that_share_an_output_that_is_not_their_first_do_not_write_it_at_once(curves_file, sei_file, tmp_path):
    shared, inside, go = tmp_path / "maps.csv", threading.Event(), threading.Event()

    class Waits(Tally):
        def advance(self, tile, failed):
            inside.set()
            go.wait(20)

    def first():
        fv.process(curves_file, output=[tmp_path / "a.h5", shared], progress=Waits())

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(20)
    left = tmp_path / ".maps.01234567.tmp.csv"  # as the first would write it
    left.write_text("")
    try:
        with pytest.raises(OutputError, match=r"maps\.csv: another run is writing it now"):
            fv.process(sei_file, output=[tmp_path / "b.h5", shared], overwrite=True)
        assert left.exists()
    finally:
        go.set()
        thread.join()
    fv.process(sei_file, output=[tmp_path / "b.h5", shared], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "maps.csv"]
