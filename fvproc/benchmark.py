"""Curves of known truth run through a recipe: error, scatter beside the Cramér-Rao bound, coverage, failures, speed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import api, pictures, readers, simulate, truth
from fvproc.bound import modulus_bound
from fvproc.errors import FvprocError
from fvproc.maps import ParameterMaps
from fvproc.quantities import QUANTITIES, Flag, readable
from fvproc.recipe import Maps, Recipe, merged, read_settings
from fvproc.volume import ForceVolume

PathName = str | PathLike[str]
# Contact points that a bound is averaged over.
_PLACES = 16
_CURVES = 2000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a row must meet; an excess within two standard errors of its number of curves is none.

    Parameters
    ----------
    error, of_bound : float
        |median error| ≤ the larger of `error` and `of_bound` × the bound.
    scatter, below : float
        Robust scatter ≤ `scatter` × the bound, where that is less than `below`.
    within_one, within_two : tuple of float
        Shares of curves whose truth lies within one and two stated standard errors.
    """

    error: float = 0.01
    of_bound: float = 0.25
    scatter: float = 1.10
    below: float = 0.10
    within_one: tuple[float, float] = (0.66, 0.70)
    within_two: tuple[float, float] = (0.94, 0.97)


@dataclass(frozen=True, slots=True)
class Row:
    """One material of one file; error, scatter, bound and stated error are relative to the true modulus.

    Parameters
    ----------
    file, material : str
    modulus : float
        Truth, Pa; the median of the chosen curves.
    curves, valued : int
        Of known truth; of these with a modulus.
    error, scatter, stated, bound : float
        Median error, robust scatter (from the quartiles), median `modulus_std`, Cramér-Rao bound; NaN where it cannot
        be told (no truth of contact point or adhesion, correlated noise).
    within_one, within_two : float
        Shares of true moduli within one and two stated standard errors.
    adhesion_error : float
        Median; NaN without a truth.
    failures : dict of str to int
        Fatal flags of the modulus, and how many curves carry each.
    curves_per_second : float
        Of the whole file: read, fit, place.
    misses : tuple of str
        Which limits are not met.
    """

    file: str
    material: str
    modulus: float
    curves: int
    valued: int
    error: float
    scatter: float
    stated: float
    bound: float
    within_one: float
    within_two: float
    adhesion_error: float
    failures: dict[str, int]
    curves_per_second: float
    misses: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; what is not known is None."""
        entries = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entries.items()}


def evaluate(
    paths: Iterable[PathName],
    settings: Mapping[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    threads: int | None = None,
) -> list[Row]:
    """Run a recipe over reference curves and hold the result against their truth.

    Parameters
    ----------
    paths : iterable of path-like
        Curves files with a /truth (modulus at least), or folders of them.
    settings : mapping, optional
        Of a recipe, as `Recipe.from_dict` takes them, for all files. A file `X.toml` beside `X.h5` holds those that
        its curves need, such as the thickness of a film; tip and Poisson's ratio are the curves file's where both
        leave them out.
    limits : Limits, optional
        What to judge by.
    threads : int, optional
        As for `fvproc.process`.

    Raises
    ------
    FvprocError
        If a file holds no truth, or a folder no file.
    """
    rows: list[Row] = []
    for path in _files(paths):
        volume = readers.open_volume(path)
        own = path.with_suffix(".toml")
        recipe = Recipe.from_dict(merged(read_settings(own) if own.exists() else {}, settings or {}))
        recipe = replace(recipe, maps=Maps())  # all of them are compared
        known = truth.read_truth(path)
        if "modulus" not in known:
            raise FvprocError(f"{path}: its /truth holds no modulus")
        began = time.perf_counter()
        maps = api.process(volume, recipe, threads=threads)
        rate = volume.grid.curves / (time.perf_counter() - began)
        for name, chosen in _materials(known, maps.shape):
            row = _row(path, name, volume, recipe, maps, known, chosen, rate)
            rows.append(replace(row, misses=tuple(_judged(row, limits or Limits()))))
    return rows


def _files(paths: Iterable[PathName]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.h5")) if path.is_dir() else [path]
        if not inside:
            raise FvprocError(f"{path}: holds no .h5 file of reference curves")
        found += inside
    return found


def _materials(known: dict[str, np.ndarray], shape: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Return (name, pixels): those of `material` where there are several, without the spoilt ones."""
    good = known["bad"] == 0 if "bad" in known else np.ones(shape, bool)
    good &= np.isfinite(known["modulus"])
    if "material" not in known:
        return [("all", good)]
    names = [material.name for material in simulate.MATERIALS]
    return [
        (names[number] if number < len(names) else str(number), good & (known["material"] == number))
        for number in np.unique(known["material"][good])
    ]


def _row(
    path: Path,
    name: str,
    volume: ForceVolume,
    recipe: Recipe,
    maps: ParameterMaps,
    known: dict[str, np.ndarray],
    chosen: np.ndarray,
    rate: float,
) -> Row:
    true = known["modulus"][chosen].astype(float)
    valued = np.isfinite(maps["modulus"][chosen])
    ratio = maps["modulus"][chosen][valued].astype(float) / true[valued]
    stated = maps["modulus_std"][chosen][valued].astype(float) / true[valued]
    low, middle, high = np.percentile(ratio, [25, 50, 75]) if ratio.size else (math.nan,) * 3
    pull = np.abs(ratio - 1.0) / stated
    adhesion = math.nan
    if "adhesion" in known and ratio.size:
        with np.errstate(all="ignore"):
            adhesion = float(np.nanmedian(maps["adhesion"][chosen] / known["adhesion"][chosen]) - 1.0)
    flags = maps.flags[chosen]
    tally = {flag: int(((flags & np.uint32(flag)) != 0).sum()) for flag in Flag if flag & QUANTITIES["modulus"].fatal}
    return Row(
        path.name,
        name,
        float(np.median(true)),
        int(chosen.sum()),
        int(valued.sum()),
        float(middle - 1.0),
        float((high - low) / 1.349),
        float(np.median(stated)) if ratio.size else math.nan,
        _bound(volume, recipe, maps, known, chosen),
        float(np.mean(pull <= 1.0)) if ratio.size else math.nan,
        float(np.mean(pull <= 2.0)) if ratio.size else math.nan,
        adhesion,
        {str(flag.name).lower(): count for flag, count in tally.items() if count},
        rate,
    )


def _bound(
    volume: ForceVolume, recipe: Recipe, maps: ParameterMaps, known: dict[str, np.ndarray], chosen: np.ndarray
) -> float:
    """Return the Cramér-Rao bound for the median curve and the noise that was found; NaN without its truth."""
    spring = volume.calibration.spring_constant
    if not {"contact_point", "adhesion"} <= set(known) or spring is None or not chosen.any():
        return math.nan
    correlated = (maps.flags[chosen] & np.uint32(Flag.NOISE_CORRELATED)) != 0
    if correlated.mean() > 0.5:
        return math.nan  # the bound below is that of white noise
    full = api.agree(volume, recipe)
    tip = full.tip
    size = {"radius": tip.radius, "half_angle": tip.half_angle}
    if tip.shape not in ("sphere", "cone"):
        return math.nan
    probe = simulate.Probe(
        spring.value,
        size["radius"] if tip.shape == "sphere" else None,
        half_angle=size["half_angle"] if tip.shape == "cone" else None,
        poisson_ratio=float(full.poisson_ratio or 0.3),
    )
    modulus, adhesion = (np.array([float(np.median(known[name][chosen]))]) for name in ("modulus", "adhesion"))
    sample = simulate.Sample(
        modulus,
        adhesion,
        np.zeros(1),
        "jkr" if full.fit.model == "jkr" else "dmt",
        float(np.median(known["thickness"][chosen])) if "thickness" in known else None,
        full.film.bonding == "bonded",
    )
    where = np.flatnonzero(chosen.ravel())
    number = where[np.linspace(0, len(where) - 1, min(_PLACES, len(where))).astype(int)]
    places = known["contact_point"].ravel()[number]
    z = api.curve(volume, *divmod(int(where[0]), volume.grid.nx))["retract_z"]
    sigma = float(np.nanmedian(maps["baseline_noise"][chosen])) / spring.value
    try:
        return modulus_bound(z[np.isfinite(z)], sample, probe, places, sigma)
    except FvprocError:
        return math.nan  # the forward model does not reach there


def _judged(row: Row, limits: Limits) -> list[str]:
    """Return the limits that a row misses beyond two standard errors of its number of curves.

    The quartiles of n Gaussian values give the scatter to 1/√(0.74·n) and the median to 1.25·σ/√n.
    """
    if not row.valued:
        return ["no values"]
    missed, count = [], max(row.valued, 1)
    bound = row.bound if math.isfinite(row.bound) else 0.0
    if abs(row.error) > max(limits.error, limits.of_bound * bound) + 2.0 * 1.25 * row.scatter / math.sqrt(count):
        missed.append("error")
    slack = 1.0 + 2.0 / math.sqrt(0.74 * count)
    if 0.0 < bound < limits.below and row.scatter > limits.scatter * slack * bound:
        missed.append("scatter")
    for share, (low, high), name in (
        (row.within_one, limits.within_one, "1σ"),
        (row.within_two, limits.within_two, "2σ"),
    ):
        two = 2.0 * math.sqrt(low * (1.0 - low) / count)
        if not low - two <= share <= high + two:
            missed.append(f"{name} {'low' if share < low else 'high'}")
    return missed


def write_set(folder: PathName, curves: int = _CURVES, samples: int = 256, sigma: float = 2e-11) -> list[Path]:
    """Write one curves file for each reference material, for those who have no set of their own; return the paths."""
    paths = []
    for number, material in enumerate(simulate.REFERENCE_MATERIALS):
        path = Path(folder) / f"{material.name.replace(' ', '-')}.h5"
        z = simulate.ramp(samples, material.travel, "sine")[0]
        simulate.write_map(
            path,
            ny=1,
            nx=curves,
            samples=samples,
            modulus=material.modulus,
            adhesion=material.adhesion,
            peak_force=material.peak_force,
            probe=material.probe,
            travel=material.travel,
            sigma=sigma,
            seed=number,
            spread=float(np.max(np.abs(np.diff(z)))),
        )
        paths.append(path)
    return paths


def table_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    width = max([len(row.file) for row in rows] + [4])
    lines = [
        f"{'file':<{width}}  {'material':<12} {'true E':>9} {'valued':>13} {'error':>7} {'scatter':>8} {'bound':>7}"
        f" {'ratio':>5} {'1σ':>4} {'2σ':>4} {'adhesion':>8} {'curves/s':>9}  misses"
    ]
    for row in rows:
        factor, unit = readable("Pa", np.array([row.modulus]))
        cells = [_share(row.error, 7, "+.2%"), _share(row.scatter, 8, ".2%"), _share(row.bound, 7, ".2%")]
        cells += [_share(row.scatter / row.bound if row.bound > 0.0 else math.nan, 5, ".2f")]
        cells += [_share(row.within_one, 4, ".0%"), _share(row.within_two, 4, ".0%")]
        cells += [_share(row.adhesion_error, 8, "+.2%")]
        lines.append(
            f"{row.file:<{width}}  {row.material:<12.12} {row.modulus * factor:>5.3g} {unit:<3}"
            f" {row.valued:>6}/{row.curves:<6} {' '.join(cells)} {row.curves_per_second:>9,.0f}"
            f"  {', '.join(row.misses) or '-'}"
        )
        if row.failures:
            lines.append(" " * (width + 2) + ", ".join(f"{name} {count}" for name, count in row.failures.items()))
    good = sum(not row.misses for row in rows)
    lines.append(f"{good} of {len(rows)} rows miss nothing")
    return "\n".join(lines)


def _share(value: float, width: int, form: str) -> str:
    return f"{value:{form}}".rjust(width) if math.isfinite(value) else "-".rjust(width)


def plot(rows: Sequence[Row], path: PathName) -> None:
    """Draw error, scatter beside the bound, and coverage, material by material; the suffix names the format.

    Raises
    ------
    OutputError
        If the suffix is no picture's, matplotlib is missing or the file cannot be written.
    """
    pictures.check_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    x = np.arange(len(rows))
    values = {name: np.array([getattr(row, name) for row in rows], float) for name in ("error", "scatter", "bound")}
    top.errorbar(x, 100 * values["error"], 100 * values["scatter"], fmt="o", color="#0072b2", capsize=3)
    top.fill_between(x, -25 * values["bound"], 25 * values["bound"], color="#999999", alpha=0.4, step="mid")
    top.axhline(0.0, color="black", linewidth=0.8)
    top.set_ylabel("error of the modulus, %\n(bars: scatter; grey: bound/4)")
    middle.plot(x, values["scatter"] / values["bound"], "s", color="#d55e00")
    middle.axhline(1.0, color="black", linewidth=0.8)
    middle.axhline(1.1, color="black", linewidth=0.8, linestyle="--")
    middle.set_ylabel("scatter / Cramér-Rao bound")
    for name, share, color in (("within_one", 0.683, "#009e73"), ("within_two", 0.954, "#cc79a7")):
        bottom.plot(
            x, [100 * getattr(row, name) for row in rows], "o", color=color, label=name.replace("_", " ") + " σ"
        )
        bottom.axhline(100 * share, color=color, linewidth=0.8)
    bottom.set_ylabel("truth within stated error, %")
    bottom.legend()
    names = [row.file.removesuffix(".h5") + ("" if row.material == "all" else f" {row.material}") for row in rows]
    bottom.set_xticks(x, names, rotation=60, ha="right", fontsize=8)
    with pictures.placed(path) as temporary:
        figure.savefig(temporary)
