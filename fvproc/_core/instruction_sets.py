"""The choice, at import, among the builds of the kernel: the best instruction set of this CPU, or the one asked for.

All of them are compiled from _kernel.pyx and give the same bytes; they differ in speed alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Protocol

import numpy as np

from fvproc._core import _cpu
from fvproc._core.settings import KernelSettings
from fvproc.errors import FvprocError
from fvproc.volume import RawTile

# the best first, as setup.py builds them
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
VARIABLE = "FVPROC_SIMD"


class Kernel(Protocol):
    """What each build of _kernel.pyx offers; the door alone calls it, with checked arrays."""

    FLAGS: dict[str, int]

    def record_layout(self) -> tuple[dict[str, int], int]:
        """Return {field: byte offset} of the C record and its size."""

    def noise_model(self) -> tuple[tuple[float, ...], int]:
        """Return the correlations of the noise's components, and how many widths Allan variances have."""

    def allan_variances(
        self,
        raw: RawTile,
        settings: KernelSettings,
        thickness: np.ndarray | None,
        variances: np.ndarray,
        samples: np.ndarray,
    ) -> None:
        """Fill `variances` and `samples`."""

    def fit(
        self,
        raw: RawTile,
        settings: KernelSettings,
        thickness: np.ndarray | None,
        fatal: np.ndarray,
        records: np.ndarray,
    ) -> None:
        """Fill `records`."""

    def explain(
        self,
        raw: RawTile,
        settings: KernelSettings,
        thickness: np.ndarray | None,
        fatal: np.ndarray,
        records: np.ndarray,
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
        """Fill the one record of `records` and return what led to it."""


def available() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this CPU can run, the best first.

    Returns
    -------
    tuple of str
        Out of ``"avx512"`` (F, DQ, BW and VL), ``"avx2"`` and ``"baseline"`` (what every CPU of the platform has).
    """
    return tuple(
        name for name in _cpu.supported() if importlib.util.find_spec(f"fvproc._core._kernel_{name}") is not None
    )


def chosen(request: str | None) -> str:
    """Return the instruction set to use.

    Parameters
    ----------
    request : str or None
        What the environment variable FVPROC_SIMD asks for; None or an empty string takes the best available.

    Raises
    ------
    FvprocError
        If the request is no instruction set, or one that cannot run here.
    ImportError
        If the package holds no compiled kernel.
    """
    names = available()
    if not names:
        raise ImportError("fvproc._core holds no compiled kernel: install fvproc again")
    if not request:
        return names[0]
    remedy = f"unset {VARIABLE} to take the best, or choose from {', '.join(names)}"
    if request not in INSTRUCTION_SETS:
        raise FvprocError(f"{VARIABLE} = {request!r} is no instruction set of fvproc: {remedy}")
    if request not in names:
        why = "this build of fvproc lacks it" if request in _cpu.supported() else "this CPU does not support it"
        raise FvprocError(f"{VARIABLE} = {request!r}: {why}: {remedy}")
    return request


def load(name: str) -> Kernel:
    """Return the build of the kernel for an instruction set out of `available`."""
    kernel: Kernel = importlib.import_module(f"fvproc._core._kernel_{name}")
    return kernel


def from_environment() -> tuple[str, Kernel]:
    """Return the name and the kernel of what FVPROC_SIMD asks for, or of the best.

    Raises
    ------
    FvprocError, ImportError
        As `chosen`.
    """
    name = chosen(os.environ.get(VARIABLE))
    return name, load(name)
