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


def run(options: argparse.Namespace) -> int:
    """Do what `fvproc run` was asked for; return the exit status."""
    inputs = _inputs(options.input)
    first = options.output[0]
    several = len(inputs) > 1 or Path(first).is_dir() or first.endswith(("/", "\\"))
    if several and (options.tiff or options.figure or len(options.output) > 1):
        raise OutputError("-o is a folder here: a second -o, --tiff and --figure go with one input and files only")
    if options.summary and not several:
        raise OutputError("--summary goes with several inputs, or with a folder as -o")
    if options.summary:
        from fvproc import bulk

        bulk.check_table(options.summary)
    with processors.at_most(options.threads), events.to_file(options.log), _cluster(options) as client:
        return _run_several(options, inputs, client) if several else _run_one(options, inputs[0], client)


def _inputs(names: Sequence[str]) -> list[Path]:
    """Return the inputs; a pattern such as *.spm, which Windows' shells leave alone, stands for what it matches."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if glob.has_magic(name) and not path.exists():
            matches = sorted(map(Path, glob.glob(name)))  # noqa: PTH207 (an absolute pattern, too)
            if not matches:
                raise FvprocError(f"{name}: no file matches the pattern")
            found += matches
        else:
            found.append(path)
    return found


def _run_one(options: argparse.Namespace, path: Path, client: Any) -> int:
    from fvproc import api, job, progress, report

    began = time.perf_counter()
    chosen = settings(options)
    outputs = [Path(name) for name in [*options.output, options.tiff, options.figure] if name]
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


def _run_several(options: argparse.Namespace, inputs: list[Path], client: Any) -> int:
    from fvproc import api, bulk, progress

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
            open_volume=lambda path: api.open(path, **given),
            told=tell,
        )
    finally:
        # of a run that was stopped, too
        results.sort(key=lambda result: inputs.index(result.path))
        written = _told(options, results)
    if not written:
        return REFUSED
    return DONE if all(result.status in ("done", "done before") for result in results) else PARTLY


def _tell_lost(path: Path, failures: Sequence[str]) -> None:
    """Tell what could not be computed, and that it can be tried again."""
    for failure in failures:
        print(f"fvproc: {path.name}: {failure}", file=sys.stderr)
    if failures:
        print(f"fvproc: {path.name}: the same again with --resume tries them again", file=sys.stderr)


def _told(options: argparse.Namespace, results: list[bulk.Result]) -> bool:
    """Print the table, and write it where --summary says; return whether it could be written."""
    from fvproc import bulk

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
