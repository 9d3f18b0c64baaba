"""Damaged and lying Nanosurf files: an error that names the file, or numbers; never a crash, a hang, or much memory."""

from __future__ import annotations

from pathlib import Path

import hostile
import nanosurf_files
import numpy as np
import pytest


def test_changed_files_are_refused_or_read(tmp_path: Path) -> None:
    data = nanosurf_files.counts(2, 3, 40)
    content = nanosurf_files.write(tmp_path / "whole.nid", data, valid=np.array([40, 3, 0, 40, 39, 40])).read_bytes()
    read = 0
    for number, changed in enumerate(hostile.mutations(content, 900, content.index(b"#!"))):
        path = tmp_path / f"changed{number % 8}.nid"
        path.write_bytes(changed)
        read += hostile.survives(path)
    assert 100 < read < 850  # some changes do not matter, others must be noticed


@pytest.mark.parametrize("line", [b"[a]\r\n", b"%07d=1\r\n"])
def test_headers_of_very_many_lines_are_refused_soon(tmp_path: Path, line: bytes) -> None:
    body = b"".join(line % number if b"%" in line else line for number in range(1_500_000))
    (tmp_path / "long.nid").write_bytes(b"[DataSet]\r\nGroupCount=1\r\n" + body + b"\r\n#!")
    assert not hostile.survives(tmp_path / "long.nid")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = nanosurf_files.write(tmp_path / "whole.nid", nanosurf_files.counts(2, 3, 40)).read_bytes()
    path = tmp_path / "cut.nid"
    for length in range(1, len(content), 29):
        path.write_bytes(content[:length])
        assert not hostile.survives(path)
