"""The verbs: open, process, process_many, fit_curves, explain, load, save, convert."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fvproc.errors import FileFormatError, FvprocError, OutputError
from fvproc.maps import CurveFit, ParameterMaps
from fvproc.quantities import Flag
from fvproc.recipe import Recipe, Tip
from fvproc.volume import Branch, Calibration, Channel, ForceVolume, Grid, RawBranch, RawTile, Setting, Tile

if TYPE_CHECKING:
    from fvproc.schedule import Failure, Progress

PathName = str | PathLike[str]


def open(
    path: PathName,
    *,
    spring_constant: float | None = None,
    deflection_sensitivity: float | None = None,
    z_sensitivity: float | None = None,
    rel_std: Mapping[str, float] | None = None,
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

    volume = readers.open_volume(
        path,
        spring_constant=spring_constant,
        deflection_sensitivity=deflection_sensitivity,
        z_sensitivity=z_sensitivity,
        mapping=mapping,
    )
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
    progress: bool | Progress = False,
    tile_bytes: int | None = None,
) -> ParameterMaps:
    """Fit every curve of a volume.

    Parameters
    ----------
    volume : ForceVolume or path-like
        What `open` returned, or a path to open.
    recipe : Recipe, optional
        What to compute; by default a DMT fit by maximum likelihood with the tip of the file.
    client : distributed.Client or str, optional
        A cluster to run on. By default threads of this process.
    threads : int, optional
        Number of threads of this process; by default one for each core.
    output : path-like or sequence of them, optional
        Files to write; the suffix names the format, see `save`.
    overwrite : bool
        Whether outputs that exist are replaced; otherwise they are refused before work starts.
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
        Before work starts, if something is missing or refused.
    """
    from fvproc import provenance, readers, schedule, systematic, writers
    from fvproc.engine import KERNEL_VERSION

    if not isinstance(volume, ForceVolume):
        volume = open(volume)
    if client is not None and hasattr(volume, "require_sendable"):
        volume.require_sendable()
    recipe = agree(volume, recipe)
    outputs = _outputs(output)
    for number, path in enumerate(outputs):
        writers.check_writable(path, overwrite)
        _refuse_input(path, volume)
        if Path(path).resolve() in [Path(other).resolve() for other in outputs[:number]]:
            raise OutputError(f"{path}: is named as an output twice; give each its own name")
    if threads is not None and threads < 1:
        raise FvprocError(f"threads = {threads!r}: at least one is needed")
    if progress is True:
        from fvproc.report import Bar

        progress = Bar()
    maps = ParameterMaps(volume.grid, vendor_maps=readers.vendor_maps(volume))
    failures = schedule.run(
        volume,
        recipe,
        maps,
        client=client,
        threads=threads,
        tile_bytes=tile_bytes or schedule.TILE_BYTES,
        progress=progress or None,
    )
    maps.provenance = provenance.describe(volume, recipe, kernel_version=KERNEL_VERSION, flag_counts=maps.flag_counts())
    maps.provenance["systematic"] = provenance.plain(systematic.described(volume, recipe, maps))
    maps.provenance["failures"] = [_told(failure) for failure in failures]
    curve = None
    if any(_pictured(path) for path in outputs):
        # the maps are done: a file that has gone since must cost a picture its curve and no more
        with suppress(OSError, FileFormatError):
            curve = typical_curve(volume, recipe, maps)
    for path in outputs:
        writers.save(maps, path, curve=curve, overwrite=overwrite)
    return maps


def agree(volume: ForceVolume, recipe: Recipe | None = None) -> Recipe:
    """Return the recipe completed from the file, or raise what would stop the job, before work starts.

    Raises
    ------
    CalibrationError, RecipeError
        Naming the value that is missing and the option that supplies it.
    """
    volume.require_calibration()
    return (recipe or Recipe()).completed(volume)


def _told(failure: Failure) -> dict[str, Any]:
    tile = failure.tile
    name = (failure.flag.name or "").lower()
    return {"curves": [tile.start, tile.stop], "flag": name, "reason": failure.reason}


def _outputs(output: PathName | Sequence[PathName] | None) -> list[PathName]:
    if output is None:
        return []
    if isinstance(output, (str, PathLike)):
        return [output]
    return list(output)


def _refuse_input(output: PathName, volume: ForceVolume) -> None:
    """Raise OutputError if writing the output would destroy the measurement, by whatever name or link."""
    try:
        same = Path(output).samefile(volume.path)
    except OSError:
        return  # one of them does not exist
    if same:
        raise OutputError(f"{output}: is the input; choose another output")


def _pictured(path: PathName) -> bool:
    return Path(path).suffix.lower() in (".png", ".svg", ".pdf")


def typical_curve(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps) -> CurveFit | None:
    """Return the curve of median modulus with its fit, for a picture; None where there is none."""
    from fvproc import engine

    pixel = engine.typical_pixel(maps.flags, maps["modulus"])
    return None if pixel is None else engine.explain(volume, recipe, *pixel)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file of `process_many`.

    Parameters
    ----------
    path : Path
        The input.
    outputs : tuple of Path
        Files written.
    error : str or None
        Why there is no result.
    seconds : float
        Wall time.
    curves : int
        Curves in the file; 0 if it could not be opened.
    flags : dict of Flag to int
        How many curves carry each flag.
    failures : int
        Tiles that could not be computed.
    """

    path: Path
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    curves: int = 0
    flags: dict[Flag, int] | None = None
    failures: int = 0


def process_many(
    paths: Iterable[PathName],
    recipe: Recipe | None = None,
    *,
    output_dir: PathName,
    suffixes: Sequence[str] = (".h5",),
    client: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    calibration: dict[str, Any] | None = None,
) -> list[Result]:
    """Process many files; one that fails does not stop the rest.

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
    client, threads, overwrite, progress
        As for `process`.
    calibration : dict, optional
        Keywords of `open`.

    Returns
    -------
    list of Result
        In the order of the inputs.

    Raises
    ------
    OutputError
        If two inputs would write the same output.
    """
    inputs = [Path(path) for path in paths]
    folder = Path(output_dir)
    seen: dict[str, Path] = {}
    for path in inputs:
        if path.stem in seen:
            raise OutputError(f"{seen[path.stem]} and {path} would both write {folder / path.stem}*: rename one")
        seen[path.stem] = path
    results = []
    for path in inputs:
        start = time.perf_counter()
        outputs = tuple(folder / f"{path.stem}{suffix}" for suffix in suffixes)
        try:
            maps = process(
                open(path, **(calibration or {})),
                recipe,
                client=client,
                threads=threads,
                output=outputs,
                overwrite=overwrite,
                progress=progress,
            )
        except (FvprocError, OSError) as error:
            results.append(Result(path, error=str(error), seconds=time.perf_counter() - start))
            continue
        results.append(
            Result(
                path,
                outputs,
                None,
                time.perf_counter() - start,
                maps.grid.curves,
                maps.flag_counts(),
                len(maps.provenance["failures"]),
            )
        )
    return results


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


def lazy(volume: ForceVolume, recipe: Recipe | None = None) -> Any:
    """Return a Dask array of records (ny, nx), by blocks of whole rows, for graphs of one's own.

    Raises
    ------
    CalibrationError, RecipeError
        As `process`.
    """
    from fvproc import schedule

    return schedule.lazy(volume, agree(volume, recipe))


def to_dask(volume: ForceVolume, branch: str = "retract") -> Any:
    """Return a Dask array (ny, nx, samples) of the deflection of a branch in m, float64; invalid samples are NaN.

    Raises
    ------
    CalibrationError
        If the file lacks the deflection sensitivity.
    """
    from fvproc import schedule

    return schedule.to_dask(volume, branch)


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
        If the output exists.
    FileFormatError
        If the input cannot be read.
    """
    from fvproc import engine, schedule
    from fvproc.readers.curves import CurvesWriter

    volume = path if isinstance(path, ForceVolume) else open(path)
    output = Path(output)
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists; choose another name or ask to overwrite it")
    _refuse_input(output, volume)
    tiles = schedule.cut(volume)
    first = engine.read_tile(volume, tiles[0])
    shared = None
    if volume.approach.z_shared and volume.retract.z_shared:
        shared = (np.ascontiguousarray(first.approach.z), np.ascontiguousarray(first.retract.z))
    with CurvesWriter(
        output,
        volume.grid,
        volume.approach,
        volume.retract,
        calibration=volume.calibration,
        tip_radius=volume.tip_radius,
        tip_half_angle=volume.tip_half_angle,
        poisson_ratio=volume.poisson_ratio,
        shared_z=shared,
        has_height=volume.has_height,
        attributes={
            "source_name": Path(volume.path).name,
            "source_format": volume.format,
            "source_size": volume.file_size,
            "source_header_sha256": volume.header_digest,
            **{f"source_{key}": value for key, value in volume.header.items()},
        },
        compression="gzip" if compress else None,
        chunk_curves=len(tiles[0]) if compress else None,
    ) as writer:
        for tile in tiles:
            writer.write(tile, engine.read_tile(volume, tile))


__all__ = [
    "Result",
    "Tip",
    "agree",
    "convert",
    "curve",
    "explain",
    "fit_curves",
    "lazy",
    "load",
    "open",
    "process",
    "process_many",
    "save",
    "to_dask",
    "typical_curve",
]
