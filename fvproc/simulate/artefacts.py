"""Curves spoilt on purpose, each in one named way that a real map shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fvproc.errors import FvprocError
from fvproc.simulate.tiles import FULL_SCALE, store
from fvproc.volume import Channel, RawTile

ARTEFACTS = ("no contact", "saturated", "never left", "marked invalid", "missing samples", "spikes")
"""Ways in which `spoil` spoils; /truth/bad holds the place in this list, from 1, and 0 for a good curve."""


def spoil(
    raw: RawTile,
    row: int,
    how: str,
    channel: Channel,
    generator: np.random.Generator,
    *,
    sigma: float = 2e-11,
    spikes: int = 3,
    height: float | None = None,
    missing: float = 0.1,
) -> None:
    """Make one curve of a tile bad, both branches, in place.

    Parameters
    ----------
    raw : RawTile
        Its deflection, (n, samples), in the raw numbers of `channel`, which is in m.
    row : int
        The curve.
    how : str
        One of `ARTEFACTS`:
        "no contact", nothing but noise;
        "saturated", the upper half of the curve runs into the end of the converter (of float channels: is cut off);
        "never left", the tip touches all along the ramp;
        "marked invalid", every sample is the channel's invalid number (NaN of float channels);
        "missing samples", a run of them is, somewhere in the branch;
        "spikes", single samples far off, up or down.
    channel : Channel
        Of the deflection.
    generator : numpy.random.Generator
        Where, and the noise.
    sigma : float
        Noise of "no contact" and "never left", m.
    spikes : int
        A branch.
    height : float, optional
        Of a spike, m; by default half the branch's range.
    missing : float
        Share of the branch that is missing.

    Raises
    ------
    FvprocError
        For an unknown name, or an integer channel without an invalid number where one is needed.
    """
    if how not in ARTEFACTS:
        raise FvprocError(f"artefact {how!r}: choose from {', '.join(ARTEFACTS)}")
    for branch in (raw.approach, raw.retract):
        values = branch.deflection[row]
        count = len(values)
        if how == "no contact":
            values[:] = store(generator.normal(0.0, sigma, count), channel)
        elif how == "saturated":
            middle = 0.5 * (float(values.max()) + float(np.median(values)))
            if channel.dtype == "float32":
                np.minimum(values, middle, out=values)
            else:
                limit = FULL_SCALE[channel.dtype]
                values[:] = np.minimum(values.astype(np.int64) + int(limit - middle), limit)
        elif how == "never left":
            along = (branch.z - branch.z.min()) / np.ptp(branch.z)
            top = float(values.max()) * channel.scale
            values[:] = store(top * (0.2 + 0.8 * along**1.2) + generator.normal(0.0, sigma, count), channel)
        elif how in ("marked invalid", "missing samples"):
            length = count if how == "marked invalid" else max(1, round(missing * count))
            first = int(generator.integers(0, count - length + 1))
            values[first : first + length] = _invalid(channel)
        else:
            where = generator.choice(count, size=min(spikes, count), replace=False)
            sign = generator.choice((-1.0, 1.0), size=len(where))
            size = 0.5 * float(np.ptp(values.astype(float))) * channel.scale if height is None else height
            values[where] = store(values[where] * channel.scale + sign * size, channel)


def _invalid(channel: Channel) -> float:
    if channel.dtype == "float32":
        return float("nan")
    if channel.invalid is None:
        raise FvprocError(f"channel of {channel.dtype}: has no number for an invalid sample; give it `invalid`")
    return channel.invalid


def spoil_shares(
    raw: RawTile,
    shares: Mapping[str, float],
    channel: Channel,
    generator: np.random.Generator,
    *,
    sigma: float = 2e-11,
) -> np.ndarray:
    """Spoil a random share of a tile's curves in each of several ways, in place.

    Parameters
    ----------
    raw : RawTile
        See `spoil`.
    shares : mapping of str to float
        Name of an artefact to the probability that a curve has it; at most 1 in total.
    channel, generator, sigma : Channel, numpy.random.Generator, float
        See `spoil`.

    Returns
    -------
    ndarray
        (n,) int8: 0 for a good curve, else 1 + the place in `ARTEFACTS`.

    Raises
    ------
    FvprocError
        For an unknown name or shares that are no probabilities.
    """
    for name, share in shares.items():
        if name not in ARTEFACTS:
            raise FvprocError(f"artefact {name!r}: choose from {', '.join(ARTEFACTS)}")
        if not 0.0 <= share <= 1.0:
            raise FvprocError(f"artefact {name!r}: share {share!r} must be in 0 … 1")
    if sum(shares.values()) > 1.0 + 1e-12:
        raise FvprocError(f"artefacts: shares add up to {sum(shares.values()):g}; at most 1")
    bad = np.zeros(len(raw.approach.deflection), np.int8)
    drawn = generator.random(len(bad))
    lower = 0.0
    for name, share in shares.items():
        bad[(drawn >= lower) & (drawn < lower + share)] = 1 + ARTEFACTS.index(name)
        lower += share
    for row in np.flatnonzero(bad):
        spoil(raw, int(row), ARTEFACTS[bad[row] - 1], channel, generator, sigma=sigma)
    return bad
