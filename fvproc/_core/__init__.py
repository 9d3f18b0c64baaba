"""The door to the compiled kernel: checks arrays, dtypes, strides and the record's layout, then lets them through."""

from __future__ import annotations

import functools

import numpy as np

from fvproc._core import instruction_sets
from fvproc._core.settings import KernelSettings, kernel_settings
from fvproc.errors import KernelError
from fvproc.quantities import QUANTITIES, RECORD, Flag
from fvproc.volume import RawBranch, RawTile

__all__ = [
    "KERNEL_VERSION",
    "NOISE_CORRELATIONS",
    "KernelSettings",
    "allan_variances",
    "available_instruction_sets",
    "explain",
    "fit_tile",
    "instruction_set",
    "kernel_settings",
]

# Goes up whenever a record may change for the same input: outputs carry it, a resumed job demands it.
KERNEL_VERSION = "11"

# Chosen once: the bytes do not depend on it, so it stands in no output.
_INSTRUCTION_SET, _kernel = instruction_sets.from_environment()

# Of neighbouring samples, for each component of the noise's covariance, v·ρ^|i − j|; see noise.pxd.
NOISE_CORRELATIONS, _LEVELS = _kernel.noise_model()

_NANOMETRE = 1e-9
_FATAL = np.array([int(quantity.fatal) for quantity in QUANTITIES.values()], np.uint32)
_UNWANTED = np.uint32(1 << 30)  # as in types.pxd
_DEFLECTION_TYPES = tuple(map(np.dtype, ("int16", "int32", "float32")))
_Z_TYPES = (*_DEFLECTION_TYPES, np.dtype("float64"))


def _check_contract() -> None:
    """Compare the compiled record and flags with the registry: Cython does not look at a record's field names."""
    layout, size = _kernel.record_layout()
    assert RECORD.fields is not None
    expected = {name: RECORD.fields[name][1] for name in RECORD.names or ()}
    if layout != expected or size != RECORD.itemsize:
        raise ImportError("the compiled kernel does not match fvproc.quantities.RECORD: rebuild fvproc")
    if any(int(Flag[name]) != value for name, value in _kernel.FLAGS.items()):
        raise ImportError("the compiled kernel does not match fvproc.quantities.Flag: rebuild fvproc")


_check_contract()


def instruction_set() -> str:
    """Return the instruction set in use: ``"avx512"``, ``"avx2"`` or ``"baseline"``; see FVPROC_SIMD."""
    return _INSTRUCTION_SET


def available_instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this CPU can run, the best first."""
    return instruction_sets.available()


def _refuse_what_is_no_array(array: object, name: str) -> None:
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise KernelError(f"{name} must be a NumPy array without a mask, not {type(array).__name__}")


def _number_of_curves(raw: RawTile) -> int:
    deflection = raw.approach.deflection
    _refuse_what_is_no_array(deflection, "approach.deflection")
    if deflection.ndim != 2:
        raise KernelError(f"approach.deflection must have shape (curves, samples >= 1), not {deflection.shape}")
    return int(deflection.shape[0])


def _checked(branch: RawBranch, name: str, curves: int) -> None:
    deflection, z, valid = branch.deflection, branch.z, branch.valid_length
    for array, what in ((deflection, "deflection"), (z, "z")):
        _refuse_what_is_no_array(array, f"{name}.{what}")
    if deflection.ndim != 2 or deflection.shape[0] != curves or deflection.shape[1] < 1:
        raise KernelError(f"{name}.deflection must have shape ({curves}, samples >= 1), not {deflection.shape}")
    for array, allowed, what in ((deflection, _DEFLECTION_TYPES, "deflection"), (z, _Z_TYPES, "z")):
        if array.dtype not in allowed:  # these are native
            names = ", ".join(dtype.name for dtype in allowed)
            raise KernelError(f"{name}.{what} must be native {names}, not {array.dtype!r}")
        if not array.flags.aligned:
            raise KernelError(f"{name}.{what} must be aligned to its dtype")
    if z.shape not in ((deflection.shape[1],), deflection.shape):
        raise KernelError(f"{name}.z must have shape ({deflection.shape[1]},) or {deflection.shape}, not {z.shape}")
    if valid is not None:
        _check_plain(valid, f"{name}.valid_length", np.dtype(np.int32), curves)
        if valid.size and (valid.min() < 0 or valid.max() > deflection.shape[1]):
            raise KernelError(
                f"{name}.valid_length must lie in [0, {deflection.shape[1]}], not in [{valid.min()}, {valid.max()}]"
            )


def _check_plain(array: np.ndarray, name: str, dtype: np.dtype, curves: int) -> None:
    """Refuse what the kernel cannot walk through as a plain C array of `curves` elements."""
    _refuse_what_is_no_array(array, name)
    if array.dtype != dtype or array.shape != (curves,) or not array.flags.c_contiguous:
        kind = "RECORD" if dtype == RECORD else dtype.name
        found = "another layout" if dtype == RECORD and array.dtype.names else repr(array.dtype)
        raise KernelError(
            f"{name} must be contiguous {kind} of shape ({curves},),"
            f" not {found} of shape {array.shape} and strides {array.strides}"
        )
    # a record's dtype is packed, so NumPy calls any address aligned; in C its members stand at multiples of four
    if array.ctypes.data % (4 if dtype == RECORD else dtype.itemsize):
        raise KernelError(f"{name} must be aligned to the members of its dtype")


def _checked_tile(raw: RawTile, thickness: np.ndarray | None) -> int:
    """Return the number of curves of a tile that keeps the contract."""
    curves = _number_of_curves(raw)
    _checked(raw.approach, "approach", curves)
    _checked(raw.retract, "retract", curves)
    if raw.height is not None:
        _check_plain(raw.height, "height", np.dtype(np.float64), curves)
    if thickness is not None:
        _check_plain(thickness, "thickness", np.dtype(np.float64), curves)
    return curves


@functools.lru_cache(maxsize=16)
def _fatal(quantities: tuple[str, ...]) -> np.ndarray:
    """Return the flags that make NaN of each quantity, (quantities,) uint32."""
    return np.where([name in quantities for name in QUANTITIES], _FATAL, _UNWANTED)


def fit_tile(
    raw: RawTile, settings: KernelSettings, *, thickness: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Fit every curve of a tile.

    Parameters
    ----------
    raw : RawTile
        Raw numbers of both branches, samples in the order of time.
    settings : KernelSettings
        From `kernel_settings`.
    thickness : ndarray of float64, shape (curves,), optional
        Of the film under each curve, m, in place of the settings' one; a curve where it is not positive has no modulus.
    out : ndarray of RECORD, shape (curves,), optional
        Filled and returned instead of a new array.

    Returns
    -------
    ndarray of RECORD, shape (curves,)
        NaN exactly where a fatal flag of the quantity is set, and in quantities that the recipe does not ask for.

    Raises
    ------
    KernelError
        If shape, dtype, byte order or alignment of an array breaks the contract.
    """
    curves = _checked_tile(raw, thickness)
    records = np.empty(curves, RECORD) if out is None else out
    _check_plain(records, "out", RECORD, curves)
    if not records.flags.writeable:
        raise KernelError("out must be writeable")
    if curves:
        _kernel.fit(raw, settings, thickness, _fatal(settings.quantities), records)
    return records


def allan_variances(raw: RawTile, settings: KernelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return what the free samples of both branches of each curve tell of their noise.

    Returns
    -------
    variances : ndarray of float64, shape (curves, 2, widths)
        Allan variances of approach and retract about a line of their own, nm²: half the mean square of the difference
        of neighbouring means of 1, 2, 4 … samples; 0 where there are too few samples, or no contact to be fitted.
    samples : ndarray of int64, shape (curves, 2)
        How many are free of contact, counted from the end of the branch that is farthest from the surface.

    Raises
    ------
    KernelError
        As `fit_tile`.
    """
    curves = _checked_tile(raw, None)
    variances, samples = np.zeros((curves, 2, _LEVELS)), np.zeros((curves, 2), np.int64)
    if curves:
        _kernel.allan_variances(raw, settings, None, variances, samples)
    return variances, samples


def explain(raw: RawTile, settings: KernelSettings, *, thickness: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Fit a tile of one curve and return what led to its record.

    Returns
    -------
    approach_z, approach_force, retract_z, retract_force, fit_z, fit_force : ndarray of float64
        In m and N, samples in the order of time; the baseline is subtracted; the fit is empty where there is none.
    record : ndarray of RECORD, shape ()

    Raises
    ------
    KernelError
        As `fit_tile`, or if the tile does not hold exactly one curve.
    """
    curves = _number_of_curves(raw)
    if curves != 1:
        raise KernelError(f"explain takes a tile of one curve, not {curves}")
    record = fit_tile(raw, settings, thickness=thickness)
    (approach, retract), fit_z, fit_d = _kernel.explain(raw, settings, thickness, _fatal(settings.quantities), record)
    force = settings.spring_constant * _NANOMETRE
    with np.errstate(over="ignore", invalid="ignore"):  # an absurd scale overflows; the record's flags tell
        return (
            approach[0][::-1] * _NANOMETRE,
            approach[1][::-1] * force,
            retract[0] * _NANOMETRE,
            retract[1] * force,
            fit_z * _NANOMETRE,
            fit_d * force,
            record.reshape(()),
        )
