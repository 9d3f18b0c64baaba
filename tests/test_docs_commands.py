"""What the documentation tells people to type is typed here, in an empty folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("running.md", "clusters.md")]
if not all(page.exists() for page in PAGES):
    pytest.skip("an installed package has no docs folder", allow_module_level=True)


def blocks(marker: str) -> list[tuple[str, str]]:
    """Return (page and number, content) of the fenced blocks after a comment."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, match in enumerate(re.finditer(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)):
            found.append((f"{page.stem}-{number}", match[1]))
    assert found, marker
    return found


def command_of(line: str) -> list[str]:
    """Return a line as this Python runs it, whatever is on the path."""
    program, *arguments = shlex.split(line)
    if program == "fvproc":
        return [sys.executable, "-m", "fvproc", *arguments]
    assert program == "dask"
    name, *arguments = arguments
    return [sys.executable, "-c", f"from distributed.cli.dask_{name} import main; main()", *arguments]


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("run")])
def test_commands_of_one_machine(content, tmp_path):
    for line in content.strip().splitlines():
        done = subprocess.run(command_of(line), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert list(tmp_path.rglob("*.h5"))
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("python")])
def test_python(content, tmp_path):
    done = subprocess.run([sys.executable, "-c", content], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in blocks("cluster")])
def test_a_cluster_by_hand(content, tmp_path, sei_file):
    pytest.importorskip("distributed")
    shutil.copy2(sei_file, tmp_path / "map.h5")
    *started, last = content.strip().splitlines()
    processes = []
    try:
        for line in started:
            processes.append(
                subprocess.Popen(
                    command_of(line),
                    cwd=tmp_path,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            waited = time.monotonic() + 30
            while not (tmp_path / "scheduler.json").exists():
                assert processes[0].poll() is None and time.monotonic() < waited
                time.sleep(0.05)
        done = subprocess.run(command_of(last), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.h5").exists()
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)
