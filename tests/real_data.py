"""Finds the real measurements that tests read where they are present; they are no part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_file(name: str) -> Path:
    """Return the path of a real file such as ``"bruker/egel2_fv16.spm"``; skip the test where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FVPROC_TEST_DATA") or beside)
    path = folder / name
    if not path.exists():
        pytest.skip(f"{name}: not found in {folder}; set FVPROC_TEST_DATA to the folder of real measurements")
    return path
