"""Coverage-guided changes of small files of each format, by atheris: errors of fvproc or numbers, nothing else.

    pip install atheris
    python bench/fuzz.py [--seconds 60] [--formats nanoscope jpk …]

libFuzzer mutates the files of `bench/hostile.py` and keeps what reaches new lines of the readers; one process for each
format, since it ends the process. What is no error of fvproc, takes more than 5 s or more than 1 GB ends it with the
input saved in the current folder; `tests/` then gets it. Status 1 if there was any.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def fuzz(name: str, folder: Path, arguments: list[str]) -> None:
    """Let libFuzzer feed one reader; does not return."""
    import atheris

    spec = importlib.util.spec_from_file_location("bench_hostile", Path(__file__).parent / "hostile.py")
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    sys.modules["bench_hostile"] = bench
    with atheris.instrument_imports(include=["fvproc.readers"]):
        spec.loader.exec_module(bench)
        # some are imported when a file is opened, which would be too late
        for module in pkgutil.iter_modules([str(Path(bench.fv.__file__).parent / "readers")]):
            importlib.import_module(f"fvproc.readers.{module.name}")
    form = bench.FORMATS[name]
    whole = form.make(folder / "whole")
    archive = whole.read_bytes()
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "whole").write_bytes(zipfile.ZipFile(whole).read(form.entry) if form.entry else archive)
    target = folder / f"changed{whole.suffix}"

    def one(data: bytes) -> None:
        target.write_bytes(bench._with_entry(archive, form.entry, data) if form.entry else form.mend(data))
        bench.hostile.survives(target, lambda path: bench.fv.open(path, **bench._options(form)))

    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--fuzz"]:
        name, folder, *arguments = sys.argv[2:]
        fuzz(name, Path(folder), arguments)
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each format")
    names = ["nanoscope", "PeakForce Capture", "jpk", "jpk, its shared header", "jpk, a segment's header", "asylum"]
    names += ["ardf", "nanosurf", "nhf", "nsid", "curves", "mapping"]
    parser.add_argument("--formats", nargs="+", default=names, choices=names)
    options = parser.parse_args()
    print("| format | inputs tried | lines and branches reached, first → last | findings |\n|---|---|---|---|")
    status = 0
    for name in options.formats:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--fuzz", name, folder, f"-max_total_time={options.seconds}"]
            command += ["-timeout=10", "-rss_limit_mb=2500", "-len_control=0", "-print_final_stats=1"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr + done.stdout
        tried = re.search(r"number_of_executed_units: (\d+)", said) or re.search(r"Done (\d+) runs", said)
        reached = re.findall(r"cov: (\d+)", said)
        found = 0 if done.returncode == 0 else 1
        ends = f"{reached[0]} → {reached[-1]}" if reached else ""
        print(f"| {name} | {tried[1] if tried else ''} | {ends} | {found} |", flush=True)
        if found:
            print(said[-3000:], file=sys.stderr)
        status |= found
    return status


if __name__ == "__main__":
    sys.exit(main())
