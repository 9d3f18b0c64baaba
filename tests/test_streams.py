"""Standard streams that are closed, full, or left by their reader: the status stays that of the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fvproc as fv
from fvproc.progress import Bar, Tally
from fvproc.volume import Tile

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="redirections of a POSIX shell")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def shell(line: str, *names: object) -> subprocess.CompletedProcess[str]:
    """Run a line in which `fvproc` is this one and $1, $2 … are names."""
    script = f'fvproc() {{ "{sys.executable}" -m fvproc "$@"; }}\n{line}'
    command = ["bash", "-c", script, "bash", *map(str, names)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS, check=False, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(curves_file, tmp_path, closed):
    out = tmp_path / "out.h5"
    for line in (f'fvproc run "$1" -o "$2" {closed}', f"fvproc quantities {closed}", f"fvproc --version {closed}"):
        done = shell(line, curves_file, out)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    # no output went into a file that got the number of the closed stream
    assert fv.load(out).records.tobytes() == fv.process(curves_file).records.tobytes()


@full
@pytest.mark.parametrize(
    "command", ['run "$1" -o "$2"', 'run "$1" -o "$2" --json', "quantities", "--version", "--help"]
)
def test_a_full_standard_output_is_named(curves_file, tmp_path, command):
    done = shell(f"fvproc {command} >/dev/full", curves_file, tmp_path / "out.h5")
    assert done.returncode == 2
    assert "fvproc: standard output cannot be written: No space left on device" in done.stderr
    assert "Errno" not in done.stderr and "Exception ignored" not in done.stderr
    if command.startswith("run"):
        assert fv.load(tmp_path / "out.h5").grid.curves == 204


@full
def test_a_full_standard_error_costs_nothing(curves_file, tmp_path):
    done = shell('fvproc run "$1" -o "$2" 2>/dev/full', curves_file, tmp_path / "out.h5")
    assert done.returncode == 0 and "204 curves" in done.stdout


@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_the_status_is_that_of_the_work_when_the_reader_leaves(curves_file, tmp_path, reader):
    """The output is more than a pipe holds, so that the writer meets its end."""
    (tmp_path / "bad.h5").write_bytes(b"bad")
    line = (
        f"fvproc quantities --json | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}\n"
        f'fvproc run "$1" -o "$2" | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}\n'
        f'fvproc run "$1" "$3" -o "$4" | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}\n'
        f'fvproc run "$1" -o "$2" | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}'
    )
    done = shell(line, curves_file, tmp_path / "out.h5", tmp_path / "bad.h5", tmp_path / "maps")
    assert done.stdout.split() == ["0", "0", "1", "2"], done.stderr
    assert "Broken pipe" not in done.stderr and "Traceback" not in done.stderr


def test_the_reader_of_the_progress_may_leave(curves_file, tmp_path):
    line = 'fvproc run "$1" -o "$2" --tile-bytes 1000 2> >(true); echo $?'
    done = shell(line, curves_file, tmp_path / "out.h5")
    assert done.stdout.split()[-1] == "0"


def test_a_bar_without_a_stream_counts(monkeypatch):
    """As under pythonw, where there is no standard error."""
    monkeypatch.setattr(sys, "stderr", None)
    for counter in (Bar("map"), Tally()):
        counter.start(1)
        counter.expect(100, 60)
        counter.advance(Tile(60, 100), False)
        counter.finish()
        assert counter.computed == 40
