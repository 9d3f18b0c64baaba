"""Provenance: the one description of how the numbers came about, which every output carries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import ntpath
import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import numpy as np

from fvproc.errors import CalibrationError, OutputError, RecipeError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe, digest_of
from fvproc.volume import CALIBRATION_FIELDS, ForceVolume, Setting

PROGRAM = "fvproc"
INPUT_FIELDS = ("name", "format", "size", "header_digest", "modified")  # what is told of the input, in this order
LIBRARIES = ("numpy", "h5py", "dask")  # their versions may show in an output's bytes


def describe(
    volume: ForceVolume,
    recipe: Recipe,
    *,
    kernel_version: str,
    flag_counts: Mapping[Flag, int],
    finished: datetime | None = None,
) -> dict[str, Any]:
    """Return what an output says about its own making, as plain values ready for JSON.

    The date is the only item that differs between two runs of one recipe over one file; the environment variable
    SOURCE_DATE_EPOCH fixes it. Name, size, header digest and, to the second, time of modification identify the input:
    its samples may change under the same header. Under SOURCE_DATE_EPOCH that time is left out, too, so that a copy
    which did not keep it gives the same bytes; the folder, which is the user's own affair, always.

    Parameters
    ----------
    volume : ForceVolume
        What was measured.
    recipe : Recipe
        What was computed; complete, as the kernel got it.
    kernel_version : str
        Of the compiled kernel.
    flag_counts : mapping of Flag to int
        Curves that carry each flag, as `ParameterMaps.flag_counts` tells.
    finished : datetime, optional
        When; now by default. A time without time zone is local time.

    Returns
    -------
    dict
        Equal after a JSON round-trip.

    Raises
    ------
    OutputError
        If SOURCE_DATE_EPOCH is set and no whole number of seconds.
    """
    found_tip = {
        name: {"value": setting.value, "unit": unit, "source": setting.source, "rel_std": setting.rel_std}
        for name, unit, setting in (
            ("radius", "m", volume.tip_radius),
            ("half_angle", "rad", volume.tip_half_angle),
        )
        if setting is not None
    }
    return {
        "program": PROGRAM,
        "version": version(),
        "kernel_version": kernel_version,
        "libraries": {name: version(name) for name in LIBRARIES},
        "date": date(finished),
        "recipe": plain(recipe.to_dict()),
        "recipe_digest": recipe.digest,
        "calibration": plain(volume.calibration.to_dict()),
        "tip_in_file": found_tip,
        "input": {
            # a volume opened on Windows may be described on a Linux worker, so both separators count
            "name": ntpath.basename(volume.path),
            "format": volume.format,
            "size": int(volume.file_size),
            "header_digest": volume.header_digest,
            **({"modified": moment(volume.modified_ns)} if volume.modified_ns and not _epoch() else {}),
        },
        "header": plain(volume.header),
        "warnings": [str(warning) for warning in volume.warnings],
        "flag_counts": {str(flag.name).lower(): int(count) for flag, count in flag_counts.items()},
    }


def recipe_of(provenance: Mapping[str, Any]) -> Recipe:
    """Return the recipe in a provenance, checked against its digest.

    Raises
    ------
    RecipeError
        If there is none, if it does not match its digest, or if this fvproc refuses one of its values.
    """
    stored = provenance.get("recipe")
    if not isinstance(stored, Mapping):
        raise RecipeError("the provenance holds no recipe: it was not written by a run of fvproc")
    # over the stored values, not over the recipe built from them: an older recipe is migrated when it is built
    digest = digest_of(stored)
    expected = provenance.get("recipe_digest", digest)
    # the place of a film's map counted once
    if expected not in (digest, hashlib.sha256(to_json(stored).encode()).hexdigest()):
        raise RecipeError(
            f"the recipe in the provenance has digest {digest[:12]}…, not {str(expected)[:12]}… as noted beside it:"
            " it was changed after the run"
        )
    return Recipe.from_dict(stored)


def calibration_of(provenance: Mapping[str, Any]) -> dict[str, Setting]:
    """Return the calibration in a provenance by field; empty where there is none.

    Raises
    ------
    CalibrationError
        If it is not what `describe` wrote.
    """
    found = {}
    for name, entry in (provenance.get("calibration") or {}).items():
        try:
            if name not in CALIBRATION_FIELDS:
                raise ValueError("is no calibration value")
            found[name] = Setting(float(entry["value"]), entry.get("source", "file"), entry.get("rel_std"))
        except (AttributeError, KeyError, TypeError, ValueError, CalibrationError) as error:
            raise CalibrationError(
                f"the calibration in the provenance, {name}: {error}: it was changed after the run"
            ) from None
    return found


def date(finished: datetime | None = None) -> str:
    """Return a time (now by default) in UTC as ISO 8601 to the second; SOURCE_DATE_EPOCH goes before it.

    Raises
    ------
    OutputError
        If SOURCE_DATE_EPOCH is set and no whole number of seconds.
    """
    epoch = _epoch()
    if epoch:
        try:
            when = datetime.fromtimestamp(int(epoch), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise OutputError(
                f"SOURCE_DATE_EPOCH = {epoch!r}: expected whole seconds since 1970; correct or unset it"
            ) from None
    else:
        when = (finished or datetime.now(timezone.utc)).astimezone(timezone.utc)
    return when.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def moment(nanoseconds: int) -> str:
    """Return a time of a file, ns since 1970, in UTC as ISO 8601 to the second."""
    seconds = nanoseconds // 1_000_000_000
    try:
        return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat() + "Z"
    except OverflowError:  # a broken clock must not cost a run
        return f"{seconds} s"


def _epoch() -> str | None:
    return os.environ.get("SOURCE_DATE_EPOCH")


@cache
def version(package: str = PROGRAM) -> str:
    """Return the installed version of a package; ``"unknown"`` where it runs from a checkout or is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: dicts, lists, text, numbers, booleans and None.

    A number that is not finite becomes text, since standard JSON has none; NumPy's values become Python's; bytes
    become text, and anything else its `str`.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, int):
        return int(value)  # an IntEnum is written as its number
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(content) for content in value]
    return str(value)


def to_json(value: Any) -> str:
    """Return a provenance, or a part of one, as canonical JSON in ASCII: equal values give equal text."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
