"""Tiles of simulated curves as an instrument stores them: contact, background and noise, in raw numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fvproc.errors import FvprocError
from fvproc.simulate.attraction import Attraction
from fvproc.simulate.curves import Probe, Sample, deflection
from fvproc.simulate.noise import noise, power_law_noise
from fvproc.volume import Channel, RawBranch, RawTile

FULL_SCALE = {"int16": 32767, "int32": 2**31 - 1}


@dataclass(frozen=True, slots=True)
class Background:
    """What an instrument adds to the deflection besides noise, offset and tilt; the defaults add nothing.

    Parameters
    ----------
    interference : float
        Amplitude in m of a sinusoid in z: light reflected by the sample interferes on the photodiode.
    period : float
        Of that sinusoid, m of z: half the wavelength over the refractive index, 300–400 nm.
    phase : float or None
        Of that sinusoid at the turning point, rad; None draws one for each curve.
    drag : float
        Damping coefficient of the cantilever in the fluid, N·s/m: the deflection gains drag·(dz/dt)/k, positive on
        approach, negative on retract, in proportion to the speed that a sine drive changes along the branch.
    rate : float
        Curves a second, Hz; sets the speed, and the time in which the sample drifts.
    drift : float
        Speed at which the sample moves toward the tip, m/s; 0 at the turning point.
    hysteresis : float
        Greatest distance, half way along the branch, by which the tip is nearer on retract than its z says, m; the
        loop closes at both ends.
    step : float
        By which the baseline of the retract branch lies above that of the approach, m.
    bow : float
        By which the baseline lies above its chord half way along the branch, m: a parabola that is zero at both ends.
    """

    interference: float = 0.0
    period: float = 350e-9
    phase: float | None = None
    drag: float = 0.0
    rate: float = 1.0
    drift: float = 0.0
    hysteresis: float = 0.0
    step: float = 0.0
    bow: float = 0.0

    def __post_init__(self) -> None:
        for name in ("interference", "drag", "drift", "hysteresis", "step", "bow"):
            if not math.isfinite(getattr(self, name)):
                raise FvprocError(f"background.{name} = {getattr(self, name)!r}: must be finite")
        for name in ("period", "rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise FvprocError(f"background.{name} = {getattr(self, name)!r}: must be finite and above zero")

    def largest(self, z: np.ndarray, spring_constant: float) -> float:
        """Return a bound of what it adds to the deflection over the branch z, m."""
        dragged = float(np.max(np.abs(self._speed(z)))) * abs(self.drag) / spring_constant
        return abs(self.interference) + dragged + abs(self.step) + abs(self.bow)

    def _speed(self, z: np.ndarray) -> np.ndarray:
        """Return dz/dt in m/s, (samples,)."""
        return np.gradient(z) * (2.0 * self.rate * len(z)) if len(z) > 1 else np.zeros(len(z))

    def position(self, z: np.ndarray, *, retract: bool) -> np.ndarray:
        """Return where the tip truly is over the undrifted sample, m, (samples,)."""
        seconds = (np.arange(len(z)) + 0.5) / (2.0 * self.rate * len(z))
        if not retract:
            return z + self.drift * (seconds - 0.5 / self.rate)
        along = (z - z.min()) / (np.ptp(z) or 1.0)
        return z + self.drift * seconds + self.hysteresis * 4.0 * along * (1.0 - along)

    def added(
        self, z: np.ndarray, turning_point: float, spring_constant: float, phases: np.ndarray, *, retract: bool
    ) -> np.ndarray:
        """Return what it adds to the deflection, m, (n, samples), with one phase of the interference a curve."""
        total = np.full((len(phases), len(z)), self.step if retract else 0.0)
        if self.bow:
            along = (z - z.min()) / (np.ptp(z) or 1.0)
            total += self.bow * 4.0 * along * (1.0 - along)
        if self.drag:
            total += self.drag * self._speed(z) / spring_constant
        if self.interference:
            angle = 2.0 * math.pi / self.period * (z - turning_point)
            total += self.interference * np.sin(angle + phases[:, None])
        return total


def stored_channel(dtype: str, largest: float, resolution: float | None = None) -> Channel:
    """Return a deflection channel in m that holds ± `largest` with a fifth to spare, unless `resolution` is given."""
    if dtype == "float32":
        return Channel("float32", "m")
    return Channel(dtype, "m", scale=resolution or largest / (0.8 * FULL_SCALE[dtype]))


def store(values: np.ndarray, channel: Channel) -> np.ndarray:
    """Return metres as the raw numbers of a channel, clipped at the ends of its converter."""
    if channel.dtype == "float32":
        return values.astype(np.float32)
    limit = FULL_SCALE[channel.dtype]
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
    flicker: float = 0.0,
    flicker_exponent: float = 1.0,
    attraction: Attraction | None = None,
    background: Background | None = None,
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
    flicker, flicker_exponent : float
        Standard deviation (m) and exponent of noise that falls as a power of the frequency, over both branches as one
        run in time; see `power_law_noise`. It adds to the other: variances add.
    attraction : Attraction, optional
        Of the free tip.
    background : Background, optional
        Interference, drag, drift, hysteresis.
    """
    turning_point = float(z[0].max())
    z0 = sample.contact_point(probe, turning_point) if z0 is None else z0
    background = background or Background()
    # drawn from a child, so that curves without these differ in nothing from what they were before there were any
    child = generator.spawn(1)[0] if flicker or (background.interference and background.phase is None) else None
    coloured = None
    phases = np.full(len(z0), background.phase or 0.0)
    if child is not None:
        coloured = power_law_noise(child, (len(z0), len(z[0]) + len(z[1])), flicker, flicker_exponent)
        if background.phase is None:
            phases = child.uniform(0.0, 2.0 * math.pi, len(z0))
    branches = []
    for positions, retract in zip(z, (False, True), strict=True):
        true = background.position(positions, retract=retract)
        d = deflection(true, sample, probe, z0, retract=retract, attraction=attraction)
        d += noise(generator, d.shape, sigma, correlation)
        d += offset + tilt * (positions - turning_point)
        if coloured is not None:
            d += coloured[:, len(z[0]) :] if retract else coloured[:, : len(z[0])]
        d += background.added(positions, turning_point, probe.spring_constant, phases, retract=retract)
        branches.append(RawBranch(store(d, channel), positions))
    return RawTile(branches[0], branches[1])
