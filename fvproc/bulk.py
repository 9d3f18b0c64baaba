"""Many files in one queue of tiles: a bad file stops nothing, and each ends in a line of a table."""

from __future__ import annotations

import csv
import io
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvproc import job, processors, readers, schedule, writers
from fvproc.errors import FvprocError, OutputError
from fvproc.events import event
from fvproc.maps import ParameterMaps
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.volume import ForceVolume

if TYPE_CHECKING:
    from fvproc.schedule import Progress

PathName = str | PathLike[str]
RecipeFor = Callable[[ForceVolume], Recipe]


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
        Wall time from the opening of the file to its last output; of small files that ran side by side, both count it.
    curves : int
        Curves in the file; 0 if it could not be opened.
    flags : dict of Flag to int
        How many curves carry each flag.
    failures : tuple of str
        Of each tile that could not be computed, its curves and why.
    before : bool
        Whether an earlier run had done it.
    warnings : tuple of str
        What the reader had to say.
    stopped : bool
        Whether the run was stopped before this file came to an end.
    """

    path: Path
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    curves: int = 0
    flags: dict[Flag, int] | None = None
    failures: tuple[str, ...] = ()
    before: bool = False
    warnings: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def status(self) -> str:
        """``"done"``, ``"done before"``, ``"partly"`` (a tile failed), ``"failed"`` or ``"not run"``."""
        if self.stopped:
            return "not run"
        if self.error is not None:
            return "failed"
        if self.failures:
            return "partly"
        return "done before" if self.before else "done"

    def to_dict(self) -> dict[str, Any]:
        """Return the line of the table, ready for JSON."""
        return {
            "file": str(self.path),
            "status": self.status,
            "curves": self.curves,
            "flags": {str(flag.name).lower(): count for flag, count in (self.flags or {}).items()},
            "failed_tiles": len(self.failures),
            "seconds": round(self.seconds, 3),
            "outputs": [str(path) for path in self.outputs],
            "error": self.error,
            "warnings": list(self.warnings),
        }


class _FileJob(job.MapJob):
    """A file of many: what ends it is noted and ends nothing else."""

    def __init__(self, path: Path, note: Callable[[Result], None], began: float, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._path, self._note, self._began = path, note, began
        self._written = [Path(output) for output in self.outputs]

    def finish(self) -> None:
        super().finish()
        self._note(_result(self._path, self.volume, self._written, self.maps, self._began))

    def fail(self, error: Exception) -> None:
        with suppress(FvprocError, OSError):  # a disk that is full takes nothing more; that is no matter of other files
            self.pause()
        if not isinstance(error, (FvprocError, OSError)):
            raise error  # a bug stops everything: the files after it would be wrong as well
        told = job.with_what_is_kept(error, self)
        event("file_failed", level=logging.ERROR, file=self.volume.path, reason=str(told))
        seconds = time.perf_counter() - self._began
        self._note(Result(self._path, error=str(told), seconds=seconds, curves=self.volume.grid.curves))


def _result(
    path: Path, volume: ForceVolume, outputs: Sequence[Path], maps: ParameterMaps, began: float, before: bool = False
) -> Result:
    return Result(
        path,
        tuple(outputs),
        None,
        time.perf_counter() - began,
        maps.grid.curves,
        maps.flag_counts(),
        job.lost(maps),
        before,
        tuple(volume.warnings),
    )


def process_many(
    paths: Iterable[PathName],
    recipe: Recipe | RecipeFor | None = None,
    *,
    output_dir: PathName,
    suffixes: Sequence[str] = (".h5",),
    client: Any = None,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tile_bytes: int | None = None,
    progress: Progress | None = None,
    open_volume: Callable[[Path], ForceVolume] = readers.open_volume,
    told: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Process many files; see `fvproc.process_many`.

    Parameters
    ----------
    recipe : Recipe or callable, optional
        A function makes the recipe for each volume.
    open_volume : callable
        Opens an input.
    told : callable, optional
        Called with each result as soon as it is there; with those of files that were not run if the run is stopped.
    """
    if isinstance(paths, (str, PathLike)):
        raise TypeError(f"paths = {paths!r}: expected several paths; give a list, such as [{paths!r}]")
    if isinstance(suffixes, str):
        raise TypeError(f"suffixes = {suffixes!r}: expected several suffixes; give a tuple, such as ({suffixes!r},)")
    for suffix in suffixes:
        if writers.suffix_of(f"map{suffix}") not in writers.SUFFIXES:
            raise OutputError(f"suffixes: {suffix!r}: no output format has it; known are {', '.join(writers.SUFFIXES)}")
    if not callable(recipe):
        job.require_recipe(recipe)
    inputs = [Path(path) for path in paths]
    _require_different(inputs, Path(output_dir))
    results: dict[int, Result] = {}

    def note(number: int, result: Result) -> None:
        results[number] = result
        if told is not None:
            told(result)

    ended: list[int] = []  # curves of files of which nothing is to be computed, until the progress is told

    def end(number: int, result: Result) -> None:
        note(number, result)
        ended.append(result.curves)

    def tell_ended() -> None:
        if progress is not None:
            for curves in ended:
                progress.expect(curves, curves)
        ended.clear()

    def jobs() -> Iterator[_FileJob]:
        begun = False
        for number, path in enumerate(inputs):
            schedule.stop_if_asked()
            began = time.perf_counter()
            outputs = [Path(output_dir) / f"{path.stem}{suffix}" for suffix in suffixes]
            try:
                volume = open_volume(path)
                job.check_outputs(volume, outputs, overwrite or resume)
                chosen = job.agree(volume, recipe(volume) if callable(recipe) else recipe)
                done = job.finished(volume, chosen, outputs) if resume and not overwrite else None
                whole = done is not None and not done.provenance.get("failures")
                if not whole:
                    given = volume, chosen, outputs, overwrite, resume, done
                    ready = _FileJob(path, partial(note, number), began, *given)
            except (FvprocError, OSError) as error:
                schedule.require_files(error)
                event("file_failed", level=logging.ERROR, file=str(path), reason=str(error))
                end(number, Result(path, error=str(error), seconds=time.perf_counter() - began))
            else:
                if done is None or not whole:
                    yield ready
                    begun = True  # who comes back for the next has begun to work
                else:
                    end(number, _result(path, volume, outputs, done, began, before=True))
            if begun:
                tell_ended()

    try:
        with processors.at_most(threads):
            schedule.run_all(jobs(), progress, client=client, threads=threads, tile_bytes=tile_bytes)
    except (FvprocError, KeyboardInterrupt) as error:
        left = [number for number in range(len(inputs)) if number not in results]
        for number in left:
            note(number, Result(inputs[number], stopped=True))
        words = f"{len(inputs) - len(left)} of {len(inputs)} files came to an end; the same again with --resume goes on"
        if isinstance(error, KeyboardInterrupt):
            raise job.Interrupted(words) from error
        raise type(error)(f"{error}; {words}") from error
    return [results[number] for number in range(len(inputs))]


def _require_different(inputs: Sequence[Path], folder: Path) -> None:
    """Raise OutputError if two inputs would write the same output, or one is there twice."""
    seen: dict[str, Path] = {}
    for path in inputs:
        # some file systems take A and a for one
        other = seen.setdefault(path.stem.lower(), path)
        if other is path:
            continue
        if other.absolute() == path.absolute():
            raise OutputError(f"{path}: is there twice; name each input once")
        raise OutputError(
            f"{other} and {path} would both write {folder / path.stem}*: rename one, or run the folders one by one"
        )


# ---- the table


def table_text(results: Sequence[Result]) -> str:
    """Return one line for each file, and one for all of them."""
    width = max((len(result.path.name) for result in results), default=4)
    lines = [f"{'file':<{width}}  {'status':<11} {'curves':>10} {'no value':>9} {'seconds':>8}  why"]
    for result in results:
        lines.append(
            f"{result.path.name:<{width}}  {result.status:<11} {result.curves:>10,} {_without_value(result):>9,}"
            f" {result.seconds:>8.2f}  {result.error or _flags_text(result)}"
        )
    good = [result for result in results if result.status not in ("failed", "not run")]
    curves = sum(result.curves for result in good)
    lines.append(f"{len(good)} of {len(results)} files, {curves:,} curves")
    return "\n".join(lines)


def _without_value(result: Result) -> int:
    """Return how many curves carry the most frequent fatal flag: at least so many have no value."""
    return max((count for flag, count in (result.flags or {}).items() if int(flag) >= 1 << 16), default=0)


def _flags_text(result: Result) -> str:
    named = sorted((result.flags or {}).items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{str(flag.name).lower()} {count:,}" for flag, count in named)


def check_table(path: PathName) -> None:
    """Make sure, before any work starts, that `write_table` will be able to write this path; its folder is made.

    Raises
    ------
    OutputError
        If the suffix is another than those of a table, or the folder cannot be made or written.
    """
    path = Path(path)
    _require_table(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file for the summary")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # permission bits say little about network shares
            pass
    except OSError as error:
        raise OutputError(
            f"{path}: the summary cannot be written: {path.parent}: {error.strerror or error}; name another place"
        ) from None


def _require_table(path: Path) -> None:
    if path.suffix.lower() not in (".csv", ".json", ".txt"):
        raise OutputError(f"{path}: a summary ends in .csv, .json or .txt")


def write_table(results: Sequence[Result], path: PathName) -> None:
    """Write the table as CSV, JSON or text, by the suffix.

    Raises
    ------
    OutputError
        If the suffix is another, or the file cannot be written.
    """
    path = Path(path)
    _require_table(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = json.dumps([result.to_dict() for result in results], indent=1) + "\n"
    elif suffix == ".csv":
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, list(Result(Path()).to_dict()), lineterminator="\n")
        table.writeheader()
        for result in results:
            row = result.to_dict()
            row["flags"] = " ".join(f"{name}={count}" for name, count in row["flags"].items())
            row["outputs"], row["warnings"] = " ".join(row["outputs"]), "; ".join(row["warnings"])
            table.writerow(row)
        content = buffer.getvalue()
    else:
        content = table_text(results) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writers.replacing(path) as temporary:
            # names of files may hold bytes that are no text
            temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
