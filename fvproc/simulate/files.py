"""Simulated maps written as curves files, tile by tile, with their truth."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from fvproc.errors import FvprocError
from fvproc.simulate.artefacts import spoil_shares
from fvproc.simulate.attraction import Attraction
from fvproc.simulate.curves import SERIES, Probe, Sample, ramp
from fvproc.simulate.tiles import FULL_SCALE, Background, simulated_tile, stored_channel
from fvproc.volume import Branch, Calibration, Channel, Grid, RawTile, Setting, Tile

_TRUTH_UNITS = {
    "material": "1",
    "bad": "1",
    "modulus": "Pa",
    "adhesion": "N",
    "peak_force": "N",
    "contact_point": "m",
    "indentation": "m",
    "contact_height": "m",
    "thickness": "m",
}


def write_curves(
    path: str | PathLike[str],
    grid: Grid,
    z: tuple[np.ndarray, np.ndarray],
    channel: Channel,
    probe: Probe,
    tile_of: Any,
    attributes: Mapping[str, Any],
    *,
    has_height: bool = False,
) -> None:
    """Stream tiles of whole rows into a curves file; memory holds one tile and the truth."""
    from fvproc.readers.curves import CurvesWriter

    branches = [Branch(len(positions), channel, Channel("float64", "m"), True) for positions in z]
    truth: dict[str, np.ndarray] = {}
    with CurvesWriter(
        path,
        grid,
        branches[0],
        branches[1],
        calibration=Calibration(spring_constant=Setting(probe.spring_constant)),
        tip_radius=None if probe.shape != "sphere" or probe.tip_radius is None else Setting(probe.tip_radius),
        tip_half_angle=None if probe.half_angle is None else Setting(probe.half_angle),
        poisson_ratio=probe.poisson_ratio,
        shared_z=z,
        has_height=has_height,
        attributes=attributes,
    ) as writer:
        rows = max(1, 4_000_000 // (grid.nx * branches[0].samples * 16))
        for first in range(0, grid.ny, rows):
            tile = Tile(first * grid.nx, min(first + rows, grid.ny) * grid.nx)
            raw, part = tile_of(tile)
            writer.write(tile, raw)
            for name, values in part.items():
                truth.setdefault(name, np.empty(grid.curves, np.asarray(values).dtype))[tile.start : tile.stop] = values
        for name, values in truth.items():
            writer.write_truth(name, _TRUTH_UNITS[name], values.reshape(grid.shape))


def write_map(
    path: str | PathLike[str],
    *,
    ny: int = 64,
    nx: int = 64,
    samples: int = 512,
    modulus: float = 1e9,
    adhesion: float = 5e-9,
    peak_force: float = 20e-9,
    probe: Probe | None = None,
    travel: float = 100e-9,
    drive: str = "sine",
    sigma: float = 2e-11,
    correlation: float = 0.0,
    tilt: float = 0.0,
    dtype: str = "int16",
    seed: int = 0,
    model: str = "dmt",
    thickness: float | np.ndarray | None = None,
    bonded: bool = True,
    series: str = SERIES[0],
    flicker: float = 0.0,
    flicker_exponent: float = 1.0,
    attraction: Attraction | None = None,
    background: Background | None = None,
    artefacts: Mapping[str, float] | None = None,
    spread: float | None = None,
) -> None:
    """Write a curves file of a homogeneous sample, whose contact points are spread evenly over a short range.

    Parameters
    ----------
    path : path-like
        The HDF5 file to make.
    ny, nx, samples : int
        Grid, and samples per branch.
    modulus, adhesion, peak_force : float
        Pa, N, N.
    probe : Probe, optional
        By default k = 5 N/m, R = 30 nm, ν = 0.3.
    travel, drive : float, str
        Of the ramp; see `ramp`.
    sigma, correlation, tilt : float
        Deflection noise in m, correlation of neighbouring samples, tilt of the baseline in m/m.
    dtype : {"int16", "int32", "float32"}
        Of the stored deflection.
    seed : int
        Of the noise; the same seed gives the same file content.
    model : {"dmt", "jkr"}
        See `Sample`.
    thickness : float or ndarray, optional
        Of a film on a rigid substrate, m: a number or a map (ny, nx), which the truth then holds.
    bonded : bool
        Whether the film sticks to its substrate.
    series : {"solved", "published"}
        Of the film; see `Sample`.
    flicker, flicker_exponent, attraction, background
        See `simulated_tile`.
    artefacts : mapping of str to float, optional
        Share of the curves that is spoilt in each way, see `spoil_shares`; the truth `bad` says which.
    spread : float, optional
        Range of the contact points, m; by default the step of the ramp at the turning point. A sine's step at the
        pull-off is many times as long, so that there all curves hold nearly the same place between two samples: to
        judge an estimator, give the ramp's longest step.

    Raises
    ------
    FvprocError
        If a value has no meaning, or `thickness` is a map of another shape.
    """
    probe = probe or Probe(5.0)
    grid = Grid(ny, nx, ny * 10e-9, nx * 10e-9)
    z = ramp(samples, travel, drive)
    k = probe.spring_constant
    largest = max(peak_force, adhesion) / k + 10 * sigma + abs(tilt) * travel + 5 * flicker
    if background is not None:
        largest += background.largest(z[0], k)
    channel = stored_channel(dtype, largest)
    if artefacts and dtype != "float32":
        channel = Channel(dtype, "m", channel.scale, invalid=-FULL_SCALE[dtype] - 1)
    if spread is None:
        spread = float(np.min(np.abs(np.diff(z[0]))[-4:]))
    if thickness is not None and np.ndim(thickness) and np.shape(thickness) != grid.shape:
        raise FvprocError(f"thickness: a map of shape {np.shape(thickness)}, where the grid has {grid.shape}")
    films = None if thickness is None else np.broadcast_to(np.asarray(thickness, float), grid.shape).reshape(-1)

    def tile_of(tile: Tile) -> tuple[RawTile, dict[str, np.ndarray]]:
        generator = np.random.default_rng([seed, tile.start])
        count = len(tile)
        shift = spread * generator.random(count)
        film = None if films is None else films[tile.start : tile.stop]
        sample = Sample(
            np.full(count, modulus), np.full(count, adhesion), np.full(count, peak_force), model, film, bonded, series
        )
        z0 = sample.contact_point(probe, float(z[0].max())) + shift
        raw = simulated_tile(
            z,
            sample,
            probe,
            channel,
            generator,
            sigma=sigma,
            correlation=correlation,
            tilt=tilt,
            z0=z0,
            flicker=flicker,
            flicker_exponent=flicker_exponent,
            attraction=attraction,
            background=background,
        )
        truth = {"modulus": sample.modulus, "adhesion": sample.adhesion, "contact_point": z0}
        if film is not None:
            truth["thickness"] = film
        if artefacts:
            truth["bad"] = spoil_shares(raw, artefacts, channel, generator, sigma=sigma)
        return raw, truth

    write_curves(path, grid, z, channel, probe, tile_of, {"simulation": "homogeneous", "seed": seed})
