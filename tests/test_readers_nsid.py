"""The NSID and USID reader: curves of every order of axes, what stays open is refused, files of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
from nsid_files import Z, write_nsid, write_usid

import fvproc as fv
from fvproc import readers
from fvproc.cli import main
from fvproc.errors import FileFormatError
from fvproc.volume import Tile

NY, NX = 3, 4
HALF = len(Z) // 2


def curves() -> np.ndarray:
    """Deflection in nm, (ny, nx, samples), that tells curves and samples apart."""
    number = np.arange(NY * NX).reshape(NY, NX, 1)
    return (number + np.arange(len(Z)) / 1000).astype(np.float32)


def check(path: Path, *, form: str = "nsid", deflection: np.ndarray | None = None, z: np.ndarray = Z * 1e-9) -> Any:
    """Compare all curves with what was written, tile by tile."""
    volume = fv.open(path)
    assert (volume.format, volume.shape) == (form, (NY, NX))
    want = (curves() if deflection is None else deflection).reshape(NY * NX, -1)
    for tile in (Tile(0, NY * NX), Tile(1, 2), Tile(3, 9)):
        raw = readers.read_tile(volume, tile)
        for branch, part in (("approach", slice(0, HALF)), ("retract", slice(HALF, None))):
            scale, offset = volume.deflection_scale(branch)
            got = getattr(raw, branch).deflection * scale + offset
            np.testing.assert_allclose(got, want[tile.start : tile.stop, part] * 1e-9, rtol=1e-6)
            scale, offset = volume.z_scale(branch)
            got = np.broadcast_to(getattr(raw, branch).z * scale + offset, got.shape)
            np.testing.assert_allclose(got, np.broadcast_to(z[part], got.shape), rtol=1e-6, atol=1e-16)
    return volume


@pytest.mark.parametrize("order", ["yxz", "xyz", "zyx", "yzx", "zxy", "xzy"])
def test_an_nsid_cube_of_any_order_gives_its_curves(tmp_path: Path, order: str) -> None:
    volume = check(write_nsid(tmp_path / "cube.h5", curves(), order=order))
    assert (volume.grid.size_y, volume.grid.size_x) == (pytest.approx(60e-9), pytest.approx(40e-9))
    assert volume.calibration.spring_constant is None


def test_rows_that_run_down_are_turned_round(tmp_path: Path) -> None:
    check(write_nsid(tmp_path / "cube.h5", curves(), down=True))


def test_z_that_falls_first_is_a_distance(tmp_path: Path) -> None:
    check(write_nsid(tmp_path / "cube.h5", curves(), z=100 - Z), z=(Z - 100) * 1e-9)


def test_heights_beside_the_deflection_serve_where_the_axis_is_a_time(tmp_path: Path) -> None:
    height = np.broadcast_to(Z * 1e-9, (NY, NX, len(Z)))
    path = write_nsid(tmp_path / "cube.h5", curves(), z=np.arange(len(Z)) / 1e3, z_units="s", height=height)
    assert not check(path).approach.z_shared
    moved = height.copy()
    moved[1, 2] = np.roll(moved[1, 2], 1)
    path = write_nsid(tmp_path / "moved.h5", curves(), z=np.arange(len(Z)) / 1e3, z_units="s", height=moved)
    with pytest.raises(FileFormatError, match=r"moved\.h5.*ZSnsr.*turns at different samples \(60, 61 …\).*--mapping"):
        fv.open(path)


def test_a_usid_table_gives_its_curves(tmp_path: Path) -> None:
    volume = check(write_usid(tmp_path / "table.h5", curves()))
    assert volume.approach.z_shared and volume.grid.size_x == pytest.approx(40e-9)
    check(write_usid(tmp_path / "turned.h5", curves(), labels=("X", "Y")))
    with pytest.raises(FileFormatError, match=r"Position_Indices: positions do not run along x.*--mapping"):
        fv.open(write_usid(tmp_path / "slow.h5", curves(), slow="X"))


def test_notes_give_the_calibration_and_a_force_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_nsid(tmp_path / "volts.h5", curves(), units="V", notes={"SpringConstant": "0.5", "InvOLS": 4e-8})
    volume = fv.open(path)
    assert volume.calibration.spring_constant.value == 0.5
    assert volume.calibration.deflection_sensitivity.value == 4e-8
    check(
        write_nsid(tmp_path / "force.h5", curves(), units="nN", notes={"SpringConstant": 2.0}), deflection=curves() / 2
    )
    with pytest.raises(FileFormatError, match=r"bare\.h5.*'nN'.*SpringConstant.*--mapping"):
        fv.open(write_nsid(tmp_path / "bare.h5", curves(), units="nN"))
    path = write_nsid(tmp_path / "no_notes.h5", curves(), units="V")
    assert main(["run", str(path), "-o", str(tmp_path / "out.h5")]) == 2
    assert "--spring-constant" in capsys.readouterr().err


def test_a_known_contact_is_fitted_as_from_a_curves_file(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dtype": "float32", "sigma": 1e-11, "drive": "linear"}
    fv.simulate.write_map(tmp_path / "curves.h5", ny=NY, nx=NX, samples=300, seed=5, **settings)
    known = fv.open(tmp_path / "curves.h5")
    raw = readers.read_tile(known, Tile(0, NY * NX))
    values = np.concatenate([raw.approach.deflection, raw.retract.deflection], axis=1).reshape(NY, NX, -1)
    z = np.concatenate([raw.approach.z, raw.retract.z]) * known.approach.z.scale
    scale = known.approach.deflection.scale
    notes = {"SpringConstant": known.calibration.spring_constant.value}
    path = write_nsid(tmp_path / "cube.h5", values * np.float32(scale), units="m", z=z, z_units="m", notes=notes)
    recipe = fv.Recipe(tip=fv.Tip.sphere(radius=known.tip_radius.value))
    want, got = fv.process(known, recipe), fv.process(path, recipe)
    np.testing.assert_allclose(got["modulus"], want["modulus"], rtol=1e-3)
    assert np.isfinite(got["modulus"]).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"z": np.linspace(0, 100, len(Z))}, "does not run to the sample and back once"),
        ({"z": np.tile(Z[: len(Z) // 2], 2)}, "does not run to the sample and back once"),
        ({"units": "a.u."}, "0 datasets hold a deflection or a force: .*Deflection"),
        ({"z_units": "s"}, "its spectral axis is in 's', no length; beside it no dataset"),
    ],
)
def test_what_the_layout_leaves_open_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = write_nsid(tmp_path / "cube.h5", curves(), **changes)
    with pytest.raises(FileFormatError, match=rf"cube\.h5.*{told}.*--mapping FILE"):
        fv.open(path)


def test_two_deflections_and_numbers_of_other_files_are_refused(tmp_path: Path) -> None:
    path = write_nsid(tmp_path / "two.h5", curves())
    with h5py.File(path, "a") as file:
        file.copy("Measurement_000/Channel_000/Deflection", "Measurement_000/Channel_000/Again")
    with pytest.raises(FileFormatError, match=r"2 datasets hold a deflection or a force: .*Again"):
        fv.open(path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(100_000))
    path = write_nsid(tmp_path / "outside.h5", curves())
    with h5py.File(path, "a") as file:
        group = file["Measurement_000/Channel_000/Deflection"]
        told = dict(group["Deflection"].attrs)
        scales = [group[label] for label in "yxz"]
        del group["Deflection"]
        out = group.create_dataset("Deflection", (NY, NX, len(Z)), "f4", external=[(str(secret), 0, 100_000)])
        for key in ("quantity", "units", "main_data_name"):
            out.attrs[key] = told[key]
        for number, scale in enumerate(scales):
            out.dims[number].attach_scale(scale)
    with pytest.raises(FileFormatError, match="its numbers lie in other files"):
        fv.open(path)


@pytest.mark.parametrize("write", [write_nsid, write_usid], ids=["nsid", "usid"])
@pytest.mark.filterwarnings("ignore")
def test_changed_files_are_refused_or_read(tmp_path: Path, write: Any) -> None:
    content = write(tmp_path / "cube.h5", curves()).read_bytes()
    for number, changed in enumerate(hostile.mutations(content, 300, len(content))):
        path = tmp_path / f"changed{number % 4}.h5"
        path.write_bytes(changed)
        try:
            volume = fv.open(path, spring_constant=1.0)
            readers.read_tile(volume, Tile(0, 1))
        except fv.FvprocError:
            continue


_JUDGE = """
import json, sys
import h5py, numpy, sidpy, pyNSID
z = numpy.concatenate([numpy.linspace(0, 1e-7, 50), numpy.linspace(0.99e-7, 0, 50)])
data = sidpy.Dataset.from_array(numpy.arange(1200.0).reshape(3, 4, 100), name="Deflection")
data.data_type, data.units, data.quantity = sidpy.DataType.SPECTRAL_IMAGE, "nm", "Deflection"
for number, (name, values) in enumerate([("y", numpy.arange(3) * 1e-8), ("x", numpy.arange(4) * 1e-8), ("z", z)]):
    kind = "spectral" if name == "z" else "spatial"
    data.set_dimension(number, sidpy.Dimension(values, name=name, units="m", quantity=name, dimension_type=kind))
data.original_metadata = {"SpringConstant": 0.4}
with h5py.File(sys.argv[1], "w") as file:
    group = file.create_group("Measurement_000/Channel_000")
    pyNSID.hdf_io.write_nsid_dataset(data, group, main_data_name="Deflection")
"""


def test_a_file_that_pynsid_wrote(tmp_path: Path) -> None:
    pytest.importorskip("pyNSID")
    path = tmp_path / "cube.h5"
    subprocess.run([sys.executable, "-c", _JUDGE, str(path)], cwd=tmp_path, check=True, capture_output=True)
    volume = fv.open(path)
    assert (volume.format, volume.shape, volume.calibration.spring_constant.value) == ("nsid", (3, 4), 0.4)
    raw = readers.read_tile(volume, Tile(5, 6))
    np.testing.assert_array_equal(raw.approach.deflection[0], np.arange(500, 550))
    np.testing.assert_array_equal(raw.retract.deflection[0], np.arange(550, 600))
    assert json.loads(volume.layout["mapping"])["approach"]["deflection"]["samples"] == [0, 50]
