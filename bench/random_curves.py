"""Millions of random curves through the kernel: each number finite, or NaN with the flag that says why.

    python bench/random_curves.py [--curves 10000000] [--threads 2] [--seed 0]
    FVPROC_SIMD=baseline python bench/random_curves.py --curves 200000

Walks, steps, bare noise and simulated curves of random materials, probes and noise, with the default recipe and
others. Some chunks have a z for each curve, branches that end early, or samples that are marked or not finite. A
chunk depends on the seed and its number alone, so a curve that fails can be made again, and the digest of all records
is the same with any number of threads, instruction set and compiler (on one machine with one NumPy, which makes the
curves). Exit status 1 if any record breaks the rule.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from materials import Material, described

from fvproc import simulate
from fvproc._core import fit_tile, instruction_set, kernel_settings
from fvproc.quantities import QUANTITIES, Flag
from fvproc.recipe import Recipe
from fvproc.volume import Channel, RawBranch, RawTile

CHUNK = 4000
KINDS = ("walks", "steps", "noise", "simulated", "simulated", "simulated")
DTYPES = ("int16", "int16", "int32", "float32")
_SLOW = (0.05, 1.3, 0.0, 0.76, 0.76, 0.84, 0.98, 1.6)  # noise of a map, as 1/f noise has it
# the default more often than the others
RECIPES: tuple[dict[str, dict[str, Any]], ...] = (
    {},
    {},
    {"contact": {"method": "threshold"}},
    {"fit": {"method": "qnm"}},
    {"fit": {"method": "qnm", "adhesion": "minimum"}, "contact": {"method": "threshold"}},
    {"fit": {"model": "hertz", "branch": "approach"}},
    {"fit": {"adhesion": "minimum"}, "baseline": {"source": "approach", "order": 0}},
    {"fit": {"model": "sneddon_cone"}, "tip": {"half_angle": 0.35}},
    {"noise": {"approach": _SLOW, "retract": _SLOW}},
    {"fit": {"model": "jkr"}, "baseline": {"order": 2}},
)
NEVER = Flag.NOT_COMPUTED | Flag.READ_ERROR | Flag.WORKER_LOST  # of tiles that were not fitted
DEFINED = int(sum(Flag) & ~NEVER)


@dataclass
class Outcome:
    """What one chunk came to."""

    kind: str
    curves: int
    seconds: float
    valued: int
    flags: Counter[str]
    digest: bytes
    broken: list[str]


def material(generator: np.random.Generator) -> Material:
    """A random sample with a random probe and peak force, within what is measured and a little beyond."""
    stiffness, radius = 10.0 ** generator.uniform(-2, 2.5), 10.0 ** generator.uniform(-8.5, -6)
    peak = stiffness * 10.0 ** generator.uniform(-9.5, -7)
    adhesion = peak * 10.0 ** generator.uniform(-3, 0.7)
    return Material("random", 1e9, stiffness, radius, peak, adhesion, 10.0 ** generator.uniform(-7.5, -5.5))


def simulated(generator: np.random.Generator, m: Material, channel: Channel, curves: int, samples: int) -> RawTile:
    """Curves of the forward model; indentation, adhesion and peak force differ from curve to curve."""
    probe = simulate.Probe(m.spring_constant, m.tip_radius)
    adhesion = m.adhesion * 10.0 ** generator.uniform(-1, 0, curves)
    peak = m.peak_force * 10.0 ** generator.uniform(-1, 0, curves)
    # from far below the noise to the whole ramp; the modulus that makes it
    indentation = m.travel * 10.0 ** generator.uniform(-4, 0, curves)
    modulus = (peak + adhesion) / (probe.stiffness_factor(1.0) * indentation**1.5)
    sample = simulate.Sample(modulus, adhesion, peak)
    bend = m.peak_force / m.spring_constant
    return simulate.simulated_tile(
        simulate.ramp(samples, m.travel, str(generator.choice(["sine", "linear"]))),
        sample,
        probe,
        channel,
        generator,
        sigma=bend * 10.0 ** generator.uniform(-5, -1),
        correlation=float(generator.choice([0.0, 0.0, 0.5, 0.95])),
        tilt=float(generator.choice([0.0, 0.03, -0.1, 0.3])) * bend / m.travel,
        offset=float(generator.choice([0.0, 0.3])) * bend,
    )


def shapeless(generator: np.random.Generator, kind: str, channel: Channel, curves: int, samples: int) -> np.ndarray:
    """Raw deflection that no contact made, in surface order."""
    numbers = generator.standard_normal((curves, samples), np.float32)
    if kind == "walks":
        numbers = np.cumsum(numbers, axis=1)
    elif kind == "steps":
        jumps = generator.random((curves, samples), np.float32) < 0.03
        numbers = np.cumsum(10.0 * numbers * jumps, axis=1) + numbers * 10.0 ** generator.uniform(-3, 0)
    numbers = numbers.astype(float) * 10.0 ** generator.uniform(-4, 0.5)
    if channel.dtype == "float32":
        return (numbers * 1e-8).astype(np.float32)
    limit = np.iinfo(channel.dtype)
    return np.clip(numbers * (limit.max / 10.0), limit.min, limit.max).astype(channel.dtype)


def spoiled(generator: np.random.Generator, raw: RawTile, channel: Channel) -> tuple[RawTile, Channel, bool]:
    """Return the tile as it may also come: a z for each curve, branches cut short, samples marked or not finite."""
    own_z, cut, marked = generator.random(3) < 0.25
    branches = []
    for branch in (raw.approach, raw.retract):
        deflection, z, valid = branch.deflection, branch.z, None
        curves, samples = deflection.shape
        if own_z:
            jitter = np.ptp(z) / samples * generator.uniform(0, 2) * generator.standard_normal(deflection.shape)
            z = z + generator.uniform(-1e-7, 1e-7, (curves, 1)) + jitter
        if cut:
            valid = generator.integers(0, samples + 1, curves).astype(np.int32)
            valid[generator.random(curves) < 0.5] = samples
        if marked:
            deflection = deflection.copy()
            where = generator.random(deflection.shape, np.float32) < 10.0 ** generator.uniform(-4, -0.5)
            if channel.dtype == "float32":
                deflection[where] = generator.choice([np.nan, np.inf, -np.inf], int(where.sum()))
            else:
                deflection[where] = np.iinfo(channel.dtype).min
            if own_z:
                z[generator.random(z.shape, np.float32) < 0.003] = np.nan
        branches.append(RawBranch(deflection, z, valid))
    if marked and channel.dtype != "float32":
        channel = replace(channel, invalid=int(np.iinfo(channel.dtype).min))
    return RawTile(*branches), channel, not own_z


def chunk(seed: int, number: int, curves: int) -> Outcome:
    """Make, fit and judge one chunk."""
    generator = np.random.default_rng([seed, number])
    kind, dtype = KINDS[number % len(KINDS)], str(generator.choice(DTYPES))
    samples = int(generator.choice([40, 48, 64, 128, 200, 256, 512]))
    m = material(generator)
    reach = generator.uniform(0.7, 3.0) * m.peak_force / m.spring_constant  # the lower ones saturate the converter
    channel = Channel(dtype, "m", 1.0 if dtype == "float32" else reach / np.iinfo(dtype).max)
    if kind == "simulated":
        raw = simulated(generator, m, channel, curves, samples)
    else:
        z = simulate.ramp(samples, m.travel)
        in_order = [shapeless(generator, kind, channel, curves, samples) for _ in z]
        raw = RawTile(RawBranch(in_order[0][:, ::-1], z[0]), RawBranch(in_order[1], z[1]))
    raw, channel, shared_z = spoiled(generator, raw, channel)
    recipe = RECIPES[int(generator.integers(len(RECIPES)))]
    volume = described(m, channel, curves, samples, shared_z=shared_z)
    settings = kernel_settings(volume, Recipe.from_dict(recipe).completed(volume))
    start = time.perf_counter()
    records = fit_tile(raw, settings)
    seconds = time.perf_counter() - start
    flags = records["flags"]
    tally = Counter({str(flag.name): int(np.count_nonzero(flags & np.uint32(flag))) for flag in Flag})
    where = f"seed {seed}, chunk {number} of {CHUNK} curves ({kind}, {dtype}, {samples} samples, {recipe})"
    broken = [f"{where}, curve {i}: {what}" for i, what in faults(records)]
    valued = int(np.count_nonzero(np.isfinite(records["modulus"])))
    return Outcome(kind, curves, seconds, valued, tally, hashlib.sha256(records.tobytes()).digest(), broken)


def faults(records: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield (curve, what is wrong) where a number is neither finite nor NaN with its flag, or a bit means nothing."""
    flags = records["flags"]
    for i in np.flatnonzero(flags & np.uint32(~DEFINED & 0xFFFFFFFF)):
        yield int(i), f"flags {int(flags[i]):#x}"
    for name, quantity in QUANTITIES.items():
        fatal = (flags & np.uint32(quantity.fatal)) != 0
        for i in np.flatnonzero(np.where(fatal, ~np.isnan(records[name]), ~np.isfinite(records[name]))):
            yield int(i), f"{name} = {records[name][i]} with {Flag(int(flags[i]))!s}"


def outcomes(seed: int, curves: int, threads: int) -> Iterator[Outcome]:
    """Yield the chunks in order, a bounded number of them under way."""
    sizes = [min(CHUNK, curves - start) for start in range(0, curves, CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        jobs = enumerate(sizes)
        under_way: list[Future[Outcome]] = [
            pool.submit(chunk, seed, number, size) for number, size in itertools.islice(jobs, 2 * threads)
        ]
        while under_way:
            yield under_way.pop(0).result()
            under_way += [pool.submit(chunk, seed, number, size) for number, size in itertools.islice(jobs, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=10_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start, digest = time.perf_counter(), hashlib.sha256()
    curves, valued, seconds = Counter[str](), Counter[str](), Counter[str]()
    flags, broken, slowest = Counter[str](), list[str](), Counter[str]()
    for outcome in outcomes(arguments.seed, arguments.curves, arguments.threads):
        curves[outcome.kind] += outcome.curves
        valued[outcome.kind] += outcome.valued
        seconds[outcome.kind] += outcome.seconds
        slowest[outcome.kind] = max(slowest[outcome.kind], outcome.seconds / outcome.curves)
        flags += outcome.flags
        broken += outcome.broken
        digest.update(outcome.digest)
        for line in outcome.broken[:3]:
            print(line, file=sys.stderr, flush=True)
    total = sum(curves.values())
    print(
        f"{total} curves, seed {arguments.seed}, {arguments.threads} threads, {instruction_set()},"
        f" {time.perf_counter() - start:.0f} s, digest {digest.hexdigest()[:16]}\n"
    )
    print("| curves | number | with a modulus | µs a curve in the kernel | slowest chunk |\n|---|---|---|---|---|")
    for kind in curves:
        print(
            f"| {kind} | {curves[kind]} | {valued[kind] / curves[kind]:.1%} | {seconds[kind] / curves[kind] * 1e6:.2f}"
            f" | {slowest[kind] * 1e6:.2f} |"
        )
    print("\n| flag | curves |\n|---|---|")
    for name, count in flags.most_common():
        print(f"| {name.lower()} | {count / total:.3%} |")
    print(f"\n{len(broken)} numbers break the rule")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
