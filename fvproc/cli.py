"""`fvproc …`: the commands of the command line and its exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fvproc.errors import FvprocError, OutputError
from fvproc.options import build_parser, calibration, recipe_for, settings
from fvproc.recipe import Recipe, parse_quantity

DONE, PARTLY, REFUSED = 0, 1, 2


def _run(options: argparse.Namespace) -> int:
    inputs = [Path(name) for name in options.input]
    first = options.output[0]
    several = len(inputs) > 1 or Path(first).is_dir() or first.endswith(("/", "\\"))
    if several and (options.tiff or options.figure or len(options.output) > 1):
        raise OutputError("-o is a folder here: a second -o, --tiff and --figure go with one input and files only")
    if options.summary and not several:
        raise OutputError("--summary goes with several inputs, or with a folder as -o")
    with _cluster(options) as client:
        return _run_several(options, inputs, client) if several else _run_one(options, inputs[0], client)


def _run_one(options: argparse.Namespace, path: Path, client: Any) -> int:
    from fvproc import api, report

    began = time.perf_counter()
    chosen = settings(options)
    outputs = [Path(name) for name in [*options.output, options.tiff, options.figure] if name]
    volume = api.open(path, **calibration(options))
    for warning in volume.warnings:
        _say(f"{path.name}: {warning}", options)
    maps = api.process(
        volume,
        recipe_for(volume, chosen),
        client=client,
        threads=options.threads,
        output=outputs,
        overwrite=options.overwrite,
        resume=options.resume,
        tile_bytes=options.tile_bytes,
        progress=False if options.quiet or options.json else report.Bar(path.name),
    )
    failures = maps.provenance["failures"]
    for failure in failures:
        start, stop = failure["curves"]
        message = f"{path.name}: curves {start} to {stop - 1}: {failure['flag']}: {failure['reason']}"
        print(f"fvproc: {message}", file=sys.stderr)
    summary = report.summary(maps, path, outputs, time.perf_counter() - began)
    if options.json:
        print(json.dumps([summary], indent=1))
    elif not options.quiet:
        print(report.summary_text(summary))
    return PARTLY if failures else DONE


def _run_several(options: argparse.Namespace, inputs: list[Path], client: Any) -> int:
    from fvproc import api, bulk, report

    given, chosen = calibration(options), settings(options)

    def tell(result: bulk.Result) -> None:
        if result.error is not None:
            print(f"fvproc: {result.path.name}: {result.error}", file=sys.stderr)
        for warning in result.warnings:
            _say(f"{result.path.name}: {warning}", options)

    results = bulk.process_many(
        inputs,
        lambda volume: recipe_for(volume, chosen),
        output_dir=options.output[0],
        client=client,
        threads=options.threads,
        overwrite=options.overwrite,
        resume=options.resume,
        tile_bytes=options.tile_bytes,
        progress=None if options.quiet or options.json else report.Bar(files=len(inputs)),
        open_volume=lambda path: api.open(path, **given),
        told=tell,
    )
    if options.summary:
        bulk.write_table(results, options.summary)
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=1))
    elif not options.quiet:
        print(bulk.table_text(results))
    return DONE if all(result.status in ("done", "done before") for result in results) else PARTLY


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
        try:
            yield client
        finally:
            client.close()
    else:
        yield None


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Turn SIGTERM, as batch systems send it before they kill, into Ctrl-C; yield the signals that came."""
    came: list[int] = []

    def stop(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _info(options: argparse.Namespace) -> int:
    from fvproc import api, report, writers

    if writers.holds_maps(options.input):
        told = report.describe_maps(writers.load(options.input), Path(options.input))
        print(json.dumps(told, indent=1) if options.json else report.maps_text(told))
        return DONE
    volume = api.open(options.input, **calibration(options))
    described = report.describe(volume)
    print(json.dumps(described, indent=1) if options.json else report.description_text(described))
    return DONE


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists; give another name, or --overwrite")


def _shares(settings: list[str]) -> dict[str, float]:
    shares = {}
    for setting in settings:
        name, _, share = setting.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise FvprocError(f"--artefact {setting!r}: write NAME=SHARE, such as spikes=0.01") from None
    return shares


def _simulate(options: argparse.Namespace) -> int:
    from fvproc import simulate

    _refuse_existing(Path(options.output), options.overwrite)
    for name in ("ny", "nx", "samples"):
        if getattr(options, name) < 1:
            raise FvprocError(f"--{name} {getattr(options, name)}: must be at least 1")
    sigma = parse_quantity(options.noise, "m", "--noise")
    if options.scene == "sei":
        simulate.sei_map(
            options.output, ny=options.ny, nx=options.nx, samples=options.samples, sigma=sigma, seed=options.seed
        )
    else:
        probe = simulate.Probe(
            parse_quantity(options.spring_constant, "N/m", "--spring-constant"),
            parse_quantity(options.tip_radius, "m", "--tip-radius"),
        )
        simulate.write_map(
            options.output,
            ny=options.ny,
            nx=options.nx,
            samples=options.samples,
            modulus=parse_quantity(options.modulus, "Pa", "--modulus"),
            adhesion=parse_quantity(options.adhesion, "N", "--adhesion"),
            peak_force=parse_quantity(options.peak_force, "N", "--peak-force"),
            travel=parse_quantity(options.travel, "m", "--travel"),
            probe=probe,
            drive=options.drive,
            sigma=sigma,
            dtype=options.dtype,
            seed=options.seed,
            model=options.model,
            thickness=None if options.thickness is None else parse_quantity(options.thickness, "m", "--thickness"),
            flicker=parse_quantity(options.flicker, "m", "--flicker"),
            artefacts=_shares(options.artefact),
        )
    print(options.output)
    return DONE


def _convert(options: argparse.Namespace) -> int:
    from fvproc import api

    volume = api.open(options.input, **calibration(options))
    api.convert(volume, options.output, overwrite=options.overwrite, compress=options.compress)
    print(options.output)
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from fvproc import api, pictures

    volume = api.open(options.curves, **calibration(options)) if options.curves else None
    return pictures.command(options, volume)


def _stats(options: argparse.Namespace) -> int:
    from fvproc import region_tables

    return region_tables.command(options)


def _export(options: argparse.Namespace) -> int:
    from fvproc import exports

    return exports.command(options)


def _report(options: argparse.Namespace) -> int:
    from fvproc import api
    from fvproc.pages import report as pages

    volume = api.open(options.curves, **calibration(options)) if options.curves else None
    return (pages.report_command if options.command == "report" else pages.view_command)(options, volume)


def _quantities(options: argparse.Namespace) -> int:
    from fvproc import report

    registry = report.registry()
    print(json.dumps(registry, indent=1) if options.json else report.registry_text(registry))
    return DONE


def _print_recipe(options: argparse.Namespace) -> int:
    from fvproc import api

    recipe = Recipe.vendor(api.open(options.of)) if options.of else Recipe()
    print(recipe.to_toml(comments=True), end="")
    return DONE


def _demo(options: argparse.Namespace) -> int:
    from fvproc import api, report, simulate, truth, writers

    if options.size < 8:
        raise FvprocError(f"--size {options.size}: at least 8 pixels are needed")
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {error.strerror or error}") from None
    curves = folder / "curves.h5"
    outputs = [folder / name for name in ("demo.h5", "demo.tif", "demo.ome.tif", "demo.png")]
    for output in outputs:
        writers.check_writable(output)
    start = time.perf_counter()
    print(f"simulating {options.size} × {options.size} curves of an SEI on graphite …", file=sys.stderr)
    simulate.sei_map(curves, ny=options.size, nx=options.size)
    simulated = time.perf_counter()
    maps = api.process(curves, Recipe(), output=outputs, overwrite=True, progress=report.Bar("curves.h5"))
    done = time.perf_counter()
    print(report.summary_text(report.summary(maps, curves, outputs, done - simulated)))
    print("\nTruth against result, curves without a fault:\n")
    print(truth.comparison_text(truth.compare(maps, curves)))
    print(f"\n{done - start:.1f} s in all, {simulated - start:.1f} s of them to simulate")
    return DONE


_COMMANDS = {
    "run": _run,
    "info": _info,
    "simulate": _simulate,
    "convert": _convert,
    "plot": _plot,
    "stats": _stats,
    "export": _export,
    "report": _report,
    "view": _report,
    "quantities": _quantities,
    "recipe": _print_recipe,
    "demo": _demo,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 done; 1 done, but a file or tile failed; 2 refused; 130 or 143 stopped by Ctrl-C or SIGTERM, as shells have it.
    """
    for stream in (sys.stdout, sys.stderr):
        # a Windows console or a pipe may not know µ and σ
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from fvproc import __version__

        print(f"fvproc {__version__}")
        return DONE
    if options.command is None:
        parser.print_help()
        return REFUSED
    with _stoppable() as signals:
        try:
            status = _COMMANDS[options.command](options)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # whoever read the output has left; Python's own last flush must not fail over it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PARTLY
        except (FvprocError, OSError) as error:
            print(f"fvproc: {error}", file=sys.stderr)
            return REFUSED
        except KeyboardInterrupt as stop:
            print(f"fvproc: stopped; {stop or 'outputs that were there before are as they were'}", file=sys.stderr)
            return 128 + (signals[0] if signals else signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
