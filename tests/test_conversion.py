"""Any real file as a curves file: a run on the copy gives the bytes of one on the original; origin kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import OPENED, opened

import fvproc as fv
from fvproc import readers


@pytest.mark.parametrize("name", OPENED)
def test_a_run_on_the_copy_gives_the_same_records(name: str, tmp_path: Path) -> None:
    volume = opened(name, tmp_path)
    recipe = fv.Recipe.from_dict({"tip": {"shape": "sphere", "radius": 1e-6}, "sample": {"poisson_ratio": 0.4}})
    fv.convert(volume, tmp_path / "copy.h5", compress=True)
    copy = fv.open(tmp_path / "copy.h5")
    assert fv.process(copy, recipe).records.tobytes() == fv.process(volume, recipe).records.tobytes()
    assert copy.grid == volume.grid
    assert copy.calibration == volume.calibration
    assert (copy.tip_radius, copy.tip_half_angle) == (volume.tip_radius, volume.tip_half_angle)
    assert copy.poisson_ratio == volume.poisson_ratio
    assert copy.vendor_recipe == volume.vendor_recipe
    assert copy.header["source_name"] == Path(volume.path).name
    assert copy.header["source_format"] == volume.format
    assert copy.header["source_header_sha256"] == volume.header_digest
    for key, value in volume.header.items():
        assert copy.header[f"source_{key}"] == value
    assert copy.warnings == volume.warnings
    ours, theirs = readers.vendor_maps(copy), readers.vendor_maps(volume)
    assert ours.keys() == theirs.keys()
    for key, vendor in theirs.items():
        assert (ours[key].name, ours[key].unit, ours[key].label) == (vendor.name, vendor.unit, vendor.label)
        np.testing.assert_array_equal(ours[key].values, vendor.values)
