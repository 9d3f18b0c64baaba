"""Modulus, adhesion and deformation maps, with true error bars, from force-volume and PeakForce files of an AFM.

>>> import fvproc as fv
>>> volume = fv.open("map.spm", spring_constant=0.4)
>>> maps = fv.process(volume, fv.Recipe(tip=fv.Tip.sphere(radius=10e-9)), output="out.h5")
>>> maps["modulus"], maps["modulus_std"], maps.flags
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvproc import regions, sections, statistics
    from fvproc.api import (
        convert,
        curve,
        explain,
        fit_curves,
        from_arrays,
        lazy,
        load,
        open,
        process,
        process_many,
        save,
        to_dask,
    )
    from fvproc.bulk import Result
    from fvproc.calibrate import HardSample, calibrate_sensitivity, calibrate_tip
    from fvproc.errors import (
        CalibrationError,
        FileFormatError,
        FvprocError,
        KernelError,
        OutputError,
        RecipeError,
    )
    from fvproc.exports import export
    from fvproc.maps import CurveFit, Density, ParameterMaps
    from fvproc.pages.report import write_report
    from fvproc.pictures import plot
    from fvproc.quantities import FLAG_MEANINGS, QUANTITIES, RECORD, Flag
    from fvproc.recipe import Recipe, Tip
    from fvproc.volume import Calibration, ForceVolume, Grid, Setting, Tile

# name -> module: imported when first asked for, so that `fvproc --help` need not wait for what it does not use
_HOME = {
    **dict.fromkeys(
        (
            "convert",
            "curve",
            "explain",
            "fit_curves",
            "from_arrays",
            "lazy",
            "load",
            "open",
            "process",
            "process_many",
            "save",
            "to_dask",
        ),
        "api",
    ),
    "Result": "bulk",
    **dict.fromkeys(("HardSample", "calibrate_sensitivity", "calibrate_tip"), "calibrate"),
    **dict.fromkeys(
        ("CalibrationError", "FileFormatError", "FvprocError", "KernelError", "OutputError", "RecipeError"), "errors"
    ),
    **dict.fromkeys(("CurveFit", "Density", "ParameterMaps"), "maps"),
    "export": "exports",
    "plot": "pictures",
    "write_report": "pages.report",
    **dict.fromkeys(("FLAG_MEANINGS", "QUANTITIES", "RECORD", "Flag"), "quantities"),
    **dict.fromkeys(("Recipe", "Tip"), "recipe"),
    **dict.fromkeys(("Calibration", "ForceVolume", "Grid", "Setting", "Tile"), "volume"),
}


_MODULES = ("regions", "sections", "statistics")  # whose functions are called by their module: fv.regions.where


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fvproc")
    if name in _MODULES:
        return importlib.import_module(f"fvproc.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fvproc' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fvproc.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_MODULES, "__version__"])


__all__ = [
    "FLAG_MEANINGS",
    "QUANTITIES",
    "RECORD",
    "Calibration",
    "CalibrationError",
    "CurveFit",
    "Density",
    "FileFormatError",
    "Flag",
    "ForceVolume",
    "FvprocError",
    "Grid",
    "HardSample",
    "KernelError",
    "OutputError",
    "ParameterMaps",
    "Recipe",
    "RecipeError",
    "Result",
    "Setting",
    "Tile",
    "Tip",
    "calibrate_sensitivity",
    "calibrate_tip",
    "convert",
    "curve",
    "explain",
    "export",
    "fit_curves",
    "from_arrays",
    "lazy",
    "load",
    "open",
    "plot",
    "process",
    "process_many",
    "regions",
    "save",
    "sections",
    "statistics",
    "to_dask",
    "write_report",
]
