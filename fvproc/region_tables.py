"""Region statistics as text: `fvproc stats`, JSON, and CSV tables."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import regions, sections, statistics
from fvproc.errors import OutputError
from fvproc.maps import ParameterMaps
from fvproc.quantities import readable
from fvproc.regions import RegionError
from fvproc.statistics import Fit, Statistics

WHOLE = "whole map"


@dataclass(frozen=True, slots=True)
class Findings:
    """What was asked of a map: statistics of its regions, thickness of films, profiles."""

    source: str
    statistics: list[Statistics]
    thickness: list[sections.Thickness]
    profiles: list[sections.Profile]


def command(options: argparse.Namespace) -> int:
    """Run `fvproc stats`; return the exit status."""
    from fvproc import writers

    maps = writers.load(options.input)
    findings = find(maps, options)
    if options.output is not None:
        for path in write(findings, Path(options.output), options.overwrite):
            print(path)
    elif options.json:
        print(to_json(findings), end="")
    elif options.csv:
        print("\n".join(text for name, text in tables(findings).items() if name != "histograms"), end="")
    else:
        print(to_text(findings), end="")
    return 0


def find(maps: ParameterMaps, options: argparse.Namespace) -> Findings:
    """Return what the options of `add_parser` ask for.

    Raises
    ------
    RegionError, FileFormatError
        If a region cannot be read or does not fit the map.
    """
    named = collect(maps, options.where, options.polygon, options.mask)
    asked = list(maps) if "all" in options.quantity else options.quantity
    if options.bins is not None and options.bins < 1:
        raise RegionError(f"--bins {options.bins}: at least one is needed")
    if bool(options.film) != bool(options.substrate):
        raise RegionError("--film and --substrate go together: a thickness is a difference of heights")
    thickness = [
        sections.film_thickness(
            maps,
            (film, _region(maps, named, film)),
            (options.substrate, _region(maps, named, options.substrate)),
            height=options.height,
            level=not options.no_level,
        )
        for film in options.film
    ]
    # whoever asks for a profile or a thickness alone need not read of the whole map
    shown = named if named or options.profile or options.film else {WHOLE: regions.everything(maps)}
    profiles = []
    for text in options.profile:
        ends, unit = regions.points(text, "--profile")
        if len(ends) != 2:
            raise RegionError(f"--profile {text!r}: expected start and end, Y0,X0,Y1,X1")
        for name in asked or [name for name in ("modulus", "contact_height") if name in maps] or list(maps)[:1]:
            profiles.append(sections.profile(maps, name, ends[0], ends[1], unit=unit, width=options.width))
    found = statistics.statistics(maps, shown, asked or None, bins=options.bins)
    return Findings(str(options.input), found, thickness, profiles)


def collect(
    maps: ParameterMaps, where: Sequence[str], polygons: Sequence[str], masks: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return masks by name: of conditions, polygons and files, each text as on the command line.

    Raises
    ------
    RegionError, FileFormatError
        If one cannot be read, or two have the same name.
    """
    found: dict[str, np.ndarray] = {}

    def add(name: str, mask: np.ndarray) -> None:
        if name in found:
            raise RegionError(f"region {name!r}: there are two of this name; name them, such as 'other: …'")
        found[name] = mask

    for text in where:
        name, condition = _named(text)
        add(name or condition, regions.where(maps, condition))
    for number, text in enumerate(polygons, 1):
        name, corners = _named(text)
        points, unit = regions.points(corners, "--polygon")
        add(name or f"polygon {number}", regions.polygon(maps.grid, points, unit=unit))
    for text in masks:
        # a colon may be part of the file's name, or stand behind a drive
        plain = Path(text).exists() or re.match(r"[A-Za-z]:[\\/]", text)
        title, file = ("", text) if plain else _named(text)
        for name, mask in regions.from_file(file, maps.shape, title).items():
            add(name, mask)
    return found


def _named(text: str) -> tuple[str, str]:
    """Split ``"name: what"``; a colon that belongs to vendor:KEY splits nothing."""
    name, colon, what = text.partition(":")
    if not colon or name.strip().endswith("vendor"):
        return "", text.strip()
    return name.strip(), what.strip()


def _region(maps: ParameterMaps, named: dict[str, np.ndarray], text: str) -> np.ndarray:
    return named[text] if text in named else regions.where(maps, text)


def to_dict(findings: Findings) -> dict[str, Any]:
    """Return findings as numbers, lists and texts, SI units; what is no number is None."""
    return {
        "source": findings.source,
        "regions": [
            {
                "region": one.region,
                "quantity": one.quantity,
                "unit": one.unit,
                **{name: _number(getattr(one, name)) for name in _COLUMNS},
                "percentiles": {str(percent): _number(value) for percent, value in one.percentiles.items()},
                "fits": [
                    {
                        "law": fit.law,
                        "centre": fit.centre,
                        "width": fit.width,
                        "left_out": fit.left_out,
                        "distance": fit.distance,
                    }
                    for fit in one.fits
                ],
                "histogram": {"edges": one.edges.tolist(), "counts": one.counts.tolist()},
            }
            for one in findings.statistics
        ],
        "thickness": [
            {
                "film": one.film,
                "substrate": one.substrate,
                "unit": "m",
                "thickness": one.thickness,
                "spread": one.spread,
                "substrate_spread": one.substrate_spread,
                "tilt_y": one.tilt[0],
                "tilt_x": one.tilt[1],
                "count": one.count,
                "substrate_count": one.substrate_count,
            }
            for one in findings.thickness
        ],
        "profiles": [
            {
                "quantity": one.quantity,
                "unit": one.unit,
                "distance_unit": one.distance_unit,
                **{name: [_number(v) for v in getattr(one, name).tolist()] for name in _POINTS},
            }
            for one in findings.profiles
        ],
    }


_COLUMNS = ("pixels", "count", "mean", "std", "median", "spread", "noise", "minimum", "maximum")
_POINTS = ("distance", "y", "x", "values", "spread")


def _number(value: float) -> float | int | None:
    return value if math.isfinite(value) else None


def to_json(findings: Findings) -> str:
    """Return findings as JSON, ending in a new line."""
    return json.dumps(to_dict(findings), indent=1, ensure_ascii=False) + "\n"


def tables(findings: Findings) -> dict[str, str]:
    """Return CSV tables by name, only those that have rows: regions, histograms, thickness, profiles; SI units."""
    found = {}
    told = to_dict(findings)
    if told["regions"]:
        percents = [str(percent) for percent in statistics.PERCENTILES]
        laws = ("gaussian", "lognormal")
        header = ["region", "quantity", "unit", *_COLUMNS, *(f"percentile_{percent}" for percent in percents)]
        header += [f"{law}_{name}" for law in laws for name in ("centre", "width", "left_out", "distance")]
        rows = []
        for one in told["regions"]:
            fits = {fit["law"]: fit for fit in one["fits"]}
            rows.append(
                [one[name] for name in header[:3]]
                + [one[name] for name in _COLUMNS]
                + [one["percentiles"][percent] for percent in percents]
                + [fits.get(law, {}).get(n) for law in laws for n in ("centre", "width", "left_out", "distance")]
            )
        found["regions"] = _csv(header, rows)
        found["histograms"] = _csv(
            ["region", "quantity", "unit", "low", "high", "count"],
            (
                [one["region"], one["quantity"], one["unit"], low, high, count]
                for one in told["regions"]
                for low, high, count in zip(
                    one["histogram"]["edges"][:-1],
                    one["histogram"]["edges"][1:],
                    one["histogram"]["counts"],
                    strict=True,
                )
            ),
        )
    if told["thickness"]:
        found["thickness"] = _csv(list(told["thickness"][0]), (list(one.values()) for one in told["thickness"]))
    if told["profiles"]:
        found["profiles"] = _csv(
            ["profile", "quantity", "unit", "distance_unit", *_POINTS],
            (
                [number, one["quantity"], one["unit"], one["distance_unit"], *point]
                for number, one in enumerate(told["profiles"], 1)
                for point in zip(*(one[name] for name in _POINTS), strict=True)
            ),
        )
    return found


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


def write(findings: Findings, path: Path, overwrite: bool = False) -> list[Path]:
    """Write findings as ``.json`` or as ``.csv`` with further tables beside it; return the files written.

    Raises
    ------
    OutputError
        If the suffix is another, a file exists and must not be overwritten, or the disk refuses.
    """
    from fvproc.writers import replacing

    if path.suffix.lower() == ".json":
        texts = {path: to_json(findings)}
    elif path.suffix.lower() == ".csv":
        names = tables(findings)
        first = next(iter(names))
        texts = {path if name == first else path.with_suffix(f".{name}.csv"): text for name, text in names.items()}
    else:
        raise OutputError(f"{path}: statistics are written as .json or .csv")
    for target in texts:
        if target.exists() and not overwrite:
            raise OutputError(f"{target}: exists; give another name, or --overwrite")
    try:
        for target, text in texts.items():
            with replacing(target) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return list(texts)


def to_text(findings: Findings) -> str:
    """Return findings for a terminal, in units that people read."""
    lines: list[str] = []
    region = None
    for one in findings.statistics:
        if one.region != region:
            region = one.region
            lines += ["", f"{region}: {one.pixels:,} pixels"]
            lines.append(f"  {'':<17} {'values':>9} {'median':>10} {'spread':>9} {'noise':>9} {'mean':>10}  best fit")
        factor, unit = readable(one.unit, np.array([one.median, one.spread]))
        numbers = [_short(v * factor) for v in (one.median, one.spread, one.noise, one.mean)]
        fit = _fit_text(one.fits[0], factor) if one.fits else ""
        lines.append(
            f"  {one.quantity:<17} {one.count:>9,} {numbers[0]:>10} {numbers[1]:>9} {numbers[2]:>9} {numbers[3]:>10}  "
            f"{unit:<4} {fit}".rstrip()
        )
    if findings.thickness:
        lines.append("")
    for film in findings.thickness:
        factor, unit = readable("m", np.array([film.thickness]))
        thickness, spread, other = (
            f"{_short(length * factor)} {unit}" for length in (film.thickness, film.spread, film.substrate_spread)
        )
        lines.append(
            f"{film.film} on {film.substrate}: {thickness} thick, spread {spread}, that of the substrate {other}"
        )
    for line in findings.profiles:
        factor, unit = readable(line.unit, line.values)
        # a pixel is counted, and takes no prefix
        length_factor, length_unit = (1.0, "px") if line.distance_unit == "px" else readable("m", line.distance[-1:])
        lines += ["", f"{line.quantity} along {line.distance[-1] * length_factor:.4g} {length_unit} ({unit or '1'})"]
        for distance, value in zip(line.distance, line.values, strict=True):
            lines.append(f"  {distance * length_factor:>10.4g}  {_short(value * factor)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _fit_text(fit: Fit, factor: float) -> str:
    if fit.law == "gaussian":
        return f"Gaussian {_short(fit.centre * factor)} ± {_short(fit.width * factor)}"
    return f"log-normal {_short(fit.centre * factor)} ×÷ {_short(math.exp(fit.width))}"


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"
