"""Bias, scatter and coverage of the contact point on approach, from the kernel, against known truth and real curves.

    python bench/contact.py [--curves N] [--samples N …] [--noise NM …] [--json FILE]
    python bench/contact.py --real FOLDER [--most N]

Materials and probes are those of `truth.py`. Approach branches come from the contact equation (Hertz), with and without
attraction before contact (van der Waals force of a sphere, F = −F_adh·a0²/(a0 + D)² at the gap D, with the jump to
contact where it is steeper than the cantilever; Israelachvili, Intermolecular and Surface Forces). The bound is that of
an unbiased estimator of z0 with compliance, baseline offset and tilt free (and the adhesion, with attraction), the
noise white, averaged over the places of z0 between two samples.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from materials import MATERIALS, Material, described

import fvproc as fv
from fvproc import readers, simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.errors import FvprocError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.volume import Channel, ForceVolume, RawBranch, RawTile, Tile

CHOSEN = ("0.7 MPa", "45 MPa", "916 MPa", "1.5 GPa", "10.7 GPa", "75 GPa")
NEAREST = 0.165e-9  # gap of a van der Waals contact, m (Israelachvili)
METHODS = {
    "`piecewise`": {"method": "piecewise"},
    "`threshold`": {"method": "threshold"},
    "`gradient`": {"method": "gradient"},
    "`ratio_of_variances`": {"method": "ratio_of_variances"},
    "`threshold`, detected": {"method": "threshold", "position": "detected"},
    "`gradient`, detected": {"method": "gradient", "position": "detected"},
    "`ratio_of_variances`, detected": {"method": "ratio_of_variances", "position": "detected"},
}


@dataclass(frozen=True)
class Row:
    """One method under one condition; lengths in nm, `bias` the median error (late is positive)."""

    method: str
    material: str
    attraction: bool
    drive: str
    samples: int
    noise: float
    bound: float
    bias: float
    scatter: float
    within_one: float
    within_two: float
    found: float
    dip: float
    microseconds: float


def approach(z: np.ndarray, material: Material, z0: np.ndarray, attraction: bool) -> np.ndarray:
    """Return the noise-free deflection on approach, (curves, samples), m; z in the order of time.

    Late: less far out than the truth. With attraction the tip follows the free branch of the van der Waals force until
    that ends, then it is in contact (DMT).
    """
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    sample = simulate.Sample(*(np.array([v]) for v in (material.modulus, material.adhesion, material.peak_force)))
    reach = material.adhesion / material.spring_constant if attraction else 0.0
    travel = z[None, :] - z0[:, None]
    load = simulate.load_at(sample.compliance(probe)[:, None], travel + reach, 1.5)
    if not attraction:
        return np.where(travel > 0.0, load, 0.0)
    # free branch: gap D + a0 = x solves x − reach·a0²/x² = a0 − travel; it ends where 2·reach·a0² = x³
    last = max((2.0 * reach * NEAREST**2) ** (1.0 / 3.0), NEAREST)
    x = np.maximum(NEAREST - travel, last) + reach
    for _ in range(60):
        value = x - reach * NEAREST**2 / x**2 - NEAREST + travel
        x = np.maximum(x - value / (1.0 + 2.0 * reach * NEAREST**2 / x**3), last)
    free = x - reach * NEAREST**2 / x**2 - NEAREST + travel < 1e-14
    free &= x > last
    return np.where(free, -reach * NEAREST**2 / x**2, load - reach)


def bound(z: np.ndarray, material: Material, z0: np.ndarray, attraction: bool, sigma: float) -> float:
    """Return the Cramér-Rao bound of z0 in m, the root mean square over curves with the given contact points."""
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    sample = simulate.Sample(*(np.array([v]) for v in (material.modulus, material.adhesion, material.peak_force)))
    compliance = float(sample.compliance(probe)[0])
    reach = material.adhesion / material.spring_constant if attraction else 0.0
    variances = []
    for point in z0[:16]:
        truth = approach(z, material, np.array([point]), attraction)[0]
        branch = simulate.load_at(np.array(compliance), z - point + reach, 1.5) - reach
        contact = np.isclose(truth, branch, rtol=1e-6, atol=1e-15)
        contact &= z - point + reach > 0.0

        def model(shift: tuple[float, ...], contact: np.ndarray = contact, point: float = point) -> np.ndarray:
            pull = reach + shift[2]
            load = simulate.load_at(np.array(compliance * (1.0 + shift[1])), z - point - shift[0] + pull, 1.5)
            return np.where(contact, load - pull, 0.0)

        columns = []
        for j, h in enumerate((1e-13, 1e-4, 1e-13)[: 3 if attraction else 2]):
            step = np.zeros(3)
            step[j] = h
            columns.append((model(tuple(step)) - model(tuple(-step))) / (2 * h))
        jacobian = np.stack([*columns, np.ones_like(z), z - z.mean()], 1)
        scale = np.sqrt(np.sum(jacobian**2, 0))
        inverse = np.linalg.inv((jacobian / scale).T @ (jacobian / scale))
        variances.append(inverse[0, 0] / scale[0] ** 2 * sigma**2)
    return float(np.sqrt(np.mean(variances)))


def measure(material: Material, attraction: bool, drive: str, samples: int, sigma: float, curves: int) -> list[Row]:
    """Simulate curves of one material and judge each method on them."""
    z = simulate.ramp(samples, material.travel, drive)
    generator = np.random.default_rng(0)
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    adhesion = material.adhesion if attraction else 0.0
    sample = simulate.Sample(*(np.array([v]) for v in (material.modulus, adhesion, material.peak_force)))
    z0 = sample.contact_point(probe, float(z[0].max())) + generator.random(curves) * float(np.abs(np.diff(z[0])).max())
    branches = []
    for ramp, d in (
        (z[0], approach(z[0], material, z0, attraction)),
        (z[1], simulate.deflection(z[1], sample, probe, z0, retract=True)),
    ):
        branches.append(RawBranch((d + simulate.noise(generator, d.shape, sigma) + 1e-3 * ramp).astype("f4"), ramp))
    raw = RawTile(*branches)
    volume = described(material, Channel("float32", "m"), curves, samples)
    best = bound(z[0], material, z0, attraction, sigma)
    rows = []
    for name, contact in METHODS.items():
        recipe = Recipe.from_dict({"contact": contact, "fit": {"model": "dmt" if attraction else "hertz"}})
        settings = kernel_settings(volume, recipe.completed(volume))
        spent = math.inf
        for _ in range(3):
            begin = time.perf_counter()
            records = fit_tile(raw, settings)
            spent = min(spent, time.perf_counter() - begin)
        late = records["approach_contact_point"].astype(float) - z0
        found = np.isfinite(late)
        late, std = late[found], records["approach_contact_point_std"][found].astype(float)
        low, middle, high = np.percentile(late, [25, 50, 75]) if found.any() else (math.nan,) * 3
        pull = np.abs(late) / std
        rows.append(
            Row(
                name,
                material.name,
                attraction,
                drive,
                samples,
                sigma * 1e9,
                best * 1e9,
                middle * 1e9,
                (high - low) / 1.349 * 1e9,
                float(np.mean(pull < 1)) if found.any() else math.nan,
                float(np.mean(pull < 2)) if found.any() else math.nan,
                float(found.mean()),
                float(np.mean((records["flags"] & int(Flag.SNAP_IN)) != 0)),
                spent / curves * 1e6,
            )
        )
    return rows


def span(values: Iterable[float], form: str) -> str:
    """Return the median and the range, or a dash for nothing."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "—"
    return f"{np.median(finite):{form}} ({min(finite):{form}} … {max(finite):{form}})"


def print_summary(rows: list[Row]) -> None:
    """Print a line for each method and length of branch: median (range or worst) over conditions with half found."""
    print("| method | samples | conditions | bias/bound | scatter/bound | 1σ | 2σ | found |")
    print("|---" * 8 + "|")
    for name, samples in product(METHODS, sorted({row.samples for row in rows})):
        every = [row for row in rows if (row.method, row.samples) == (name, samples)]
        some = [row for row in every if row.found >= 0.5]
        if not some:
            continue
        cells = (
            span((row.bias / row.bound for row in some), "+.2f"),
            span((row.scatter / row.bound for row in some), ".2f"),
            f"{np.nanmedian([row.within_one for row in some]):.0%} ({np.nanmin([row.within_one for row in some]):.0%})",
            f"{np.nanmedian([row.within_two for row in some]):.0%} ({np.nanmin([row.within_two for row in some]):.0%})",
            f"{np.median([row.found for row in some]):.1%} ({min(row.found for row in some):.1%})",
        )
        print(f"| {name} | {samples} | {len(some)} of {len(every)} | " + " | ".join(cells) + " |")
    print()


def print_errors(rows: list[Row]) -> None:
    """Print the median error of each method and material in nm, one number for each noise."""
    noises, materials = sorted({row.noise for row in rows}), list(dict.fromkeys(row.material for row in rows))
    print("| method | " + " | ".join(materials) + " |")
    print("|---" * (1 + len(materials)) + "|")
    for name in METHODS:
        cells = []
        for material in materials:
            some = [row for row in rows if (row.method, row.material) == (name, material)]
            cells.append(" / ".join(f"{row.bias:+.2f}" for noise in noises for row in some if row.noise == noise))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()


def print_cost(rows: list[Row]) -> None:
    """Print what a curve costs with each method against `piecewise`, all of the kernel included."""
    samples = sorted({row.samples for row in rows})
    print("| method | " + " | ".join(f"{n} samples" for n in samples) + " |")
    print("|---" * (1 + len(samples)) + "|")
    for name in METHODS:
        cells = []
        for n in samples:
            mine, base = (
                np.median([row.microseconds for row in rows if (row.method, row.samples) == (method, n)])
                for method in (name, "`piecewise`")
            )
            cells.append(f"{mine:.1f} µs ({mine / base:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


# ---- real curves


def real_records(volume: ForceVolume, most: int) -> tuple[RawTile, dict[str, np.ndarray]]:
    """Return the first curves of a file and their records by each method: Hertz, a sphere of 10 µm if none is told."""
    tip = {"shape": "sphere", "radius": 10e-6 if volume.tip_radius is None else volume.tip_radius.value}
    raw = readers.read_tile(volume, Tile(0, min(volume.grid.curves, most)))
    records = {}
    for name, contact in METHODS.items():
        recipe = Recipe.from_dict({"tip": tip, "contact": contact, "fit": {"model": "hertz", "branch": "approach"}})
        records[name] = fit_tile(raw, kernel_settings(volume, recipe.completed(volume)))
    return raw, records


def print_real(folder: Path, most: int) -> None:
    """Print where each method sees the contact against `piecewise`, for each file that can be read."""
    others = [name for name in METHODS if name != "`piecewise`"]
    firsts, without = [], []
    print("Within 2σ of `piecewise`; median (range) of later by, nm:\n")
    print("| file | contacts of curves | " + " | ".join(others) + " |")
    print("|---" * (2 + len(others)) + "|")
    for path in sorted(folder.glob("*.jpk-*")):
        try:
            volume = fv.open(path)
            raw, records = real_records(volume, most)
        except FvprocError as error:
            without.append(f"- {path.name}: {str(error).split(path.name + ': ')[-1]}")
            continue
        position = {name: record["approach_contact_point"].astype(float) for name, record in records.items()}
        std = {name: record["approach_contact_point_std"].astype(float) for name, record in records.items()}
        judge, judge_std = position["`piecewise`"], std["`piecewise`"]
        found = np.flatnonzero(np.isfinite(judge))
        if not found.size:
            without.append(f"- {path.name}: no contact by any method in {len(judge)} curves")
            continue
        cells = []
        for name in others:
            both = found[np.isfinite(position[name][found])]
            later = position[name][both] - judge[both]
            near = np.abs(later) < 2.0 * np.maximum(std[name][both], judge_std[both])
            cells.append(f"{near.sum()} of {len(both)}; {span(later * 1e9, '+.1f')}")
        print(f"| {path.name} | {len(found)} of {len(judge)} | " + " | ".join(cells) + " |")
        (scale, offset), i = volume.z_scale("approach"), int(found[0])
        z = (raw.approach.z if raw.approach.z.ndim == 1 else raw.approach.z[i]) * scale + offset
        z = z if raw.approach.valid_length is None else z[: raw.approach.valid_length[i]]
        cells = [
            f"{np.count_nonzero(z <= position[name][i])} ({(z[-1] - position[name][i]) * 1e9:.1f} ±"
            f" {std[name][i] * 1e9:.1f})"
            for name in METHODS
        ]
        firsts.append(f"| {path.name} {i} | {len(z)} | " + " | ".join(cells) + " |")
    print("\nThe first contact of each file: sample (nm before the turning point ± stated error):\n")
    print("| file and curve | samples | " + " | ".join(METHODS) + " |")
    print("|---" * (2 + len(METHODS)) + "|")
    print("\n".join(firsts) + "\n\nWithout:\n\n" + "\n".join(without))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=1000)
    parser.add_argument("--samples", type=int, nargs="*", default=[64, 256, 2048], help="of the branch")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.02, 0.1], help="deflection noise, nm")
    parser.add_argument("--real", type=Path, help="a folder of JPK files instead of simulations")
    parser.add_argument("--most", type=int, default=256, help="curves of a file")
    parser.add_argument("--json", help="a file for every row")
    arguments = parser.parse_args()
    if arguments.real:
        print_real(arguments.real, arguments.most)
        return
    rows = []
    for attraction, samples, noise, drive, material in product(
        (False, True), arguments.samples, arguments.noise, ("sine", "linear"), MATERIALS
    ):
        if material.name in CHOSEN:
            rows += measure(material, attraction, drive, samples, noise * 1e-9, arguments.curves)
    print("Without attraction:\n")
    print_summary([row for row in rows if not row.attraction])
    print("With attraction that stands out of the noise in 95 % of the curves:\n")
    print_summary([row for row in rows if row.attraction and row.dip >= 0.95])
    print("With attraction, sine, 256 samples: median error in nm, one number for each noise:\n")
    print_errors([row for row in rows if row.attraction and row.drive == "sine" and row.samples == 256])
    print("Cost of a curve (two branches, all of the kernel), against `piecewise`:\n")
    print_cost([row for row in rows if not row.attraction])
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
