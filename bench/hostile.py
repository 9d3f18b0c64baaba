"""Thousands of changed files of each format: an error of fvproc or numbers; no crash, hang, gigabyte or foreign file.

    python bench/hostile.py [--count 2000] [--seed 0] [--formats jpk nanoscope …]

Small files come from the writers of the tests; `tests/hostile.py` changes them: cut, bits flipped, counts and offsets
that lie, texts replaced, pieces moved. Each is opened, described, read and, where it is small, fitted, in a process
that may take 5 s and 1 GB for it, and must open nothing but the file (a hook tells what Python opens). A process that
dies or stands still is a fault of the file that it had in hand; the next one goes on behind it. Faults are told with
the number of the change, which with the seed makes the file again, and end the script with status 1. `afmformats`
needs the real files of FVPROC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import ardf_files
import asylum_files
import curves_files
import hostile
import jpk_files
import nanoscope_files
import nanosurf_files
import nhf_files
import nsid_files

import fvproc as fv

STANDSTILL = 15.0  # s; a change takes 5 at most
FITTED = 64  # curves
MAPPING = {
    "version": 1,
    "axes": "y x sample",
    **{
        branch: {
            "deflection": {"dataset": f"/{branch}/deflection", "units": "V"},
            "z": {"dataset": f"/{branch}/z", "units": "m", "axes": "sample"},
        }
        for branch in ("approach", "retract")
    },
}


@dataclass(frozen=True)
class Format:
    """How to make a small file, how much of it is header, what mends a change, and how it is opened."""

    make: Callable[[Path], Path]
    header: int | None = None  # bytes; None: all of it
    mend: Callable[[bytes], bytes] = bytes
    options: dict[str, Any] | None = None
    entry: str = ""  # of an archive: only this is changed, so that its checksum is right


def _nanoscope(path: Path) -> Path:
    file = nanoscope_files.File(ny=2, nx=3, dtype="<i2")
    approach, retract = nanoscope_files.numbers(6, 40, 40)
    return nanoscope_files.write_ramps(path.with_suffix(".spm"), approach, retract, file)


def _capture(path: Path) -> Path:
    records = np.random.default_rng(1).integers(-3000, 3000, (6, 96)).astype("<i2")
    file = nanoscope_files.File(ny=2, nx=3, dtype="<i2", mode="Peak Force Capture")
    return nanoscope_files.write_capture(path.with_suffix(".pfc"), records, file, amplitude=150.0, sync=24.0)


def _ibw(path: Path) -> Path:
    values = asylum_files.curve(40, 30, 5)
    return asylum_files.single(path.with_suffix(".ibw"), values, asylum_files.indexes(40, 30, 5))


def _ardf(path: Path) -> Path:
    return ardf_files.write(path.with_suffix(".ardf"), ardf_files.volumes_of(ardf_files.KINDS[0]))


def _checked(content: bytes) -> bytes:
    """Give most waves a checksum that is right: else none of the lies would be looked at."""
    return asylum_files.checksum(content) if len(content) > 384 and content[-1] % 3 else content


def _nsid(path: Path) -> Path:
    ramp = np.linspace(0, 10, len(nsid_files.Z), dtype=np.float32)
    return nsid_files.write_nsid(path.with_suffix(".h5"), np.tile(ramp, (2, 3, 1)), notes={"SpringConstant": 0.5})


def _tab(path: Path) -> Path:
    real = Path(os.environ.get("FVPROC_TEST_DATA", "")) / "other/fmt-tab-fd_version_0.13.3.tab"
    path = path.with_suffix(".tab")
    path.write_bytes(real.read_bytes())
    return path


def _jpk(path: Path, **settings: Any) -> Path:
    return jpk_files.JpkFile(samples=(32, 32), **settings).write(path.with_suffix(".jpk-qi-data"))


def _with_entry(content: bytes, entry: str, changed: bytes) -> bytes:
    """Return an archive with one of its entries replaced."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in source.infolist():
            archive.writestr(info.filename, changed if info.filename == entry else source.read(info))
    return target.getvalue()


FORMATS = {
    "nanoscope": Format(_nanoscope, 8192),
    "PeakForce Capture": Format(_capture, 8192),
    "jpk": Format(_jpk),
    "jpk, its shared header": Format(_jpk, entry="shared-data/header.properties"),
    "jpk, its header": Format(_jpk, entry="header.properties"),
    "jpk, a segment's header": Format(
        lambda path: _jpk(path, headers="own"), entry="index/1/segments/0/segment-header.properties"
    ),
    "asylum": Format(_ibw, 384, _checked),
    "ardf": Format(_ardf),
    "nanosurf": Format(
        lambda path: nanosurf_files.write(path.with_suffix(".nid"), nanosurf_files.counts(2, 3, 40)), 3000
    ),
    "nhf": Format(lambda path: nhf_files.write(path.with_suffix(".nhf"), nhf_files.curves(np.full(6, 40)))),
    "nsid": Format(_nsid),
    "curves": Format(lambda path: curves_files.write_with_h5py(path.with_suffix(".h5"), n=40), 6000),
    "mapping": Format(
        lambda path: curves_files.write_with_h5py(path.with_suffix(".h5"), n=40), 6000, options={"mapping": MAPPING}
    ),
    "afmformats": Format(_tab, 4000),
}


# ---- one process that meets changes, one after another


def meet(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    """Open, read and fit changes [first, count); tell of each on standard output."""
    import resource

    form = FORMATS[name]
    whole = form.make(folder / "whole")
    archive = whole.read_bytes()
    content = zipfile.ZipFile(whole).read(form.entry) if form.entry else archive
    fv.process(fv.open(whole, **_options(form)), RECIPE)  # everything is imported
    opened: list[str] = []
    mine = str(folder)
    sys.addaudithook(lambda event, given: _note(opened, mine, given) if event == "open" else None)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * hostile.BYTES // 2, resource.RLIM_INFINITY))
    for number, changed in enumerate(hostile.mutations(content, count, form.header or len(content), seed)):
        if number < first:
            continue
        path = folder / f"changed{number % 8}{whole.suffix}"
        path.write_bytes(_with_entry(archive, form.entry, changed) if form.entry else form.mend(changed))
        print("begin", number, flush=True)
        opened.clear()
        try:
            told = "read" if hostile.survives(path, lambda path: _fitted(path, form)) else "refused"
        except BaseException as error:
            told = f"fault {type(error).__name__}: {str(error)[:200]}".replace("\n", " ")
        if opened:
            told = f"fault opened {opened[0]}"
        print("end", number, told, flush=True)


RECIPE = fv.Recipe(tip=fv.Tip.sphere(radius=1e-8))


def _options(form: Format) -> dict[str, Any]:
    return {"spring_constant": 0.4, "deflection_sensitivity": 5e-8, **(form.options or {})}


def _fitted(path: Path, form: Format) -> fv.ForceVolume:
    volume = fv.open(path, **_options(form))
    if volume.grid.curves <= FITTED and volume.approach.samples + volume.retract.samples < 100_000:
        maps = fv.process(volume, RECIPE, threads=1)
        valued = np.isfinite(maps["modulus"])
        assert (valued == (maps["modulus_std"] >= 0)).all(), "a modulus without its error"
    return volume


def _note(opened: list[str], mine: str, given: tuple[Any, ...]) -> None:
    name = os.fsdecode(given[0]) if isinstance(given[0], (str, bytes, os.PathLike)) else ""
    allowed = (mine, sys.prefix, sys.base_prefix, "/proc/", "/dev/", "/sys/", str(Path(fv.__file__).parent))
    if name and not Path(name).absolute().as_posix().startswith(allowed):
        opened.append(name)


# ---- the one that starts them


def run(name: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """Return how many changes were read and refused, and what went wrong."""
    tally: Counter[str] = Counter()
    faults: list[str] = []
    reached = 0
    while reached < count:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
            command = [sys.executable, __file__, "--meet", name, str(seed), str(reached), str(count), folder]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1)
            current, ended = _follow(process, tally, faults, name)
            if process.returncode or ended is not None:
                said.seek(0)
                why = ended or f"status {process.returncode}: {said.read()[-200:]}"
                if current is None:
                    sys.exit(f"{name}: cannot begin: {why}")
                faults.append(f"{name}, change {current}: {why}")
                tally["fault"] += 1
                reached = current + 1
            else:
                reached = count
    return tally, faults


def _follow(
    process: subprocess.Popen[str], tally: Counter[str], faults: list[str], name: str
) -> tuple[int | None, str | None]:
    """Listen until the process ends or stands still; return the change that it had in hand, and why it was ended."""
    assert process.stdout is not None
    current: int | None = None
    last, ended = [time.monotonic()], [""]

    def watch() -> None:
        while process.poll() is None:
            time.sleep(0.5)
            if current is not None and time.monotonic() - last[0] > STANDSTILL:
                ended[0] = f"stood still for {STANDSTILL:g} s"
                process.send_signal(signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    for line in process.stdout:
        last[0] = time.monotonic()
        word, number, *told = line.split(maxsplit=2)
        current = int(number)
        if word == "end":
            kind = told[0].split()[0]
            tally[kind] += 1
            if kind == "fault":
                faults.append(f"{name}, change {number}: {told[0][6:].strip()}")
    process.wait()
    return current, ended[0] or None


def main() -> int:
    if sys.argv[1:2] == ["--meet"]:
        name, seed, first, count, folder = sys.argv[2:]
        meet(name, int(seed), int(first), int(count), Path(folder))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    known = [name for name in FORMATS if name != "afmformats" or "FVPROC_TEST_DATA" in os.environ]
    parser.add_argument("--formats", nargs="+", default=known, choices=list(FORMATS))
    options = parser.parse_args()
    print(f"{options.count} changes of each, seed {options.seed}\n")
    print("| format | read | refused | faults | s |\n|---|---|---|---|---|")
    status = 0
    for name in options.formats:
        begun = time.monotonic()
        tally, faults = run(name, options.seed, options.count)
        print(
            f"| {name} | {tally['read']} | {tally['refused']} | {tally['fault']} | {time.monotonic() - begun:.0f} |",
            flush=True,
        )
        for fault in faults:
            print(fault, file=sys.stderr, flush=True)
        status |= bool(faults)
    return status


if __name__ == "__main__":
    sys.exit(main())
