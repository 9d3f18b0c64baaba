"""What the command line accepts: options made from the recipe and the calibration, and the settings they come to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fvproc import region_options
from fvproc.errors import CalibrationError, RecipeError
from fvproc.recipe import Recipe, leaves, merged, parse_quantity, read_settings
from fvproc.volume import CALIBRATION_FIELDS, UNCERTAIN, ForceVolume

VENDOR = "nanoscope"
# exit statuses; a run that is stopped ends with 128 + the signal's number
DONE, PARTLY, REFUSED = 0, 1, 2


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
    group.add_argument(
        "--rel-std",
        action="append",
        default=[],
        metavar="NAME=X",
        help=f"relative standard uncertainty, such as spring_constant=10%%; of {', '.join(UNCERTAIN)}",
    )
    group.add_argument("--calibration", metavar="FILE", help="what `fvproc calibrate` wrote; goes behind the above")
    parser.add_argument("--mapping", metavar="FILE", help="TOML that says where in an HDF5 file the curves lie")


def _add_plot(plot: argparse.ArgumentParser) -> None:
    plot.add_argument("-o", "--output", help="OUT.png, .svg or .pdf; by default beside the input")
    plot.add_argument(
        "--kind",
        choices=("overview", "maps", "histogram", "correlation", "density", "curves", "flags", "topography"),
        default="overview",
        help="what to draw; density and curves need --curves",
    )
    plot.add_argument("--curves", metavar="FILE", help="the measurement: adds curves with their fits")
    plot.add_argument(
        "--curve", action="append", default=[], metavar="Y,X", help="which curve; by default of median modulus"
    )
    plot.add_argument(
        "--quantity", action="append", default=[], metavar="NAME", help="of maps, histogram, correlation, topography"
    )
    plot.add_argument(
        "--limits", action="append", default=[], metavar="NAME=LOW,HIGH", help="of the colours: modulus=10MPa,20GPa"
    )
    region_options.add_regions(plot)
    plot.add_argument("--overwrite", action="store_true")


def calibration(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `api.open`: calibration in SI units, its uncertainties, and the mapping."""
    values: dict[str, Any] = {"mapping": getattr(options, "mapping", None), "calibration": options.calibration}
    for name, (option, unit) in CALIBRATION_FIELDS.items():
        text = getattr(options, f"calibration:{name}", None)
        values[name] = None if text is None else parse_quantity(text, unit, option)
    values["rel_std"] = {}
    for text in options.rel_std:
        name, equals, value = text.partition("=")
        if not equals:
            raise CalibrationError(f"--rel-std {text!r}: expected NAME=X, such as spring_constant=10%")
        values["rel_std"][name.strip()] = parse_quantity(value.strip(), "", f"--rel-std {name.strip()}")
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


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings asked for, those of the command line over those of the recipe, as a nested dict.

    They are read once, however many inputs there are; what no input could mend is refused here.
    """
    chosen: dict[str, Any] = {}
    if options.recipe == VENDOR:
        chosen = {"recipe": VENDOR}
    elif options.recipe is not None and Path(options.recipe).suffix.lower() in (".h5", ".hdf5"):
        from fvproc import provenance, writers

        chosen = provenance.recipe_of(writers.load(options.recipe).provenance).to_dict()
        # the noise is that of the file, not of the recipe: measured anew, and for the same file the same
        chosen["noise"] = {"correlation": chosen["noise"]["correlation"]}
    elif options.recipe is not None:
        chosen = read_settings(options.recipe)
    chosen = merged(chosen, _changes(options))
    base = chosen.get("recipe")
    if base is None:
        Recipe.from_dict(chosen)
    elif base != VENDOR:
        raise RecipeError(f"recipe = {base!r}: the only recipe with a name is {VENDOR!r}")
    return chosen


def recipe_for(volume: ForceVolume, chosen: dict[str, Any]) -> Recipe:
    """Return the recipe for a file: the chosen settings, over the vendor's where they say so."""
    own = {name: content for name, content in chosen.items() if name != "recipe"}
    return Recipe.vendor(volume, **own) if "recipe" in chosen else Recipe.from_dict(own)


def _whole(text: str) -> int:
    """Return a number that counts something; argparse puts the option's name before the complaint."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least one is needed")
    return number


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="fvproc", description="Modulus, adhesion and deformation maps from AFM force-volume files."
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    run = commands.add_parser("run", help="fit every curve of one or more files")
    run.add_argument(
        "input",
        nargs="+",
        help="files of force curves (.h5, Bruker .spm, JPK, Asylum .ibw or .ardf, Nanosurf .nid or .nhf …), patterns",
    )
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
        "--threads",
        type=_whole,
        metavar="N",
        help="threads of this process, to compute and to write; by default one for each core that it may use",
    )
    where.add_argument(
        "--processes", type=_whole, metavar="N", help="worker processes of this machine, for readers in pure Python"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on a Dask cluster, such as tcp://host:8786")
    where.add_argument("--scheduler-file", metavar="FILE", help="run on the cluster that this file describes")
    for option, text in (("--tls-ca", "authority"), ("--tls-cert", "certificate"), ("--tls-key", "key")):
        run.add_argument(option, metavar="FILE", help=f"{text} for a tls:// scheduler (PEM)")
    run.add_argument(
        "--tile-bytes", type=_whole, metavar="N", help="raw bytes in a tile; changes the pace, never the numbers"
    )
    again = run.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="take outputs that this very run has written before as they are, make again what is missing or cannot "
        "tell (pictures, .csv, .gsf); an unfinished run is gone on with anyway",
    )
    again.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist, begin anew where a run was not finished"
    )
    run.add_argument("--log", metavar="FILE", help="append what happens, one JSON object a line")
    run.add_argument("--summary", metavar="FILE", help="of several inputs: the table as .csv, .json or .txt")
    run.add_argument("--json", action="store_true", help="print the summary as JSON")
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")
    _add_calibration(run)
    _add_recipe(run)

    info = commands.add_parser("info", help="what a file holds, and what it lacks")
    info.add_argument("input")
    info.add_argument("--json", action="store_true")
    _add_calibration(info)

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
    simulate.add_argument("--model", choices=("dmt", "jkr"), default="dmt", help="homogeneous: contact with adhesion")
    simulate.add_argument("--thickness", metavar="X", help="homogeneous: of a film on a rigid substrate (m)")
    simulate.add_argument(
        "--series",
        choices=("solved", "published"),
        default="solved",
        help="homogeneous: of the film; solved, as in a recipe by default, or that of the literature",
    )
    simulate.add_argument(
        "--flicker", default="0nm", metavar="X", help="homogeneous: 1/f noise beside the other (m; default 0nm)"
    )
    simulate.add_argument(
        "--artefact",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="homogeneous: share of the curves to spoil, such as spikes=0.01; 'no contact', saturated, 'never left', "
        "'marked invalid', 'missing samples', spikes",
    )
    simulate.add_argument("--drive", choices=("sine", "linear"), default="sine", help="homogeneous")
    simulate.add_argument("--dtype", choices=("int16", "int32", "float32"), default="int16", help="homogeneous")
    simulate.add_argument("--overwrite", action="store_true")

    convert = commands.add_parser("convert", help="write any input as a curves file, or for afmformats")
    convert.add_argument("input")
    convert.add_argument("output")
    convert.add_argument(
        "--as",
        dest="layout",
        choices=("curves", "afmformats"),
        default="curves",
        help="afmformats: its HDF5, of 10 000 curves at most",
    )
    convert.add_argument("--compress", action="store_true", help="gzip: smaller, slower to read")
    convert.add_argument("--overwrite", action="store_true")
    _add_calibration(convert)

    calibrate = commands.add_parser("calibrate", help="tip or deflection sensitivity from a reference sample")
    of = calibrate.add_subparsers(dest="of", metavar="WHAT", required=True)
    sensitivity = of.add_parser("sensitivity", help="deflection sensitivity from curves on a hard sample")
    sensitivity.add_argument("--modulus", metavar="X", help="of the hard sample (Pa; default 400GPa, sapphire)")
    sensitivity.add_argument("--tip-radius", metavar="X", help="corrects for the contact's own compliance (m)")
    tip = of.add_parser("tip", help="effective tip radius or half angle from curves on a sample of known modulus")
    tip.add_argument("--modulus", metavar="X", required=True, help="of the reference sample (Pa), such as 2.7GPa")
    tip.add_argument(
        "--modulus-rel-std", default="0", metavar="X", help="its relative standard uncertainty, such as 4%%"
    )
    for parser_of in (sensitivity, tip):
        parser_of.add_argument("input", help="the measurement on the reference sample")
        parser_of.add_argument("-o", "--output", metavar="CAL.toml", help="calibration file to write, or to add to")
        parser_of.add_argument("--json", action="store_true")
        _add_calibration(parser_of)
    _add_recipe(tip)

    bench = commands.add_parser("bench", help="a recipe over curves of known truth: error, scatter, coverage, speed")
    bench.add_argument("--reference", nargs="+", metavar="FILE|DIR", help="curves files with /truth; simulated if none")
    bench.add_argument("--curves", type=_whole, default=2000, metavar="N", help="of each simulated material")
    bench.add_argument("--samples", type=_whole, default=256, metavar="N", help="of a simulated branch")
    bench.add_argument("--noise", default="0.02nm", metavar="X", help="of the simulated deflection (m)")
    bench.add_argument("--threads", type=_whole, metavar="N")
    bench.add_argument("--max-error", default="1%", metavar="X", help="of the median, or bound/4 if that is more")
    bench.add_argument("--max-scatter", type=float, default=1.1, metavar="X", help="in units of the Cramér-Rao bound")
    bench.add_argument("--strict", action="store_true", help="exit status 1 where a row misses a limit")
    bench.add_argument("--plot", metavar="FILE", help="picture of the table (.png, .svg, .pdf)")
    bench.add_argument("--json", action="store_true")
    _add_recipe(bench)

    plot = commands.add_parser("plot", help="a picture of an output")
    plot.add_argument("input", help="an .h5 output of fvproc run")
    _add_plot(plot)
    _add_calibration(plot)

    export = commands.add_parser("export", help="an output in another format, or some quantities of it as TIFF")
    export.add_argument("input", help="an .h5 output of fvproc run")
    export.add_argument("output", help="OUT.tif, .ome.tif, .gsf, .csv, .npz …")
    export.add_argument("--quantity", action="append", default=[], metavar="NAME", help="TIFF: these and the flags")
    export.add_argument("--rotated", action="store_true", help=".tif: in the frame of the sample, by the scan angle")
    export.add_argument("--cloud", action="store_true", help=".tif: cloud-optimised, with overviews; needs rasterio")
    export.add_argument("--overwrite", action="store_true")

    region_options.add_parser(commands)
    for page in region_options.add_page_parsers(commands):
        _add_calibration(page)

    quantities = commands.add_parser("quantities", help="every quantity and flag, with unit and meaning")
    quantities.add_argument("--json", action="store_true")

    recipe = commands.add_parser("recipe", help="print a commented recipe")
    recipe.add_argument("--of", metavar="FILE", help="as the instrument's own software had it, from this file")

    demo = commands.add_parser("demo", help="simulate a map of an SEI, process it, compare with the truth")
    demo.add_argument("folder", nargs="?", default="fvproc-demo")
    demo.add_argument("--size", type=int, default=256, help="pixels along an edge")
    return parser
