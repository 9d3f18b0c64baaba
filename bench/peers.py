"""fvproc beside what people use today: the same curves, the same contact model, one core; accuracy and speed.

    python bench/peers.py [--curves 200] [--material "1.5 GPa"] [--noise 0.02] [--adhesion 0] [--json peers.json]

Each peer does what its documentation recommends for one model and one branch, and is measured on as many of the curves
as it gets through in `--seconds`; a peer that is not installed is left out, and said so. Everything runs on one core
(`sched_setaffinity`, and each library is asked for one thread). Peers whose model has no adhesion beside the contact
(nanite, pyfmrheo) are only in the table where the curves have none (`--adhesion 0`). What each does that fvproc does
not is in `NOTES`. Gwyddion is not from PyPI: its library is that of the system (bench/gwyddion.py).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import gwyddion
import numpy as np
from materials import MATERIALS

import fvproc as fv
from fvproc import simulate
from fvproc._core import fit_tile, kernel_settings
from fvproc.bound import modulus_bound
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting

POISSON = 0.3


@dataclass(frozen=True, slots=True)
class Curves:
    """What all are given: z and deflection of both branches in m, (curves, samples), in the order of time."""

    approach_z: np.ndarray
    retract_z: np.ndarray
    approach: np.ndarray
    retract: np.ndarray
    spring_constant: float
    radius: float
    sticky: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One peer; error and scatter of the modulus relative to the truth."""

    name: str
    version: str
    curves: int
    seconds: float
    curves_per_second: float
    valued: float
    error: float
    scatter: float
    of_bound: float
    errors_stated: bool


# A peer takes curves and their numbers and returns Young's moduli (Pa), NaN where it fails.
Peer = Callable[[Curves, np.ndarray], np.ndarray]


# ---- fvproc


def _fvproc(method: str, **more: Any) -> Peer:
    def fit(curves: Curves, chosen: np.ndarray) -> np.ndarray:
        model = {"fit": {"method": method, "model": "dmt" if curves.sticky else "hertz"}, **more}
        recipe = fv.Recipe.from_dict({"tip": {"radius": curves.radius}, "sample": {"poisson_ratio": POISSON}, **model})
        calibration = Calibration(spring_constant=Setting(curves.spring_constant, "user"))
        z = (curves.approach_z, curves.retract_z)
        records = fv.fit_curves(
            z, (curves.approach[chosen], curves.retract[chosen]), calibration=calibration, recipe=recipe
        )
        return records["modulus"].astype(float)

    return fit


def _int16(method: str, **more: Any) -> Peer:
    """Raw integers as a file has them, straight to the kernel: no float array in between."""
    made: dict[str, Any] = {}

    def fit(curves: Curves, chosen: np.ndarray) -> np.ndarray:
        if "raw" not in made:
            scale = 1.2 * float(max(np.abs(curves.approach).max(), np.abs(curves.retract).max())) / 32767
            channel = Channel("int16", "m", scale)
            raw = [np.rint(part / scale).astype(np.int16) for part in (curves.approach, curves.retract)]
            made["raw"] = RawTile(
                *(RawBranch(d, z) for d, z in zip(raw, (curves.approach_z, curves.retract_z), strict=True))
            )
            samples = len(curves.approach_z)
            branch = Branch(samples, channel, Channel("float64", "m"), True)
            volume = ForceVolume("curves", "arrays", Grid(1, len(raw[0])), branch, branch)
            volume = replace(volume, calibration=Calibration(Setting(curves.spring_constant, "user")))
            model = {"fit": {"method": method, "model": "dmt" if curves.sticky else "hertz"}, **more}
            settings = {"tip": {"radius": curves.radius}, "sample": {"poisson_ratio": POISSON}, **model}
            made["settings"] = kernel_settings(volume, fv.Recipe.from_dict(settings).completed(volume))
        whole = made["raw"]
        part = RawTile(*(RawBranch(b.deflection[: len(chosen)], b.z) for b in (whole.approach, whole.retract)))
        return fit_tile(part, made["settings"])["modulus"].astype(float)

    return fit


# ---- what a user writes


def _flat(z: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return deflection less a line through the far 30 %."""
    far = z < z.min() + 0.3 * np.ptp(z)
    slope, offset = np.polyfit(z[far], d[far], 1)
    return d - slope * z - offset


def _all_flat(z: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return the same of a whole batch, (curves, samples)."""
    far = z < z.min() + 0.3 * np.ptp(z)
    zf = z[far] - z[far].mean()
    slope = d[:, far] @ zf / (zf @ zf)
    return d - d[:, far].mean(axis=1)[:, None] - slope[:, None] * (z - z[far].mean())


def _curve_fit(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    """A loop over SciPy's curve_fit: DMT (or Hertz) of force against separation on retract."""
    from scipy.optimize import curve_fit

    order = np.argsort(curves.retract_z)
    z, k = curves.retract_z[order], curves.spring_constant
    moduli = np.full(len(chosen), np.nan)

    def model(x: np.ndarray, modulus: float, x0: float, adhesion: float) -> np.ndarray:
        depth = np.maximum(x - x0, 0.0)  # nm, nN, GPa
        return 4 / 3 * modulus / (1 - POISSON**2) * math.sqrt(curves.radius * 1e9) * depth**1.5 - adhesion

    for i, number in enumerate(chosen):
        d = _flat(z, curves.retract[number][order])
        force, x = k * d * 1e9, (z - d) * 1e9
        first = int(np.argmin(force)) if curves.sticky else int(np.argmax(force > 0.05 * force.max()))
        f, x = force[first:], x[first:]
        guess = (1.0, x[0], max(-force.min(), 0.0))
        try:
            found, _ = curve_fit(model, x, f, guess, maxfev=2000)
        except RuntimeError:
            continue
        moduli[i] = found[0] * 1e9
    return moduli


def _numpy_window(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    """The instruments' way over a whole batch: (F + F_adh)^(2/3) against separation from 30 to 90 % of the force."""
    z, k = curves.retract_z, curves.spring_constant
    d = _all_flat(z, curves.retract[chosen])
    force = k * d
    lowest = np.minimum(force.min(axis=1), 0.0)[:, None] if curves.sticky else np.zeros((len(d), 1))
    peak = force.max(axis=1)[:, None]
    inside = (force >= lowest + 0.3 * (peak - lowest)) & (force <= lowest + 0.9 * (peak - lowest))
    y = np.where(inside, np.maximum(force - lowest, 0.0), 0.0) ** (2 / 3)
    x = np.where(inside, z - d, 0.0)
    n = inside.sum(axis=1)
    sx, sy, sxx, sxy = x.sum(axis=1), y.sum(axis=1), (x * x).sum(axis=1), (x * y).sum(axis=1)
    slope = (n * sxy - sx * sy) / (n * sxx - sx**2)
    return slope**1.5 * 0.75 * (1 - POISSON**2) / math.sqrt(curves.radius)


# ---- peers


def _nanite(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    from nanite import Indentation

    moduli = np.full(len(chosen), np.nan)
    samples = len(curves.approach_z)
    segment = np.repeat([0, 1], samples)
    # its axis points away from the surface
    height = -np.concatenate([curves.approach_z, curves.retract_z])
    for i, number in enumerate(chosen):
        force = curves.spring_constant * np.concatenate([curves.approach[number], curves.retract[number]])
        data = {"force": force, "height (measured)": height.copy(), "segment": segment}
        meta = {"spring constant": curves.spring_constant, "imaging mode": "force-distance", "path": "curve.h5"}
        meta |= {"enum": 0, "feedback mode": "contact"}
        curve = Indentation(data, meta)
        curve.apply_preprocessing(["compute_tip_position", "correct_force_offset", "correct_tip_offset"])
        params = curve.get_initial_fit_parameters(model_key="hertz_para")
        params["R"].value, params["nu"].value = curves.radius, POISSON
        curve.fit_model(
            model_key="hertz_para", params_initial=params, segment="approach", x_axis="tip position", weight_cp=0
        )
        if curve.fit_properties["success"]:
            moduli[i] = curve.fit_properties["params_fitted"]["E"].value
    return moduli


def _pyfmrheo(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    from pyfmreader.utils.forcecurve import ForceCurve
    from pyfmreader.utils.segment import Segment
    from pyfmrheo.routines.HertzFit import doHertzFit

    moduli = np.full(len(chosen), np.nan)
    settings = {
        "curve_seg": "extend",
        "correct_tilt": True,
        "offset_type": "percentage",
        "max_offset": 0.3,
        "min_offset": 0.0,
        # of its two ways to the contact point the one that suits stiff contacts; "RoV" is half a window early
        "poc_method": "regulaFalsi",
        "sigma": 1,
        "downsample_flag": False,
        "k": curves.spring_constant,
        "fit_range_type": "full",
        "contact_model": "paraboloid",
        "tip_param": curves.radius,
        "fit_line": False,
        "d0": 0.0,
        "auto_init_E0": True,
        "f0": 0.0,
    }
    for i, number in enumerate(chosen):
        curve = ForceCurve(0, "curve")
        segment = Segment("curve", "0", "Approach")
        segment.zheight, segment.vdeflection = curves.approach_z.copy(), curves.approach[number].copy()
        curve.extend_segments.append((0, segment))
        try:
            fitted = doHertzFit(curve, dict(settings))
        except Exception:
            continue  # whatever a peer raises is a curve without a value
        # its model takes Poisson's ratio 0.5
        moduli[i] = fitted.E0 / (1 - 0.5**2) * (1 - POISSON**2)
    return moduli


def _magic_afm(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    from magic_afm import calculation as magic

    moduli = np.full(len(chosen), np.nan)
    fixed = magic.FitFix.DEFAULTS | magic.FitFix.LJ_SCALE
    # nm, nN, GPa; ascending z
    order = np.argsort(curves.retract_z)
    z = np.ascontiguousarray(curves.retract_z[order] * 1e9)
    for i, number in enumerate(chosen):
        d = np.ascontiguousarray(_flat(curves.retract_z, curves.retract[number])[order] * 1e9)
        found, *_ = magic.fitfun(
            z,
            d,
            k=curves.spring_constant,
            radius=curves.radius * 1e9,
            tau=0.0,  # DMT
            M=1.0,
            vd=0.0,
            lj_scale=-2.0,
            drag=0.0,
            li_per=0.0,
            li_amp=0.0,
            fit_mode=magic.FitMode.RETRACT,
            fit_fix=fixed,
            nan_on_error=True,
        )
        # its M is (4/3)·E*: F + F_adh = M·√R·δ^(3/2)
        moduli[i] = 0.75 * float(np.asarray(found["M"]).reshape(-1)[0]) * 1e9 * (1 - POISSON**2)
    return moduli


def _gwyddion(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    """Its presets as its module uses them, on the samples from the pull-off (or contact) to the peak."""
    name = "DMT: spherical" if curves.sticky else "Hertz: spherical"
    preset = gwyddion.Preset(name, {"R": curves.radius, "ν": POISSON})
    order = np.argsort(curves.retract_z)
    z, moduli = curves.retract_z[order], np.full(len(chosen), np.nan)
    flat = _all_flat(z, curves.retract[chosen][:, order])  # its own C does that in no time, as NumPy does for a batch
    for i, d in enumerate(flat):
        force, away = curves.spring_constant * d, d - z  # its x points away from the surface
        first = int(np.argmin(force)) if curves.sticky else int(np.argmax(force > 0.05 * force.max()))
        found = preset.fit(away[first:], force[first:])
        if found:
            moduli[i] = found["E"][0]
    return moduli


def _sidpy(curves: Curves, chosen: np.ndarray) -> np.ndarray:
    import sidpy
    from sidpy.proc.fitter import SidFitter

    order = np.argsort(curves.retract_z)
    z = curves.retract_z[order]
    scale, k = math.sqrt(curves.radius * 1e9), curves.spring_constant
    force = np.stack([k * _flat(z, curves.retract[number][order]) * 1e9 for number in chosen])

    def model(x: np.ndarray, *parameters: float) -> np.ndarray:
        # force against piezo position, the deflection taken off by its own value: what a spectrum fitter can be given
        modulus, x0, adhesion = parameters
        depth = np.maximum(x - x0, 0.0)
        hertz = 4 / 3 * modulus / (1 - POISSON**2) * scale
        for _ in range(8):  # z - d(F) by fixed steps of Newton
            value = hertz * depth**1.5 - adhesion
            slope = 1.5 * hertz * np.sqrt(depth) / k + 1.0
            depth = np.maximum(depth - (depth + value / k - (x - x0)) / slope, 0.0)
        return np.where(x - x0 > -adhesion / k, hertz * depth**1.5 - adhesion, 0.0)

    def guess(x: np.ndarray, y: np.ndarray) -> list[float]:
        return [1.0, float(x[np.argmax(y > 0.05 * y.max())]), max(-float(y.min()), 0.0)]

    data = sidpy.Dataset.from_array(force.reshape(1, *force.shape), title="force")
    for axis, (name, values, kind) in enumerate(
        (("y", np.arange(1), "SPATIAL"), ("x", np.arange(len(chosen)), "SPATIAL"), ("z", z * 1e9, "SPECTRAL"))
    ):
        data.set_dimension(axis, sidpy.Dimension(values, name=name, units="nm", quantity="z", dimension_type=kind))
    data.data_type = "SPECTRAL_IMAGE"
    fitter = SidFitter(
        data, model, num_workers=1, guess_fn=guess, threads=1, return_cov=False, return_fit=False, num_fit_parms=3
    )
    fitter.do_guess()
    (found,) = fitter.do_fit()
    return np.asarray(found).reshape(len(chosen), -1)[:, 0].astype(float) * 1e9


PEERS: dict[str, tuple[Peer, str, bool, bool]] = {
    # name: (function, package, takes adhesion, states errors)
    "fvproc ml, int16 as in a file": (_int16("ml"), "fvproc", True, True),
    "fvproc qnm, threshold, int16": (_int16("qnm", contact={"method": "threshold"}), "fvproc", True, True),
    "fvproc ml": (_fvproc("ml"), "fvproc", True, True),
    "fvproc ml, threshold": (_fvproc("ml", contact={"method": "threshold"}), "fvproc", True, True),
    "fvproc qnm, threshold": (_fvproc("qnm", contact={"method": "threshold"}), "fvproc", True, True),
    "NumPy window fit, whole batch": (_numpy_window, "numpy", True, False),
    "SciPy curve_fit loop": (_curve_fit, "scipy", True, False),
    "nanite": (_nanite, "nanite", False, False),
    "pyfmrheo": (_pyfmrheo, "pyfmrheo", False, False),
    "magic-afm (numba)": (_magic_afm, "magic-afm", True, True),
    "sidpy SidFitter (Dask)": (_sidpy, "sidpy", True, False),
    "Gwyddion's C fit": (_gwyddion, "gwyddion", True, True),
}

NOTES = {
    "nanite": "contact point by six methods, machine-learned rating of curves, many preprocessing steps",
    "pyfmrheo": "viscoelastic models (Ting, double power law), microrheology",
    "magic-afm (numba)": "Schwarz's DMT–JKR transition, Lennard-Jones attraction, interference, drag in the fit, a GUI",
    "sidpy SidFitter (Dask)": "any function over any spectral dataset, k-means start values",
    "SciPy curve_fit loop": "any model in a line",
    "Gwyddion's C fit": "sixteen laws of contact and attraction, and all of a program for scanning probe microscopy",
}


def measured(name: str, curves: Curves, truth: float, bound: float, seconds: float, most: int) -> Row | str:
    """Return the row of a peer, or why there is none."""
    fit, package, sticky, errors = PEERS[name]
    try:
        version = gwyddion.version() if package == "gwyddion" else importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, LookupError):
        return "not installed"
    if curves.sticky and not sticky:
        return "has no adhesion beside the contact; see --adhesion 0"
    try:
        fit(curves, np.arange(2))  # compiles, imports
        fit(curves, np.arange(2))
        began = time.process_time()
        fit(curves, np.arange(4))
        one = max((time.process_time() - began) / 4, 1e-9)
        count = int(min(most, max(8, seconds / one)))
        chosen = np.arange(count)
        best, found = math.inf, np.empty(0)
        for _ in range(3 if count == most else 1):
            began = time.perf_counter()
            found = fit(curves, chosen)
            best = min(best, time.perf_counter() - began)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:120]}"
    good = np.isfinite(found) & (found > 0)
    low, middle, high = np.percentile(found[good] / truth, [25, 50, 75]) if good.any() else (math.nan,) * 3
    scatter = (high - low) / 1.349
    return Row(
        name, version, count, best, count / best, float(good.mean()), middle - 1, scatter, scatter / bound, errors
    )


THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def main() -> None:
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        # read when the libraries are loaded, which they are by now
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **THREADS})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=20000, help="most, for the fastest")
    parser.add_argument("--samples", type=int, default=512, help="per branch")
    parser.add_argument("--material", default="1.5 GPa", choices=[material.name for material in MATERIALS])
    parser.add_argument("--noise", type=float, default=0.02, help="deflection noise, nm")
    parser.add_argument("--adhesion", type=float, help="nN; by default that of the material; 0 for Hertz")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each peer, about")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    material = next(m for m in MATERIALS if m.name == arguments.material)
    adhesion = material.adhesion if arguments.adhesion is None else arguments.adhesion * 1e-9
    probe = simulate.Probe(material.spring_constant, material.tip_radius, poisson_ratio=POISSON)
    ones = np.ones(arguments.curves)
    sample = simulate.Sample(material.modulus * ones, adhesion * ones, material.peak_force * ones)
    z = simulate.ramp(arguments.samples, material.travel, "sine")
    random = np.random.default_rng(0)
    step = float(np.max(np.abs(np.diff(z[0]))))
    z0 = sample.contact_point(probe, float(z[0].max())) - step * random.random(arguments.curves)
    sigma = arguments.noise * 1e-9
    branches = [
        simulate.deflection(part, sample, probe, z0, retract=retract) + random.normal(0, sigma, (len(ones), len(part)))
        for part, retract in zip(z, (False, True), strict=True)
    ]
    curves = Curves(z[0], z[1], *branches, material.spring_constant, material.tip_radius, adhesion > 0)
    one = simulate.Sample(*(np.array([v]) for v in (material.modulus, adhesion, material.peak_force)))
    bound = modulus_bound(z[1], one, probe, z0[:16], sigma)
    print(
        f"{material.name}, adhesion {adhesion * 1e9:g} nN, noise {arguments.noise:g} nm, 2 × {arguments.samples}"
        f" samples, one core, Cramér–Rao bound {bound:.2%}\n"
    )
    print(
        "| who | version | curves | curves/s | first row is … times as fast | valued | error | scatter | /bound"
        " | errors |"
    )
    print("|---" * 10 + "|")
    rows: list[Row] = []
    for name in PEERS:
        row = measured(name, curves, material.modulus, bound, arguments.seconds, arguments.curves)
        if isinstance(row, str):
            print(f"| {name} | | | {row} | | | | | | |", flush=True)
            continue
        rows.append(row)
        times = rows[0].curves_per_second / row.curves_per_second
        print(
            f"| {row.name} | {row.version} | {row.curves} | {row.curves_per_second:,.0f} | {times:,.1f} |"
            f" {row.valued:.1%} | {row.error:+.2%} | {row.scatter:.2%} | {row.of_bound:.2f} |"
            f" {'yes' if row.errors_stated else 'no'} |",
            flush=True,
        )
    print()
    for name, note in NOTES.items():
        print(f"- {name}: {note}.")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump([asdict(row) for row in rows], file, indent=1)


if __name__ == "__main__":
    main()
