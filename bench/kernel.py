"""What a curve costs in the kernel on one core and on two, beside copying the same bytes.

    python bench/kernel.py [--quick] [--json kernel.json] [--plot bench/plots/kernel.svg]

Kernel and `numpy.copyto` of the bytes that it reads take turns in one process on one core, so that a machine whose
speed drifts changes both; the ratio is the median over these pairs. One thread is timed by its own CPU time
(`time.thread_time`), two by the clock on the wall. Each instruction set is a process of its own (FVPROC_SIMD).
Cycles are time × the clock that the system states (/proc/cpuinfo), which may differ from the true one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
from bounds import noise
from materials import MATERIALS
from truth import driven, tile

from fvproc._core import available_instruction_sets, fit_tile, kernel_settings
from fvproc.provenance import version
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume, RawBranch, RawTile

HERE = Path(__file__).parent
RECIPES: dict[str, dict[str, dict[str, str]]] = {
    "ml": {},
    "ml, modulus and adhesion": {"maps": {"quantities": "modulus, adhesion"}},
    "ml, threshold": {"contact": {"method": "threshold"}},
    "qnm, threshold": {"fit": {"method": "qnm"}, "contact": {"method": "threshold"}},
    # the bare place where the method sees the contact: nothing is fitted on approach
    "qnm, detected": {"fit": {"method": "qnm"}, "contact": {"method": "threshold", "position": "detected"}},
    "qnm, modulus and adhesion": {"fit": {"method": "qnm"}, "maps": {"quantities": "modulus, adhesion"}},
}
# what each part of the work costs: the survey, which all rests on, and it with one part more
PARTS: dict[str, dict[str, dict[str, str]]] = {
    "ml, peak force (survey)": {"maps": {"quantities": "peak_force"}},
    "ml, deformation": {"maps": {"quantities": "deformation"}},
    "ml, areas": {"maps": {"quantities": "dissipation, adhesion_energy"}},
    "ml, modulus and adhesion (fit)": {"maps": {"quantities": "modulus, adhesion"}},
    "ml, contact point on approach (fit)": {"maps": {"quantities": "approach_contact_point"}},
    "ml, all": {},
}
SAMPLES = (64, 128, 256, 512, 1024, 2048, 4096)
SIGMA = 2e-11  # m


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed."""

    instruction_set: str
    recipe: str = "ml"
    material: str = "1.5 GPa"
    samples: int = 512
    dtype: str = "int16"
    shared_z: bool = True
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one pass over all curves: medians and the least; `ratio` is the median over pairs of passes."""

    case: Case
    curves: int
    bytes_read: int
    median: float
    least: float
    copy_median: float
    copy_least: float
    ratio: float
    ratio_of_least: float

    @property
    def per_curve(self) -> float:
        """Median seconds a curve."""
        return self.median / self.curves

    @property
    def per_sample(self) -> float:
        """Median seconds a sample, both branches counted."""
        return self.per_curve / (2 * self.case.samples)

    @property
    def copy_per_sample(self) -> float:
        """Median seconds to copy a sample."""
        return self.copy_median / self.curves / (2 * self.case.samples)


@lru_cache(maxsize=1)
def curves_of(material: str, samples: int, dtype: str, shared_z: bool, size: int) -> tuple[RawTile, ForceVolume]:
    """Return curves whose deflections take about `size` bytes."""
    chosen = next(m for m in MATERIALS if m.name == material)
    count = max(64, size // (2 * samples * np.dtype(dtype).itemsize) // 16 * 16)
    made = noise(np.random.default_rng(0), "white", count, samples)
    return tile(driven(chosen, "sine", samples), made, SIGMA, 1e-3, shared_z, dtype)


def part(raw: RawTile, first: int, last: int) -> RawTile:
    """Return some curves of a tile, without a copy."""
    branches = (
        RawBranch(b.deflection[first:last], b.z if b.z.ndim == 1 else b.z[first:last])
        for b in (raw.approach, raw.retract)
    )
    return RawTile(*branches)


def arrays(raw: RawTile) -> list[np.ndarray]:
    """Return what the kernel reads of a tile, a shared z left out."""
    return [a for b in (raw.approach, raw.retract) for a in (b.deflection, b.z) if a.ndim == 2]


def timed(case: Case, size: int, rounds: int) -> Timing:
    """Time kernel and copy in turns; the first of each is not counted."""
    raw, volume = curves_of(case.material, case.samples, case.dtype, case.shared_z, size)
    settings = kernel_settings(volume, Recipe.from_dict((RECIPES | PARTS)[case.recipe]).completed(volume))
    curves = len(raw.retract.deflection)
    edges = [curves * i // case.threads for i in range(case.threads + 1)]
    parts = [part(raw, *edges[i : i + 2]) for i in range(case.threads)]
    spare = [[np.empty_like(a) for a in arrays(p)] for p in parts]

    def fit(i: int) -> None:
        fit_tile(parts[i], settings)

    def copy(i: int) -> None:
        for target, source in zip(spare[i], arrays(parts[i]), strict=True):
            np.copyto(target, source)

    clock = time.thread_time if case.threads == 1 else time.perf_counter
    with ThreadPoolExecutor(case.threads) as pool:

        def seconds(work: Callable[[int], None]) -> float:
            start = clock()
            if case.threads == 1:
                work(0)
            else:
                list(pool.map(work, range(case.threads)))
            return clock() - start

        pairs = [(seconds(copy), seconds(fit)) for _ in range(rounds + 1)][1:]
    copies, fits = zip(*pairs, strict=True)
    return Timing(
        case,
        curves,
        sum(a.nbytes for a in arrays(raw)),
        median(fits),
        min(fits),
        median(copies),
        min(copies),
        median(f / c for c, f in pairs),
        min(fits) / min(copies),
    )


def cases(sets: Sequence[str]) -> dict[str, list[Case]]:
    """Return the tables: what each is about, and its cases."""
    best = sets[0]
    return {
        "By material": [Case(best, r, m) for m in ("45 MPa", "1.5 GPa", "10.7 GPa") for r in RECIPES],
        "By what is asked for": [Case(best, r, samples=n) for n in (128, 512, 2048) for r in PARTS],
        "By samples per branch": [Case(best, r, samples=n) for n in SAMPLES for r in RECIPES],
        "By type of the deflection and by z": [
            Case(best, r, dtype=d, shared_z=s)
            for d in ("int16", "int32", "float32")
            for s in (True, False)
            for r in RECIPES
        ],
        "By instruction set": [Case(i, r, samples=n) for i in sets for n in (256, 1024) for r in RECIPES],
        "By threads": [Case(best, r, threads=t) for t in (1, 2) for r in RECIPES],
    }


def measured(wanted: list[Case], size: int, rounds: int) -> dict[Case, Timing]:
    """Time each case once, each instruction set in a process of its own."""
    found = {}
    for name in dict.fromkeys(c.instruction_set for c in wanted):
        group = list(dict.fromkeys(c for c in wanted if c.instruction_set == name))
        group.sort(key=lambda c: (c.threads, c.samples, c.material, c.dtype, c.shared_z))  # the same curves in a row
        order = {"cases": [asdict(c) for c in group], "size": size, "rounds": rounds}
        command = [sys.executable, str(HERE / "kernel.py"), "--worker"]
        process = subprocess.run(
            command,
            input=json.dumps(order),
            env={**os.environ, "FVPROC_SIMD": name},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for line in process.stdout.splitlines():
            values = json.loads(line)
            case = Case(**values.pop("case"))
            found[case] = Timing(case, **values)
    return found


def work() -> None:
    """Time the cases given on standard input, a line of JSON for each; one thread stays on one core."""
    order = json.load(sys.stdin)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    for values in order["cases"]:
        if cores:
            os.sched_setaffinity(0, cores if values["threads"] > 1 else cores[-1:])
        print(json.dumps(asdict(timed(Case(**values), order["size"], order["rounds"]))), flush=True)


def processor() -> dict[str, object]:
    """Return what the system says of the CPU; the clock is None where it does not say."""
    said: dict[str, str] = {}
    source = Path("/proc/cpuinfo")
    if source.exists():
        for line in source.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            said.setdefault(name.strip(), value.strip())
    clock = float(said["cpu MHz"]) * 1e6 if "cpu MHz" in said else None
    return {"model": said.get("model name", platform.processor()), "cores": os.cpu_count(), "clock_hz": clock}


def commit() -> str:
    """Return the commit of the sources, with a + where they were changed since; empty outside a clone."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()


def table(timings: list[Timing], clock: float | None) -> str:
    """Return timings as a markdown table; columns that say the same in every row are left out."""
    named = {
        "material": [t.case.material for t in timings],
        "samples": [str(t.case.samples) for t in timings],
        "deflection": [t.case.dtype for t in timings],
        "z": ["shared" if t.case.shared_z else "per curve" for t in timings],
        "instructions": [t.case.instruction_set for t in timings],
        "threads": [str(t.case.threads) for t in timings],
        "recipe": [t.case.recipe for t in timings],
        "µs a curve": [f"{t.per_curve * 1e6:.2f}" for t in timings],
        "least": [f"{t.least / t.curves * 1e6:.2f}" for t in timings],
        "curves/s": [f"{1 / t.per_curve:,.0f}" for t in timings],
        "MB/s": [f"{t.bytes_read / t.median / 1e6:,.0f}" for t in timings],
        "ns a sample": [f"{t.per_sample * 1e9:.2f}" for t in timings],
        "cycles a sample": [f"{t.per_sample * clock:.1f}" if clock else "" for t in timings],
        "copy: ns a sample": [f"{t.copy_per_sample * 1e9:.3f}" for t in timings],
        "× copy": [f"{t.ratio:.0f}" if t.ratio >= 10 else f"{t.ratio:.1f}" for t in timings],
        "least/least": [
            f"{t.ratio_of_least:.0f}" if t.ratio_of_least >= 10 else f"{t.ratio_of_least:.1f}" for t in timings
        ],
    }
    kept = {n: v for n, v in named.items() if len(set(v)) > 1 or n in ("µs a curve", "× copy")}
    lines = ["| " + " | ".join(kept) + " |", "|---" * len(kept) + "|"]
    lines += ["| " + " | ".join(values) + " |" for values in zip(*kept.values(), strict=True)]
    return "\n".join(lines)


def plot(timings: list[Timing], path: Path) -> None:
    """Draw the cost of a sample against the samples per branch, with the line of the copy."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    mpl.rcParams["svg.hashsalt"] = "fvproc"  # the same numbers, the same file
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    for recipe, marker in zip(RECIPES, "oDs^vP", strict=True):
        group = [t for t in timings if t.case.recipe == recipe]
        samples = [t.case.samples for t in group]
        axes.plot(samples, [t.per_sample * 1e9 for t in group], marker=marker, label=recipe)
    samples = sorted({t.case.samples for t in timings})
    copy = [median(t.copy_per_sample for t in timings if t.case.samples == n) * 1e9 for n in samples]
    axes.plot(samples, copy, "k--", label="numpy.copyto")
    axes.set(xscale="log", yscale="log", xlabel="samples per branch", ylabel="ns a sample", xticks=samples)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the curves and of the rounds")
    parser.add_argument("--size", type=int, help="bytes of deflection in a pass (32 MB, 1 MB if quick)")
    parser.add_argument("--rounds", type=int, help="pairs of kernel and copy (7, 3 if quick)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=".svg or .png")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work()
        return
    size = arguments.size or (1_000_000 if arguments.quick else 32_000_000)
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    machine = {
        **processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fvproc": version("fvproc"),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    tables = cases(available_instruction_sets())
    found = measured([c for group in tables.values() for c in group], size, rounds)
    clock = machine["clock_hz"]
    print(
        f"{machine['model']}, {machine['cores']} cores",
        f"stated clock {clock / 1e9:.2f} GHz" if clock else "",
        sep=", ",
    )
    print(
        f"NumPy {machine['numpy']}, commit {machine['commit']}; about {size / 1e6:g} MB of deflection, {rounds} pairs"
    )
    print(
        "Unless a column says otherwise: 1.5 GPa, 2 × 512 samples of int16, one shared z,",
        f"{tables['By samples per branch'][0].instruction_set}, one thread.",
    )
    for title, group in tables.items():
        print(f"\n### {title}\n", table([found[c] for c in group], clock), sep="\n")
    if arguments.json:
        content = {"machine": machine, "size": size, "rounds": rounds, "timings": [asdict(t) for t in found.values()]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot([found[c] for c in tables["By samples per branch"]], arguments.plot)


if __name__ == "__main__":
    main()
