"""HDF5 files of foreign layouts, read by a mapping: every order of axes gives the curves, every lie an error."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest

import fvproc as fv
from fvproc import readers
from fvproc.cli import main
from fvproc.errors import CalibrationError, FileFormatError
from fvproc.volume import Tile

NY, NX, SAMPLES = 3, 4, 20
TEXT = """
version = 1
axes = "y x sample"
[approach]
deflection = { dataset = "/d/in", units = "nN" }
z = { dataset = "/d/z", units = "nm", axes = "sample" }
[retract]
deflection = { dataset = "/d/out", units = "nN" }
z = { dataset = "/d/z", units = "nm", axes = "sample", reversed = true }
[calibration]
spring_constant = { from = "/d@k", units = "pN/nm" }
tip_radius = 2e-8
[scan]
size_x = 1e-6
size_y = { from = "/d/size", units = "um" }
rotation = 30
"""


def force() -> dict[str, np.ndarray]:
    """Force in nN by branch, (ny, nx, samples), that tells curves and samples apart."""
    number = np.arange(NY * NX).reshape(NY, NX, 1)
    return {"in": number + np.arange(SAMPLES) / 100, "out": number + 0.5 - np.arange(SAMPLES) / 100}


def write(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in force().items():
            file[f"d/{key}"] = values
        file["d/z"] = np.linspace(0, 100, SAMPLES)
        file["d/size"] = 2.0
        file["d"].attrs["k"] = 500.0
    return path


def mapping(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "version": 1,
        "axes": "y x sample",
        "approach": {
            "deflection": {"dataset": "/d/in", "units": "nN"},
            "z": {"dataset": "/d/z", "units": "nm", "axes": "sample"},
        },
        "retract": {
            "deflection": {"dataset": "/d/out", "units": "nN"},
            "z": {"dataset": "/d/z", "units": "nm", "axes": "sample", "reversed": True},
        },
        "calibration": {"spring_constant": 0.5},
    }
    told = copy.deepcopy(told)
    for path, value in changes.items():
        place = told
        *parents, last = path.split("__")
        for part in parents:
            place = place[part]
        place[last] = value
    return told


def newtons(volume: fv.ForceVolume, branch: str, tile: Tile = Tile(0, NY * NX)) -> np.ndarray:  # noqa: B008 (frozen)
    scale, offset = volume.deflection_scale(branch)
    raw = getattr(readers.read_tile(volume, tile), branch)
    return (raw.deflection * scale + offset) * volume.calibration.spring_constant.value


def test_a_mapping_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(TEXT)
    volume = fv.open(write(tmp_path / "a.h5"), mapping=tmp_path / "m.toml")
    assert (volume.format, volume.shape, volume.grid.rotation) == ("mapping", (NY, NX), 30.0)
    assert (volume.grid.size_x, volume.grid.size_y) == (1e-6, pytest.approx(2e-6))
    assert volume.calibration.spring_constant.value == pytest.approx(0.5)
    assert volume.tip_radius.value == 2e-8
    assert len(pickle.dumps(volume)) < 10_000
    for branch, key in (("approach", "in"), ("retract", "out")):
        want = force()[key].reshape(-1, SAMPLES) * 1e-9
        np.testing.assert_allclose(newtons(volume, branch), want, rtol=1e-6)
        np.testing.assert_allclose(newtons(volume, branch, Tile(5, 7)), want[5:7], rtol=1e-6)
    raw = readers.read_tile(volume, Tile(0, 1))
    np.testing.assert_allclose(raw.retract.z * volume.z_scale("retract")[0], np.linspace(100, 0, SAMPLES) * 1e-9)


@pytest.mark.parametrize("axes", [" ".join(order) for order in itertools.permutations(("y", "x", "sample"))])
def test_axes_may_come_in_any_order(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(write(path), "a") as file:
        for key, values in force().items():
            del file[f"d/{key}"]
            file[f"d/{key}"] = values.transpose([("y", "x", "sample").index(axis) for axis in axes.split()])
    volume = fv.open(path, mapping=mapping(axes=axes))
    np.testing.assert_allclose(newtons(volume, "approach"), force()["in"].reshape(-1, SAMPLES) * 1e-9, rtol=1e-6)


@pytest.mark.parametrize("rows", ["up", "down"])
@pytest.mark.parametrize("back_and_forth", [False, True])
@pytest.mark.parametrize("axes", ["curve sample", "sample curve"])
def test_rows_of_curves_become_a_grid(tmp_path: Path, rows: str, back_and_forth: bool, axes: str) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for key, values in force().items():
            stored = values[::-1].copy() if rows == "down" else values.copy()
            if back_and_forth:
                stored[1::2] = stored[1::2, ::-1].copy()
            stored = stored.reshape(-1, SAMPLES)
            del file[f"d/{key}"]
            file[f"d/{key}"] = stored.T if axes.startswith("sample") else stored
    told = mapping(axes=axes, shape=[NY, NX], rows=rows, back_and_forth=back_and_forth)
    volume = fv.open(path, mapping=told)
    want = force()["in"].reshape(-1, SAMPLES) * 1e-9
    np.testing.assert_allclose(newtons(volume, "approach"), want, rtol=1e-6)
    for start, stop in ((0, 1), (3, 6), (7, 12)):
        np.testing.assert_allclose(newtons(volume, "approach", Tile(start, stop)), want[start:stop], rtol=1e-6)


def test_both_branches_may_lie_in_one_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    z = np.linspace(0, 100, SAMPLES)
    with h5py.File(path, "w") as file:
        file["cube"] = np.concatenate([force()["in"], force()["out"]], axis=2).astype(np.float32)
        file["z"] = np.broadcast_to(-np.concatenate([z, z[::-1]]), (NY, NX, 2 * SAMPLES))
    told = mapping()
    for branch, samples in (("approach", [0, SAMPLES]), ("retract", [SAMPLES, 2 * SAMPLES])):
        told[branch] = {
            "deflection": {"dataset": "cube", "units": "nN", "samples": samples},
            "z": {"dataset": "z", "units": "nm", "scale": -1.0, "samples": samples},
        }
    volume = fv.open(path, mapping=told)
    np.testing.assert_allclose(newtons(volume, "retract"), force()["out"].reshape(-1, SAMPLES) * 1e-9, rtol=1e-6)
    assert not volume.approach.z_shared
    told["approach"]["z"]["scale"] = 1.0
    with pytest.raises(FileFormatError, match=r"approach\.z: runs from .* toward the sample"):
        fv.open(path, mapping=told)


def test_single_curves_and_volts(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    z = np.linspace(0, 1, SAMPLES)
    with h5py.File(path, "w") as file:
        file["v"], file["z"] = np.arange(SAMPLES, dtype=np.int16), z
    curve = {"deflection": {"dataset": "v", "units": "mV"}, "z": {"dataset": "z", "units": "um"}}
    told = {"version": 1, "axes": "sample", "approach": curve, "retract": copy.deepcopy(curve)}
    for part in told["retract"].values():
        part["reversed"] = True
    volume = fv.open(path, mapping=told)
    assert volume.shape == (1, 1) and volume.missing() == ["spring_constant", "deflection_sensitivity"]
    with pytest.raises(CalibrationError, match=r"--spring-constant.*--deflection-sensitivity"):
        fv.process(volume, fv.Recipe(tip=fv.Tip.sphere(radius=1e-8)))
    assert fv.open(path, mapping=told, spring_constant=1.0, deflection_sensitivity=1e-7).missing() == []


def test_the_command_line_takes_a_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.toml").write_text(TEXT)
    path = write(tmp_path / "a.h5")
    assert main(["info", str(path), "--mapping", str(tmp_path / "m.toml"), "--json"]) == 0
    assert '"mapping"' in capsys.readouterr().out
    assert main(["info", str(path), "--mapping", str(tmp_path / "absent.toml")]) == 2
    assert "absent.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version = 2"),
        ({"colour": 1}, "'colour' is unknown"),
        ({"axes": "y x"}, r"approach\.deflection\.axes = y x"),
        ({"axes": "x y sample"}, "no|do not fit"),
        ({"rows": "left"}, "rows = left"),
        ({"shape": [3]}, "shape"),
        ({"approach__deflection__units": "furlong"}, "never guessed"),
        ({"approach__deflection": {"dataset": "/d/in"}}, r"approach\.deflection\.units = None"),
        ({"approach__deflection__dataset": "/d/absent"}, "there is no 'absent'"),
        ({"approach__deflection__dataset": "/d"}, "it is no dataset"),
        ({"approach__deflection__dataset": "/d/in/deeper"}, "no group"),
        ({"approach__deflection__samples": [0, 99]}, r"samples = \[0, 99\]"),
        ({"approach__deflection__samples": [0, 5]}, "5 samples of deflection and 20 of z"),
        ({"approach__deflection__scale": float("nan")}, "finite"),
        ({"approach__deflection__axes": "sample y x"}, "3 samples of deflection and 20 of z"),
        ({"calibration": {"spring_constant": "0.5"}}, "a number in SI units"),
        ({"calibration": {}}, "spring_constant"),
        ({"calibration": {"spring_constant": {"from": "/d@absent", "units": "N/m"}}}, "no such attribute"),
        ({"calibration": {"spring_constant": {"from": "/d@k", "units": "kg"}}}, "expected one of N/m"),
        ({"retract": None}, r"expected a table \[retract\]"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    if change == {"axes": "x y sample"}:
        change = {"retract__deflection__axes": "x y sample"}
    with pytest.raises(FileFormatError, match=says):
        fv.open(write(tmp_path / "a.h5"), mapping=mapping(**change))


def test_a_negative_spring_constant_is_refused(tmp_path: Path) -> None:
    told = mapping(calibration={"spring_constant": -1.0})
    with pytest.raises(CalibrationError, match=r"calibration\.spring_constant"):
        fv.open(write(tmp_path / "a.h5"), mapping=told)


# ---- hostile files


def test_links_and_numbers_outside_the_file_are_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.h5")
    path = write(tmp_path / "a.h5")
    np.zeros((NY, NX, SAMPLES)).tofile(tmp_path / "raw")
    with h5py.File(path, "a") as file:
        file["d/external"] = h5py.ExternalLink(str(secret), "/d/in")
        file["d/soft"] = h5py.SoftLink("/d/external")
        file["d/loop"] = h5py.SoftLink("/d/loop")
        file.create_dataset(
            "d/raw", (NY, NX, SAMPLES), "f8", external=[(str(tmp_path / "raw"), 0, NY * NX * SAMPLES * 8)]
        )
        layout = h5py.VirtualLayout((NY, NX, SAMPLES), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "d/in", (NY, NX, SAMPLES))
        file.create_virtual_dataset("d/virtual", layout)
    for where, says in (
        ("external", "is a link"),
        ("soft", "is a link"),
        ("loop", "is a link"),
        ("raw", "other files"),
        ("virtual", "other files"),
    ):
        with pytest.raises(FileFormatError, match=says):
            fv.open(path, mapping=mapping(approach__deflection__dataset=f"/d/{where}"))


def test_shapes_beyond_all_memory_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.create_dataset("d/empty", (NY, 1 << 20, 1 << 20), "f8", chunks=(1, 64, 64))
        file.create_dataset("d/wide", (NY, NX, 1 << 40), "f8", chunks=(1, 1, 1 << 20))
    for where in ("empty", "wide"):
        with pytest.raises(FileFormatError, match="bytes"):
            fv.open(path, mapping=mapping(approach__deflection__dataset=f"/d/{where}"))


def test_changed_files_are_refused_or_read(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.h5").read_bytes()
    told = mapping()
    read = 0
    for number, changed in enumerate(hostile.mutations(content, 600, 6000)):
        path = tmp_path / f"changed{number % 8}.h5"
        path.write_bytes(changed)
        read += hostile.survives(path, lambda path: fv.open(path, mapping=told))
    assert 50 < read < 590


def test_changed_mappings_are_refused_or_obeyed(tmp_path: Path) -> None:
    path, told = write(tmp_path / "a.h5"), tmp_path / "changed.toml"
    for changed in hostile.mutations(TEXT.encode(), 600, len(TEXT)):
        told.write_bytes(changed)
        try:
            volume = fv.open(path, mapping=told)
            readers.read_tile(volume, Tile(0, 1))
        except (FileFormatError, CalibrationError) as error:
            assert "changed.toml" in str(error) or "a.h5" in str(error)
