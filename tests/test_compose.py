"""Graphs of one's own over `lazy` and `to_dask`: the same bytes as `process`, on each scheduler, with xarray."""

from __future__ import annotations

import dataclasses
import threading

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest

import fvproc as fv
from fvproc import _core, engine, readers, schedule, simulate
from fvproc.errors import CalibrationError, FileFormatError, FvprocError
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.schedule import collections

distributed = pytest.importorskip("distributed")
SMALL = 30_000


@pytest.fixture(scope="module")
def client():
    two = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="inproc"
    )
    with two, distributed.Client(two, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def reference(sei_file):
    return fv.process(sei_file, threads=1)


@pytest.fixture
def tiles(monkeypatch):
    """Every tile that is computed, in any order."""
    seen, honest, lock = [], engine.run_tile, threading.Lock()

    def run_tile(volume, recipe, tile):
        with lock:
            seen.append((tile.start, tile.stop))
        return honest(volume, recipe, tile)

    monkeypatch.setattr(engine, "run_tile", run_tile)
    return seen


@pytest.mark.parametrize("block_bytes", [1, 7000, SMALL, 10**9, None])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_records_are_those_of_process_whatever_the_blocks(sei_file, reference, scheduler, block_bytes):
    records = fv.lazy(fv.open(sei_file), block_bytes=block_bytes)
    assert records.shape == reference.shape and records.dtype == RECORD
    assert records.compute(scheduler=scheduler).tobytes() == reference.records.tobytes()


def test_records_from_processes_are_the_same(sei_file, reference):
    with dask.config.set(num_workers=2):
        records = fv.lazy(fv.open(sei_file), block_bytes=10**6).compute(scheduler="processes")
    assert records.tobytes() == reference.records.tobytes()


def test_records_kept_on_a_cluster_are_computed_once(sei_file, reference, client, tiles):
    records = client.persist(fv.lazy(fv.open(sei_file), block_bytes=SMALL))
    assert not any(future.exception() for future in distributed.futures_of(records))
    assert sorted(tiles) == sorted(set(tiles)) and len(tiles) == records.npartitions > 10
    stiff, mean = client.compute([(records["modulus"] > 1e9).sum(), da.nanmean(records["adhesion"])], sync=True)
    assert client.compute(records, sync=True).tobytes() == reference.records.tobytes()
    assert len(tiles) == records.npartitions
    assert stiff == np.sum(reference["modulus"] > 1e9)
    assert mean == pytest.approx(np.nanmean(reference["adhesion"], dtype=np.float64), rel=1e-5)


def test_a_slice_computes_its_blocks_only(sei_file, reference, tiles):
    volume = fv.open(sei_file)
    nx = volume.grid.nx
    records = fv.lazy(volume, block_bytes=4 * nx * volume.curve_bytes)
    part = records[6:9, 3].compute()
    assert sorted(tiles) == [(4 * nx, 8 * nx), (8 * nx, 12 * nx)]
    assert part.tobytes() == reference.records[6:9, 3].tobytes()


@pytest.mark.parametrize("block_bytes", [1, 5, 10**6])
def test_a_row_larger_than_a_block_is_cut(tmp_path, block_bytes):
    """Curves that lie on no grid are one row: it must not be one task."""
    simulate.write_map(tmp_path / "row.h5", ny=1, nx=23, samples=64)
    volume = fv.open(tmp_path / "row.h5")
    records = fv.lazy(volume, block_bytes=block_bytes * volume.curve_bytes)
    assert records.chunks == {1: ((1,), (1,) * 23), 5: ((1,), (5, 5, 5, 5, 3))}.get(block_bytes, ((1,), (23,)))
    assert records.compute().tobytes() == fv.process(volume).records.tobytes()
    curves = fv.to_dask(volume, "approach", block_bytes=block_bytes * volume.curve_bytes)
    assert curves.chunks == (*records.chunks, (64,))
    np.testing.assert_array_equal(curves[0, 7].compute(), fv.curve(volume, 0, 7)["approach_deflection"])


def test_blocks_are_whole_chunks_of_the_file(sei_file):
    volume = fv.open(sei_file)
    nx = volume.grid.nx
    aligned = dataclasses.replace(volume, tile_alignment=6 * nx)
    row = nx * volume.curve_bytes
    assert fv.lazy(aligned, block_bytes=20 * row).chunks[0] == (18, 18, 12)
    # smaller than a chunk: as asked for
    assert fv.lazy(aligned, block_bytes=5 * row).chunks[0] == (5,) * 9 + (3,)


def test_a_block_is_read_tile_by_tile(sei_file, reference, monkeypatch, tiles):
    """However large a block is, its raw curves are in memory a tile at a time."""
    monkeypatch.setattr(collections, "base_curves", lambda volume: 100)
    assert fv.lazy(fv.open(sei_file), block_bytes=10**9).compute().tobytes() == reference.records.tobytes()
    assert max(stop - start for start, stop in tiles) == 100


def test_what_travels_is_small_whatever_the_size_of_the_map(sei_file):
    volume = fv.open(sei_file)
    few, many = fv.lazy(volume), fv.lazy(volume, block_bytes=1)
    assert few.npartitions == 1 and many.npartitions == volume.grid.curves
    assert len(cloudpickle.dumps(few)) < 10_000
    # a graph of thousands of tasks is one function and the lengths of its blocks
    assert len(cloudpickle.dumps(many)) - len(cloudpickle.dumps(few)) < 5 * volume.grid.curves
    assert len(cloudpickle.dumps(fv.to_dask(volume))) < 10_000
    for _, layer in many.__dask_graph__().layers.items():
        assert len(cloudpickle.dumps(layer)) < 10_000


def test_a_dataset_of_xarray_as_lazy_as_the_records(sei_file, reference, client, tiles):
    xarray = pytest.importorskip("xarray")
    volume = fv.open(sei_file)
    records = fv.lazy(volume, block_bytes=SMALL)
    maps = fv.ParameterMaps(volume.grid, records)
    dataset = maps.to_xarray()
    assert dask.is_dask_collection(dataset) and not tiles
    assert dataset["modulus"].attrs["units"] == "Pa"
    whole = dataset.compute()
    assert len(tiles) == records.npartitions  # once for all quantities together
    expected = reference.to_xarray()
    for name in [*QUANTITIES, "flags"]:
        assert whole[name].values.tobytes() == np.ascontiguousarray(reference[name]).tobytes()
    xarray.testing.assert_equal(whole.coords.to_dataset(), expected.coords.to_dataset())
    middle = dataset["modulus"].sel(y=slice(volume.grid.size_y / 2, None)).median(dim="x")
    np.testing.assert_array_equal(
        client.compute(middle, sync=True).values,
        expected["modulus"].sel(y=slice(volume.grid.size_y / 2, None)).median(dim="x").values,
    )


def test_an_array_of_xarray_over_the_curves(sei_file):
    xarray = pytest.importorskip("xarray")
    volume = fv.open(sei_file)
    y, x = fv.ParameterMaps(volume.grid).coordinates()
    curves = xarray.DataArray(
        fv.to_dask(volume, "retract", block_bytes=SMALL), {"y": y, "x": x}, ("y", "x", "sample"), attrs={"units": "m"}
    )
    lowest = curves.min(dim="sample").compute()
    np.testing.assert_array_equal(lowest[5, 6], fv.curve(volume, 5, 6)["retract_deflection"].min())


def test_curves_on_a_cluster_are_those_of_the_file(sei_file, client):
    volume = fv.open(sei_file)
    for branch in ("approach", "retract"):
        curves = client.compute(fv.to_dask(volume, branch, block_bytes=SMALL)[40:], sync=True)
        one = fv.curve(volume, 44, 11)[f"{branch}_deflection"]
        np.testing.assert_array_equal(curves[4, 11], one)


def _unreadable(monkeypatch, first, error):
    """Let every read of a tile that begins at or behind a curve fail."""
    honest = readers.read_tile

    def read(volume, tile):
        if tile.start >= first:
            raise error
        return honest(volume, tile)

    monkeypatch.setattr(readers, "read_tile", read)
    monkeypatch.setattr(engine, "_FIRST_WAIT", 0.001)


@pytest.mark.parametrize("error", [OSError("the share went away"), FileFormatError("truncated")])
def test_what_cannot_be_read_is_flagged_in_records_and_an_error_in_curves(
    sei_file, reference, monkeypatch, client, error
):
    volume = fv.open(sei_file)
    nx = volume.grid.nx
    block = 8 * nx * volume.curve_bytes
    readable = fv.to_dask(volume)[:40].compute()
    _unreadable(monkeypatch, 40 * nx, error)
    records = client.compute(fv.lazy(volume, block_bytes=block), sync=True)
    assert np.all(records["flags"][40:] == Flag.READ_ERROR)
    assert np.isnan(records["modulus"][40:]).all()
    assert records[:40].tobytes() == reference.records[:40].tobytes()
    curves = fv.to_dask(volume, block_bytes=block)
    np.testing.assert_array_equal(curves[:40].compute(), readable)
    with pytest.raises(type(error), match=str(error)):
        curves.compute()


def test_a_reading_that_failed_is_not_kept(sei_file, reference, monkeypatch, client):
    """While someone holds the flagged records on the cluster, a new call reads anew."""
    volume = fv.open(sei_file)
    with monkeypatch.context() as broken:
        _unreadable(broken, 0, OSError("the share went away"))
        held = client.persist(fv.lazy(volume))
        assert np.all(client.compute(held, sync=True)["flags"] == Flag.READ_ERROR)
    assert client.compute(fv.lazy(volume), sync=True).tobytes() == reference.records.tobytes()


def test_a_bug_names_volume_and_curves(sei_file, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("in the kernel")

    monkeypatch.setattr(_core, "fit_tile", broken)
    with pytest.raises(RuntimeError, match=r"sei.h5: curves 0 to .*This is a bug"):
        fv.lazy(fv.open(sei_file)).compute()


def test_what_is_missing_is_refused_before_anything_is_computed(bare_file, sei_file):
    volume = fv.open(bare_file)
    with pytest.raises(CalibrationError, match="--spring-constant"):
        fv.lazy(volume)
    with pytest.raises(CalibrationError, match="--deflection-sensitivity"):
        fv.to_dask(volume)
    for verb in (fv.lazy, fv.to_dask):
        with pytest.raises(FvprocError, match="block_bytes = 0: at least one"):
            verb(fv.open(sei_file), block_bytes=0)


def test_a_worker_with_another_kernel_computes_nothing(sei_file, monkeypatch):
    records = schedule.lazy(fv.open(sei_file), fv.Recipe().completed(fv.open(sei_file)))
    monkeypatch.setattr(engine, "KERNEL_VERSION", "another")
    with pytest.raises(FvprocError, match=r"kernel version another.*install the same fvproc on all machines"):
        records.compute()


def test_arrays_that_are_dask_stay_lazy_to_the_end(sei_file, client):
    """Curves that another graph makes go through `lazy` and are computed on the cluster."""
    volume = fv.open(sei_file)
    z = [fv.curve(volume, 0, 0)[f"{branch}_z"] for branch in ("approach", "retract")]
    raw = [fv.to_dask(volume, branch, block_bytes=SMALL)[:6].rechunk((2, -1, -1)) for branch in ("approach", "retract")]
    settings = {"z": tuple(z), "units": "m", "z_units": "m", "spring_constant": 0.4, "tip_radius": 1e-8}
    composed = fv.from_arrays(*raw, **settings)
    whole = fv.from_arrays(*(array.compute() for array in raw), **settings)
    expected = fv.process(whole).records.tobytes()
    assert client.compute(fv.lazy(composed), sync=True).tobytes() == expected
    assert fv.lazy(composed).compute().tobytes() == expected
    assert fv.lazy(whole).compute(scheduler="threads").tobytes() == expected
    with pytest.raises(FvprocError, match="in the memory of this process"):
        cloudpickle.dumps(fv.lazy(whole))
