"""`fvproc …`: the commands of the command line and its exit status."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fvproc import run_command, streams
from fvproc.errors import FvprocError, OutputError
from fvproc.options import DONE, PARTLY, REFUSED, build_parser, calibration, recipe_for, settings
from fvproc.recipe import Recipe, parse_quantity


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Let Ctrl-C, and SIGTERM, as batch systems send it before they kill, end a run in order; yield the signals.

    The second one, and one where nothing is in flight, is KeyboardInterrupt at once.
    """
    came: list[int] = []

    def stop(number: int, _: object) -> None:
        came.append(number)
        flow = sys.modules.get("fvproc.schedule.flow")
        if len(came) > 1 or flow is None or not flow.ask_to_stop():
            raise KeyboardInterrupt

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    except ValueError:  # not in the main thread
        yield came
        return
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _info(options: argparse.Namespace) -> int:
    from fvproc import api, readers, report, writers

    if writers.holds_maps(options.input) or Path(options.input).suffix.lower() == ".npz":
        told = report.describe_maps(writers.load(options.input), Path(options.input))
        print(json.dumps(told, indent=1) if options.json else report.maps_text(told))
        return DONE
    volume = api.open(options.input, **calibration(options))
    described = report.describe(volume, readers.vendor_maps(volume))
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
            series=options.series,
            flicker=parse_quantity(options.flicker, "m", "--flicker"),
            artefacts=_shares(options.artefact),
        )
    print(options.output)
    return DONE


def _convert(options: argparse.Namespace) -> int:
    from fvproc import api

    volume = api.open(options.input, **calibration(options))
    api.convert(volume, options.output, overwrite=options.overwrite, compress=options.compress, layout=options.layout)
    print(options.output)
    return DONE


def _calibrate(options: argparse.Namespace) -> int:
    from fvproc import api, calibrate, calibration_file, report
    from fvproc.volume import Setting

    volume = api.open(options.input, **calibration(options))
    if options.of == "tip":
        found = calibrate.calibrate_tip(
            volume,
            parse_quantity(options.modulus, "Pa", "--modulus"),
            modulus_rel_std=parse_quantity(options.modulus_rel_std, "", "--modulus-rel-std"),
            recipe=recipe_for(volume, settings(options)),
        )
    else:
        if options.tip_radius:
            radius = parse_quantity(options.tip_radius, "m", "--tip-radius")
            volume = replace(volume, tip_radius=Setting(radius, "user"))
        sample = calibrate.HardSample()
        if options.modulus:
            sample = replace(sample, modulus=parse_quantity(options.modulus, "Pa", "--modulus"))
        found = calibrate.calibrate_sensitivity(volume, sample)
    if options.output:
        calibration_file.write(options.output, found)
    entry = {"name": found.name, **found.to_dict()}
    print(json.dumps(entry, indent=1) if options.json else report.calibrated_text(entry, options.output))
    return DONE


def _bench(options: argparse.Namespace) -> int:
    from fvproc import benchmark, pictures

    chosen = settings(options)
    if options.plot:
        pictures.check_picture(options.plot)
    if "recipe" in chosen:
        raise FvprocError("--recipe nanoscope: reference curves hold no fit settings of an instrument")
    limits = benchmark.Limits(error=parse_quantity(options.max_error, "", "--max-error"), scatter=options.max_scatter)
    with tempfile.TemporaryDirectory() as folder:
        paths = options.reference or benchmark.write_set(
            folder, options.curves, options.samples, parse_quantity(options.noise, "m", "--noise")
        )
        rows = benchmark.evaluate(paths, chosen, limits=limits, threads=options.threads)
    if options.plot:
        benchmark.plot(rows, options.plot)
    print(json.dumps([row.to_dict() for row in rows], indent=1) if options.json else benchmark.table_text(rows))
    return PARTLY if options.strict and any(row.misses for row in rows) else DONE


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
    from fvproc import api, progress, report, simulate, truth, writers

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
    maps = api.process(curves, Recipe(), output=outputs, overwrite=True, progress=progress.Bar("curves.h5"))
    done = time.perf_counter()
    print(report.summary_text(report.summary(maps, curves, outputs, done - simulated)))
    print("\nTruth against result, curves without a fault:\n")
    print(truth.comparison_text(truth.compare(maps, curves)))
    print(f"\n{done - start:.1f} s in all, {simulated - start:.1f} s of them to simulate")
    return DONE


_COMMANDS = {
    "run": run_command.run,
    "info": _info,
    "simulate": _simulate,
    "convert": _convert,
    "calibrate": _calibrate,
    "bench": _bench,
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
    status = _run(arguments)
    if arguments is None:
        # the process ends now, and Python would take 40 ms to look for cycles in all that was imported
        gc.freeze()
    return status


def _run(arguments: Sequence[str] | None) -> int:
    with streams.guarded(), _stoppable() as signals:
        try:
            try:
                status = _asked(arguments)
            except SystemExit:  # of `--help`
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return status
        except (FvprocError, OSError) as error:
            print(f"fvproc: {error}", file=sys.stderr)
            return REFUSED
        except KeyboardInterrupt as stop:
            print(f"fvproc: stopped; {stop or 'outputs that were there before are as they were'}", file=sys.stderr)
            return 128 + (signals[0] if signals else signal.SIGINT)


def _asked(arguments: Sequence[str] | None) -> int:
    """Do what is asked for; return the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from fvproc import __version__

        print(f"fvproc {__version__}")
        return DONE
    if options.command is None:
        parser.print_help()
        return REFUSED
    return _COMMANDS[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
