"""The verbs: open, process, process_many, fit_curves, explain, load, save, convert."""

from fvproc.job import agree, typical_curve
from fvproc.opening import convert, from_arrays, load, open, save
from fvproc.processing import lazy, process, process_many, to_dask
from fvproc.recipe import Tip
from fvproc.single_curves import curve, explain, fit_curves

__all__ = [
    "Tip",
    "agree",
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
    "typical_curve",
]
