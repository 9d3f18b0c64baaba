"""`fvproc …`: the command line; options are generated from the recipe and the registry."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvproc.errors import FvprocError, OutputError, RecipeError
from fvproc.recipe import Recipe, leaves, merged, parse_quantity, read_settings
from fvproc.volume import CALIBRATION_FIELDS, ForceVolume

if TYPE_CHECKING:
    from fvproc.maps import ParameterMaps

DONE, PARTLY, REFUSED = 0, 1, 2
VENDOR = "nanoscope"


# ---- options


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe", "what to compute; each setting of `fvproc recipe` is an option")
    group.add_argument(
        "--recipe",
        metavar="FILE",
        help=f"TOML or JSON; an .h5 output of fvproc; or {VENDOR!r}: the settings in the file",
    )
    group.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting, such as fit.method=qnm"
    )
    for (section, name), leaf in leaves():
        option = f"--{section}-{name}".replace("_", "-")
        names = [option, "--poisson-ratio"] if section == "sample" else [option]
        choices, unit = leaf.metadata["choices"], leaf.metadata["unit"]
        text = leaf.metadata["help"].replace("%", "%%") + (f" ({unit})" if unit else "")
        group.add_argument(
            *names,
            dest=f"recipe:{section}.{name}",
            choices=choices or None,
            metavar=None if choices else "X",
            help=text,
        )


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("calibration", "goes before what the file says")
    for name, (option, unit) in CALIBRATION_FIELDS.items():
        group.add_argument(option, dest=f"calibration:{name}", metavar="X", help=f"in {unit}, or with a unit")


def _calibration(options: argparse.Namespace) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for name, (option, unit) in CALIBRATION_FIELDS.items():
        text = getattr(options, f"calibration:{name}", None)
        values[name] = None if text is None else parse_quantity(text, unit, option)
    return values


def _changes(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings given one by one, --set first, options of their own last."""
    changes: dict[str, dict[str, Any]] = {}
    for text in options.set:
        path, equals, value = text.partition("=")
        section, dot, name = path.strip().partition(".")
        if not (equals and dot and name):
            raise RecipeError(f"--set {text!r}: expected SECTION.NAME=VALUE, such as fit.method=qnm")
        changes.setdefault(section, {})[name] = _value(value.strip())
    for (section, name), _ in leaves():
        given = getattr(options, f"recipe:{section}.{name}", None)
        if given is not None:
            changes.setdefault(section, {})[name] = _value(given)
    return changes


def _value(text: str) -> Any:
    """Return JSON where it is JSON (numbers, lists), else the text: the recipe knows what it may be."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings asked for, those of the command line over those of the recipe, as a nested dict.

    They are read once, however many inputs there are; what no input could mend is refused here.
    """
    settings: dict[str, Any] = {}
    if options.recipe == VENDOR:
        settings = {"recipe": VENDOR}
    elif options.recipe is not None and Path(options.recipe).suffix.lower() in (".h5", ".hdf5"):
        from fvproc import provenance, writers

        settings = provenance.recipe_of(writers.load(options.recipe).provenance).to_dict()
    elif options.recipe is not None:
        settings = read_settings(options.recipe)
    settings = merged(settings, _changes(options))
    base = settings.get("recipe")
    if base is None:
        Recipe.from_dict(settings)
    elif base != VENDOR:
        raise RecipeError(f"recipe = {base!r}: the only recipe with a name is {VENDOR!r}")
    return settings


def _recipe(settings: dict[str, Any], volume: ForceVolume) -> Recipe:
    """Return the recipe for a file: the settings, over the vendor's where they say so."""
    own = {name: content for name, content in settings.items() if name != "recipe"}
    return Recipe.vendor(volume, **own) if "recipe" in settings else Recipe.from_dict(own)


def _threads(text: str) -> int:
    """Return a number of threads; argparse puts the option's name before the complaint."""
    try:
        threads = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if threads < 1:
        raise argparse.ArgumentTypeError(f"threads = {threads}: at least one is needed")
    return threads


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="fvproc", description="Modulus, adhesion and deformation maps from AFM force-volume files."
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    run = commands.add_parser("run", help="fit every curve of one or more files")
    run.add_argument("input", nargs="+", help="curves file (.h5) or Bruker NanoScope file (.spm, .pfc, .000 …)")
    run.add_argument(
        "-o",
        "--output",
        action="append",
        required=True,
        help=".h5, .tif, .ome.tif, .png …, more than once for several; a folder for several inputs",
    )
    run.add_argument("--tiff", metavar="OUT.tif", help="also this GeoTIFF (.tif) or image stack (.ome.tif)")
    run.add_argument("--figure", metavar="OUT.png", help="also this picture (.png, .svg, .pdf)")
    where = run.add_mutually_exclusive_group()
    where.add_argument(
        "--threads", type=_threads, metavar="N", help="threads of this process; one for each core by default"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on a Dask cluster, such as tcp://host:8786")
    where.add_argument("--scheduler-file", metavar="FILE", help="run on the cluster that this file describes")
    run.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    run.add_argument("--json", action="store_true", help="print the summary as JSON")
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")
    _add_calibration(run)
    _add_recipe(run)
    run.set_defaults(function=_run)

    info = commands.add_parser("info", help="what a file holds, and what it lacks")
    info.add_argument("input")
    info.add_argument("--json", action="store_true")
    _add_calibration(info)
    info.set_defaults(function=_info)

    simulate = commands.add_parser("simulate", help="write a curves file of known truth")
    simulate.add_argument("output")
    simulate.add_argument("--scene", choices=("sei", "homogeneous"), default="homogeneous")
    simulate.add_argument("--ny", type=int, default=64)
    simulate.add_argument("--nx", type=int, default=64)
    simulate.add_argument("--samples", type=int, default=512, help="of a branch")
    simulate.add_argument("--seed", type=int, default=0)
    for option, unit, default, text in (
        ("--noise", "m", "0.02nm", "of the deflection"),
        ("--modulus", "Pa", "1GPa", "homogeneous: Young's modulus"),
        ("--adhesion", "N", "5nN", "homogeneous: pull-off force"),
        ("--peak-force", "N", "20nN", "homogeneous"),
        ("--travel", "m", "100nm", "homogeneous: of the piezo"),
        ("--tip-radius", "m", "30nm", "homogeneous"),
        ("--spring-constant", "N/m", "5", "homogeneous"),
    ):
        simulate.add_argument(option, default=default, metavar="X", help=f"{text} ({unit}; default {default})")
    simulate.add_argument("--drive", choices=("sine", "linear"), default="sine", help="homogeneous")
    simulate.add_argument("--dtype", choices=("int16", "int32", "float32"), default="int16", help="homogeneous")
    simulate.add_argument("--overwrite", action="store_true")
    simulate.set_defaults(function=_simulate)

    convert = commands.add_parser("convert", help="write any input as a curves file")
    convert.add_argument("input")
    convert.add_argument("output")
    convert.add_argument("--compress", action="store_true", help="gzip: smaller, slower to read")
    convert.add_argument("--overwrite", action="store_true")
    _add_calibration(convert)
    convert.set_defaults(function=_convert)

    plot = commands.add_parser("plot", help="a picture of an output")
    plot.add_argument("input", help="an .h5 output of fvproc run")
    plot.add_argument("-o", "--output", help="OUT.png, .svg or .pdf; by default beside the input")
    plot.add_argument("--curves", metavar="FILE", help="the measurement: adds a curve with its fit")
    plot.add_argument("--curve", metavar="Y,X", help="which curve; by default one of median modulus")
    plot.add_argument("--overwrite", action="store_true")
    _add_calibration(plot)
    plot.set_defaults(function=_plot)

    quantities = commands.add_parser("quantities", help="every quantity and flag, with unit and meaning")
    quantities.add_argument("--json", action="store_true")
    quantities.set_defaults(function=_quantities)

    recipe = commands.add_parser("recipe", help="print a commented recipe")
    recipe.add_argument("--of", metavar="FILE", help="as the instrument's own software had it, from this file")
    recipe.set_defaults(function=_print_recipe)

    demo = commands.add_parser("demo", help="simulate a map of an SEI, process it, compare with the truth")
    demo.add_argument("folder", nargs="?", default="fvproc-demo")
    demo.add_argument("--size", type=int, default=256, help="pixels along an edge")
    demo.set_defaults(function=_demo)
    return parser


# ---- commands


def _run(options: argparse.Namespace) -> int:
    from fvproc import api, report

    inputs = [Path(name) for name in options.input]
    first = options.output[0]
    several = len(inputs) > 1 or Path(first).is_dir() or first.endswith(("/", "\\"))
    if several and (options.tiff or options.figure or len(options.output) > 1):
        raise OutputError("-o is a folder here: a second -o, --tiff and --figure go with one input and files only")
    if len({path.stem for path in inputs}) < len(inputs):
        raise OutputError("two inputs have the same name: their outputs would overwrite each other")
    calibration, settings = _calibration(options), _settings(options)
    failed, summaries = False, []
    with _cluster(options) as client:
        for path in inputs:
            began = time.perf_counter()
            outputs = [Path(first) / f"{path.stem}.h5"] if several else [Path(name) for name in options.output]
            outputs += [Path(extra) for extra in (options.tiff, options.figure) if extra]
            try:
                volume = api.open(path, **calibration)
                for warning in volume.warnings:
                    _say(f"{path.name}: {warning}", options)
                maps = api.process(
                    volume,
                    _recipe(settings, volume),
                    client=client,
                    threads=options.threads,
                    output=outputs,
                    overwrite=options.overwrite,
                    progress=False if options.quiet or options.json else report.Bar(path.name),
                )
            except (FvprocError, OSError) as error:
                if len(inputs) == 1:
                    raise
                failed = True
                print(f"fvproc: {path.name}: {error}", file=sys.stderr)
                summaries.append({"input": str(path), "error": str(error)})
                continue
            failures = maps.provenance["failures"]
            failed = failed or bool(failures)
            for failure in failures:
                start, stop = failure["curves"]
                message = f"{path.name}: curves {start} to {stop - 1}: {failure['flag']}: {failure['reason']}"
                print(f"fvproc: {message}", file=sys.stderr)
            seconds = time.perf_counter() - began
            summaries.append(report.summary(maps, path, outputs, seconds))
            if not (options.quiet or options.json):
                print(report.summary_text(summaries[-1]))
    if options.json:
        print(json.dumps(summaries, indent=1))
    return PARTLY if failed else DONE


def _say(message: str, options: argparse.Namespace) -> None:
    if not options.quiet:
        print(f"fvproc: {message}", file=sys.stderr)


class _cluster:
    """The client that --scheduler or --scheduler-file asks for; None without."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._client = options, None

    def __enter__(self) -> Any:
        from fvproc import schedule

        if self._options.scheduler or self._options.scheduler_file:
            self._client = schedule.connect(self._options.scheduler, self._options.scheduler_file)
        return self._client

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()


def _info(options: argparse.Namespace) -> int:
    from fvproc import api, report

    volume = api.open(options.input, **_calibration(options))
    described = report.describe(volume)
    print(json.dumps(described, indent=1) if options.json else report.description_text(described))
    return DONE


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists; give another name, or --overwrite")


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
        )
    print(options.output)
    return DONE


def _convert(options: argparse.Namespace) -> int:
    from fvproc import api

    volume = api.open(options.input, **_calibration(options))
    api.convert(volume, options.output, overwrite=options.overwrite, compress=options.compress)
    print(options.output)
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from fvproc import api, provenance, writers

    maps = api.load(options.input)
    output = Path(options.output or Path(options.input).with_suffix(".png"))
    writers.check_writable(output, options.overwrite)
    curve = None
    if options.curves:
        volume = api.open(options.curves, **_calibration(options))
        recipe = provenance.recipe_of(maps.provenance)
        if volume.shape != maps.shape:
            raise FvprocError(f"{options.curves}: its grid is {volume.shape}, that of the maps {maps.shape}")
        if options.curve:
            y, x = _pixel(options.curve, maps)
            curve = api.explain(volume, recipe, y, x)
        else:
            curve = api.typical_curve(volume, api.agree(volume, recipe), maps)
    elif options.curve:
        raise FvprocError(f"--curve {options.curve}: also give --curves FILE, the measurement that holds it")
    api.save(maps, output, curve=curve)
    print(output)
    return DONE


def _pixel(text: str, maps: ParameterMaps) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise FvprocError(f"--curve {text!r}: expected Y,X such as 12,30") from None
    if not (0 <= y < maps.shape[0] and 0 <= x < maps.shape[1]):
        raise FvprocError(f"--curve {text}: the grid has {maps.shape[0]} rows and {maps.shape[1]} columns")
    return y, x


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
    from fvproc import api, report, simulate

    if options.size < 8:
        raise FvprocError(f"--size {options.size}: at least 8 pixels are needed")
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {error.strerror or error}") from None
    curves = folder / "curves.h5"
    outputs = [folder / name for name in ("demo.h5", "demo.tif", "demo.ome.tif", "demo.png")]
    start = time.perf_counter()
    print(f"simulating {options.size} × {options.size} curves of an SEI on graphite …", file=sys.stderr)
    simulate.sei_map(curves, ny=options.size, nx=options.size)
    simulated = time.perf_counter()
    maps = api.process(curves, Recipe(), output=outputs, overwrite=True, progress=report.Bar("curves.h5"))
    done = time.perf_counter()
    print(report.summary_text(report.summary(maps, curves, outputs, done - simulated)))
    print("\nTruth against result, curves without a fault:\n")
    print(simulate.comparison_text(simulate.compare(maps, curves)))
    print(f"\n{done - start:.1f} s in all, {simulated - start:.1f} s of them to simulate")
    return DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 a file or tile failed, 2 refused."""
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
    try:
        status = int(options.function(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # whoever read the output has left; Python's own last flush must not fail over it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PARTLY
    except (FvprocError, OSError) as error:
        print(f"fvproc: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("fvproc: stopped; outputs that were there before are as they were", file=sys.stderr)
        return PARTLY


if __name__ == "__main__":
    sys.exit(main())
