"""Error, scatter and coverage of the modulus against known truth and the Cramér-Rao bound.

    python bench/truth.py [--curves N] [--samples N] [--method ml|qnm] [--json FILE]

Each reference material is measured with a probe and a peak force that a user would choose for it. The bound is that of
an unbiased estimator of ln E with contact point, adhesion, baseline offset and tilt free and the noise white,
computed from the model's Jacobian, averaged over the places that the contact point takes between two samples.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np

from fvproc import simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.recipe import Recipe
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, Setting


@dataclass(frozen=True)
class Material:
    """What is measured, and with what."""

    name: str
    modulus: float
    spring_constant: float
    tip_radius: float
    peak_force: float
    adhesion: float
    travel: float


MATERIALS = (
    Material("0.7 MPa", 0.7e6, 0.05, 20e-9, 0.5e-9, 0.3e-9, 600e-9),
    Material("23 MPa", 23e6, 0.2, 30e-9, 3e-9, 1e-9, 200e-9),
    Material("45 MPa", 45e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9),
    Material("67 MPa", 67e6, 0.4, 30e-9, 5e-9, 1e-9, 150e-9),
    Material("916 MPa", 916e6, 5.0, 30e-9, 20e-9, 4e-9, 100e-9),
    Material("1.5 GPa", 1.5e9, 5.0, 30e-9, 20e-9, 4e-9, 100e-9),
    Material("2.4 GPa", 2.4e9, 10.0, 30e-9, 40e-9, 6e-9, 100e-9),
    Material("10.7 GPa", 10.7e9, 40.0, 30e-9, 100e-9, 10e-9, 60e-9),
    Material("30 GPa", 30e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9),
    Material("40 GPa", 40e9, 100.0, 40e-9, 300e-9, 10e-9, 60e-9),
    Material("58 GPa", 58e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9),
    Material("70 GPa", 70e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9),
    Material("75 GPa", 75e9, 200.0, 40e-9, 600e-9, 20e-9, 60e-9),
)


@dataclass(frozen=True)
class Row:
    """One line of the table; error, scatter and bound are relative to the true modulus."""

    material: str
    drive: str
    noise_nm: float
    bound: float
    error: float
    scatter: float
    within_one: float
    within_two: float
    valued: float
    adhesion_error: float
    in_contact: float
    lower_above: float


def bound(z: np.ndarray, sample: simulate.Sample, probe: simulate.Probe, z0: np.ndarray, sigma: float) -> float:
    """Return the Cramér-Rao bound of σ_E/E, the root mean square over curves with the given contact points."""
    k = probe.spring_constant
    variances = []
    for point in z0[:16]:
        inside = z > point - sample.adhesion[0] / k

        def model(shift: np.ndarray, inside: np.ndarray = inside, point: float = point) -> np.ndarray:
            moved = simulate.Sample(
                sample.modulus[:1] * np.exp(shift[0]), sample.adhesion[:1] + k * shift[2], sample.peak_force[:1]
            )
            reach = moved.adhesion[0] / k
            load = simulate.load_at(moved.compliance(probe), z - point - shift[1] + reach, 1.5)
            return np.where(inside, load - reach, 0.0)

        columns = []
        for j, h in enumerate((1e-4, 1e-13, 1e-13)):
            step = np.zeros(3)
            step[j] = h
            columns.append((model(step) - model(-step)) / (2 * h))
        jacobian = np.stack([*columns, np.ones_like(z), z - z.mean()], 1)
        scale = np.sqrt(np.sum(jacobian**2, 0))
        inverse = np.linalg.inv((jacobian / scale).T @ (jacobian / scale))
        variances.append(inverse[0, 0] / scale[0] ** 2 * sigma**2)
    return float(np.sqrt(np.mean(variances)))


def described(material: Material, channel: Channel, curves: int, samples: int) -> ForceVolume:
    """Return the description that a file of such curves would have."""
    branch = Branch(samples, channel, Channel("float64", "m"), True)
    return ForceVolume(
        "simulated",
        "simulated",
        Grid(1, curves),
        branch,
        branch,
        calibration=Calibration(Setting(material.spring_constant)),
        tip_radius=Setting(material.tip_radius),
        poisson_ratio=0.3,
    )


def measure(material: Material, drive: str, sigma: float, curves: int, samples: int, method: str) -> Row:
    """Simulate and fit curves of one material."""
    probe = simulate.Probe(material.spring_constant, material.tip_radius)
    z = simulate.ramp(samples, material.travel, drive)
    generator = np.random.default_rng(0)
    sample = simulate.Sample(
        *(np.full(curves, value) for value in (material.modulus, material.adhesion, material.peak_force))
    )
    z0 = sample.contact_point(probe, float(z[0].max())) + generator.random(curves) * np.abs(np.diff(z[1])).max()
    largest = 1.3 * material.peak_force / material.spring_constant + 10 * sigma + 1e-3 * material.travel
    channel = Channel("int16", "m", largest / 32767)
    raw = simulate.simulated_tile(z, sample, probe, channel, generator, sigma=sigma, tilt=1e-3, z0=z0)
    volume = described(material, channel, curves, samples)
    recipe = Recipe.from_dict({"fit": {"method": method}}).completed(volume)
    records = fit_tile(raw, kernel_settings(volume, recipe))
    valued, lower = np.isfinite(records["modulus"]), records["modulus_lower"]
    nan = float("nan")
    row = {"error": nan, "scatter": nan, "within_one": nan, "within_two": nan, "adhesion_error": nan, "in_contact": nan}
    if valued.any():
        ratio = records["modulus"][valued].astype(float) / material.modulus
        low, middle, high = np.percentile(ratio, [25, 50, 75])
        pull = np.abs(ratio - 1) / (records["modulus_std"][valued] / material.modulus)
        row = {
            "error": middle - 1,
            "scatter": (high - low) / 1.349,
            "within_one": np.mean(pull < 1),
            "within_two": np.mean(pull < 2),
            "adhesion_error": np.median(records["adhesion"][valued]) / material.adhesion - 1,
            "in_contact": np.median(records["n_fit"][valued]),
        }
    return Row(
        material.name,
        drive,
        sigma * 1e9,
        bound(z[1], sample, probe, z0, sigma),
        valued=float(valued.mean()),
        lower_above=float(np.mean(lower[np.isfinite(lower)] > material.modulus)),
        **{name: float(value) for name, value in row.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=256, help="per branch")
    parser.add_argument("--method", choices=("ml", "qnm"), default="ml")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.02, 0.1], help="deflection noise, nm")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{arguments.method}, {arguments.curves} curves each, 2 × {arguments.samples} samples, int16, tilted baseline\n"
    )
    columns = "material, drive, noise nm, in contact, bound, error, scatter/bound, 1σ, 2σ, valued, adhesion, lower"
    print("| " + columns.replace(", ", " | ") + " |")
    print("|---" * 12 + "|")
    for noise in arguments.noise:
        for drive in ("sine", "linear"):
            for material in MATERIALS:
                r = measure(material, drive, noise * 1e-9, arguments.curves, arguments.samples, arguments.method)
                rows.append(asdict(r))
                print(
                    f"| {r.material} | {r.drive} | {r.noise_nm:g} | {r.in_contact:.0f} | {r.bound:.2%} | {r.error:+.2%}"
                    f" | {r.scatter / r.bound:.2f} | {r.within_one:.1%} | {r.within_two:.1%} | {r.valued:.1%}"
                    f" | {r.adhesion_error:+.1%} | {r.lower_above:.1%} |",
                    flush=True,
                )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
