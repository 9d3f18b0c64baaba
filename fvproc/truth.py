"""Maps held against the truth that a simulated curves file carries, material by material."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike

import numpy as np

from fvproc.errors import FvprocError
from fvproc.maps import ParameterMaps
from fvproc.quantities import readable
from fvproc.simulate import MATERIALS
from fvproc.storage import read_hdf5


def read_truth(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Return the truth maps that `write_map` or `sei_map` left in a curves file, SI units, (ny, nx).

    Raises
    ------
    FvprocError
        If the file holds none.
    """
    with read_hdf5(path) as file:
        if "truth" not in file:
            raise FvprocError(f"{path}: holds no /truth; only simulated files do")
        return {name: dataset[()] for name, dataset in file["truth"].items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Truth against result for the good pixels of one material; see `compare`."""

    name: str
    curves: int
    valued: int
    modulus: float
    median: float
    error: float
    scatter: float
    stated: float
    within_one: float
    within_two: float
    adhesion_error: float


def compare(maps: ParameterMaps, path: str | PathLike[str]) -> list[Comparison]:
    """Compare maps with the truth in the simulated file they were made from, material by material.

    Returns
    -------
    list of Comparison
        `error`, `scatter` (robust, from the quartiles), `stated` (median of modulus_std) and `adhesion_error` are
        relative to the truth; `within_one` and `within_two` are the fractions of curves whose true modulus lies
        within one and two stated standard errors.
    """
    truth = read_truth(path)
    material = truth.get("material", np.zeros(maps.shape, np.int8))
    good = truth["bad"] == 0 if "bad" in truth else np.ones(maps.shape, bool)
    names = [m.name for m in MATERIALS] if "material" in truth else ["all"]
    table = []
    for number, name in enumerate(names):
        of_material = good & (material == number)
        chosen = of_material & np.isfinite(maps["modulus"])
        if not np.any(chosen):
            continue
        true = truth["modulus"][chosen]
        ratio = maps["modulus"][chosen].astype(float) / true
        stated = maps["modulus_std"][chosen].astype(float) / true
        low, middle, high = np.percentile(ratio, [25, 50, 75])
        pull = np.abs(ratio - 1.0) / stated
        table.append(
            Comparison(
                name=name,
                curves=int(of_material.sum()),
                valued=int(chosen.sum()),
                modulus=float(np.median(true)),
                median=float(np.median(maps["modulus"][chosen])),
                error=float(middle - 1.0),
                scatter=float((high - low) / 1.349),
                stated=float(np.median(stated)),
                within_one=float(np.mean(pull <= 1.0)),
                within_two=float(np.mean(pull <= 2.0)),
                adhesion_error=(
                    float(np.median(maps["adhesion"][chosen] / truth["adhesion"][chosen]) - 1.0)
                    if "adhesion" in maps
                    else math.nan
                ),
            )
        )
    return table


def comparison_text(table: list[Comparison]) -> str:
    """Return the table of `compare` for a terminal."""
    lines = [
        "material            curves   true E     median E    error  scatter   stated   1σ    2σ   adhesion",
    ]
    for row in table:
        factor, unit = readable("Pa", np.array([row.modulus]))
        lines.append(
            f"{row.name:<18} {row.valued:>7} {row.modulus * factor:>7.4g} {unit:<3}"
            f" {row.median * factor:>7.4g} {unit:<3}"
            f" {row.error:>+7.2%} {row.scatter:>7.2%} {row.stated:>8.2%} {row.within_one:>5.0%} {row.within_two:>5.0%}"
            f" {row.adhesion_error:>+8.2%}"
        )
    return "\n".join(lines)
