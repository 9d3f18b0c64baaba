"""`fvproc run`: one input or many, here or on a cluster."""

from __future__ import annotations

import argparse
import glob
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvproc import events, processors
from fvproc.errors import FvprocError, OutputError
from fvproc.options import DONE, PARTLY, REFUSED, calibration, recipe_for, settings

if TYPE_CHECKING:
    from fvproc import bulk
    from fvproc.volume import ForceVolume


def run(options: argparse.Namespace) -> int:
    """Do what `fvproc run` was asked for; return the exit status."""
    inputs, unmatched = _inputs(options)
    first = options.output[0]
    several = len(inputs) > 1 or Path(first).is_dir() or first.endswith(("/", "\\"))
    if several and (options.tiff or options.figure or len(options.output) > 1):
        raise OutputError("-o is a folder here: a second -o, --tiff and --figure go with one input and files only")
    if options.summary and not several:
        raise OutputError("--summary goes with several inputs, or with a folder as -o")
    if options.summary:
        from fvproc import bulk

        bulk.check_table(options.summary)
    outputs = [Path(first) / f"{path.stem}.h5" for path in inputs] if several else _outputs(options)
    own = [*inputs, *outputs, *([options.summary] if options.summary else [])]
    with processors.at_most(options.threads), events.to_file(options.log, own), _cluster(options) as client:
        if several:
            return _run_several(options, inputs, unmatched, client)
        return _run_one(options, inputs[0], client)


def _inputs(options: argparse.Namespace) -> tuple[list[Path], set[Path]]:
    """Return the inputs, and those of them that are patterns without a match.

    A pattern such as *.spm, which Windows' shells leave alone, stands for what it matches.
    """
    found: list[Path] = []
    unmatched: set[Path] = set()
    for name in options.input:
        path = Path(name)
        if not glob.has_magic(name) or path.exists():
            found.append(path)
            continue
        matches = sorted(map(Path, glob.glob(name)))  # noqa: PTH207 (an absolute pattern, too)
        if not matches:
            unmatched.add(path)
        elif "*" not in name and "?" not in name:  # a name may have brackets, and its file be missing
            _say(f"{name}: no file of that name; taken as a pattern, it is {', '.join(map(str, matches))}", options)
        found += matches or [path]
    if unmatched.issuperset(found):
        raise FvprocError(_no_match(found[0]))
    return found, unmatched


def _no_match(path: Path) -> str:
    return f"{path}: no file has that name, and no file matches the pattern"


def _outputs(options: argparse.Namespace) -> list[Path]:
    return [Path(name) for name in [*options.output, options.tiff, options.figure] if name]


def _run_one(options: argparse.Namespace, path: Path, client: Any) -> int:
    from fvproc import api, job, progress, report

    began = time.perf_counter()
    chosen = settings(options)
    outputs = _outputs(options)
    volume = api.open(path, **calibration(options))
    for warning in volume.warnings:
        _say(f"{path.name}: {warning}", options)
    tally = progress.Tally() if options.quiet or options.json else progress.Bar(path.name)
    maps = api.process(
        volume,
        recipe_for(volume, chosen),
        client=client,
        threads=options.threads,
        output=outputs,
        overwrite=options.overwrite,
        resume=options.resume,
        tile_bytes=options.tile_bytes,
        progress=tally,
    )
    failures = job.lost(maps)
    _tell_lost(path, failures)
    if options.json or not options.quiet:  # medians of a large map take seconds
        summary = report.summary(maps, path, outputs, time.perf_counter() - began, tally.computed)
        print(json.dumps([summary], indent=1) if options.json else report.summary_text(summary))
    return PARTLY if failures else DONE


def _run_several(options: argparse.Namespace, inputs: list[Path], unmatched: set[Path], client: Any) -> int:
    from fvproc import api, bulk, progress

    def open_volume(path: Path) -> ForceVolume:
        if path in unmatched:
            raise FvprocError(_no_match(path))
        return api.open(path, **given)

    given, chosen = calibration(options), settings(options)
    results: list[bulk.Result] = []

    def tell(result: bulk.Result) -> None:
        results.append(result)
        if result.error is not None:
            print(f"fvproc: {result.path.name}: {result.error}", file=sys.stderr)
        _tell_lost(result.path, result.failures)
        for warning in result.warnings:
            _say(f"{result.path.name}: {warning}", options)

    try:
        bulk.process_many(
            inputs,
            lambda volume: recipe_for(volume, chosen),
            output_dir=options.output[0],
            client=client,
            threads=options.threads,
            overwrite=options.overwrite,
            resume=options.resume,
            tile_bytes=options.tile_bytes,
            progress=progress.Tally() if options.quiet or options.json else progress.Bar(files=len(inputs)),
            open_volume=open_volume,
            told=tell,
        )
    except BaseException:
        try:
            _told(options, inputs, results)
        except OutputError as error:  # no reason to hide why the run was stopped, and how it goes on
            print(f"fvproc: {error}", file=sys.stderr)
        raise
    written = _told(options, inputs, results)
    if not written:
        return REFUSED
    return DONE if all(result.status in ("done", "done before") for result in results) else PARTLY


def _tell_lost(path: Path, failures: Sequence[str]) -> None:
    """Tell what could not be computed, and that it can be tried again."""
    for failure in failures:
        print(f"fvproc: {path.name}: {failure}", file=sys.stderr)
    if failures:
        print(f"fvproc: {path.name}: the same again with --resume tries them again", file=sys.stderr)


def _told(options: argparse.Namespace, inputs: list[Path], results: list[bulk.Result]) -> bool:
    """Print the table, and write it where --summary says; return whether it could be written."""
    from fvproc import bulk

    order = {path: number for number, path in enumerate(inputs)}
    results.sort(key=lambda result: order[result.path])

    try:
        if options.json:
            print(json.dumps([result.to_dict() for result in results], indent=1))
        elif results and not options.quiet:
            print(bulk.table_text(results))
        sys.stdout.flush()
    finally:  # who cannot be told may still read
        written = True
        if options.summary and results:
            try:
                bulk.write_table(results, options.summary)
            except OutputError as error:
                written = False
                print(f"fvproc: {error}; the files of the run itself are as the table says", file=sys.stderr)
    return written


def _say(message: str, options: argparse.Namespace) -> None:
    if not options.quiet:
        print(f"fvproc: {message}", file=sys.stderr)


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the client that --scheduler, --scheduler-file or --processes asks for; None without."""
    from fvproc import schedule

    certificates = schedule.Certificates(options.tls_ca, options.tls_cert, options.tls_key)
    if options.processes:
        with schedule.local_processes(options.processes) as client:
            yield client
    elif options.scheduler or options.scheduler_file:
        client = schedule.connect(options.scheduler, options.scheduler_file, certificates)
        if not options.json:
            _say(f"dashboard of the cluster: {schedule.dashboard_link(client) or 'none'}", options)
        try:
            yield client
        finally:
            client.close()
    else:
        yield None
