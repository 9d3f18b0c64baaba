"""What the command line accepts for regions, reports and the viewer; without arrays, as `fvproc --help` needs none."""

from __future__ import annotations

import argparse
from typing import Any

EMBEDDED = 36  # curves in a report, if no number is given
DEFAULT_QUANTITIES = (
    "modulus",
    "adhesion",
    "deformation",
    "indentation",
    "stiffness",
    "dissipation",
    "adhesion_energy",
    "contact_height",
)


def add_parser(commands: Any) -> None:
    """Add `fvproc stats` to the commands of the command line."""
    parser = commands.add_parser("stats", help="statistics of regions, thickness of films, line profiles")
    parser.add_argument("input", help="an .h5 output of fvproc run")
    add_regions(parser)
    parser.add_argument(
        "--quantity",
        action="append",
        default=[],
        metavar="NAME",
        help=f"which to tell of, or 'all'; by default {', '.join(DEFAULT_QUANTITIES)}",
    )
    parser.add_argument("--bins", type=int, metavar="N", help="of the histograms")
    film = parser.add_argument_group("film thickness", "from the difference of heights of two regions")
    film.add_argument("--film", action="append", default=[], metavar="REGION", help="its name or condition")
    film.add_argument("--substrate", metavar="REGION", help="what the film lies on; a plane through it is the zero")
    film.add_argument("--height", choices=("contact_height", "height"), default="contact_height")
    film.add_argument("--no-level", action="store_true", help="a level instead of a plane through the substrate")
    parser.add_argument(
        "--profile", action="append", default=[], metavar="Y0,X0,Y1,X1", help="in pixels, or all with a unit"
    )
    parser.add_argument("--width", type=int, default=1, metavar="N", help="of the profiles, in pixels")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print everything, histograms too, as JSON in SI units")
    shape.add_argument("--csv", action="store_true", help="print tables in SI units")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=".json; or .csv, beside which .histograms.csv, .profiles.csv … are put"
    )
    parser.add_argument("--overwrite", action="store_true")


def add_regions(parser: argparse.ArgumentParser) -> None:
    """Add the options that name regions, which `collect` reads."""
    group = parser.add_argument_group("regions", "each may be given several times and start with a name, NAME: …")
    group.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="such as 'modulus>1GPa', 'sei: modulus<100MPa & unflagged', 'no fit: fatal', '!snap_in'",
    )
    group.add_argument(
        "--polygon",
        action="append",
        default=[],
        metavar="Y,X …",
        help="three corners or more, in pixels, '0,0 0,63 63,0', or all with a unit, '0nm,0nm 0nm,500nm 1um,0nm'",
    )
    group.add_argument(
        "--mask", action="append", default=[], metavar="FILE", help=".npy, .png or .tif; each value but 0 is a region"
    )


def add_page_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add `fvproc report` and `fvproc view` to the commands; return their parsers, which also take a calibration."""
    made = commands.add_parser("report", help="one HTML page with maps, numbers, curves and statistics; no network")
    made.add_argument("input", help="an .h5 output of fvproc run")
    made.add_argument("-o", "--output", metavar="OUT.html", help="by default beside the input")
    made.add_argument("--curves", metavar="FILE", help="the measurement: puts curves with their fits into the page")
    made.add_argument("--curve", action="append", default=[], metavar="Y,X", help="a curve that must be in it")
    made.add_argument("--embed", type=int, default=EMBEDDED, metavar="N", help=f"how many others; default {EMBEDDED}")
    add_regions(made)
    made.add_argument("--overwrite", action="store_true")
    view = commands.add_parser("view", help="the same page, served to this machine only, with every curve of the file")
    view.add_argument("input", help="an .h5 output of fvproc run")
    view.add_argument(
        "--curves", metavar="FILE", help="the measurement, from which curves are read as they are clicked"
    )
    view.add_argument("--port", type=int, default=0, metavar="N", help="by default any that is free")
    view.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    add_regions(view)
    return [made, view]
