"""What other software says of the real files, and what fvproc says: target, value, met or not.

    python bench/reference_answers.py [FOLDER] [--json]

FOLDER holds the real measurements (default: the environment variable FVPROC_TEST_DATA). Judges that are not installed,
and files that are not there, are said to be absent. Exit status 1 if an answer that has a target misses it.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import logging
import os
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fvproc as fv
from fvproc import readers

SPOT = "jpk/fmt-jpk-fd_spot3-0192.jpk-force"
POINTS = "jpk/fmt-jpk-fd_map-data-reference-points.jpk-force-map"
JPK_MAP = "jpk/map-data-2022.10.29-12.27.34.564.jpk-force-map"
QI = "jpk/bicarlsen_qi_data-2_0-xs.jpk-qi-data"
BRUKER = "bruker/egel2_fv16.spm"
BRUKER_TABLE = "reference/egel2_fv16_vendor_even_rows.csv"
ASYLUM = "asylum/sofa_map2.tar.gz"
NANOSURF = "nanosurf/spectroscopy.nid"
NANOSURF_TABLE = "reference/spectroscopy_vendor_results.csv"
READ_BY_AFMFORMATS = [  # which does not know the newest QI files
    SPOT,
    JPK_MAP,
    POINTS,
    "jpk/fmt-jpk-fd_2020.02.07-16.29.05.036.jpk-qi-data",
    "jpk/fmt-jpk-fd_flipsign_2015.05.22-15.31.49.352.jpk-force",
    "jpk/fmt-jpk-fd_map1d_2016-11-07.jpk-force-map",
    "jpk/fmt-jpk-fd_map2x2_extracted.jpk-force-map",
    "jpk/fmt-jpk-fd_qi-data-2021.04.13.jpk-qi-series",
    "jpk/fmt-jpk-fd_single_bad_2017-01-16_1.jpk-force",
    "jpk/fmt-jpk-fd_single_tilted-baseline-drift-mitotic_2021-01-29.jpk-force",
    "other/fmt-hdf5-fd_version_0.13.3.h5",
    "other/fmt-tab-fd_version_0.13.3.tab",
]
IGOR_CURVES = ["asylum/IgorIBWReader_ForceCurve.ibw", "asylum/fmt-igor-fd_SiN_FD_plot.ibw"]
MINIMUM = {"baseline": {"order": 0, "fraction": 0.1}, "fit": {"adhesion": "minimum"}}


@dataclass(frozen=True)
class Answer:
    """One line: whose answer to what, what was asked for, what came out; `met` is None where there is no target."""

    key: str
    what: str
    target: str
    value: str
    met: bool | None


def within(key: str, what: str, value: float, target: float, tolerance: float, unit: str) -> Answer:
    """Compare a number with the target it should be near."""
    off = value / target - 1.0
    text = f"{value:.6g} {unit} ({off:+.2%})"
    return Answer(key, what, f"{target:.8g} {unit} ± {tolerance:.0%}", text, bool(abs(off) <= tolerance))


def hertz(path: Path, tip: dict[str, float], **sections: dict[str, Any]) -> fv.ParameterMaps:
    """Fit the approach: a paraboloid by Hertz, a cone by Sneddon, ν = 0.5."""
    content: dict[str, Any] = {
        "tip": {"shape": "sphere" if "radius" in tip else "cone", **tip},
        "sample": {"poisson_ratio": 0.5},
        "fit": {"model": "hertz" if "radius" in tip else "sneddon_cone", "branch": "approach"},
    }
    for name, settings in sections.items():
        content.setdefault(name, {}).update(settings)
    return fv.process(path, fv.Recipe.from_dict(content))


def lowest(path: Path, fraction: float) -> fv.ParameterMaps:
    """Process for the adhesion as instruments take it: the lowest sample below a constant baseline."""
    baseline = {"order": 0, "fraction": fraction}
    return fv.process(path, fv.Recipe.from_dict({"tip": {"radius": 10e-9}, **MINIMUM, "baseline": baseline}))


def curve(volume: fv.ForceVolume, number: int, branch: str) -> tuple[np.ndarray, np.ndarray]:
    """Return z (m) and force (N) of the valid samples of one curve."""
    raw = getattr(readers.read_tile(volume, fv.Tile(number, number + 1)), branch)
    count = raw.deflection.shape[1] if raw.valid_length is None else int(raw.valid_length[0])
    (z_scale, z_offset), (scale, offset) = volume.z_scale(branch), volume.deflection_scale(branch)
    force = (raw.deflection[0, :count].astype(np.float64) * scale + offset) * volume.calibration.spring_constant.value
    z = raw.z if raw.z.ndim == 1 else raw.z[0]
    return z[:count].astype(np.float64) * z_scale + z_offset, force


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two maps where both have values."""
    good = np.isfinite(one) & np.isfinite(other)
    return float(np.corrcoef(one[good], other[good])[0, 1])


# ---- mechanics


def spot3(folder: Path) -> Iterator[Answer]:
    path = folder / SPOT
    cases: list[tuple[str, str, dict[str, Any]]] = [("nanite", "ml, the default", {})]
    for low, high in ((0.3, 0.9), (0.2, 0.8), (0.1, 1.0), (0.05, 1.0)):  # the first is the default of qnm
        settings = {"fit": {"method": "qnm", "window": [low, high]}}
        cases.append((f"nanite_qnm_{low:g}", f"qnm, {low:.0%} to {high:.0%} of the force", settings))
    for key, what, sections in cases:
        maps = hertz(path, {"radius": 10e-6}, **sections)
        answer = within(key, f"nanite's Hertz, R 10 µm: {what}", maps["modulus"][0, 0], 14741.958, 0.01, "Pa")
        spread = maps["modulus_std"][0, 0]
        yield Answer(answer.key, answer.what, answer.target, f"{answer.value}, standard error {spread:.3g}", answer.met)
    yield within(
        "jpk_paraboloid",
        "JPK's software, paraboloid, R 40 nm",
        hertz(path, {"radius": 40e-9})["modulus"][0, 0],
        233.1e3,
        0.02,
        "Pa",
    )
    cone = hertz(path, {"half_angle": float(np.radians(30))})
    yield within("jpk_cone", "JPK's software, cone, 30°", cone["modulus"][0, 0], 348.6e3, 0.08, "Pa")
    found = {}
    z = curve(fv.open(path), 0, "approach")[0]
    for method in ("piecewise", "threshold", "gradient", "ratio_of_variances"):
        contact = hertz(path, {"radius": 10e-6}, contact={"method": method})["approach_contact_point"][0, 0]
        found[method] = int(np.searchsorted(z, contact))
    text = ", ".join(f"{method} {index}" for method, index in found.items())
    met = all(1895 <= index <= 1919 for index in found.values())
    yield Answer("contact", "contact point by six methods, sample of 2000", "1895 … 1919", text, met)


def reference_points(folder: Path) -> Iterator[Answer]:
    """nanite fits Sneddon's sphere, fvproc its paraboloid, which is softer the deeper the tip goes: no target."""
    maps = hertz(folder / POINTS, {"radius": 18.64e-6})
    for pixel, theirs in (((4, 9), 57.63), ((5, 20), 17608.0), ((16, 16), 46.61)):
        ours = maps["modulus"][pixel]
        text = f"{ours:.4g} Pa ({ours / theirs - 1:+.1%})" if np.isfinite(ours) else "no value (fit_failed)"
        yield Answer(f"points_{pixel[0]}", f"Sneddon's sphere, R 18.64 µm, pixel {pixel}", f"{theirs:g} Pa", text, None)


# ---- maps of instruments


def qi(folder: Path) -> Iterator[Answer]:
    path = folder / QI
    ours = lowest(path, 0.1)["adhesion"]
    vendor = readers.vendor_maps(fv.open(path))["adhesion"].values
    r = alike(ours[0, :10], vendor[0, :10])
    worst = np.abs(ours[0, :10] / vendor[0, :10] - 1).max()
    yield Answer("qi", "JPK QI adhesion", "r > 0.9999", f"r = {r:.6f}, within {worst:.2%}", r > 0.9999)


def bruker(folder: Path) -> Iterator[Answer]:
    volume = fv.open(folder / BRUKER)
    maps = fv.process(volume, fv.Recipe.vendor(volume))
    with (folder / BRUKER_TABLE).open() as file:
        rows = list(csv.DictReader(file))
    for name, column, factor, recomputed in (
        ("modulus", "modulus_sneddon_Pa", 1.0, 1.0016),
        ("stiffness", "stiffness_N_per_m", 1.0, 1.0012),
        ("adhesion", "adhesion_nN", 1e-9, 0.9986),
    ):
        theirs = np.array([float(row[column]) for row in rows]).reshape(8, 16) * factor
        ratio = maps[name][::2] / theirs
        text = f"{np.nanmedian(ratio):.4f}, {np.mean(np.abs(ratio - 1) < 0.02):.0%} within 2 %"
        yield Answer(f"bruker_{name}", f"Bruker {name}, median ratio", f"{recomputed} by a re-computation", text, None)


def nanosurf(folder: Path) -> Iterator[Answer]:
    from fvproc.readers.nanosurf_header import header

    path = folder / NANOSURF
    volume = fv.open(path)
    table = np.loadtxt(folder / NANOSURF_TABLE, delimiter=",", skiprows=1, usecols=1)
    forth = np.arange(100).reshape(10, 10)
    forth[1::2] = forth[1::2, ::-1].copy()
    lines = forth.ravel()
    smallest = np.array([curve(volume, number, "retract")[1].min() for number in range(100)])
    equal = int(np.isclose(smallest, table[lines], rtol=0, atol=5e-13).sum())
    yield Answer("nanosurf_adhesion", "Nanosurf adhesion, curves equal", "99 of 100", f"{equal} of 100", equal >= 99)
    block = next(one for one in header(str(path)).data_sets if one.group == "IndentationZSensorFwd0")
    raw = np.fromfile(path, block.dtype, block.lines * block.points, offset=block.offset)
    vendor = raw.reshape(block.lines, block.points) * block.scale + block.shift
    largest = spread = 0.0
    for pixel, line in enumerate(lines):
        if line == 0:
            continue  # left over from another curve
        z, force = curve(volume, pixel, "approach")
        count = min(len(z), block.valid[line], 900)
        off = vendor[line, :count] - (z - force / volume.calibration.spring_constant.value)[:count]
        largest, spread = max(largest, np.abs(off).max()), max(spread, np.ptp(off))
    text = f"{largest:.2g} m, of which {spread:.2g} m is no offset"
    yield Answer(
        "nanosurf_separation", "Nanosurf separation, largest difference", "1e-12 m", text, bool(largest <= 1e-12)
    )


# ---- single samples


class Difference:
    """The largest difference of samples, beside the range of what is compared."""

    def __init__(self) -> None:
        self.count, self.largest = 0, 0.0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        theirs = np.asarray(theirs, np.float64)
        self.count += len(ours)
        self.largest = max(self.largest, float(np.abs(ours - theirs).max() / (np.ptp(theirs) or 1.0)))

    def answer(self, key: str, judge: str) -> Answer:
        text = f"{self.largest:.1g} of the range, {self.count:,} samples"
        return Answer(key, f"every sample against {judge}", "1e-6 of the range", text, self.largest < 1e-6)


def afmformats_samples(folder: Path) -> Iterator[Answer]:
    judge = importlib.import_module("afmformats")
    logging.getLogger("afmformats.formats").disabled = True
    difference = Difference()
    for name in READ_BY_AFMFORMATS:
        volume = fv.open(folder / name)
        for data in judge.load_data(folder / name):
            row, column = divmod(int(data.metadata["enum"]) if volume.grid.curves > 1 else 0, volume.grid.nx)
            if row % 2 and name.endswith("force-map"):
                column = volume.grid.nx - 1 - column
            for branch, segment in (("approach", data.appr), ("retract", data.retr)):
                z, force = curve(volume, row * volume.grid.nx + column, branch)
                difference.add(force, segment["force"])
                difference.add(z, -segment["height (measured)"])
    yield difference.answer("afmformats", f"afmformats, {len(READ_BY_AFMFORMATS)} files")


def igor_samples(folder: Path) -> Iterator[Answer]:
    judge = importlib.import_module("igor2.binarywave")
    difference = Difference()

    def compare(volume: fv.ForceVolume, number: int, deflection: np.ndarray, z: np.ndarray) -> None:
        begin = 0
        for branch in ("approach", "retract"):
            ours, force = curve(volume, number, branch)
            at = slice(begin, begin + len(ours))
            difference.add(force, deflection[at] * volume.calibration.spring_constant.value)
            difference.add(ours, z[at])
            begin += len(ours)

    for name in IGOR_CURVES:
        values = judge.load(str(folder / name))["wave"]["wData"].astype(np.float64)
        compare(fv.open(folder / name), 0, values[:, 1], values[:, 2])
    with unpacked(folder) as place:
        volume = fv.open(place)
        for number in range(400):
            row, column = divmod(number, 20)
            stem = place / f"fdc_data_2/Line{row:04d}/Line{row:04d}Point{column:04d}"
            waves = [judge.load(f"{stem}{kind}.ibw")["wave"]["wData"].astype(np.float64) for kind in ("Defl", "ZSnsr")]
            compare(volume, number, *waves)
    yield difference.answer("igor2", "igor2, 402 curves")


def nsfopen_samples(folder: Path) -> Iterator[Answer]:
    data = importlib.import_module("NSFopen.read").read(str(folder / NANOSURF)).data
    volume = fv.open(folder / NANOSURF)
    difference = Difference()
    forth = np.arange(100).reshape(10, 10)
    forth[1::2] = forth[1::2, ::-1].copy()
    for pixel, line in enumerate(forth.ravel()):
        for branch, group, step in (("approach", "Forward", 1), ("retract", "Backward", -1)):
            z, force = curve(volume, pixel, branch)
            for ours, channel in ((force, "Deflection"), (z, "Z-Axis Sensor")):
                difference.add(ours, np.asarray(data["Spec"][group][channel][line])[: len(z)][::step])
    yield difference.answer("nsfopen", "NSFopen, 100 curves")


# ---- orientation


def orientation(key: str, what: str, ours: np.ndarray, vendor: np.ndarray, least: float = 0.99) -> Answer:
    """Compare a map with the instrument's as it is, and flipped and transposed."""
    r = alike(ours, vendor)
    others = [ours[::-1], ours[:, ::-1], ours[::-1, ::-1], ours.T, ours[::-1].T, ours[:, ::-1].T, ours[::-1, ::-1].T]
    worse = max(alike(other, vendor) for other in others)
    text = f"r = {r:.6f}; flipped or transposed {worse:.3f} at most"
    return Answer(f"orientation_{key}", what, f"r > {least}, all others less", text, r > least and worse < r - 0.1)


def orientations(folder: Path) -> Iterator[Answer]:
    volume = fv.open(folder / JPK_MAP)
    vendor = readers.vendor_maps(volume)["measuredHeight"].values
    yield orientation("jpk", "JPK map 4 × 4, height", hertz(folder / JPK_MAP, {"radius": 1e-6})["height"], vendor)
    volume = fv.open(folder / BRUKER)
    maps, theirs = fv.process(volume, fv.Recipe.vendor(volume)), readers.vendor_maps(volume)
    yield orientation("bruker", "Bruker 16 × 16, height of the scanner", maps["height"], theirs["height"].values)
    yield orientation("bruker_curves", "Bruker 16 × 16, adhesion", maps["adhesion"], theirs["adhesion"].values, 0.98)
    with unpacked(folder) as place:
        maps, theirs = lowest(place, 0.2), readers.vendor_maps(fv.open(place))
    r = alike(maps["adhesion"], theirs["adhesion"].values)
    worst = np.abs(maps["adhesion"] / theirs["adhesion"].values - 1).max()
    yield Answer("asylum", "Asylum adhesion", "r > 0.9999", f"r = {r:.6f}, within {worst:.2%}", r > 0.9999)
    yield orientation("asylum", "Asylum 20 × 20, height", maps["height"], theirs["height"].values)
    yield nanosurf_orientation(folder)


def nanosurf_orientation(folder: Path) -> Answer:
    """Against the height image of the same area, another measurement, at the places of the curves."""
    from fvproc.readers.nanosurf_header import header

    path = folder / NANOSURF
    volume = fv.open(path)
    heights = []
    for number in range(100):
        z, force = curve(volume, number, "approach")
        heights.append(force[-1] / volume.calibration.spring_constant.value - z[-1])
    sets = header(str(path)).data_sets
    block = next(one for one in sets if one.group == "Scan forward" and one.name == "Z-Axis Sensor")
    raw = np.fromfile(path, block.dtype, 256 * 256, offset=block.offset).reshape(256, 256)
    places = np.round((np.linspace(-2.25e-6, 2.25e-6, 10) / 5e-6 + 0.5) * 256 - 0.5).astype(int)
    image = (raw * block.scale + block.shift)[np.ix_(places, places)]
    return orientation("nanosurf", "Nanosurf 10 × 10, height", np.reshape(heights, (10, 10)), image)


@contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """Yield the folder of the archive of curves."""
    with tempfile.TemporaryDirectory() as place, tarfile.open(folder / ASYLUM) as archive:
        archive.extractall(place, filter="data")
        yield Path(place)


GROUPS: tuple[Callable[[Path], Iterator[Answer]], ...] = (
    spot3, reference_points, qi, bruker, nanosurf, afmformats_samples, igor_samples, nsfopen_samples, orientations,
)  # fmt: skip


def answers(folder: Path) -> Iterator[Answer]:
    """Yield all answers; a group whose judge or files are absent yields one line that says so."""
    for group in GROUPS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield from group(folder)
        except (ImportError, FileNotFoundError, fv.FileFormatError) as error:
            yield Answer(group.__name__, group.__name__.replace("_", " "), "–", f"absent: {error}", None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FVPROC_TEST_DATA"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder of real measurements, or set FVPROC_TEST_DATA")
    found = list(answers(Path(options.folder)))
    if options.json:
        print(json.dumps([asdict(answer) for answer in found], indent=1, ensure_ascii=False))
    else:
        print("| answer | target | fvproc | met |\n|---|---|---|---|")
        for answer in found:
            met = {True: "yes", False: "**no**", None: "–"}[answer.met]
            print(f"| {answer.what} | {answer.target} | {answer.value} | {met} |")
    return int(any(answer.met is False for answer in found))


if __name__ == "__main__":
    sys.exit(main())
