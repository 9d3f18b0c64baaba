"""The reader in docs/readers.md, as it stands there: installed as a package of its own, it opens a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "readers.md"

SCRIPT = """
import sys
import numpy as np
import fvproc as fv
from fvproc import readers
from fvproc.volume import Tile

volume = fv.open(sys.argv[1])
raw = readers.read_tile(volume, Tile(2, 5))
maps = fv.process(volume, fv.Recipe(tip=fv.Tip.sphere(radius=1e-8)))
print(volume.format, volume.shape, volume.missing(), int(raw.retract.deflection[1, 0]), maps.shape)
try:
    fv.open(sys.argv[2])
except fv.FileFormatError as error:
    print(error)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_reader_is_short_and_works(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    (source,), (project,) = blocks("python"), blocks("toml")
    assert len(source.splitlines()) < 60
    package, target = tmp_path / "package", tmp_path / "target"
    package.mkdir()
    (package / "fvproc_mine.py").write_text(source, encoding="utf-8")
    (package / "pyproject.toml").write_text(project, encoding="utf-8")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(target),
            str(package),
        ],
        check=True,
        capture_output=True,
    )
    curves = np.arange(2 * 3 * 2 * 50, dtype="<i2").reshape(6, 2, 50)
    header = {"mine": 1, "ny": 2, "nx": 3, "size_y": 1e-6, "size_x": 1e-6, "samples": 50, "volts": 20, "ramp": 1e-7}
    whole, cut = tmp_path / "map.mine", tmp_path / "cut.mine"
    whole.write_bytes(json.dumps(header | {"spring_constant": 0.4}).encode() + b"\n" + curves.tobytes())
    cut.write_bytes(whole.read_bytes()[:-100])
    with_plug_in = {**os.environ, "PYTHONPATH": str(target)}
    script = SCRIPT.replace(
        "volume = fv.open(sys.argv[1])", "volume = fv.open(sys.argv[1], deflection_sensitivity=5e-8)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(whole), str(cut)],
        env=with_plug_in,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"mine (2, 3) [] {curves[3, 1, 0]} (2, 3)"
    assert "cut.mine" in second and "copy it again" in second
