"""Curves beside maps: they are of the measurement that the maps came from, with the calibration of the maps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import fvproc as fv
from fvproc import calibration_file, density, measurement, simulate
from fvproc.calibration_file import Calibrated
from fvproc.cli import main
from fvproc.errors import CalibrationError, FvprocError
from fvproc.maps import ParameterMaps
from fvproc.pages.viewer import Viewer
from fvproc.volume import Setting
from fvproc.writers import curve_plots


@pytest.fixture(scope="module")
def maps(curves_file: Path) -> ParameterMaps:
    """Made with a spring constant of the user's, not the file's."""
    return fv.process(fv.open(curves_file, spring_constant=9.0))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another measurement on a grid of the same shape."""
    path = tmp_path_factory.mktemp("other") / "other.h5"
    simulate.write_map(path, ny=12, nx=17, samples=96, modulus=300e6, seed=6)
    return path


def drawn(monkeypatch: pytest.MonkeyPatch, maps: ParameterMaps, volume: fv.ForceVolume, path: Path) -> float:
    """The modulus of the curve that a picture shows."""
    shown = []
    real = curve_plots.draw_curves
    with monkeypatch.context() as patched:
        patched.setattr(curve_plots, "draw_curves", lambda maps, curves: shown.extend(curves) or real(maps, curves))
        fv.plot(maps, path, "curves", volume=volume, pixels=[(5, 5)])
    return float(shown[0].record["modulus"])


def test_pictures_and_pages_show_the_numbers_of_the_maps(
    monkeypatch: pytest.MonkeyPatch, maps: ParameterMaps, curves_file: Path, tmp_path: Path
) -> None:
    assert fv.process(fv.open(curves_file))["modulus"][5, 5] != maps["modulus"][5, 5]
    for volume in (fv.open(curves_file), fv.open(curves_file, spring_constant=9.0)):
        assert drawn(monkeypatch, maps, volume, tmp_path / "curve.svg") == maps["modulus"][5, 5]
        with Viewer(maps, volume) as viewer:
            assert viewer.volume is not None and viewer.volume.calibration.spring_constant == Setting(9.0, "user")
        fv.write_report(maps, tmp_path / "report.html", volume=volume, pixels=[(5, 5)], embed=0)
        recipe = fv.Recipe().completed(volume)
        counted = density.count(volume, recipe, maps)
        assert (
            counted.force_edges[-1]
            == density.count(fv.open(curves_file, spring_constant=9.0), recipe, maps).force_edges[-1]
        )


@pytest.mark.parametrize("command", [["plot", "--kind", "curves"], ["plot", "--kind", "density"], ["report"], ["view"]])
def test_another_calibration_is_refused_by_name(
    command: list[str],
    maps: ParameterMaps,
    curves_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fv.save(maps, tmp_path / "out.h5")
    monkeypatch.setattr(Viewer, "serve", lambda viewer: None)
    output = (
        ["--no-browser"]
        if command == ["view"]
        else ["-o", str(tmp_path / ("a.html" if command == ["report"] else "a.svg"))]
    )
    arguments = [command[0], str(tmp_path / "out.h5"), *command[1:], "--curves", str(curves_file), *output]
    assert main([*arguments, "--spring-constant", "7"]) == 2
    said = capsys.readouterr().err
    assert "spring_constant = 7 N/m (--spring-constant): the maps were made with 9 N/m; leave it out" in said
    assert main([*arguments, "--spring-constant", "9"]) == 0


def test_a_tip_of_another_length_is_refused(maps: ParameterMaps, curves_file: Path, tmp_path: Path) -> None:
    calibration_file.write(tmp_path / "cal.toml", Calibrated("tip_radius", 77e-9, {}))
    with pytest.raises(CalibrationError, match=r"tip_radius = 7\.7e-08 m .*made with 3e-08 m"):
        measurement.as_processed(fv.open(curves_file, calibration=tmp_path / "cal.toml"), maps)
    volume = fv.open(curves_file, calibration=tmp_path / "cal.toml", spring_constant=9.0)
    own = fv.process(volume, fv.Recipe(tip=fv.Tip.sphere(radius=20e-9)))  # the recipe's goes before it
    assert measurement.as_processed(volume, own) == volume


def test_the_same_file_under_another_name_is_the_measurement(
    maps: ParameterMaps, curves_file: Path, tmp_path: Path
) -> None:
    shutil.copy(curves_file, tmp_path / "renamed.h5")
    assert measurement.as_processed(fv.open(tmp_path / "renamed.h5"), maps).calibration.spring_constant.value == 9.0


def test_a_copy_and_its_original_are_one_measurement(maps: ParameterMaps, curves_file: Path, tmp_path: Path) -> None:
    fv.convert(curves_file, tmp_path / "copy.h5", compress=True)
    fv.convert(tmp_path / "copy.h5", tmp_path / "copy of copy.h5")
    for path in (tmp_path / "copy.h5", tmp_path / "copy of copy.h5"):
        copy = fv.open(path)
        assert measurement.as_processed(copy, maps).calibration.spring_constant.value == 9.0
        measurement.as_processed(fv.open(curves_file), fv.process(copy))
        measurement.as_processed(fv.open(tmp_path / "copy.h5"), fv.process(copy))


def test_a_copy_keeps_its_origin_beside_a_long_header(curves_file: Path, tmp_path: Path) -> None:
    volume = fv.open(curves_file)
    long = replace(volume, header={f"A{number}": "x" * 190 for number in range(21)})
    fv.convert(long, tmp_path / "copy.h5")
    copy = fv.open(tmp_path / "copy.h5")
    assert copy.header["source_header_sha256"] == volume.header_digest
    assert sum(len(key) + len(str(value)) for key, value in copy.header.items()) <= 4000


@pytest.mark.parametrize("kind", ["curves", "density", "overview"])
def test_another_measurement_is_refused_with_what_differs(
    kind: str, maps: ParameterMaps, other: Path, tmp_path: Path
) -> None:
    volume = fv.open(other)
    said = (
        rf"other\.h5: is not the measurement .*size in bytes {volume.file_size}, that of the maps"
        rf" {maps.provenance['input']['size']}; SHA-256 of the header {volume.header_digest[:12]}….*homogeneous\.h5"
    )
    with pytest.raises(FvprocError, match=said):
        fv.plot(maps, tmp_path / "out.svg", kind, volume=volume)
    with pytest.raises(FvprocError, match=said):
        fv.write_report(maps, tmp_path / "out.html", volume=volume)
    with pytest.raises(FvprocError, match=said):
        Viewer(maps, volume)
    assert not list(tmp_path.iterdir())


def test_the_size_of_a_folder_tells_nothing(maps: ParameterMaps, curves_file: Path) -> None:
    volume = fv.open(curves_file)
    larger = replace(volume, file_size=volume.file_size + 4096)
    with pytest.raises(FvprocError, match="size in bytes"):
        measurement.as_processed(larger, maps)
    folder = ParameterMaps(maps.grid, maps.records, provenance=dict(maps.provenance))
    folder.provenance["input"] = {**maps.provenance["input"], "format": "asylum"}
    measurement.as_processed(replace(larger, format="asylum"), folder)


def test_a_calibration_that_was_changed_after_the_run_is_refused(maps: ParameterMaps, curves_file: Path) -> None:
    for entry in ({"value": -1.0}, {"value": "nine"}, 9.0, {}):
        changed = ParameterMaps(maps.grid, maps.records, provenance=dict(maps.provenance))
        changed.provenance["calibration"] = {"spring_constant": entry}
        with pytest.raises(CalibrationError, match=r"spring_constant: .*changed after the run"):
            measurement.as_processed(fv.open(curves_file), changed)
