"""The Cramér-Rao bound of the modulus: the least scatter that any unbiased estimator can have on such curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fvproc import simulate

# Relative step of the derivatives; no sample may cross the end of contact on it.
_STEP = 1e-7


def jacobian(z: np.ndarray, sample: simulate.Sample, probe: simulate.Probe, z0: float) -> np.ndarray:
    """Return ∂d/∂(ln E, z0, F_adh/k, offset, tilt) on retract by differences of the forward model, (samples, 5).

    Of any model that `fvproc.simulate` has; the end of contact is held where it is, since its shift is no derivative.

    Parameters
    ----------
    z : ndarray of float64, shape (samples,)
        Of the retract, m.
    sample, probe : Sample, Probe
        Truth; of one curve.
    z0 : float
        Contact point, m.
    """
    k, adhesion = probe.spring_constant, float(np.asarray(sample.adhesion).reshape(-1)[0])
    scale = max(float(np.ptp(z)), 1e-12)

    def model(modulus: float = 0.0, place: float = 0.0, pull: float = 0.0) -> np.ndarray:
        changed = replace(
            sample,
            modulus=np.asarray(sample.modulus, float) * np.exp(modulus),
            adhesion=np.asarray(sample.adhesion, float) + pull * k,
        )
        return simulate.deflection(z, changed, probe, np.array([z0 + place]), retract=True)[0]

    here = model()
    # free samples lie on zero exactly; the contact is where the model is not
    inside = here != 0.0
    columns = []
    for name, step in (("modulus", _STEP), ("place", _STEP * scale), ("pull", _STEP * max(adhesion / k, 1e-3 * scale))):
        slope = (model(**{name: step}) - model(**{name: -step})) / (2.0 * step)
        # the sample that jumps within a step shows the jump, not the slope
        columns.append(np.where(inside & (np.abs(slope * step) < 0.1 * scale), slope, 0.0))
    return np.stack([*columns, np.ones_like(z), (z - z.mean()) / scale], 1)


def modulus_bound(
    z: np.ndarray, sample: simulate.Sample, probe: simulate.Probe, places: np.ndarray, sigma: float
) -> float:
    """Return the Cramér-Rao bound of σ_E/E on retract with white noise, root mean square over contact points.

    Contact point, adhesion, offset and tilt are free (Kay, Fundamentals of Statistical Signal Processing, 1993, ch. 3).

    Parameters
    ----------
    z, sample, probe
        As for `jacobian`.
    places : ndarray of float64
        Contact points, m.
    sigma : float
        Of the deflection noise, m.

    Returns
    -------
    float
        Infinite where the curve does not tell the modulus at all.
    """
    variances = []
    for place in np.atleast_1d(places):
        columns = jacobian(z, sample, probe, float(place))
        lengths = np.sqrt(np.sum(columns**2, 0))
        if not np.all(lengths > 0.0):
            return float("inf")
        scaled = columns / lengths
        try:
            inverse = np.linalg.inv(scaled.T @ scaled)
        except np.linalg.LinAlgError:
            return float("inf")
        variances.append(inverse[0, 0] * (sigma / lengths[0]) ** 2)
    return float(np.sqrt(np.mean(variances)))
