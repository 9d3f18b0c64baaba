"""Any real file as a curves file: a run on the copy gives the bytes of one on the original; origin kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_data import OPENED, opened

import fvproc as fv
from fvproc import readers, systematic


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


def test_what_is_known_of_the_errors_survives(sei_file: Path, tmp_path: Path) -> None:
    """Those that the user gave, too, and by what a tip is off where the values are that it was calibrated with."""
    given = {"spring_constant": 0.1, "tip_radius": 0.2, "poisson_ratio": 0.15}
    volume = replace(fv.open(sei_file, rel_std=given), tip_depends={"spring_constant": 2.0})
    fv.convert(volume, tmp_path / "copy.h5")
    copy = fv.open(tmp_path / "copy.h5")
    assert {name: copy.relative_std(name) for name in given} == given
    assert copy.tip_depends == volume.tip_depends
    recipe = fv.Recipe().completed(volume)
    maps = fv.process(volume, recipe)
    errors = systematic.systematic_errors(volume, recipe, maps)
    assert systematic.systematic_errors(copy, recipe, maps) == errors
    assert errors["modulus"].parts["poisson_ratio"] > 0.01
    assert fv.open(tmp_path / "copy.h5", rel_std={"poisson_ratio": 0.1}).relative_std("poisson_ratio") == 0.1


def test_a_tip_does_not_depend_on_what_it_was_not_calibrated_with(sei_file: Path, tmp_path: Path) -> None:
    fv.convert(replace(fv.open(sei_file), tip_depends={"spring_constant": 2.0}), tmp_path / "copy.h5")
    assert fv.open(tmp_path / "copy.h5", rel_std={"spring_constant": 0.1}).tip_depends == {"spring_constant": 2.0}
    assert not fv.open(tmp_path / "copy.h5", spring_constant=7.0).tip_depends
    volume = fv.open(tmp_path / "copy.h5")
    another = fv.Recipe.from_dict({"tip": {"shape": "sphere", "radius": 77e-9}, "sample": {"poisson_ratio": 0.3}})
    for recipe, depends in ((fv.Recipe(), True), (another, False)):
        recipe = recipe.completed(volume)
        radius = [systematic.off(volume, recipe, "spring_constant", factor).tip_radius for factor in (1.0, 1.01)]
        assert radius[1] / radius[0] == pytest.approx(1.01**2 if depends else 1.0, rel=1e-12)
