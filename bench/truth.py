"""Error, scatter and coverage of the modulus against known truth and the Cramér-Rao bound, condition by condition.

    python bench/truth.py [--quick] [--csv truth.csv]
    python bench/truth.py --samples 256 --noise 0.02 0.1 --kinds white --each
    python bench/truth.py --ideal

Every material of bench/materials.py, linear and sinusoidal drive, 64 to 4096 samples a branch, noise of 0.01 to
0.2 nm that is white, AR(1) with ρ = 0.6 or 1/f, int16. A baseline's tilt of 1e-3 and a z of its own for each curve
(displaced at random by up to 20 nm, as a drifting sample's) come and go from condition to condition, so that each
meets every material.

The bound is that of bench/bounds.py for the retract branch, with contact point, adhesion, offset and tilt free and the
end of contact at its true place. A row misses a criterion only where it does so by more than two standard errors of
the number of curves it has.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from bounds import KINDS, Bound, bounds, noise
from materials import MATERIALS, Material, described, table_of_materials

from fvproc import noise as noise_of_map
from fvproc import simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.quantities import QUANTITIES, Flag
from fvproc.recipe import Recipe
from fvproc.volume import Channel, ForceVolume, RawBranch, RawTile

SAMPLES = (64, 128, 256, 512, 1024, 2048, 4096)
NOISE_NM = (0.01, 0.02, 0.05, 0.1, 0.2)
PLACES = 16  # of the contact point between two samples
QUICK = {"samples": (64, 256, 1024), "noise": (0.02, 0.1), "curves": 400}
HIDDEN = 5.0  # the jump stands out where the last sample in contact lies so many times the noise below zero


@dataclass(slots=True)
class Row:
    """One condition; error, scatter and bounds are relative to the true modulus, `misses` names criteria.

    `within_…_of_power` are shares for E^(−2/3), which goes as the compliance: its error is symmetric, that of a badly
    bounded E cannot be. `pull_off` is F_adh/k over the noise, `jump_seen` the share of contact points that leave the
    jump plain to see: where it is half and more, the two bounds with the jump know its place.
    """

    material: str
    drive: str
    samples: int
    kind: str
    noise_nm: float
    tilt: float
    shared_z: bool
    curves: int
    in_contact: float
    pull_off: float
    jump_seen: float
    bound: float
    bound_unweighted: float
    bound_with_jump: float
    unweighted_with_jump: float
    error: float
    scatter: float
    stated: float
    within_one: float
    within_two: float
    within_one_of_power: float
    within_two_of_power: float
    valued: float
    adhesion_error: float
    adhesion_within_one: float
    adhesion_within_two: float
    lower_above: float
    failures: str
    correlated: float
    misses: str = ""


@dataclass(frozen=True, slots=True)
class Drive:
    """One material under one drive at one number of samples: what all its noise has in common."""

    material: Material
    name: str
    probe: simulate.Probe
    sample: simulate.Sample
    z: tuple[np.ndarray, np.ndarray]
    z0: np.ndarray
    step: float
    quiet: tuple[np.ndarray, np.ndarray]


def driven(material: Material, name: str, samples: int) -> Drive:
    """Return the noise-free curves, (PLACES, samples) each, the jump spread evenly over one step of the ramp."""
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    values = (material.modulus, material.adhesion, material.peak_force)
    sample = simulate.Sample(*(np.full(PLACES, value) for value in values))
    z = simulate.ramp(samples, material.travel, name)
    middle = sample.contact_point(probe, float(z[0].max()))
    jump = float(middle[0]) - material.adhesion / material.spring_constant
    after = int(np.clip(np.searchsorted(z[0], jump), 1, samples - 1))
    step = float(z[0][after] - z[0][after - 1])
    z0 = middle + step * ((np.arange(PLACES) + 0.5) / PLACES - 0.5)
    quiet = tuple(
        simulate.deflection(branch, sample, probe, z0, retract=retract)
        for branch, retract in zip(z, (False, True), strict=True)
    )
    return Drive(material, name, probe, sample, z, z0, step, (quiet[0], quiet[1]))


def tile(
    drive: Drive, made: np.ndarray, sigma: float, tilt: float, shared_z: bool, dtype: str = "int16"
) -> tuple[RawTile, ForceVolume]:
    """Return the drive's curves with noise as raw numbers of `dtype`, and the description that a file of them has.

    `made` is noise of unit variance, (curves, 2, samples). A z for each curve is of float64.
    """
    material, curves, samples = drive.material, len(made), made.shape[2]
    largest = 1.3 * material.peak_force / material.spring_constant + 10 * sigma + tilt * material.travel
    whole = dtype != "float32"
    channel = Channel(dtype, "m", largest / np.iinfo(dtype).max) if whole else Channel(dtype, "m")
    number = np.float64 if dtype == "int32" else np.float32  # single precision holds int16 and float32, not int32
    place = np.arange(curves) % PLACES
    drift = np.random.default_rng(1).uniform(-20e-9, 20e-9, curves)[:, None]
    branches = []
    for i, (z, quiet) in enumerate(zip(drive.z, drive.quiet, strict=True)):
        raw = made[:, i] * number(sigma / channel.scale)
        raw += ((quiet + tilt * (z - z.max())) / channel.scale).astype(number)[place]
        if whole:
            np.clip(np.rint(raw, out=raw), np.iinfo(dtype).min, np.iinfo(dtype).max, out=raw)
        branches.append(RawBranch(raw.astype(dtype), z if shared_z else z + drift))
    return RawTile(*branches), described(material, channel, curves, samples, shared_z=shared_z)


def within(records: np.ndarray, name: str, truth: float, chosen: np.ndarray, power: float = 1.0) -> tuple[float, float]:
    """Return the shares of the chosen curves whose truth lies within one and two stated standard errors, of a power."""
    values, errors = records[name][chosen].astype(float), records[f"{name}_std"][chosen].astype(float)
    known = np.isfinite(values) & np.isfinite(errors)
    if not known.any():
        return math.nan, math.nan
    values, errors = values[known], np.maximum(errors[known], 1e-300)
    if power != 1.0:
        errors = abs(power) * values**power * errors / values
        values, truth = values**power, truth**power
    pull = np.abs(values - truth) / errors
    return float(np.mean(pull <= 1.0)), float(np.mean(pull <= 2.0))


def failures(flags: np.ndarray) -> str:
    """Return the flags that took the modulus, and the share of all curves that each is on."""
    shares = {flag.name: float(np.mean((flags & np.uint32(flag)) != 0)) for flag in Flag}
    fatal = QUANTITIES["modulus"].fatal
    return " ".join(f"{str(f.name).lower()}:{shares[f.name]:.4f}" for f in Flag if f & fatal and shares[f.name])


def judged(row: Row, of_power: bool = False) -> list[str]:
    """Return the criteria that the row misses beyond two standard errors of its number of curves.

    of_power: coverage is that of E^(−2/3).
    The quartiles of n Gaussian values give the scatter to 1/√(0.74·n) and the median to 1.25·σ/√n.
    """
    count = max(1.0, row.curves * row.valued)
    if not np.isfinite(row.scatter):
        return ["no values"]
    missed = []
    if abs(row.error) > max(0.01, row.bound / 4) + 2 * 1.25 * row.scatter / math.sqrt(count):
        missed.append("bias")
    slack = 1.0 + 2.0 / math.sqrt(0.74 * count)
    if row.bound < 0.10 and row.scatter > 1.10 * slack * row.bound:
        # for correlated noise: does it miss what plain least squares can do, or only what weights could?
        missed.append("scatter" if row.scatter > 1.10 * slack * row.bound_unweighted else "scatter (weights)")
    one, two = (row.within_one, row.within_two)
    if of_power:
        one, two = (row.within_one_of_power, row.within_two_of_power)
    for share, low, high, name in ((one, 0.66, 0.70, "1σ"), (two, 0.94, 0.97, "2σ")):
        doubt = 2.0 * math.sqrt(low * (1 - low) / count)
        if share < low - doubt:
            missed.append(f"{name} low")
        elif share > high + doubt:
            missed.append(f"{name} high")
    return missed


def row_of(drive: Drive, made: np.ndarray, kind: str, sigma: float, limit: Bound, number: int, method: str) -> Row:
    """Fit one condition and judge it; `number` says whether it has a tilt and a z for each curve."""
    material, tilt, shared_z = drive.material, 1e-3 * (number % 2), number // 2 % 2 == 0
    raw, volume = tile(drive, made, sigma, tilt, shared_z)
    recipe = Recipe.from_dict({"fit": {"method": method}}).completed(volume)
    recipe = replace(recipe, noise=noise_of_map.measured_on(raw, volume, recipe))
    records = fit_tile(raw, kernel_settings(volume, recipe))
    valued, lower = np.isfinite(records["modulus"]), records["modulus_lower"]
    low, middle, high, stated, contact = (math.nan,) * 5
    if valued.any():
        low, middle, high = np.percentile(records["modulus"][valued].astype(float) / material.modulus, [25, 50, 75])
        stated = float(np.median(records["modulus_std"][valued])) / material.modulus
        contact = float(np.median(records["n_fit"][valued]))
    every = np.ones(len(records), bool)
    told = np.isfinite(lower)
    # of a stiff contact on a coarse ramp the last sample may stand above zero although the pull-off is deep
    seen = float(np.mean(drive.quiet[1].min(axis=1) < -HIDDEN * sigma))
    row = Row(
        material.name,
        drive.name,
        made.shape[2],
        kind,
        round(sigma * 1e9, 6),
        tilt,
        shared_z,
        len(records),
        contact,
        material.adhesion / material.spring_constant / sigma,
        seen,
        limit.best,
        limit.unweighted,
        limit.with_jump if seen > 0.5 else limit.best,
        limit.unweighted_with_jump if seen > 0.5 else limit.unweighted,
        float(middle - 1),
        float((high - low) / 1.349),
        stated,
        *within(records, "modulus", material.modulus, valued),
        *within(records, "modulus", material.modulus, valued, -2.0 / 3.0),
        float(valued.mean()),
        float(np.nanmedian(records["adhesion"]) / material.adhesion - 1) if valued.any() else math.nan,
        *within(records, "adhesion", material.adhesion, every),
        float(np.mean(lower[told] > material.modulus)) if told.any() else math.nan,
        failures(records["flags"]),
        float(np.mean((records["flags"] & np.uint32(Flag.NOISE_CORRELATED)) != 0)),
    )
    row.misses = ", ".join(judged(row))
    return row


def matrix(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of the matrix, samples outermost."""
    number, sigmas = 0, tuple(value * 1e-9 for value in arguments.noise)
    chosen = [m for m in MATERIALS if not arguments.materials or m.name in arguments.materials]
    for samples in arguments.samples:
        curves = min(arguments.curves, max(500, arguments.curves * 1024 // samples)) // PLACES * PLACES
        generator = np.random.default_rng([0, samples])
        for material, name in itertools.product(chosen, ("sine", "linear")):
            drive = driven(material, name, samples)
            for kind in arguments.kinds:
                limits = bounds(drive.z[1], drive.sample, drive.probe, drive.z0, kind, sigmas, drive.step)
                for sigma, limit in zip(sigmas, limits, strict=True):
                    made = noise(generator, kind, curves, samples)
                    yield row_of(drive, made, kind, sigma, limit, number, arguments.method)
                    number += 1
                number += 1  # else the tilt would follow the noise
        number += 1


HEAD = (
    "| material | drive | samples | noise nm | in contact | pull-off/σ | jump seen | bound | error | scatter/bound"
    " | scatter/unweighted with jump | stated/scatter | 1σ | 2σ | valued | adhesion | adhesion 1σ | lower | misses |\n"
    + "|---" * 19
    + "|"
)


def line(r: Row) -> str:
    """Return one row of the long table."""
    return (
        f"| {r.material} | {r.drive} | {r.samples} | {r.kind} {r.noise_nm:g} | {r.in_contact:.0f} | {r.pull_off:.0f}"
        f" | {r.jump_seen:.0%}"
        f" | {r.bound:.2%} | {r.error:+.2%} | {r.scatter / r.bound:.2f} | {r.scatter / r.unweighted_with_jump:.2f}"
        f" | {r.stated / r.scatter:.2f} | {r.within_one:.1%} | {r.within_two:.1%} | {r.valued:.1%}"
        f" | {r.adhesion_error:+.1%} | {r.adhesion_within_one:.0%} | {r.lower_above:.1%} | {r.misses} |"
    )


def badness(row: Row) -> float:
    """How far beyond the criteria a row lies, the largest of them: 1 is the criterion itself."""
    if not np.isfinite(row.scatter):
        return math.inf
    ratios = [abs(row.error) / max(0.01, row.bound / 4)]
    if row.bound < 0.10:
        ratios.append(row.scatter / (1.10 * row.bound_unweighted))
    for share, middle, half in ((row.within_one, 0.68, 0.02), (row.within_two, 0.955, 0.015)):
        ratios.append(1.0 + (abs(share - middle) / half - 1.0) / 5.0)  # ten points of coverage weigh as a bias of two
    return max(ratios)


def misses_table(rows: list[Row], name: str, key: str) -> str:
    """Return how many conditions pass and miss, for each value of one column, by kind of noise."""
    columns = ("bias", "scatter", "scatter (weights)", "1σ low", "1σ high", "2σ low", "2σ high", "no values")
    text = [f"| {name} | noise | conditions | pass | " + " | ".join(columns) + " | worst |", "|---" * 13 + "|"]
    for value in dict.fromkeys(getattr(r, key) for r in rows):
        for kind in dict.fromkeys(r.kind for r in rows):
            group = [r for r in rows if getattr(r, key) == value and r.kind == kind]
            if not group:
                continue
            tally = Counter(miss for r in group for miss in r.misses.split(", ") if miss)
            worst = max(group, key=badness)
            told = f"{worst.material} {worst.drive} {worst.samples}, {worst.noise_nm:g} nm: {worst.misses}"
            text.append(
                f"| {value} | {kind} | {len(group)} | {sum(not r.misses for r in group)} | "
                + " | ".join(str(tally[c] or "") for c in columns)
                + f" | {told if worst.misses else ''} |"
            )
    return "\n".join(text)


def bounds_table(rows: list[Row]) -> str:
    """Return how many conditions pass by how well the data bound the modulus, and what the coverage of E has to do."""
    columns = ("conditions", "pass", "pass, coverage of E^(−2/3)", "valued, median", "valued where they miss")
    text = ["| bound | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for low, high in itertools.pairwise((0.0, 0.1, 0.2, 1.0 / 3.0, 0.5, 1.0, math.inf)):
        group = [r for r in rows if low <= r.bound < high]
        if not group:
            continue
        missing = [r.valued for r in group if judged(r, of_power=True)]
        text.append(
            f"| {low:.0%} … {high:.0%} | {len(group)} | {sum(not r.misses for r in group)}"
            f" | {len(group) - len(missing)} | {np.median([r.valued for r in group]):.0%}"
            f" | {f'{np.median(missing):.0%}' if missing else ''} |"
        )
    return "\n".join(text).replace("… inf%", "…")


def ideal_table() -> str:
    """Return what an ideal fit reaches: B Gaussian and at its bound, E = B^(−3/2), given where B > 3σ_B."""
    text = ["| σ_E/E | valued | median error | 1σ | 2σ | 1σ of E^(−2/3) | 2σ |", "|---" * 7 + "|"]
    chance = np.random.default_rng(0).standard_normal(1_000_000)
    for relative in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5):
        sigma = relative / 1.5
        compliance = 1.0 + sigma * chance
        compliance = compliance[compliance > 3.0 * sigma]
        modulus = compliance**-1.5
        pull = np.abs(modulus - 1.0) / (1.5 * modulus * sigma / compliance)
        of_power = np.abs(compliance - 1.0) / sigma
        shares = [np.mean(p <= n) for p in (pull, of_power) for n in (1, 2)]
        text.append(
            f"| {relative:.0%} | {len(compliance) / len(chance):.0%} | {np.median(modulus) - 1:+.1%} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + " |"
        )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a part of the matrix, in a minute")
    parser.add_argument("--curves", type=int, help="of a condition; fewer above 1024 samples (2000)")
    parser.add_argument("--samples", type=int, nargs="*", help="per branch")
    parser.add_argument("--noise", type=float, nargs="*", help="deflection noise, nm")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--materials", nargs="*", metavar="NAME", help="such as '45 MPa'")
    parser.add_argument("--method", choices=("ml", "qnm"), default="ml")
    parser.add_argument("--each", action="store_true", help="print every row, not the summary")
    parser.add_argument("--csv", help="every row, every column")
    parser.add_argument("--ideal", action="store_true", help="print only what coverage an ideal fit reaches")
    arguments = parser.parse_args()
    if arguments.ideal:
        print(ideal_table())
        return
    full = {"samples": SAMPLES, "noise": NOISE_NM, "curves": 2000}
    for name, value in (QUICK if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    start, rows = time.perf_counter(), []
    if arguments.each:
        print(HEAD)
    for row in matrix(arguments):
        rows.append(row)
        if arguments.each:
            print(line(row), flush=True)
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    taken = time.perf_counter() - start
    print(
        f"\n{arguments.method}, {sum(r.curves for r in rows)} curves in {len(rows)} conditions, {taken:.0f} s,", end=" "
    )
    print(f"{sum(not r.misses for r in rows)} of them miss nothing\n")
    if arguments.each:
        return
    print(table_of_materials(), misses_table(rows, "material", "material"), sep="\n\n", end="\n\n")
    print(misses_table(rows, "samples", "samples"), misses_table(rows, "noise nm", "noise_nm"), sep="\n\n", end="\n\n")
    print(bounds_table(rows), end="\n\n")
    worst = sorted((r for r in rows if r.misses), key=badness, reverse=True)
    for title, group in (
        ("a bound below 10 %", [r for r in worst if r.bound < 0.10]),
        ("a bound of 10 % and more", [r for r in worst if r.bound >= 0.10]),
    ):
        print(f"The worst of {len(group)} that miss something with {title}:", HEAD, sep="\n\n")
        print(*map(line, group[:15]), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
