"""Damaged and lying .ARDF files: an error that names the file, or numbers; never a crash, a hang, or much memory."""

from __future__ import annotations

from pathlib import Path

import ardf_files
import hostile
import numpy as np
import pytest


@pytest.mark.parametrize("kind", ardf_files.KINDS)
def test_changed_files_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    images = {"MapHeight": ("m", np.ones((3, 5)))}
    content = ardf_files.write(tmp_path / "whole.ardf", ardf_files.volumes_of(kind), images=images).read_bytes()
    read = 0
    for number, one in enumerate(hostile.mutations(content, 300, content.index(b"VSET") + 200)):
        path = tmp_path / f"changed{number % 8}.ardf"
        path.write_bytes(one)
        read += hostile.survives(path)
    assert read < 250


@pytest.mark.parametrize("kind", ardf_files.KINDS)
def test_lies_with_right_checksums_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    content = ardf_files.write(tmp_path / "whole.ardf", ardf_files.volumes_of(kind)).read_bytes()
    generator = np.random.default_rng(1)
    names = [b"FTOC", b"TTOC", b"TEXT", b"VOLM", b"VDEF", b"VCHN", b"XDEF", b"VTOC", b"VOFF", b"VSET", b"VNAM", b"VDAT"]
    for number in range(300):
        name = names[number % len(names)]
        lie = int(generator.choice([0, 1, 2**31, 2**32 - 1, len(content), 40, int(generator.integers(2**32))]))
        path = tmp_path / f"changed{number % 8}.ardf"
        path.write_bytes(ardf_files.changed(content, name, int(generator.integers(4, 13)) * 4 % 48, "<I", lie))
        hostile.survives(path)
