"""`fvproc info` on every real file: what is there, where values come from, and options for what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real_data import OPENED, input_of, real_file

import fvproc as fv
from fvproc import calibration_file
from fvproc.calibration_file import Calibrated
from fvproc.cli import main

VALUES = {
    "--spring-constant": "0.3N/m",
    "--deflection-sensitivity": "50nm/V",
    "--z-sensitivity": "20nm/V",
    "--tip-radius": "1um",
}
FORMATS = {"bruker": "nanoscope", "jpk": "jpk", "asylum": "asylum", "nanosurf": "nanosurf", "other": "afmformats"}
WITH_MAPS = {
    "bruker/egel2_fv16.spm": "adhesion",
    "jpk/map-data-2022.10.29-12.27.34.564.jpk-force-map": "measuredHeight",
    "jpk/bicarlsen_qi_data-2_0-xs.jpk-qi-data": "adhesion",
    "asylum/sofa_map2.tar.gz": "adhesion",
    "nanosurf/spectroscopy.nid": "adhesion",
}


def given(missing: list[dict[str, str]]) -> list[str]:
    """Return options with values for what is missing."""
    return [text for one in missing for text in (one["option"], VALUES[one["option"]])]


@pytest.mark.parametrize("name", OPENED)
def test_info_names_the_options_with_which_a_run_succeeds(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = input_of(name, tmp_path)
    assert main(["info", str(path), "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert said.err == ""  # no traceback of a package beneath
    volume = fv.open(path)
    assert told["format"] == FORMATS[name.split("/")[0]]
    assert (told["grid"]["ny"], told["grid"]["nx"], told["folder"]) == (*volume.shape, path.is_dir())
    for branch in ("approach", "retract"):
        assert told["branches"][branch]["samples"] == getattr(volume, branch).samples
        assert told["branches"][branch]["deflection"].split(" in ")[1] in ("m", "V")
    for value in told["calibration"].values():
        assert value["source"] == "file" and value["value"] > 0 and value["unit"] in ("N/m", "m/V")
    missing = {one["name"] for one in told["missing"]}
    assert missing - {"tip.radius"} == set(OPENED[name])
    assert bool(told["vendor_recipe"]) == (told["format"] == "nanoscope" and "v6" not in name)
    assert WITH_MAPS.get(name, "none") in (*told["vendor_maps"], "none")

    options = given(told["missing"])
    assert main(["run", str(path), "-o", str(tmp_path / "out.h5"), "--quiet", *options]) == 0
    for left_out in told["missing"]:  # each of them is needed
        others = [
            text for one in told["missing"] if one is not left_out for text in (one["option"], VALUES[one["option"]])
        ]
        assert main(["run", str(path), "-o", str(tmp_path / "no.h5"), "--quiet", *others]) == 2
        assert left_out["option"] in capsys.readouterr().err


@pytest.mark.parametrize("name", OPENED)
def test_the_text_has_a_line_for_each(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = input_of(name, tmp_path)
    assert main(["info", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    given = [
        text for one in OPENED[name] for text in (f"--{one.replace('_', '-')}", VALUES[f"--{one.replace('_', '-')}"])
    ]
    assert main(["info", str(path), *given]) == 0
    text = capsys.readouterr().out
    assert ("a folder" if told["folder"] else f"{told['bytes']:,} bytes") in text
    assert text.count("(from the user") == len(OPENED[name])
    assert f"{told['grid']['ny']} rows × {told['grid']['nx']} columns" in text
    for value in told["calibration"]:
        assert f"{value.replace('_', ' ')}: " in text
    assert ("vendor's fit settings: none" in text) == (not told["vendor_recipe"])
    assert ("vendor's maps: " in text) == bool(told["vendor_maps"])
    for warning in told["warnings"]:
        assert f"WARNING       {warning}" in text
    assert ("MISSING       tip.radius (m): give --tip-radius" in text) == (
        told["tip"]["radius"] is None and told["tip"]["half_angle"] is None
    )


def test_a_calibration_file_is_no_file_of_the_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = real_file("jpk/fmt-jpk-fd_spot3-0192.jpk-force")
    table = tmp_path / "cal.toml"
    found = Calibrated("tip_radius", 1e-8, {"scatter": 0.1})
    calibration_file.write(table, found)
    assert main(["info", str(path), "--calibration", str(table)]) == 0
    assert "tip radius: 10 nm (from the user)" in capsys.readouterr().out
