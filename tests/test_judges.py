"""Other people's programs as judges: each that is installed opens an asymmetric output and finds every bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_writers_samples import ramp_maps

import fvproc as fv
from fvproc.quantities import QUANTITIES

BENCH = Path(__file__).parents[1] / "bench"
if not BENCH.exists():
    pytest.skip("an installed package has no bench folder", allow_module_level=True)
sys.path.insert(0, str(BENCH))
judges = pytest.importorskip("judges")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    maps = ramp_maps(23, 41, size_y=2.3e-6, size_x=8.2e-6)
    generator = np.random.default_rng(4)
    for name in QUANTITIES:  # no two planes alike, no symmetry, pixels missing in each
        maps.records[name][generator.random(maps.shape) < 0.03] = np.nan
    for suffix in (".h5", ".tif", ".ome.tif"):
        fv.save(maps, folder / f"map{suffix}")
    return judges.Case(folder, "map", maps)


@pytest.mark.parametrize("name", judges.JUDGES)
def test_a_judge_finds_the_output_equal_to_the_bit(case, name):
    try:
        verdict = judges.JUDGES[name](case)
    except judges.Absent as absent:
        pytest.skip(f"{absent} is not installed")
    assert verdict.faults == ()


@pytest.mark.parametrize("name", ["rasterio", "tifffile", "xarray"])
def test_a_judge_sees_a_single_bit_and_a_flip(case, tmp_path, name):
    wrong = ramp_maps(*case.maps.shape, size_y=2.3e-6, size_x=8.2e-6)
    wrong.records[:] = case.maps.records[::-1]
    assert judges.JUDGES[name](judges.Case(case.h5.parent, "map", wrong)).faults
    wrong.records[:] = case.maps.records
    wrong.records.view("u1").reshape(-1)[12345] ^= 1
    assert len(judges.JUDGES[name](judges.Case(case.h5.parent, "map", wrong)).faults) in (1, 2)  # stack and bands
