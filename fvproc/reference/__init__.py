"""The kernel again in plain NumPy and SciPy, one curve at a time: the executable definition of every quantity.

Slow on purpose. Steps, names and thresholds are those of `fvproc/_core`; one body of tests runs over both. Where the
kernel has a trick (partial sums, eight curves at once, its own Levenberg-Marquardt, a root kept from step to step),
this has the plain thing (sums over arrays, `scipy.optimize.least_squares`, Newton to the end). Inside, lengths are in
nm and forces are the deflections they cause, in nm.
"""

from __future__ import annotations

import numpy as np

from fvproc._core.settings import KernelSettings
from fvproc.quantities import RECORD
from fvproc.reference.contact import Contact
from fvproc.reference.curve import fit_curve
from fvproc.volume import RawTile

__all__ = ["Contact", "fit_curve", "fit_tile"]


def fit_tile(raw: RawTile, settings: KernelSettings, *, thickness: np.ndarray | None = None) -> np.ndarray:
    """Return records (curves,) of a tile: same arguments and meaning as `fvproc._core.fit_tile`."""
    films = [None] * len(raw.approach.deflection) if thickness is None else [float(h) for h in thickness]
    return np.array([fit_curve(raw, i, settings, film) for i, film in enumerate(films)], RECORD)
