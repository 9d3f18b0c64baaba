"""The parts of a tile's way, each timed alone by pytest-benchmark: what of them got slower, and since when.

    pytest bench/microbenchmarks.py --benchmark-json after.json
    python bench/compare.py before.json after.json

One thread. Instructions, which other work on the machine does not change, are counted by bench/instructions.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bounds import noise as made_noise
from materials import MATERIALS
from truth import driven, tile

import fvproc as fv
from fvproc import _core, engine, noise, simulate, writers
from fvproc.maps import ParameterMaps
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, Grid, RawTile, Tile

CURVES = 960
SIGMA = 2e-11
RECIPES = {
    "ml": {},
    "ml, threshold": {"contact": {"method": "threshold"}},
    "ml, gradient": {"contact": {"method": "gradient"}},
    "ml, ratio of variances": {"contact": {"method": "ratio_of_variances"}},
    "qnm, threshold": {"fit": {"method": "qnm"}, "contact": {"method": "threshold"}},
}


def simulated(kind: str, samples: int = 512, *, shared_z: bool = True) -> tuple[RawTile, ForceVolume]:
    """Return curves of 1.5 GPa and the description of a file of them."""
    (material,) = (m for m in MATERIALS if m.name == "1.5 GPa")
    made = made_noise(np.random.default_rng(0), kind, CURVES, samples)
    return tile(driven(material, "sine", samples), made, SIGMA, 1e-3, shared_z, "int16")


def completed(raw: RawTile, volume: ForceVolume, **sections: Any) -> Recipe:
    """Return a recipe that knows the noise of the curves."""
    recipe = Recipe.from_dict(sections).completed(volume)
    return replace(recipe, noise=noise.measured_on(raw, volume, recipe))


@pytest.mark.parametrize("recipe", RECIPES)
def test_kernel_by_recipe(benchmark: Any, recipe: str) -> None:
    raw, volume = simulated("white")
    settings = _core.kernel_settings(volume, completed(raw, volume, **RECIPES[recipe]))
    records = benchmark(_core.fit_tile, raw, settings)
    assert np.isfinite(records["modulus"]).mean() > 0.9


@pytest.mark.parametrize("samples", [64, 256, 1024, 4096])
def test_kernel_by_samples(benchmark: Any, samples: int) -> None:
    raw, volume = simulated("white", samples)
    benchmark(_core.fit_tile, raw, _core.kernel_settings(volume, completed(raw, volume)))


@pytest.mark.parametrize("correlation", ["map", "curve"])
@pytest.mark.parametrize("shared_z", [True, False], ids=["shared z", "own z"])
def test_kernel_under_slow_noise(benchmark: Any, correlation: str, shared_z: bool) -> None:
    raw, volume = simulated("1/f", shared_z=shared_z)
    recipe = completed(raw, volume, noise={"correlation": correlation})
    records = benchmark(_core.fit_tile, raw, _core.kernel_settings(volume, recipe))
    assert np.mean((records["flags"] & np.uint32(fv.Flag.NOISE_CORRELATED)) != 0) > 0.9


@pytest.mark.parametrize("kind", ["white", "1/f"])
def test_noise_of_a_map(benchmark: Any, kind: str) -> None:
    raw, volume = simulated(kind)
    found = benchmark(noise.measured_on, raw, volume, Recipe().completed(volume))
    assert any(found.retract[1:]) == (kind == "1/f")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    plain, packed = folder / "plain.h5", folder / "packed.h5"
    simulate.sei_map(plain, ny=64, nx=64, samples=512, seed=0)
    with h5py.File(plain) as source, h5py.File(packed, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            source.copy(source[name], target, name)
        for branch in ("approach", "retract"):
            values = target[f"{branch}/deflection"]
            attributes, data = dict(values.attrs), values[...]
            del target[f"{branch}/deflection"]
            chunks = (256, data.shape[-1]) if data.ndim == 2 else (4, 64, data.shape[-1])
            made = target.create_dataset(f"{branch}/deflection", data=data, chunks=chunks, compression="gzip")
            made.attrs.update(attributes)
    return {"contiguous": plain, "gzip": packed}


@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_reading(benchmark: Any, files: dict[str, Path], layout: str) -> None:
    volume = fv.open(files[layout])
    raw = benchmark(engine.read_tile, volume, Tile(0, 1024))
    assert len(raw.retract.deflection) == 1024


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".ome.tif"])
def test_writing(benchmark: Any, files: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    maps = fv.process(files["contiguous"], threads=1)
    large = ParameterMaps(Grid(256, 256), np.tile(maps.records, (4, 4)), provenance=maps.provenance)
    benchmark(writers.save, large, tmp_path / f"out{suffix}", overwrite=True)
