"""Artefacts put into simulated raw tiles, for tests: spikes, pull-offs in steps or blunt, interference, drag."""

from __future__ import annotations

import numpy as np
from simulated import Measured


def add(measured: Measured, branch: str, where: np.ndarray, change: np.ndarray) -> None:
    """Add `change` (nm) to samples `where` of a branch, in the order of time, of all curves of the tile."""
    conversion = getattr(measured.settings, f"{branch}_deflection")
    deflection = getattr(measured.raw, branch).deflection
    values = deflection[:, where].astype(float) + np.asarray(change) / conversion.scale
    deflection[:, where] = np.rint(values) if deflection.dtype.kind == "i" else values


def deflections(measured: Measured) -> np.ndarray:
    """Deflection on retract, nm, (curves, samples) in the order of time."""
    return measured.raw.retract.deflection.astype(float) * measured.settings.retract_deflection.scale


def jump(measured: Measured) -> np.ndarray:
    """First sample behind the pull-off of each curve, a single jump as simulated."""
    return np.argmax(np.diff(deflections(measured), axis=1), axis=1) + 1


def tether(measured: Measured, depth: float, samples: int, *, gap: int = 0) -> None:
    """Hold the tip by `depth` nm for some samples, from `gap` samples behind the pull-off on."""
    for curve, first in enumerate(jump(measured)):
        _row(measured, curve, slice(first + gap, first + gap + samples), -depth)


def blunt(measured: Measured, samples: int) -> None:
    """Let the force come back from the pull-off in a straight line over some samples."""
    low = deflections(measured)
    for curve, first in enumerate(jump(measured)):
        depth = low[curve, first:].mean() - low[curve, first - 1]
        _row(measured, curve, slice(first, first + samples), -depth * np.linspace(1.0, 0.0, samples + 2)[1:-1])


def _row(measured: Measured, curve: int, where: slice, change: np.ndarray | float) -> None:
    scale = measured.settings.retract_deflection.scale
    row = measured.raw.retract.deflection
    row[curve, where] = np.rint(row[curve, where] + np.asarray(change) / scale)


def interference(measured: Measured, amplitude: float, period: float, phase: float = 0.7) -> None:
    """Add a sinusoid in z to both branches; amplitude in nm, period in m."""
    for branch in ("approach", "retract"):
        z = getattr(measured.raw, branch).z
        add(measured, branch, np.arange(len(z)), amplitude * np.sin(2.0 * np.pi * z / period + phase))


def drag(measured: Measured, amplitude: float) -> None:
    """Add what is proportional to dz/dt; `amplitude` in nm where the ramp is fastest."""
    for branch in ("approach", "retract"):
        velocity = np.gradient(getattr(measured.raw, branch).z)
        add(measured, branch, np.arange(len(velocity)), amplitude * velocity / np.abs(velocity).max())
