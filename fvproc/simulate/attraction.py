"""Attraction while the tip is free: van der Waals before contact, and pull-offs that are blunt or come in steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvproc.errors import FvprocError


@dataclass(frozen=True, slots=True)
class Attraction:
    """What pulls a free tip; the defaults pull nothing.

    Parameters
    ----------
    hamaker : float
        Hamaker constant H in J: F = −H·R/(6·D²) over the gap D, on both branches; spheres only.
    decay : float
        Blunt pull-off: after it the attraction decays as exp(−x/decay) over the piezo's way x since, in m; 0 is a jump.
    tethers : tuple of (float, float)
        Multiple pull-offs: each tether pulls with a share of the pull-off force and lets go at a distance in m of the
        piezo's way since the first pull-off.
    """

    hamaker: float = 0.0
    decay: float = 0.0
    tethers: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("hamaker", "decay"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise FvprocError(f"attraction.{name} = {getattr(self, name)!r}: must be finite and not negative")
        for share, distance in self.tethers:
            if not (0.0 < share <= 1.0 and 0.0 < distance < np.inf):
                raise FvprocError(
                    f"attraction.tethers has ({share!r}, {distance!r}): a share in 0 … 1 of the pull-off force, and "
                    "a distance in m above zero"
                )


def van_der_waals(
    distance: np.ndarray, hamaker: float, shape: str, radius: float, spring_constant: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a free tip's deflection under F = −H·R/(6·D²), and the distance at which it snaps in, both in m.

    Parameters
    ----------
    distance : ndarray
        g = z0 − z in m: the gap if the cantilever were straight; D = g + d.
    hamaker : float
        H, J.
    shape : str
        Of the tip: a sphere.
    radius, spring_constant : float
        R in m and k in N/m.

    Returns
    -------
    deflection : ndarray
        Negative; nearer than the snap-in its value there.
    snap : ndarray
        (3/2)·(H·R/(3·k))^(1/3), a 0-d array, where the attraction's gradient H·R/(3·D³) reaches k.

    Raises
    ------
    FvprocError
        For a tip other than a sphere.

    Notes
    -----
    D³ − g·D² + H·R/(6·k) = 0; its largest root is the stable one, D = (g/3)·(1 + 2·cos φ) with
    cos 3φ = 1 − 9·H·R/(4·k·g³) (Butt, Cappella & Kappl, Surf. Sci. Rep. 59 (2005) 1, for force and instability).
    """
    if shape != "sphere":
        raise FvprocError(f"attraction.hamaker: F = −H·R/(6·D²) is that of a sphere, not of a {shape}; take 0")
    strength = hamaker * radius / (6.0 * spring_constant)
    snap = np.asarray(1.5 * np.cbrt(2.0 * strength))
    g = np.maximum(distance, snap)
    cosine = np.clip(1.0 - 13.5 * strength / g**3, -1.0, 1.0)
    gap = g / 3.0 * (1.0 + 2.0 * np.cos(np.arccos(cosine) / 3.0))
    return -strength / gap**2, snap


def after_pull_off(distance: np.ndarray, left: np.ndarray, reach: np.ndarray, attraction: Attraction) -> np.ndarray:
    """Return the deflection in m after contact was lost: the stronger of blunt pull-off and tethers.

    Parameters
    ----------
    distance : ndarray
        Way of the piezo since, m; what lies before counts as none.
    left : ndarray
        Deflection at which contact was lost, m, negative: the blunt pull-off starts there, without a jump.
    reach : ndarray
        F_adh/k, m: the tethers' shares are of it.
    attraction : Attraction
        Decay and tethers.
    """
    since = np.maximum(distance, 0.0)
    pulled = np.zeros_like(since)
    for share, length in attraction.tethers:
        pulled = pulled - np.where(since < length, share * reach, 0.0)
    # tethers share the pull-off force, they do not exceed it
    pulled = np.maximum(pulled, -reach)
    if attraction.decay:
        pulled = np.minimum(pulled, left * np.exp(-since / attraction.decay))
    return pulled
