"""Bias, scatter and coverage of the contact point on approach against known truth and the Cramér-Rao bound.

    python bench/contact.py [--curves N] [--samples N …] [--noise NM …] [--bare] [--real FOLDER] [--json FILE]

Materials and probes are those of `truth.py`. Approach branches come from the contact equation (Hertz), with and without
attraction before contact (van der Waals force of a sphere, F = −F_adh·a0²/(a0 + D)² at the gap D, with the jump to
contact where it is steeper than the cantilever; Israelachvili, Intermolecular and Surface Forces). The baseline is
fitted as the reference does. The bound is that of an unbiased estimator of z0 with compliance, baseline offset and tilt
free (and the adhesion, with attraction), the noise white, averaged over the places of z0 between two samples.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from materials import MATERIALS, Material, described

from fvproc import contact_points, reference, simulate
from fvproc._core import kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Channel

CHOSEN = ("0.7 MPa", "45 MPa", "916 MPa", "1.5 GPa", "10.7 GPa", "75 GPa")
VOLUME = described(MATERIALS[0], Channel("float64", "m"), 1, 64)
SETTINGS = kernel_settings(VOLUME, Recipe.from_dict({}).completed(VOLUME))
NEAREST = 0.165e-9  # gap of a van der Waals contact, m (Israelachvili)


@dataclass(frozen=True)
class Row:
    """One line of the table; lengths in nm, `bias` the median error (late is positive)."""

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
    gross: float
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


def present(branch: reference.Branch) -> contact_points.ContactPoint:
    """Return what `reference.piecewise_contact` says: the best break, then the full fit of the contact model."""
    fit = reference.piecewise_contact(0, branch, 2, 0.0)
    return contact_points.NOT_FOUND if fit.status else contact_points.ContactPoint(fit.z0, fit.z0_std, fit.stop)


Method = Callable[[reference.Branch], contact_points.ContactPoint]


def judged(bare: bool, with_present: bool) -> dict[str, Method]:
    """Return the methods to measure: name and function of a prepared branch."""

    def of_branch(method: Callable[..., contact_points.ContactPoint], **keywords: object) -> Method:
        return lambda branch: method(branch.z, branch.d, branch.noise, **keywords)

    methods = {name: of_branch(method) for name, method in contact_points.METHODS.items()}
    if bare:
        for name, method in contact_points.METHODS.items():
            if name != "piecewise":
                methods[f"{name}, bare"] = of_branch(method, extrapolate=False)
    if with_present:
        methods["full fit"] = present
    return methods


def prepared(z: np.ndarray, d: np.ndarray) -> reference.Branch:
    """Return a branch (m, order of time) in surface order and nm, its baseline subtracted as the reference does."""
    branch = reference.Branch(z[::-1] * 1e9, d[::-1] * 1e9)
    reference.prepare(branch, SETTINGS, 0.0)
    reference.find_edges(branch)
    reference.refine(branch, SETTINGS, 0.0)
    return branch


def measure(
    material: Material,
    attraction: bool,
    drive: str,
    samples: int,
    sigma: float,
    curves: int,
    methods: dict[str, Method],
) -> list[Row]:
    """Simulate approach branches of one material and judge each method on them."""
    z = simulate.ramp(samples, material.travel, drive)[0]
    generator = np.random.default_rng(0)
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    adhesion = material.adhesion if attraction else 0.0
    sample = simulate.Sample(*(np.array([v]) for v in (material.modulus, adhesion, material.peak_force)))
    z0 = sample.contact_point(probe, float(z.max())) + generator.random(curves) * float(np.abs(np.diff(z)).max())
    d = approach(z, material, z0, attraction)
    d += simulate.noise(generator, d.shape, sigma) + 1e-3 * z
    branches = [prepared(z, row) for row in d]
    best = bound(z, material, z0, attraction, sigma) * 1e9
    rows = []
    for name, method in methods.items():
        begin = time.perf_counter()
        points = [method(branch) for branch in branches]
        spent = (time.perf_counter() - begin) / curves * 1e6
        position = np.array([point.position for point in points])
        std = np.array([point.std for point in points])
        found = np.isfinite(position)
        late = position[found] - z0[found] * 1e9
        low, middle, high = np.percentile(late, [25, 50, 75]) if found.any() else (math.nan,) * 3
        scatter = (high - low) / 1.349
        pull = np.abs(late) / std[found]
        known = np.isfinite(pull)
        rows.append(
            Row(
                name,
                material.name,
                attraction,
                drive,
                samples,
                sigma * 1e9,
                best,
                float(middle),
                float(scatter),
                float(np.mean(pull[known] < 1)) if known.any() else math.nan,
                float(np.mean(pull[known] < 2)) if known.any() else math.nan,
                float(found.mean()),
                float(np.mean(np.abs(late - middle) > 6.0 * max(scatter, best))) if found.any() else math.nan,
                spent,
            )
        )
    return rows


def real_curves(folder: Path) -> dict[str, reference.Branch]:
    """Return the approach branches of the JPK files of a folder that afmformats (a judge, no dependency) can read."""
    import afmformats

    curves = {}
    for path in sorted(folder.glob("*.jpk-force*")):
        try:
            group = afmformats.load_data(path)
        except (Exception, afmformats.errors.MissingMetaDataError) as error:  # some files are broken on purpose
            print(f"{path.name}: {type(error).__name__}: {error}\n")
            continue
        for number, data in enumerate(group):
            if not {"force", "segment"} <= set(data.columns):
                continue
            approach = np.asarray(data["segment"]) == 0
            force = np.asarray(data["force"])[approach]
            height = np.asarray(data["height (measured)" if "height (measured)" in data.columns else "height (piezo)"])
            z = -height[approach]
            k = data.metadata.get("spring constant", math.nan)
            if not (len(z) > 64 and k > 0 and np.isfinite(force).all()):
                continue
            curves[f"{path.name} {number}"] = prepared(z - z[0], force / k)
    return curves


def print_real(folder: Path, methods: dict[str, Method]) -> None:
    """Print where each method sees the contact: samples from the start of the approach, nm before the turning point."""
    print("| curve | samples | noise nm | " + " | ".join(methods) + " |")
    print("|---" * (3 + len(methods)) + "|")
    for name, branch in real_curves(folder).items():
        cells = []
        for method in methods.values():
            point = method(branch)
            index = int(np.count_nonzero(branch.z <= point.position))
            depth = branch.z[0] - point.position
            cells.append(f"{index} ({depth:.1f} ± {point.std:.2f} nm)" if point.found else "—")
        print(f"| {name} | {branch.n} | {branch.noise:.3f} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=1000)
    parser.add_argument("--samples", type=int, nargs="*", default=[64, 256, 2048], help="of the branch")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.02, 0.1], help="deflection noise, nm")
    parser.add_argument("--drive", nargs="*", default=["sine", "linear"])
    parser.add_argument("--attraction", type=int, nargs="*", default=[0, 1], help="0 without, 1 with")
    parser.add_argument("--bare", action="store_true", help="also the detections without the fit")
    parser.add_argument("--full-fit", action="store_true", help="also reference.piecewise_contact (slow)")
    parser.add_argument("--real", type=Path, help="a folder of JPK files instead of simulations")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    methods = judged(arguments.bare, arguments.full_fit)
    if arguments.real:
        print_real(arguments.real, methods)
        return
    print(f"{arguments.curves} curves each, tilted baseline\n")
    columns = "attraction, drive, samples, noise nm, material, bound nm, method, bias nm, bias/bound, scatter/bound"
    print("| " + (columns + ", 1σ, 2σ, found, gross").replace(", ", " | ") + " |")
    print("|---" * 14 + "|")
    rows = []
    materials = [material for material in MATERIALS if material.name in CHOSEN]
    for attraction, samples, noise, drive, material in product(
        arguments.attraction, arguments.samples, arguments.noise, arguments.drive, materials
    ):
        for r in measure(material, bool(attraction), drive, samples, noise * 1e-9, arguments.curves, methods):
            rows.append(asdict(r))
            print(
                f"| {'yes' if r.attraction else 'no'} | {r.drive} | {r.samples} | {r.noise:g} | {r.material}"
                f" | {r.bound:.4f} | {r.method} | {r.bias:+.4f} | {r.bias / r.bound:+.2f} | {r.scatter / r.bound:.2f}"
                f" | {r.within_one:.1%} | {r.within_two:.1%} | {r.found:.1%} | {r.gross:.1%} |",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
