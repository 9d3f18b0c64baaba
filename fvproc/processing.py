"""Whole volumes: process and process_many to their outputs, lazy and to_dask for graphs of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from fvproc.errors import FvprocError
from fvproc.job import agree
from fvproc.maps import ParameterMaps
from fvproc.opening import PathName, open
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume

if TYPE_CHECKING:
    from fvproc.bulk import Result
    from fvproc.schedule import Progress


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
    client : distributed.Client, distributed.deploy.Cluster or str, optional
        A cluster to run on, as a client of it, itself, or as its scheduler's address. By default threads of this
        process.
    threads : int, optional
        Number of threads of this process, which compute and then write; by default one for each core that it may use.
    output : path-like or sequence of them, optional
        Files to write; the suffix names the format, see `save`.
    overwrite : bool
        Whether outputs that exist are replaced, and an unfinished run is begun anew; otherwise outputs that exist are
        refused before work starts.
    resume : bool
        Whether outputs that the same input, recipe and version have written before are taken as they are: HDF5, NPZ
        and TIFF tell whether they are. The others (pictures, ``.csv``, ``.gsf``) and what is missing are made again,
        from the maps of one that tells, or else of a new run. Curves that failed in the earlier run are computed again.
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
    TypeError
        If `recipe` is no Recipe; the message says how to make one.
    """
    from fvproc import job, processors, schedule

    _require_positive(threads=threads, tile_bytes=tile_bytes)
    job.require_recipe(recipe)
    if not isinstance(volume, ForceVolume):
        volume = open(volume)
    if client is not None and hasattr(volume, "require_sendable"):
        volume.require_sendable()
    outputs = _outputs(output)
    job.check_outputs(volume, outputs, overwrite or resume)
    recipe = agree(volume, recipe)
    done = None
    if resume and not overwrite:
        with processors.at_most(threads):
            done = job.finished(volume, recipe, outputs)
        if done is not None and not done.provenance.get("failures"):
            return done
    run = job.MapJob(volume, recipe, outputs, overwrite, resume, done)
    try:
        with (
            processors.at_most(threads),
            schedule.crew(volume, client=client, threads=threads, tile_bytes=tile_bytes) as crew,
        ):
            schedule.run([run], crew, _watched(progress))
    except (FvprocError, KeyboardInterrupt) as error:
        raise job.with_what_is_kept(error, run) from error
    finally:
        run.pause()
    return run.maps


def _require_positive(**given: int | None) -> None:
    """Raise FvprocError if a number that counts something is there and below one."""
    for name, number in given.items():
        if number is not None and number < 1:
            raise FvprocError(f"{name} = {number!r}: at least one is needed, or None to leave it to fvproc")


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
        If two inputs would write the same output, or no format has one of the suffixes.
    FvprocError
        If the cluster is lost; the same call with ``resume=True`` goes on from what is kept.
    TypeError
        If `paths` or `suffixes` is one text and no sequence, or `recipe` no Recipe.
    """
    from fvproc import bulk

    _require_positive(threads=threads, tile_bytes=tile_bytes)
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


def lazy(volume: ForceVolume, recipe: Recipe | None = None, *, block_bytes: int | None = None) -> Any:
    """Return a Dask array of records, for graphs of one's own; computed, it holds the bytes that `process` returns.

    But for some curves that tell the noise of the map, nothing is read before it is computed, by whatever scheduler
    Dask has then; workers of a cluster must see the file.
    ``ParameterMaps(volume.grid, fv.lazy(volume)).to_xarray()`` is a Dataset as lazy, with units and coordinates; where
    the recipe asks for some maps only, tell it ``quantities=recipe.maps.names``, too.

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
