"""Force-distance curves of known truth: the forward model, and maps made of it written as curves files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from fvproc.errors import FvprocError
from fvproc.volume import Branch, Calibration, Channel, Grid, RawBranch, RawTile, Setting, Tile

_EXPONENT = {"sphere": 1.5, "cone": 2.0}


@dataclass(frozen=True, slots=True)
class Probe:
    """The instrument of a simulation.

    Parameters
    ----------
    spring_constant : float
        N/m.
    tip_radius : float or None
        Of a sphere, m.
    half_angle : float or None
        Of a cone, rad; give either this or `tip_radius`.
    poisson_ratio : float
        Of the sample.
    """

    spring_constant: float
    tip_radius: float | None = 30e-9
    half_angle: float | None = None
    poisson_ratio: float = 0.3

    @property
    def shape(self) -> str:
        """``"sphere"`` or ``"cone"``."""
        return "sphere" if self.half_angle is None else "cone"

    def stiffness_factor(self, modulus: np.ndarray | float) -> np.ndarray:
        """Return K of P = K·δ^m for a rigid tip: (4/3)·E*·√R or (2/π)·E*·tan α."""
        reduced = np.asarray(modulus, float) / (1.0 - self.poisson_ratio**2)
        if self.half_angle is not None:
            return 2.0 / math.pi * reduced * math.tan(self.half_angle)
        assert self.tip_radius is not None
        return 4.0 / 3.0 * reduced * math.sqrt(self.tip_radius)


def ramp(samples: int, travel: float, drive: str = "sine") -> tuple[np.ndarray, np.ndarray]:
    """Return z of approach and retract in m, (samples,) each, in the order of time.

    Parameters
    ----------
    samples : int
        Per branch.
    travel : float
        From the farthest to the nearest position, m; z runs from 0 to `travel` and back.
    drive : {"sine", "linear"}
        A sinusoid as in PeakForce mode (its period sampled evenly), or a triangle.
    """
    phase = (np.arange(samples) + 0.5) / samples
    if drive == "sine":
        approach = travel * 0.5 * (1.0 - np.cos(np.pi * phase))
    elif drive == "linear":
        approach = travel * phase
    else:
        raise FvprocError(f"drive = {drive!r}: choose from sine, linear")
    return approach, approach[::-1].copy()


def load_at(compliance: np.ndarray, travel: np.ndarray, exponent: float) -> np.ndarray:
    """Solve q + B·q^(1/m) = c for q >= 0 (all in m, B in m^(1−1/m)); 0 where c <= 0.

    q is the contact's load over the spring constant; see `fvproc._core.model` for the equation.
    Newton in the m-th root of q, which makes the equation convex, until it stops moving.
    """
    compliance, travel = np.broadcast_arrays(np.asarray(compliance, float), np.maximum(travel, 0.0))
    if exponent == 2.0:
        return (2.0 * travel / (compliance + np.sqrt(compliance**2 + 4.0 * travel) + 1e-300)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.minimum(np.cbrt(travel), np.sqrt(travel / compliance))
        for _ in range(60):
            step = (p * p * (p + compliance) - travel) / (p * (3.0 * p + 2.0 * compliance))
            p = np.where(travel > 0, p - step, 0.0)
            if not np.any(np.abs(step) > 1e-15 * p):
                break
    return p**3


@dataclass(frozen=True, slots=True)
class Sample:
    """What each of n curves measures; arrays broadcast to (n,), SI units.

    Parameters
    ----------
    modulus : ndarray
        Young's modulus, Pa.
    adhesion : ndarray
        Pull-off force, N.
    peak_force : ndarray
        Force at the turning point, N.
    """

    modulus: np.ndarray
    adhesion: np.ndarray
    peak_force: np.ndarray

    def compliance(self, probe: Probe) -> np.ndarray:
        """Return B = (k/K)^(1/m) in m^(1 − 1/m)."""
        m = _EXPONENT[probe.shape]
        return (probe.spring_constant / probe.stiffness_factor(self.modulus)) ** (1.0 / m)

    def indentation(self, probe: Probe) -> np.ndarray:
        """Return the indentation at peak force, m."""
        m = _EXPONENT[probe.shape]
        load = self.peak_force + self.adhesion
        return (load / probe.stiffness_factor(self.modulus)) ** (1.0 / m)

    def contact_point(self, probe: Probe, turning_point: float) -> np.ndarray:
        """Return z0 so that the force at z = `turning_point` is the peak force."""
        return turning_point - self.indentation(probe) - self.peak_force / probe.spring_constant


def deflection(z: np.ndarray, sample: Sample, probe: Probe, z0: np.ndarray, *, retract: bool) -> np.ndarray:
    """Return the noise-free deflection in m, (n, samples): DMT (sphere) or Sneddon with a pull-off (cone).

    On approach the tip is free until z reaches z0, then jumps to the contact branch; on retract it stays in contact
    down to δ = 0, at z0 − F_adh/k, then jumps off (F = −F_adh + K·δ^m, Derjaguin, Muller & Toporov 1975).
    """
    k = probe.spring_constant
    reach = np.asarray(sample.adhesion, float)[..., None] / k
    travel = z - np.asarray(z0, float)[..., None]
    load = load_at(sample.compliance(probe)[..., None], travel + reach, _EXPONENT[probe.shape])
    touching = travel > -reach if retract else travel > 0.0
    return np.where(touching, load - reach, 0.0)


def noise(generator: np.random.Generator, shape: tuple[int, ...], sigma: float, correlation: float = 0.0) -> np.ndarray:
    """Return Gaussian noise of standard deviation `sigma`; `correlation` of neighbours (first-order autoregression)."""
    white = generator.standard_normal(shape)
    if correlation:
        innovation = math.sqrt(1.0 - correlation**2)
        for i in range(1, shape[-1]):
            white[..., i] = correlation * white[..., i - 1] + innovation * white[..., i]
    return sigma * white


_FULL_SCALE = {"int16": 32767, "int32": 2**31 - 1}


def _channel(dtype: str, largest: float, resolution: float | None) -> Channel:
    if dtype == "float32":
        return Channel("float32", "m")
    return Channel(dtype, "m", scale=resolution or largest / (0.8 * _FULL_SCALE[dtype]))


def _store(values: np.ndarray, channel: Channel) -> np.ndarray:
    if channel.dtype == "float32":
        return values.astype(np.float32)
    limit = _FULL_SCALE[channel.dtype]
    return np.clip(np.rint(values / channel.scale), -limit - 1, limit).astype(channel.dtype)


def simulated_tile(
    z: tuple[np.ndarray, np.ndarray],
    sample: Sample,
    probe: Probe,
    channel: Channel,
    generator: np.random.Generator,
    *,
    sigma: float = 2e-11,
    correlation: float = 0.0,
    offset: float = 0.0,
    tilt: float = 0.0,
    z0: np.ndarray | None = None,
) -> RawTile:
    """Return curves with noise, baseline offset (m) and tilt (m/m), as the raw numbers of `channel`; z is shared.

    Parameters
    ----------
    z : tuple of ndarray
        As from `ramp`.
    sample, probe : Sample, Probe
        Truth.
    channel : Channel
        Deflection in m.
    generator : numpy.random.Generator
        Source of the noise.
    sigma, correlation : float
        Of the noise, m; see `noise`.
    z0 : ndarray, optional
        Contact points in m; by default those at which the peak force is reached at the end of the ramp.
    """
    turning_point = float(z[0].max())
    z0 = sample.contact_point(probe, turning_point) if z0 is None else z0
    branches = []
    for positions, retract in zip(z, (False, True), strict=True):
        d = deflection(positions, sample, probe, z0, retract=retract)
        d += noise(generator, d.shape, sigma, correlation)
        d += offset + tilt * (positions - turning_point)
        branches.append(RawBranch(_store(d, channel), positions))
    return RawTile(branches[0], branches[1])


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
) -> None:
    """Write a curves file of a homogeneous sample; contact points are spread evenly over one step of the ramp.

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
    """
    probe = probe or Probe(5.0)
    grid = Grid(ny, nx, ny * 10e-9, nx * 10e-9)
    z = ramp(samples, travel, drive)
    channel = _channel(dtype, max(peak_force, adhesion) / probe.spring_constant + 10 * sigma + abs(tilt) * travel, None)
    step = float(np.min(np.abs(np.diff(z[0]))[-4:]))

    def tile_of(tile: Tile) -> tuple[RawTile, dict[str, np.ndarray]]:
        generator = np.random.default_rng([seed, tile.start])
        count = len(tile)
        shift = step * generator.random(count)
        sample = Sample(np.full(count, modulus), np.full(count, adhesion), np.full(count, peak_force))
        z0 = sample.contact_point(probe, float(z[0].max())) + shift
        raw = simulated_tile(
            z, sample, probe, channel, generator, sigma=sigma, correlation=correlation, tilt=tilt, z0=z0
        )
        return raw, {"modulus": sample.modulus, "adhesion": sample.adhesion, "contact_point": z0}

    _write(path, grid, z, channel, probe, tile_of, {"simulation": "homogeneous", "seed": seed})


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
    limit = _FULL_SCALE["int16"]
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

    _write(path, grid, z, channel, probe, tile_of, {"simulation": "SEI on graphite", "seed": seed}, has_height=True)


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


_TRUTH_UNITS = {
    "material": "1",
    "bad": "1",
    "modulus": "Pa",
    "adhesion": "N",
    "peak_force": "N",
    "contact_point": "m",
    "indentation": "m",
    "contact_height": "m",
}


def _write(
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
        tip_radius=None if probe.tip_radius is None or probe.shape == "cone" else Setting(probe.tip_radius),
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
