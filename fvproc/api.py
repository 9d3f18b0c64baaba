"""The verbs: open, process, process_many, fit_curves, explain, load, save, convert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fvproc.errors import FvprocError
from fvproc.job import agree, typical_curve
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.recipe import Recipe, Tip
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile

if TYPE_CHECKING:
    from fvproc.bulk import Result
    from fvproc.schedule import Progress

PathName = str | PathLike[str]


def open(
    path: PathName,
    *,
    spring_constant: float | None = None,
    deflection_sensitivity: float | None = None,
    z_sensitivity: float | None = None,
    rel_std: Mapping[str, float] | None = None,
    calibration: PathName | None = None,
    mapping: PathName | dict[str, Any] | None = None,
) -> ForceVolume:
    """Open a file of force-distance curves; headers are read, curves stay on disk.

    Parameters
    ----------
    path : path-like
        A file of one of the formats in docs/formats.md, a folder of Asylum curves, or what a plug-in reads.
    spring_constant, deflection_sensitivity, z_sensitivity : float, optional
        Go before the file's values; in N/m, m/V, m/V.
    rel_std : mapping of str to float, optional
        Relative standard uncertainties, ``{"spring_constant": 0.1, …}``: of spring_constant, deflection_sensitivity,
        tip_radius, tip_half_angle, poisson_ratio; go before the file's. See docs/uncertainty.md.
    calibration : path-like, optional
        A file of `fvproc calibrate`; goes before what the measurement's file says, behind what is given here by name.
    mapping : path-like or dict, optional
        For an HDF5 file of any layout: the TOML file, or its content, that says where in it deflection, z and
        calibration lie.

    Returns
    -------
    ForceVolume
        Frozen description; ``volume.shape`` is (ny, nx).

    Raises
    ------
    FileFormatError
        If the file is unknown, truncated or contradicts itself.
    CalibrationError
        If an override is not finite and positive, or an uncertainty not in 0 … 1.
    """
    from fvproc import readers

    given = {
        "spring_constant": spring_constant,
        "deflection_sensitivity": deflection_sensitivity,
        "z_sensitivity": z_sensitivity,
    }
    volume = readers.open_volume(path, mapping=mapping, **given)
    if calibration is not None:
        from fvproc import calibration_file

        volume = calibration_file.applied(volume, calibration, given)
    return replace(volume, rel_std={**volume.rel_std, **rel_std}) if rel_std else volume


def from_arrays(
    approach: Any, retract: Any, *, z: tuple[Any, Any], units: str, z_units: str, **settings: Any
) -> ForceVolume:
    """Make a volume of NumPy, Dask or Zarr arrays; see `fvproc.readers.arrays.from_arrays` for the settings.

    Parameters
    ----------
    approach, retract : array, shape (ny, nx, samples), (curves, samples) or (samples,)
        Deflection, samples in the order of time.
    z : tuple of two arrays, shape (samples,) or that of `approach` and `retract`
        Growing toward the sample.
    units, z_units : str
        Such as ``"V"``, ``"nm"``; for deflection also a force. Never guessed.
    **settings
        spring_constant (N/m), deflection_sensitivity, z_sensitivity (m/V), scale, offset, z_scale, z_offset, size_x,
        size_y (m), rotation (degrees), tip_radius (m), tip_half_angle (rad), poisson_ratio, label.

    Raises
    ------
    FileFormatError, CalibrationError
        If shapes or units do not fit, z runs the wrong way, or a value is not finite and positive.
    """
    from fvproc.readers.arrays import from_arrays

    return from_arrays(approach, retract, z=z, units=units, z_units=z_units, **settings)


def process(
    volume: ForceVolume | PathName,
    recipe: Recipe | None = None,
    *,
    client: Any = None,
    threads: int | None = None,
    output: PathName | Sequence[PathName] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress = False,
    tile_bytes: int | None = None,
) -> ParameterMaps:
    """Fit every curve of a volume.

    Stopped or killed, a run with an output leaves what it has done in ``OUTPUT.partial``; the same call goes on from
    there and ends in the same bytes.

    Parameters
    ----------
    volume : ForceVolume or path-like
        What `open` returned, or a path to open.
    recipe : Recipe, optional
        What to compute; by default a DMT fit by maximum likelihood with the tip of the file.
    client : distributed.Client or str, optional
        A cluster to run on, or its scheduler's address. By default threads of this process.
    threads : int, optional
        Number of threads of this process; by default one for each core.
    output : path-like or sequence of them, optional
        Files to write; the suffix names the format, see `save`.
    overwrite : bool
        Whether outputs that exist are replaced, and an unfinished run is begun anew; otherwise outputs that exist are
        refused before work starts.
    resume : bool
        Whether outputs that the same input, recipe and version have written before are taken as they are.
    progress : bool or Progress
        True prints a bar to standard error.
    tile_bytes : int, optional
        Bytes of raw curves in a tile; the result does not depend on it.

    Returns
    -------
    ParameterMaps
        Its `provenance` tells how it was made; ``provenance["failures"]`` lists tiles that could not be read.

    Raises
    ------
    CalibrationError, RecipeError, OutputError, FileFormatError
        Before work starts, if something is missing or refused; among them an unfinished run of another input, recipe
        or version.
    FvprocError
        If the cluster is lost, or the input: the message says what is kept.
    KeyboardInterrupt
        After Ctrl-C, when what was in flight is kept, too.
    """
    from fvproc import job, schedule

    if not isinstance(volume, ForceVolume):
        volume = open(volume)
    if client is not None and hasattr(volume, "require_sendable"):
        volume.require_sendable()
    recipe = agree(volume, recipe)
    outputs = _outputs(output)
    if resume and not overwrite and (done := job.finished(volume, recipe, outputs)) is not None:
        return done
    run = job.MapJob(volume, recipe, outputs, overwrite)
    try:
        with schedule.crew(volume, client=client, threads=threads, tile_bytes=tile_bytes) as crew:
            schedule.run([run], crew, _watched(progress))
    except (FvprocError, KeyboardInterrupt) as error:
        raise job.with_what_is_kept(error, run) from error
    finally:
        run.pause()
    return run.maps


def _watched(progress: bool | Progress) -> Progress | None:
    """Return who is told of the progress: a bar for True, nobody for False."""
    if isinstance(progress, bool):
        from fvproc.progress import Bar

        return Bar() if progress else None
    return progress


def _outputs(output: PathName | Sequence[PathName] | None) -> list[PathName]:
    if output is None:
        return []
    if isinstance(output, (str, PathLike)):
        return [output]
    return list(output)


def process_many(
    paths: Iterable[PathName],
    recipe: Recipe | None = None,
    *,
    output_dir: PathName,
    suffixes: Sequence[str] = (".h5",),
    client: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Progress = False,
    tile_bytes: int | None = None,
    calibration: dict[str, Any] | None = None,
) -> list[Result]:
    """Process many files in one queue of tiles; one that fails does not stop the rest.

    Parameters
    ----------
    paths : iterable of path-like
        Inputs; their stems name the outputs in `output_dir`, so no two may be the same.
    recipe : Recipe, optional
        For all of them.
    output_dir : path-like
        Made if missing.
    suffixes : sequence of str
        Formats to write for each input.
    client, threads, overwrite, resume, progress, tile_bytes
        As for `process`.
    calibration : dict, optional
        Keywords of `open`.

    Returns
    -------
    list of Result
        In the order of the inputs; `fvproc.bulk` makes tables of it.

    Raises
    ------
    OutputError
        If two inputs would write the same output.
    FvprocError
        If the cluster is lost; the same call with ``resume=True`` goes on from what is kept.
    """
    from fvproc import bulk

    return bulk.process_many(
        paths,
        recipe,
        output_dir=output_dir,
        suffixes=suffixes,
        client=client,
        threads=threads,
        overwrite=overwrite,
        resume=resume,
        tile_bytes=tile_bytes,
        progress=_watched(progress),
        open_volume=lambda path: open(path, **(calibration or {})),
    )


def fit_curves(
    z: tuple[np.ndarray, np.ndarray],
    deflection: tuple[np.ndarray, np.ndarray],
    *,
    calibration: Calibration | float,
    recipe: Recipe,
) -> np.ndarray:
    """Fit curves that are in memory: arrays in, records out; for notebooks and for comparisons.

    Parameters
    ----------
    z : tuple of two ndarray, shape (samples,) or (curves, samples)
        Piezo extension in m on approach and on retract, growing toward the sample, samples in the order of time.
    deflection : tuple of two ndarray, shape (samples,) or (curves, samples)
        Cantilever deflection in m, or in V if the calibration holds a deflection sensitivity; any real dtype,
        computed from float32 (int16 and int32 are taken as they are).
    calibration : Calibration or float
        A bare number is the spring constant in N/m.
    recipe : Recipe
        With the length of its tip; ν defaults to 0.3.

    Returns
    -------
    ndarray of RECORD, shape (curves,)

    Raises
    ------
    CalibrationError, RecipeError
        If a value is missing.
    KernelError
        If the shapes do not fit each other.
    """
    from fvproc import _core

    if not isinstance(calibration, Calibration):
        calibration = Calibration(spring_constant=Setting(float(calibration), "user"))
    unit = "V" if calibration.deflection_sensitivity is not None else "m"
    raw, described = [], []
    for positions, values in zip(z, deflection, strict=True):
        values = np.atleast_2d(np.asarray(values))
        if values.dtype.name not in ("int16", "int32"):
            values = values.astype(np.float32)
        positions = np.asarray(positions, np.float64)
        if positions.ndim == 2 and positions.shape[0] == 1:
            positions = positions[0]
        raw.append(RawBranch(np.ascontiguousarray(values), np.ascontiguousarray(positions)))
        described.append(
            Branch(values.shape[1], Channel(values.dtype.name, unit), Channel("float64", "m"), positions.ndim == 1)
        )
    volume = ForceVolume(
        "arrays in memory",
        "arrays",
        Grid(1, len(raw[0].deflection)),
        described[0],
        described[1],
        calibration=calibration,
    )
    return _core.fit_tile(RawTile(raw[0], raw[1]), _core.kernel_settings(volume, agree(volume, recipe)))


def curve(volume: ForceVolume, y: int, x: int) -> dict[str, np.ndarray]:
    """Return one curve in SI: ``approach_z``, ``approach_deflection``, ``retract_z``, ``retract_deflection`` in m.

    Samples are in the order of time; invalid ones are NaN; no baseline is subtracted.

    Raises
    ------
    IndexError
        If the pixel is outside the grid.
    CalibrationError
        If the file lacks a sensitivity.
    """
    from fvproc import engine

    ny, nx = volume.shape
    if not (0 <= y < ny and 0 <= x < nx):
        raise IndexError(f"pixel ({y}, {x}) is outside the grid of {ny} × {nx}")
    number = y * nx + x
    raw = engine.read_tile(volume, Tile(number, number + 1))
    result = {}
    for name in ("approach", "retract"):
        part = getattr(raw, name)
        branch = getattr(volume, name)
        for channel, values, (scale, offset) in (
            ("z", part.z if part.z.ndim == 1 else part.z[0], volume.z_scale(name)),
            ("deflection", part.deflection[0], volume.deflection_scale(name)),
        ):
            metres = values.astype(np.float64) * scale + offset
            invalid = getattr(branch, channel).invalid
            if invalid is not None:
                metres[values == invalid] = np.nan
            if part.valid_length is not None:
                metres[part.valid_length[0] :] = np.nan
            result[f"{name}_{channel}"] = metres
    return result


def explain(volume: ForceVolume, recipe: Recipe | None, y: int, x: int) -> CurveFit:
    """Return one curve with its baseline subtracted and its fit, for eyes and plots.

    Raises
    ------
    IndexError
        If the pixel is outside the grid.
    CalibrationError, RecipeError
        As `process`.
    """
    from fvproc import engine

    return engine.explain(volume, agree(volume, recipe), y, x)


def lazy(volume: ForceVolume, recipe: Recipe | None = None, *, block_bytes: int | None = None) -> Any:
    """Return a Dask array of records, for graphs of one's own; computed, it holds the bytes that `process` returns.

    Nothing is read before it is computed, by whatever scheduler Dask has then; workers of a cluster must see the file.
    ``ParameterMaps(volume.grid, fv.lazy(volume)).to_xarray()`` is a Dataset as lazy, with units and coordinates.

    Parameters
    ----------
    volume, recipe : ForceVolume, Recipe
        As for `process`.
    block_bytes : int, optional
        Bytes of raw curves in a block; by default 1/64 of the map, within 4 MB … 256 MB.

    Returns
    -------
    dask.array.Array of RECORD, shape (ny, nx)
        In blocks of whole rows, or in pieces of one row where a row is larger than a block. Curves that cannot be
        read, after some attempts, are flagged ``read_error``.

    Raises
    ------
    CalibrationError, RecipeError
        As `process`, at once.
    FvprocError
        If `block_bytes` is below one; when it is computed, if a worker has another kernel.
    """
    from fvproc import schedule

    return schedule.lazy(volume, agree(volume, recipe), block_bytes)


def to_dask(volume: ForceVolume, branch: str = "retract", *, block_bytes: int | None = None) -> Any:
    """Return a Dask array of the deflection of a branch; samples are in the order of time.

    Parameters
    ----------
    volume : ForceVolume
        What `open` returned.
    branch : str
        ``"approach"`` or ``"retract"``.
    block_bytes : int, optional
        Bytes of raw curves in a block, both branches; by default 1/64 of the map, within 4 MB … 16 MB.

    Returns
    -------
    dask.array.Array of float64, shape (ny, nx, samples)
        In m; invalid samples are NaN; no baseline is subtracted.

    Raises
    ------
    CalibrationError
        If the file lacks the deflection sensitivity.
    FvprocError
        If the branch is neither, or `block_bytes` is below one.
    FileFormatError, OSError
        When it is computed, if curves cannot be read: raw numbers have no flag that could say so.
    """
    from fvproc import schedule

    return schedule.to_dask(volume, branch, block_bytes)


def save(maps: ParameterMaps, path: PathName, *, curve: CurveFit | None = None, overwrite: bool = True) -> None:
    """Write maps; the suffix names the format.

    Parameters
    ----------
    maps : ParameterMaps
        What `process` returned.
    path : path-like
        ``.h5``, ``.tif`` (bands, for GIS), ``.ome.tif`` (image stack), ``.png``, ``.svg``, ``.pdf``, ``.gsf``,
        ``.npz`` or ``.csv``.
    curve : CurveFit, optional
        A curve for a picture.
    overwrite : bool
        Whether a file that exists is replaced.

    Raises
    ------
    OutputError
        If the suffix is unknown or the file cannot be written; an earlier file is then still whole.
    """
    from fvproc import writers

    writers.save(maps, path, curve=curve, overwrite=overwrite)


def load(path: PathName) -> ParameterMaps:
    """Read maps that `save` wrote as HDF5 or NPZ.

    Raises
    ------
    FileFormatError
        If the file is missing or no output of fvproc.
    """
    from fvproc import writers

    return writers.load(path)


def convert(path: PathName | ForceVolume, output: PathName, *, overwrite: bool = False, compress: bool = False) -> None:
    """Write any input as a curves file (HDF5), tile by tile.

    Parameters
    ----------
    path : path-like or ForceVolume
        The input.
    output : path-like
        The curves file to make.
    overwrite : bool
        Whether a file that exists is replaced.
    compress : bool
        Whether curves are compressed (gzip); smaller, and slower to read.

    Raises
    ------
    OutputError
        If the output exists, or is the input.
    FileFormatError
        If the input cannot be read.
    """
    from fvproc import conversion

    conversion.convert(path, output, overwrite=overwrite, compress=compress)


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
