"""A disk that is really full: the partial file, the journal and the final file on a small file system of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
RUN = f"{sys.executable} -m fvproc run"
OFTEN = (
    f"{sys.executable} -c 'import sys; from fvproc import journal; journal.COMMIT_SECONDS = 0.0;"
    " from fvproc.cli import main; sys.exit(main(sys.argv[1:]))' run"
)


def alone(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount what nobody else sees."""
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-ec", script],
        capture_output=True, text=True, check=False, cwd=TESTS, env={**os.environ, **EPOCH},
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def may_mount():
    if shutil.which("unshare") is None:
        pytest.skip("needs the unshare command to mount a small file system")
    tried = alone("mount -t tmpfs -o size=64k none /mnt")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")


@pytest.fixture(scope="module")
def quiet(sei_file, tmp_path_factory):
    """A run that had all the room it wanted: its output."""
    out = tmp_path_factory.mktemp("quiet") / "out.h5"
    subprocess.run(
        [sys.executable, "-m", "fvproc", "run", sei_file, "-o", out, "--quiet"],
        cwd=TESTS, env={**os.environ, **EPOCH}, check=True,
    )  # fmt: skip
    return out


def full_then_room(command: str, sei_file: Path, quiet: Path, small: int) -> tuple[int, str]:
    """Run on a disk of so many kB, make room, run again; return the first status and what was said."""
    done = alone(
        f"""
        mount -t tmpfs -o size={small}k none /mnt
        status=0
        {command} {sei_file} -o /mnt/out.h5 --quiet --tile-bytes 20000 --threads 1 || status=$?
        ls /mnt >&2
        echo $status
        mount -o remount,size=100m /mnt
        {RUN} {sei_file} -o /mnt/out.h5 --quiet
        cmp /mnt/out.h5 {quiet}
        test "$(ls -A /mnt)" = out.h5
        """
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def test_no_room_for_the_partial_file(sei_file, quiet):
    status, said = full_then_room(OFTEN, sei_file, quiet, 40)
    assert status == 2
    assert "out.h5.partial: cannot be written: No space left on device; the run keeps 0." in said
    assert " MB there and needs about as much again for its outputs" in said
    assert "Traceback" not in said
    assert said.endswith("same again\n")  # by ls: what did not fit does not fill the disk


def test_no_room_for_the_final_file(sei_file, quiet):
    """Everything is kept by then, and nothing is computed again."""
    from fvproc.quantities import RECORD

    partial = 48 * 40 * RECORD.itemsize // 1024
    status, said = full_then_room(OFTEN, sei_file, quiet, partial + 40)
    assert status == 2
    assert "No space left on device" in said
    assert "1,920 of 1,920 curves are kept in /mnt/out.h5.partial" in said
    assert "out.h5.partial.journal" in said  # by ls
    assert "Traceback" not in said


def test_no_room_for_the_output_of_a_short_run(sei_file, quiet):
    """A run of less than half a second keeps nothing meanwhile: what it has must be kept, or told to be lost."""
    status, said = full_then_room(RUN, sei_file, quiet, 40)
    assert status == 2
    assert "No space left on device" in said and " MB" in said
    assert "Traceback" not in said


def test_no_room_for_the_second_output_of_a_short_run(sei_file, quiet):
    """The first is whole: it is named with the way to the others, which must then be open."""
    done = alone(
        f"""
        mount -t tmpfs -o size={quiet.stat().st_size // 1024 + 20}k none /mnt
        status=0
        {RUN} {sei_file} -o /mnt/out.h5 -o /mnt/out.csv --quiet || status=$?
        echo $status
        ls -A /mnt
        mount -o remount,size=100m /mnt
        {RUN} {sei_file} -o /mnt/out.h5 -o /mnt/out.csv --quiet --resume
        cmp /mnt/out.h5 {quiet}
        ls -A /mnt
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "out.h5", "out.csv", "out.h5"]
    assert "/mnt/out.csv: cannot be written: No space left on device; /mnt/out.h5: written and whole" in done.stderr
    assert done.stderr.endswith("make room and run the same with --resume, which makes the others from it\n")


def test_a_file_that_is_too_large_for_the_disk_stops_no_other(tmp_path):
    from fvproc import simulate

    for name, side in (("a", 4), ("m", 80), ("z", 4)):
        simulate.write_map(tmp_path / f"{name}.h5", ny=side, nx=side, samples=64)
    done = alone(
        f"""
        mount -t tmpfs -o size=400k none /mnt
        status=0
        {OFTEN} {tmp_path}/[amz].h5 -o /mnt/ --tile-bytes 20000 --threads 1 || status=$?
        echo $status
        """
    )
    *table, good, status = done.stdout.splitlines()
    assert (good, status) == ("2 of 3 files, 32 curves", "1"), done.stderr
    assert [row.split()[1] for row in table[1:]] == ["done", "failed", "done"]
    assert "m.h5: /mnt/m.h5.partial: cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("room", [40, 400])
@pytest.mark.parametrize("layout", ["", "--compress"])
def test_no_room_for_a_curves_file(sei_file, room, layout):
    """HDF5 must not crash when Python ends; what was there before stays, and nothing of the new file."""
    done = alone(
        f"""
        mount -t tmpfs -o size={room}k none /mnt
        echo earlier > /mnt/out.h5
        status=0
        {sys.executable} -m fvproc convert {sei_file} /mnt/out.h5 --overwrite {layout} || status=$?
        echo $status
        ls -A /mnt
        cat /mnt/out.h5
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "out.h5", "earlier"]
    assert done.stderr.startswith("fvproc: /mnt/out.h5: cannot be ")
    assert done.stderr.endswith("No space left on device; nothing is kept: make room there, or choose another disk\n")
    assert done.stderr.count("\n") == 1
