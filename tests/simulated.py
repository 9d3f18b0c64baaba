"""Simulated curves with their truth, as the kernel takes them; what the tests of the kernel are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fvproc import simulate
from fvproc._core import KernelSettings, kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawTile, Setting


@dataclass(frozen=True)
class Case:
    """A material with a probe and a peak force that a user would choose for it."""

    modulus: float
    spring_constant: float
    tip_radius: float
    peak_force: float
    adhesion: float
    travel: float


CASES = {
    "0.7 MPa": Case(0.7e6, 0.05, 20e-9, 0.5e-9, 0.3e-9, 600e-9),
    "45 MPa": Case(45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9),
    "916 MPa": Case(916e6, 5.0, 30e-9, 20e-9, 4e-9, 100e-9),
    "1.5 GPa": Case(1.5e9, 5.0, 30e-9, 20e-9, 4e-9, 100e-9),
    "10.7 GPa": Case(10.7e9, 40.0, 30e-9, 100e-9, 10e-9, 60e-9),
    "70 GPa": Case(70e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9),
}


@dataclass
class Measured:
    """A tile of simulated curves, the settings to fit it, and the truth; a thickness of each film where one is told."""

    raw: RawTile
    settings: KernelSettings
    volume: ForceVolume
    recipe: Recipe
    sample: simulate.Sample
    probe: simulate.Probe
    z0: np.ndarray
    thickness: np.ndarray | None = None


def measure(
    case: Case,
    *,
    curves: int = 40,
    samples: int = 256,
    drive: str = "sine",
    sigma: float = 2e-11,
    correlation: float = 0.0,
    flicker: float = 0.0,
    tilt: float = 1e-3,
    offset: float = 0.0,
    dtype: str = "int16",
    half_angle: float | None = None,
    seed: int = 0,
    z0: np.ndarray | None = None,
    attraction: simulate.Attraction | None = None,
    **recipe: Any,
) -> Measured:
    """Simulate `curves` curves of a case; keyword sections go into the recipe."""
    probe = simulate.Probe(case.spring_constant, None if half_angle else case.tip_radius, half_angle)
    z = simulate.ramp(samples, case.travel, drive)
    generator = np.random.default_rng(seed)
    sample = simulate.Sample(
        np.full(curves, case.modulus), np.full(curves, case.adhesion), np.full(curves, case.peak_force)
    )
    if z0 is None:
        z0 = sample.contact_point(probe, float(z[0].max()))
        z0 = z0 + generator.random(curves) * np.abs(np.diff(z[1])).max()
    largest = (
        1.3 * case.peak_force / case.spring_constant + 10 * (sigma + flicker) + abs(tilt) * case.travel + abs(offset)
    )
    channel = Channel("float32", "m") if dtype == "float32" else Channel(dtype, "m", largest / np.iinfo(dtype).max)
    raw = simulate.simulated_tile(
        z,
        sample,
        probe,
        channel,
        generator,
        sigma=sigma,
        correlation=correlation,
        flicker=flicker,
        tilt=tilt,
        offset=offset,
        z0=z0,
        attraction=attraction,
    )
    branch = Branch(samples, channel, Channel("float64", "m"), True)
    volume = ForceVolume(
        "simulated",
        "simulated",
        Grid(1, curves),
        branch,
        branch,
        calibration=Calibration(Setting(case.spring_constant)),
        tip_radius=None if half_angle else Setting(case.tip_radius),
        tip_half_angle=Setting(half_angle) if half_angle else None,
        poisson_ratio=probe.poisson_ratio,
    )
    full = Recipe.from_dict(recipe).completed(volume)
    return Measured(raw, kernel_settings(volume, full), volume, full, sample, probe, z0)
