"""Gwyddion's fit of force-distance curves, driven without its window: its C library through ctypes.

Needs the library alone (Debian: libgwyddion2-0). Called is what its module "Fit FD curve" calls for each curve of a
map: the preset's guess, then the preset's fit by Levenberg and Marquardt, tip radius and Poisson's ratio held.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache

import numpy as np

_NAME = "gwyddion2"


@cache
def library() -> ctypes.CDLL | None:
    """Return the library, ready to be called; None where there is none."""
    found = ctypes.util.find_library(_NAME)
    if found is None:
        return None
    gwy = ctypes.CDLL(found)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, *arguments in (
        ("gwy_type_init", None),
        ("gwy_fd_curve_presets", pointer),
        ("gwy_inventory_get_item", pointer, pointer, text),
        ("gwy_nlfit_preset_get_nparams", number, pointer),
        ("gwy_nlfit_preset_get_param_name", text, pointer, number),
        ("gwy_nlfit_preset_guess", None, pointer, number, pointer, pointer, pointer, pointer),
        ("gwy_nlfit_preset_fit", pointer, pointer, pointer, number, pointer, pointer, pointer, pointer, pointer),
        ("gwy_nlfit_preset_create_fitter", pointer, pointer),
        ("gwy_math_nlfit_succeeded", number, pointer),
        ("gwy_math_nlfit_free", None, pointer),
    ):
        function = getattr(gwy, name)
        function.restype, function.argtypes = result, arguments
    gwy.gwy_type_init()
    return gwy


@cache
def version() -> str:
    """Return the version of the installed library; raise LookupError where there is none."""
    gwy = library()
    if gwy is None:
        raise LookupError("not installed")
    gwy.gwy_version_string.restype = ctypes.c_char_p
    return str(gwy.gwy_version_string().decode())


class Preset:
    """One of Gwyddion's functions for force-distance curves.

    Parameters
    ----------
    name : str
        Such as ``"DMT: spherical"``.
    fixed : dict of str to float
        Values of parameters that are held, by Gwyddion's names.
    """

    def __init__(self, name: str, fixed: dict[str, float]) -> None:
        gwy = library()
        if gwy is None:
            raise LookupError("not installed")
        self._gwy = gwy
        self._preset = gwy.gwy_inventory_get_item(gwy.gwy_fd_curve_presets(), name.encode())
        if not self._preset:
            raise LookupError(f"Gwyddion {version()} has no preset {name!r}")
        count = gwy.gwy_nlfit_preset_get_nparams(self._preset)
        names = [gwy.gwy_nlfit_preset_get_param_name(self._preset, i).decode() for i in range(count)]
        self._names = names
        self._held = np.array([each in fixed for each in names], np.int32)
        self._values = np.array([fixed.get(each, 0.0) for each in names])

    def fit(self, x: np.ndarray, y: np.ndarray) -> dict[str, tuple[float, float]]:
        """Return value and standard error of each parameter; empty where the fit fails.

        Parameters
        ----------
        x, y : ndarray of float64, (samples,)
            Separation (m, growing away from the sample) and force (N).
        """
        x, y = np.ascontiguousarray(x, float), np.ascontiguousarray(y, float)
        values, errors = np.zeros(len(self._names)), np.zeros(len(self._names))
        fine = ctypes.c_int()
        self._gwy.gwy_nlfit_preset_guess(
            self._preset, len(x), x.ctypes.data, y.ctypes.data, values.ctypes.data, ctypes.addressof(fine)
        )
        values = np.where(self._held, self._values, values)
        fitter = self._gwy.gwy_nlfit_preset_fit(
            self._preset,
            None,
            len(x),
            x.ctypes.data,
            y.ctypes.data,
            values.ctypes.data,
            errors.ctypes.data,
            self._held.ctypes.data,
        )
        done = bool(self._gwy.gwy_math_nlfit_succeeded(fitter))
        self._gwy.gwy_math_nlfit_free(fitter)
        return dict(zip(self._names, zip(values.tolist(), errors.tolist(), strict=True), strict=True)) if done else {}
