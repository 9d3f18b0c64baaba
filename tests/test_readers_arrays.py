"""Volumes made of arrays: the same records as from a file, units demanded, what a cluster may and may not be sent."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array
import distributed
import h5py
import numpy as np
import pytest

import fvproc as fv
from fvproc import readers
from fvproc.errors import CalibrationError, FileFormatError, FvprocError
from fvproc.simulate import write_map
from fvproc.volume import Tile

RECIPE = fv.Recipe(tip=fv.Tip.sphere(radius=10e-9))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A simulated map as arrays, with what its file says of them."""
    path = tmp_path_factory.mktemp("arrays") / "map.h5"
    write_map(path, ny=4, nx=5, samples=128)
    volume = fv.open(path)
    with h5py.File(path) as file:
        found = {key: file[key][()] for b in ("approach", "retract") for key in (f"{b}/deflection", f"{b}/z")}
        channel, z = volume.approach.deflection, volume.approach.z
        assert volume.retract.deflection == channel
    calibration = volume.calibration
    settings = {
        "units": channel.unit,
        "z_units": z.unit,
        "scale": channel.scale,
        "offset": channel.offset,
        "z_scale": z.scale,
        "z_offset": z.offset,
        "spring_constant": calibration.spring_constant.value,
    }
    if calibration.deflection_sensitivity:
        settings["deflection_sensitivity"] = calibration.deflection_sensitivity.value
    return {"path": path, "arrays": found, "settings": settings}


def volume_of(content: dict[str, Any], change: Any = lambda array: array, **settings: Any) -> fv.ForceVolume:
    arrays = {key: change(array) if array.ndim > 1 else array for key, array in content["arrays"].items()}
    return fv.from_arrays(
        arrays["approach/deflection"],
        arrays["retract/deflection"],
        z=(arrays["approach/z"], arrays["retract/z"]),
        **{**content["settings"], **settings},
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array,
        np.asfortranarray,
        lambda array: dask.array.from_array(array, chunks=(2, 3, -1)),
        lambda array: array.reshape(-1, array.shape[-1]),
    ],
    ids=["numpy", "other order", "dask", "a row of curves"],
)
def test_records_are_those_of_the_file(content: dict[str, Any], change: Any) -> None:
    want = fv.process(content["path"], RECIPE)
    maps = fv.process(volume_of(content, change), RECIPE)
    for quantity in ("modulus", "adhesion", "modulus_std", "height"):
        np.testing.assert_array_equal(maps[quantity].ravel(), want[quantity].ravel())
    assert maps.provenance


def test_zarr_arrays_are_read(content: dict[str, Any], tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    numbers = iter(range(10))

    def stored(array: np.ndarray) -> Any:
        return zarr.array(array, chunks=(2, 5, array.shape[2]), store=str(tmp_path / f"{next(numbers)}.zarr"))

    want = fv.process(content["path"], RECIPE)["modulus"]
    np.testing.assert_array_equal(fv.process(volume_of(content, stored), RECIPE)["modulus"], want)


def test_tiles_hold_the_numbers_that_were_given(content: dict[str, Any]) -> None:
    volume = volume_of(content)
    array = content["arrays"]["retract/deflection"].reshape(20, -1)
    for start, stop in ((0, 20), (3, 4), (2, 14)):
        raw = readers.read_tile(volume, Tile(start, stop)).retract
        np.testing.assert_array_equal(raw.deflection, array[start:stop])


def test_force_becomes_deflection_by_its_spring_constant() -> None:
    z, force = np.linspace(0, 100, 50), np.linspace(0, 8, 50)
    volume = fv.from_arrays(force, force[::-1], z=(z, z[::-1]), units="nN", z_units="nm", spring_constant=0.5)
    raw = readers.read_tile(volume, Tile(0, 1)).approach
    scale, offset = volume.deflection_scale("approach")
    np.testing.assert_allclose(raw.deflection[0] * scale + offset, force * 1e-9 / 0.5, rtol=1e-6)
    np.testing.assert_allclose(raw.z[0] * volume.z_scale("approach")[0], z * 1e-9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"units": None}, "approach: units = None: expected one of m,"),
        ({"units": "furlong"}, "never guessed"),
        ({"z_units": "nN"}, "z of approach: units = 'nN'"),
        ({"units": "nN", "spring_constant": None}, "also give the spring_constant"),
        ({"z_scale": -1e-9}, "toward the sample"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_what_does_not_fit_is_refused(content: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FileFormatError, match=says):
        volume_of(content, **changes)


def test_shapes_and_types_that_do_not_fit_are_refused() -> None:
    deflection, z = np.zeros((3, 4, 10), np.float32), np.linspace(0, 1, 10)

    def attempt(approach: Any, retract: Any, z_pair: Any) -> None:
        fv.from_arrays(approach, retract, z=z_pair, units="m", z_units="m")

    for arguments, says in [
        ((deflection, deflection[:2], (z, z[::-1])), r"retract: shape \(2, 4, 10\)"),
        ((deflection, deflection, (z[:5], z[::-1])), r"z of approach: shape \(5,\)"),
        ((deflection, deflection, z), "two arrays"),
        ((deflection.astype(complex), deflection, (z, z[::-1])), "dtype complex128"),
        ((deflection[:0], deflection[:0], (z, z[::-1])), "shape"),
        (([1.0, 2.0], deflection, (z, z[::-1])), "expected an array, not list"),
    ]:
        with pytest.raises(FileFormatError, match=says):
            attempt(*arguments)


def test_a_missing_spring_constant_names_the_option(content: dict[str, Any]) -> None:
    with pytest.raises(CalibrationError, match="spring_constant=VALUE"):
        fv.process(volume_of(content, spring_constant=None), RECIPE)


def test_numpy_arrays_are_not_sent_to_a_cluster(content: dict[str, Any]) -> None:
    volume = volume_of(content)
    with pytest.raises(FvprocError, match="pass Dask or Zarr arrays"):
        fv.process(volume, RECIPE, client="tcp://192.0.2.1:8786")  # refused before anything is dialled
    with pytest.raises(FvprocError, match="memory of this process"):
        pickle.dumps(volume)


def test_arrays_that_can_be_sent_arrive(content: dict[str, Any]) -> None:
    with h5py.File(content["path"]) as file:
        shape = file["approach/deflection"].shape

    def lazy(array: np.ndarray) -> Any:
        return dask.array.ones(array.shape, dtype=array.dtype, chunks=(2, 5, -1))

    volume = pickle.loads(pickle.dumps(volume_of(content, lazy)))
    assert (readers.read_tile(volume, Tile(3, 9)).approach.deflection == 1).all() and volume.shape == shape[:2]


def test_dask_arrays_are_processed_on_a_cluster(content: dict[str, Any]) -> None:
    """Workers of their own processes, as on a cluster: each computes the part of the arrays that its tile needs."""

    def lazy(array: np.ndarray) -> Any:
        return dask.array.from_array(array, chunks=(2, 5, -1))

    want = fv.process(content["path"], RECIPE)["modulus"]
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        maps = fv.process(volume_of(content, lazy), RECIPE, client=client)
    np.testing.assert_array_equal(maps["modulus"], want)


def test_arrays_can_be_converted(content: dict[str, Any], tmp_path: Path) -> None:
    fv.convert(volume_of(content), tmp_path / "out.h5")
    want = fv.process(content["path"], RECIPE)["modulus"]
    np.testing.assert_array_equal(fv.process(tmp_path / "out.h5", RECIPE)["modulus"], want)


def test_results_that_a_cluster_holds_are_refused(content: dict[str, Any]) -> None:
    def persisted(array: np.ndarray) -> Any:
        return client.persist(dask.array.from_array(array, chunks=(2, 5, -1)))

    one = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, protocol="inproc")
    with (
        one,
        distributed.Client(one, set_as_default=False) as client,
        pytest.raises(FileFormatError, match=r"as it was before persist\(\), or store it"),
    ):
        volume_of(content, persisted)
