"""Runs that are stopped, killed or refused by the disk go on where they stopped and end in the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fvproc as fv
from fvproc import beside, engine, journal, readers, simulate, writers
from fvproc.errors import FileFormatError, OutputError

TESTS = Path(__file__).parent
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture(scope="module")
def quiet(sei_file, tmp_path_factory):
    """The bytes of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("quiet") / "out.h5"
    run = subprocess.run(
        [sys.executable, "-m", "fvproc", "run", sei_file, "-o", out, "--quiet"],
        cwd=TESTS, env={**os.environ, **EPOCH}, check=False,
    )  # fmt: skip
    assert run.returncode == 0
    return out.read_bytes()


@pytest.fixture
def often(monkeypatch):
    """Every tile is made durable at once."""
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 0.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH["SOURCE_DATE_EPOCH"])


class Stopped(Exception):
    pass


class StopAfter:
    """Stops a run after so many tiles, with an error or Ctrl-C."""

    def __init__(self, tiles, error):
        self.tiles, self.error, self.before = tiles, error, None

    def start(self, workers):
        pass

    def expect(self, curves, done):
        self.before = done

    def advance(self, tile, failed):
        self.tiles -= 1
        if self.tiles == 0:
            raise self.error

    def staff(self, workers):
        pass

    def finish(self):
        pass


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
@pytest.mark.parametrize("error", [Stopped(), KeyboardInterrupt(), OSError("anything")], ids=lambda e: type(e).__name__)
def test_a_run_stopped_again_and_again_ends_in_the_same_bytes(
    sei_file, quiet, tmp_path, often, error, mapped, monkeypatch
):
    if mapped:
        monkeypatch.setattr(journal, "MAPPED_BYTES", 0)
    out, seen = tmp_path / "out.h5", []
    sizes = [9_000, 20_000, 7_000, 50_000]
    for attempt in range(50):
        stop = StopAfter(5, error)
        try:
            fv.process(sei_file, output=out, tile_bytes=sizes[attempt % 4], threads=1 + attempt % 3, progress=stop)
        except (Stopped, KeyboardInterrupt, OSError):
            seen.append(stop.before)
            if out.exists():  # what was in flight was the rest
                assert isinstance(error, KeyboardInterrupt)
                break
        else:
            break
    assert out.read_bytes() == quiet
    assert seen[0] == 0 and len(seen) >= 3
    assert seen == sorted(set(seen))  # each went on from where the one before had stopped
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that can be caught")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done_and_says_how_to_go_on(sei_file, quiet, tmp_path, sent, status):
    out = tmp_path / "out.h5"
    command = [sys.executable, "-m", "fvproc", "run", sei_file, "-o", out, "--tile-bytes", "3000"]
    code = (
        "import os, sys\nfrom fvproc import engine\nfrom fvproc.cli import main\n"
        "honest, seen = engine.run_tile, []\n"
        "def run_tile(*arguments):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 90:\n"
        f"        os.kill(os.getpid(), {int(sent)})\n"
        "    return honest(*arguments)\n"
        "engine.run_tile = run_tile\nsys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, **EPOCH}
    stopped = subprocess.run(
        [sys.executable, "-c", code, *command[3:]],
        capture_output=True, text=True, cwd=TESTS, env=environment, check=False,
    )  # fmt: skip
    assert stopped.returncode == status, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "1,920 curves are kept in" in stopped.stderr and "goes on from there" in stopped.stderr
    again = subprocess.run(command, capture_output=True, text=True, cwd=TESTS, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == quiet


@pytest.mark.skipif(os.name == "nt", reason="kills a process by its signal")
def test_a_killed_process_goes_on_and_ends_in_the_same_bytes(sei_file, quiet, tmp_path):
    """kill -9 at moments of no choice: of the client, which is the writer."""
    out = tmp_path / "out.h5"
    code = (
        "import sys, time\nfrom fvproc import engine, journal\nfrom fvproc.cli import main\n"
        "journal.COMMIT_SECONDS = 0.01\nhonest = engine.run_tile\n"
        "def run_tile(*arguments):\n    time.sleep(0.002)\n    return honest(*arguments)\n"
        "engine.run_tile = run_tile\nsys.exit(main(sys.argv[1:]))\n"
    )
    lines = Path(f"{beside.partial_path(out)}.journal")

    def size():
        return lines.stat().st_size if lines.exists() else 0

    kills, random = 0, np.random.default_rng(3)
    while kills < 30:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "run", sei_file, "-o", out, "--tile-bytes", "20000", "--quiet", "--resume"],
            cwd=TESTS, env={**os.environ, **EPOCH},
        )  # fmt: skip
        began, before = time.monotonic(), size()
        while process.poll() is None and size() == before and time.monotonic() - began < 20:
            time.sleep(0.002)
        try:
            status = process.wait(random.uniform(0.0, 0.12))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert status == 0
            break
    assert kills >= 2
    assert out.read_bytes() == quiet
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


_DIES_WHILE_WRITING = """
import os, signal, sys
from fvproc import journal
from fvproc.writers import hdf5
journal.COMMIT_SECONDS = 0.0
hdf5._write_process = lambda *given: os.kill(os.getpid(), signal.SIGKILL)  # the maps are in the file, the rest is not
from fvproc.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_while_writing_the_output_before_stays_and_the_next_run_ends_it(sei_file, quiet, tmp_path):
    out = tmp_path / "out.h5"
    out.write_bytes(b"what was here before")
    settings = {"cwd": TESTS, "env": {**os.environ, **EPOCH}, "check": False}
    command = ["run", sei_file, "-o", out, "--quiet"]
    done = subprocess.run([sys.executable, "-c", _DIES_WHILE_WRITING, *command, "--overwrite"], **settings)
    assert done.returncode == -signal.SIGKILL
    assert out.read_bytes() == b"what was here before"
    assert (tmp_path / "out.h5.partial.journal").stat().st_size > 0
    done = subprocess.run([sys.executable, "-m", "fvproc", *command], **settings)
    assert done.returncode == 0
    assert out.read_bytes() == quiet
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_an_unfinished_run_of_something_else_is_refused(sei_file, tmp_path, often):
    out = tmp_path / "out.h5"
    with pytest.raises(Stopped):
        fv.process(sei_file, output=out, tile_bytes=20_000, progress=StopAfter(5, Stopped()))
    with pytest.raises(OutputError, match=r"the recipe is another.*--overwrite"):
        fv.process(sei_file, fv.Recipe.from_dict({"fit": {"method": "qnm"}}), output=out)
    with pytest.raises(OutputError, match=r"the calibration is another.*spring_constant"):
        fv.process(fv.open(sei_file, spring_constant=3.0), output=out)
    maps = fv.process(sei_file, fv.Recipe.from_dict({"fit": {"method": "qnm"}}), output=out, overwrite=True)
    assert maps.provenance["recipe"]["fit"]["method"] == "qnm"
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_an_output_of_the_same_run_is_taken_as_it_is_if_asked(sei_file, tmp_path, monkeypatch):
    out = tmp_path / "out.h5"
    first = fv.process(sei_file, output=out)
    with pytest.raises(OutputError, match="exists already"):
        fv.process(sei_file, output=out)
    with pytest.raises(OutputError, match="exists already"):
        fv.process(sei_file, fv.Recipe.from_dict({"fit": {"method": "qnm"}}), output=out, resume=True)
    monkeypatch.setattr(engine, "run_tile", None)
    assert fv.process(sei_file, output=out, resume=True).records.tobytes() == first.records.tobytes()


def test_an_input_that_changes_ends_the_run_by_name_and_what_is_done_stays(tmp_path, often):
    path, out = tmp_path / "map.h5", tmp_path / "out.h5"
    simulate.sei_map(path, ny=20, nx=20, samples=64)

    class Touch(StopAfter):
        def advance(self, tile, failed):
            self.tiles -= 1
            if self.tiles == 0:
                os.utime(path, (1, 1))

    with pytest.raises(FileFormatError, match=r"map\.h5: the file has changed since.*of 400 curves are kept"):
        fv.process(path, output=out, tile_bytes=2000, progress=Touch(20, None))
    with pytest.raises(OutputError, match="the input has changed"):
        fv.process(path, output=out)


def test_an_input_that_vanishes_and_comes_back(tmp_path, often, monkeypatch):
    path, out, away = tmp_path / "map.h5", tmp_path / "out.h5", tmp_path / "away"
    simulate.sei_map(path, ny=20, nx=20, samples=64)
    monkeypatch.setattr(engine, "_FIRST_WAIT", 0.001)

    class Unmount(StopAfter):
        def advance(self, tile, failed):
            self.tiles -= 1
            if self.tiles == 0:
                path.rename(away)

    with pytest.raises(FileFormatError, match=r"map\.h5: the file cannot be reached.*of 400 curves are kept"):
        fv.process(path, output=out, tile_bytes=2000, progress=Unmount(20, None))
    away.rename(path)
    stop = StopAfter(10**9, None)
    maps = fv.process(path, output=out, progress=stop)
    assert 0 < stop.before < 400
    assert maps.records.tobytes() == fv.process(path).records.tobytes()


def test_a_tile_that_failed_is_tried_again(sei_file, quiet, tmp_path, often, monkeypatch):
    """A failure is not kept: the share may be back."""
    out, honest = tmp_path / "out.h5", readers.read_tile

    def read(volume, tile):
        if tile.start == 0:
            raise FileFormatError("truncated")
        return honest(volume, tile)

    monkeypatch.setattr(readers, "read_tile", read)
    with pytest.raises(Stopped):
        fv.process(sei_file, output=out, tile_bytes=20_000, progress=StopAfter(9, Stopped()))
    monkeypatch.setattr(readers, "read_tile", honest)
    fv.process(sei_file, output=out)
    assert out.read_bytes() == quiet


def test_a_disk_that_is_full_at_the_end_costs_no_curve(sei_file, quiet, tmp_path, often, monkeypatch):
    out, honest = tmp_path / "out.h5", writers.save

    def full(*arguments, **options):
        raise OutputError(f"{out}: cannot be written: No space left on device")

    monkeypatch.setattr(writers, "save", full)
    with pytest.raises(OutputError, match=r"No space left.*1,920 of 1,920 curves are kept"):
        fv.process(sei_file, output=out)
    monkeypatch.setattr(writers, "save", honest)
    monkeypatch.setattr(engine, "run_tile", None)  # nothing is computed again
    fv.process(sei_file, output=out)
    assert out.read_bytes() == quiet


def test_arrays_leave_no_partial_file(tmp_path, often):
    """They cannot be recognised when they come again."""
    z = np.linspace(0, 1e-7, 64)
    curves = np.zeros((4, 64), np.float32)
    volume = fv.from_arrays(
        curves, curves, z=(z, z[::-1]), units="m", z_units="m", spring_constant=1.0, tip_radius=1e-8
    )
    with pytest.raises(Stopped):
        fv.process(volume, output=tmp_path / "out.h5", progress=StopAfter(1, Stopped()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["map.h5.partial", "map.h5.partial.journal"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_that_is_named_like_what_a_run_keeps_is_not_touched(curves_file, tmp_path, name, overwrite):
    path = tmp_path / name
    path.write_bytes(curves_file.read_bytes())
    for output in ([tmp_path / "map.h5"], [tmp_path / "map.h5", tmp_path / "map.tif"]):
        with pytest.raises(OutputError, match=rf"{name}: is the input; choose another output"):
            fv.process(path, output=output, overwrite=overwrite)
    assert path.read_bytes() == curves_file.read_bytes()
    fv.convert(path, tmp_path / "map.h5")
    assert path.read_bytes() == curves_file.read_bytes()
