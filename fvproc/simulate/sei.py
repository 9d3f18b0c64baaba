"""The simulated PeakForce map of an SEI on graphite: its materials, layout, bad pixels and truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike

import numpy as np

from fvproc.simulate.curves import Probe, Sample, ramp
from fvproc.simulate.files import write_curves
from fvproc.simulate.tiles import FULL_SCALE, simulated_tile
from fvproc.volume import Channel, Grid, RawTile, Tile


@dataclass(frozen=True, slots=True)
class Material:
    """A material of the simulated SEI map."""

    name: str
    modulus: float
    adhesion: float
    colour: str = ""


# moduli from the EC-AFM review, Adv. Energy Mater. 2021, 2101518; graphite across the layers: HOPG, 18 GPa
MATERIALS = (
    Material("graphite", 18e9, 6e-9),
    Material("organic SEI", 45e6, 9e-9),
    Material("FEC-derived SEI", 1.5e9, 4e-9),
    Material("LiF-rich SEI", 10.7e9, 2.5e-9),
)
BAD_PIXELS = ("no contact", "saturated", "never left", "marked invalid")

_SEI_PROBE = Probe(5.0, 30e-9)


def _smooth_field(generator: np.random.Generator, ny: int, nx: int, length: float) -> np.ndarray:
    """Return a random field of unit variance that varies over `length` pixels (Gaussian spectrum)."""
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :]
    spectrum = np.exp(-2.0 * (math.pi * length) ** 2 * (ky**2 + kx**2))
    field = np.fft.irfft2(np.fft.rfft2(generator.standard_normal((ny, nx))) * spectrum, s=(ny, nx))
    return (field - field.mean()) / (field.std() or 1.0)


def sei_layout(ny: int, nx: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the truth of the SEI map: material number, modulus, adhesion, height, bad-pixel number, (ny, nx) each."""
    generator = np.random.default_rng(seed)
    scale = min(ny, nx) / 256.0
    y, x = np.mgrid[0:ny, 0:nx].astype(float)
    height = np.zeros((ny, nx))
    # graphite terraces: steps of a few layers of 0.335 nm, along a slightly wavy line
    along = (0.8 * x + 0.6 * y) / max(min(ny, nx), 1)
    wave = 0.03 * _smooth_field(generator, ny, nx, 30 * scale + 1)
    for position, layers in ((0.25, 3), (0.6, 6), (1.0, 2)):
        height += layers * 0.335e-9 * (along + wave > position)
    material = np.zeros((ny, nx), np.int8)
    for number, length, coverage, thickness in ((1, 14, 0.26, 12e-9), (2, 10, 0.16, 20e-9), (3, 5, 0.08, 8e-9)):
        field = _smooth_field(generator, ny, nx, max(length * scale, 0.8))
        level = float(np.quantile(field, 1.0 - coverage))
        inside = field > level
        material[inside] = number
        rise = 1.0 - np.exp(-((field - level) / 0.25).clip(0.0))
        height = np.where(inside, height + thickness * rise, height)
    height += 0.05e-9 * _smooth_field(generator, ny, nx, max(1.5 * scale, 0.5))
    texture = _smooth_field(generator, ny, nx, max(4 * scale, 0.8))
    modulus = np.array([m.modulus for m in MATERIALS])[material]
    adhesion = np.array([m.adhesion for m in MATERIALS])[material] * (1.0 + 0.05 * texture)
    bad = np.zeros(ny * nx, np.int8)
    count = max(len(BAD_PIXELS), ny * nx // 3000)
    where = generator.choice(ny * nx, size=min(count, ny * nx), replace=False)
    bad[where] = 1 + np.arange(len(where)) % len(BAD_PIXELS)
    return {
        "material": material,
        "modulus": modulus,
        "adhesion": adhesion,
        "height": height,
        "bad": bad.reshape(ny, nx),
    }


def sei_map(
    path: str | PathLike[str],
    *,
    ny: int = 256,
    nx: int = 256,
    samples: int = 256,
    sigma: float = 2e-11,
    seed: int = 0,
) -> None:
    """Write a curves file of a PeakForce map of an SEI on graphite, with its truth.

    Terraces of graphite (18 GPa) carry islands of 45 MPa, 1.5 GPa and 10.7 GPa films of different adhesion; the
    peak force scatters by 2 % as a real feedback lets it; a few pixels are bad in each way of `BAD_PIXELS`.

    Parameters
    ----------
    path : path-like
        The HDF5 file to make.
    ny, nx, samples : int
        Grid, and samples per branch.
    sigma : float
        Deflection noise, m.
    seed : int
        The same seed gives the same file content.
    """
    layout = sei_layout(ny, nx, seed)
    probe, travel, peak = _SEI_PROBE, 120e-9, 20e-9
    grid = Grid(ny, nx, ny * 1e-6 / max(ny, nx), nx * 1e-6 / max(ny, nx))
    z = ramp(samples, travel, "sine")
    limit = FULL_SCALE["int16"]
    channel = Channel("int16", "m", scale=12e-9 / limit, invalid=-limit - 1)

    def tile_of(tile: Tile) -> tuple[RawTile, dict[str, np.ndarray]]:
        generator = np.random.default_rng([seed, tile.start])
        part = {name: values.reshape(-1)[tile.start : tile.stop] for name, values in layout.items()}
        force = peak * (1.0 + 0.02 * generator.standard_normal(len(tile)))
        sample = Sample(part["modulus"], part["adhesion"], force)
        raw = simulated_tile(z, sample, probe, channel, generator, sigma=sigma, offset=1e-9, tilt=2e-3)
        for row in np.flatnonzero(part["bad"]):
            _spoil(raw, int(row), BAD_PIXELS[part["bad"][row] - 1], limit, sigma / channel.scale, generator)
        raw.height = part["height"] - sample.indentation(probe)
        truth = {
            **part,
            "peak_force": force,
            "contact_point": sample.contact_point(probe, float(z[0].max())),
            "indentation": sample.indentation(probe),
        }
        del truth["height"]
        truth["contact_height"] = part["height"]
        return raw, truth

    write_curves(
        path, grid, z, channel, probe, tile_of, {"simulation": "SEI on graphite", "seed": seed}, has_height=True
    )


def _spoil(raw: RawTile, row: int, how: str, limit: int, sigma: float, generator: np.random.Generator) -> None:
    """Make one curve bad in the way named."""
    for branch in (raw.approach, raw.retract):
        values = branch.deflection[row]
        if how == "no contact":
            values[:] = np.rint(generator.normal(0.0, sigma, values.size))
        elif how == "saturated":
            values[values > 0.5 * values.max()] = limit
        elif how == "never left":
            slope = branch.z / np.ptp(branch.z)
            values[:] = np.rint(0.6 * limit * slope**1.2 + generator.normal(0.0, sigma, values.size))
        else:
            values[:] = -limit - 1
