"""One volume on its way to its outputs: its maps, the journal that keeps them, and the writing at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fvproc import engine, noise, provenance, readers, systematic, writers
from fvproc import finished as _finished
from fvproc.beside import Locks, ended, kept_beside, partial_path, sweep
from fvproc.errors import FileFormatError, FvprocError, OutputError
from fvproc.events import event
from fvproc.journal import Journal, identity
from fvproc.maps import CurveFit, ParameterMaps, not_computed
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.schedule import Errand, Failure
from fvproc.volume import ForceVolume, Tile

PathName = str | PathLike[str]
_PICTURES = (".png", ".svg", ".pdf")


class MapJob:
    """A volume, its recipe and its outputs; what the schedule asks of a job is in `fvproc.schedule.Job`.

    Parameters
    ----------
    volume, recipe : ForceVolume, Recipe
        Complete calibration, completed recipe.
    outputs : sequence of path-like
        Files to write at the end; while there is work to do, the records are kept beside the first.
    overwrite : bool
        Whether outputs that exist, and an unfinished run, are replaced.
    resume : bool
        Whether outputs that exist may be replaced where their format cannot tell that this very run has written them.
    earlier : ParameterMaps, optional
        What `finished` has found of the same run: what failed in it is computed again, the rest taken as it is.

    Raises
    ------
    OutputError
        If an output exists, cannot be written, is the input, is named twice, or is being written by another run; or if
        an unfinished run of another input, recipe or version is there.
    """

    def __init__(
        self,
        volume: ForceVolume,
        recipe: Recipe,
        outputs: Sequence[PathName] = (),
        overwrite: bool = False,
        resume: bool = False,
        earlier: ParameterMaps | None = None,
    ) -> None:
        self.volume, self.recipe, self.outputs = volume, recipe, tuple(outputs)
        check_outputs(volume, self.outputs)
        self.errand = Errand(volume, recipe)
        vendor_maps = readers.vendor_maps(volume)
        self.failures: list[Failure] = []
        self._done = False
        self._journal: Journal | None = None
        # arrays in memory cannot be recognised when they come again: nothing is kept of them
        kept = bool(self.outputs) and volume.format != "arrays"
        self._locks = Locks(self.outputs[1:] if kept else self.outputs)  # the journal locks the first
        self._overwrite, self._resume, self._own = overwrite, resume, frozenset[PathName]()
        try:
            if kept:
                key = identity(volume, recipe, engine.KERNEL_VERSION)
                self._journal = Journal(self.outputs[0], key, volume.grid.curves, overwrite)
                for path in self.outputs:
                    writers.sweep(path)
                if self._journal.kept() or earlier is not None:
                    self._own = frozenset(path for path in self.outputs if _is_own(path, volume, recipe))
            for path in self.outputs:
                writers.check_writable(path, self._replaces(path))
            if self._journal is not None:
                if overwrite:  # whoever goes on has that right, too
                    self._journal.grant(self.outputs)
                if earlier is not None:
                    self._take(earlier, self._journal)
        except BaseException:
            with suppress(OutputError):
                self.pause()
            raise
        records = None if self._journal is None else self._journal.records.reshape(volume.shape)
        self.maps = ParameterMaps(volume.grid, records, vendor_maps=vendor_maps, quantities=recipe.maps.names)
        self.resumed = 0 if self._journal is None else self._journal.kept()
        event("file_opened", file=volume.path, curves=volume.grid.curves, done_before=self.resumed)

    def _replaces(self, path: PathName) -> bool:
        """Return whether an output that exists may be replaced."""
        return (
            self._overwrite
            or (self._journal is not None and self._journal.may_replace(path))
            or (self._resume and not _finished.tells(path))
            or path in self._own
        )

    @staticmethod
    def _take(earlier: ParameterMaps, journal: Journal) -> None:
        """Keep the records of an earlier run that did not fail."""
        records = earlier.records.reshape(-1)
        for gap in journal.left():
            start = gap.start
            for lost in [*_finished.failed(earlier.provenance), Tile(gap.stop, gap.stop + 1)]:
                stop = min(lost.start, gap.stop)
                if start < stop:
                    journal.place(Tile(start, stop), records[start:stop])
                start = max(start, lost.stop)
        journal.commit()

    @property
    def files(self) -> int:
        """How many files it holds open: a partial file, and a lock of each output, of which the journal is one."""
        return 1 + max(1, len(self.outputs))

    def left(self) -> list[Tile]:
        """Return the runs of curves that are not done."""
        return [Tile(0, self.volume.grid.curves)] if self._journal is None else self._journal.left()

    def place(self, tile: Tile, outcome: np.ndarray | Failure) -> None:
        """Put the records of a tile in their place, or flag its curves.

        Raises
        ------
        FileFormatError
            If a tile could not be read because the input is gone or has changed: the others will fare no better.
        OutputError
            If the disk refuses the records.
        """
        if isinstance(outcome, Failure):
            if outcome.flag == Flag.READ_ERROR:
                readers.require_unchanged(self.volume)
            # not in the journal: a run that is gone on with tries again
            self.failures.append(outcome)
            event("tile_failed", level=logging.WARNING, file=self.volume.path, **_told(outcome))
            self.maps.place(tile, not_computed(len(tile), outcome.flag))
            return
        if self._journal is None:
            self.maps.place(tile, outcome)
        else:
            self._journal.place(tile, outcome)  # the records of the maps are its own

    def finish(self) -> None:
        """Sign the maps and write the outputs; what was kept meanwhile is removed when all are in place."""
        volume, recipe, maps = self.volume, self.recipe, self.maps
        event("writing", file=volume.path)
        self.failures.sort(key=lambda failure: failure.tile)
        maps.provenance = provenance.describe(
            volume, recipe, kernel_version=engine.KERNEL_VERSION, flag_counts=maps.flag_counts()
        )
        maps.provenance["systematic"] = provenance.plain(systematic.described(volume, recipe, maps))
        maps.provenance["failures"] = [_told(failure) for failure in self.failures]
        curve = _curve_for(self.outputs, volume, recipe, maps)
        written: list[PathName] = []
        for path in self.outputs:
            try:
                self._write(path, curve)
            except OutputError as error:
                # a full disk refuses what is to be kept, too: that must not hide what was refused, and what is there
                told = _written(written)
                try:
                    self.pause()
                except OutputError as unkept:
                    told = told or str(unkept)
                raise OutputError(f"{error}; {self.kept() or told or 'nothing is kept'}") from error
            written.append(path)
        if self._journal is not None:
            self._journal.remove()
            self._journal = None
        self._locks.close()
        self._done = True
        event("file_done", file=volume.path, outputs=[str(path) for path in self.outputs], failures=len(self.failures))

    def _write(self, path: PathName, curve: CurveFit | None) -> None:
        replaces = self._replaces(path)
        if self._journal is not None:
            writers.check_writable(path, replaces)  # before it is taken for ours: it may have come meanwhile
            self._journal.grant([path])
        writers.save(self.maps, path, curve=curve, overwrite=replaces)

    def fail(self, error: Exception) -> None:
        """End the run with this error."""
        event("file_failed", level=logging.ERROR, file=self.volume.path, reason=str(error))
        raise error

    def pause(self) -> None:
        """Make durable what is done, and let go of the files."""
        try:
            if self._journal is not None:
                try:
                    self._journal.commit()
                finally:
                    self._journal.close()
        finally:
            self._locks.close()

    def kept(self) -> str:
        """Return what a run that was stopped has left, for people; empty if nothing."""
        if self._done:
            return "everything was done by then, and the outputs are written"
        if self._journal is None or not self._journal.kept():
            return ""
        total = self.volume.grid.curves
        return (
            f"{self._journal.kept():,} of {total:,} curves are kept in {self._journal.partial}:"
            " run the same again and it goes on from there"
        )


def agree(volume: ForceVolume, recipe: Recipe | None = None) -> Recipe:
    """Return the recipe completed from the file, its noise measured, or raise what would stop the job before it starts.

    Raises
    ------
    CalibrationError, RecipeError
        Naming the value that is missing and the option that supplies it.
    """
    require_recipe(recipe)
    volume.require_calibration()
    completed = (recipe or Recipe()).completed(volume)
    return replace(completed, noise=noise.measured(volume, completed))


def require_recipe(recipe: object) -> None:
    """Raise TypeError, which says how to make one, if something that is there is no recipe."""
    if recipe is None or isinstance(recipe, Recipe):
        return
    how = "fv.Recipe.load(PATH) for a file, fv.Recipe.vendor(volume) for the instrument's own settings"
    if isinstance(recipe, dict):
        how = "fv.Recipe.from_dict(…) makes one of a dict"
    raise TypeError(f"recipe = {recipe!r}: expected a fvproc.Recipe, not a {type(recipe).__name__}: {how}")


def check_outputs(volume: ForceVolume, outputs: Sequence[PathName], overwrite: bool = True) -> None:
    """Raise OutputError if an output cannot be written, is the input, is named twice, or exists and is not to go.

    One that exists beside an unfinished run is let pass: that run may have written it.
    """
    for number, path in enumerate(outputs):
        goes = overwrite or partial_path(outputs[0]).exists()
        lost = 0 if goes else _finished.failed_in(path)
        if lost:
            raise OutputError(
                f"{path}: exists already, and {lost:,} of its curves could not be computed; give --resume (resume=True)"
                " to compute them again, --overwrite (overwrite=True) to begin anew, or another name"
            )
        writers.check_writable(path, goes)
        refuse_input(path, volume)
        if Path(path).resolve() in [Path(other).resolve() for other in outputs[:number]]:
            raise OutputError(f"{path}: is named as an output twice; give each its own name")
        mine = {file.resolve() for file in writers.files(path)}
        for other in outputs[:number]:
            if shared := mine & {file.resolve() for file in writers.files(other)}:
                raise OutputError(
                    f"{path}: would share {min(shared).name} with {writers.shown(other)}; give each its own name"
                )
    for path in kept_beside(outputs[0]) if outputs else ():
        refuse_input(path, volume)


def refuse_input(output: PathName, volume: ForceVolume) -> None:
    """Raise OutputError if writing the output would destroy the measurement, by whatever name or link."""
    try:
        same = Path(output).samefile(volume.path)
    except OSError:
        return  # one of them does not exist
    if same:
        raise OutputError(f"{output}: is the input; choose another output")


def _is_own(path: PathName, volume: ForceVolume, recipe: Recipe) -> bool:
    """Return whether a file tells that it is an output of this very run."""
    return _finished.tells(path) and Path(path).is_file() and _finished.another(path, volume, recipe) is None


def _written(outputs: Sequence[PathName]) -> str:
    """Return what a run that could keep nothing else has left, for people; empty if nothing."""
    if not outputs:
        return ""
    names = ", ".join(map(str, outputs))
    if any(_finished.tells(path) for path in outputs):
        return f"{names}: written and whole: make room and run the same with --resume, which makes the others from it"
    return f"{names}: written and whole, but the rest must be computed again: make room and run the same with --resume"


def _curve_for(
    outputs: Sequence[PathName], volume: ForceVolume, recipe: Recipe, maps: ParameterMaps
) -> CurveFit | None:
    """Return the curve that the pictures among some outputs show; None without any."""
    if any(Path(path).suffix.lower() in _PICTURES for path in outputs):
        # the maps are done: a file that has gone since must cost a picture its curve and no more
        with suppress(OSError, FileFormatError):
            return typical_curve(volume, recipe, maps)
    return None


def typical_curve(volume: ForceVolume, recipe: Recipe, maps: ParameterMaps) -> CurveFit | None:
    """Return the curve of median modulus with its fit, for a picture; None where there is none."""
    pixel = engine.typical_pixel(maps.flags, maps["modulus"]) if "modulus" in maps else None
    return None if pixel is None else engine.explain(volume, recipe, *pixel)


def _told(failure: Failure) -> dict[str, Any]:
    tile = failure.tile
    name = (failure.flag.name or "").lower()
    return {"curves": [tile.start, tile.stop], "flag": name, "reason": failure.reason}


def lost(maps: ParameterMaps) -> tuple[str, ...]:
    """Return what of some maps could not be computed and why, for people, a line for each tile."""
    return tuple(
        f"curves {failure['curves'][0]} to {failure['curves'][1] - 1}: {failure['flag']}: {failure['reason']}"
        for failure in maps.provenance.get("failures") or ()
    )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after everything in flight has landed; its text says what was kept."""


def with_what_is_kept(error: BaseException, job: MapJob) -> BaseException:
    """Return the error that ended a run, with what its user can go on from."""
    kept = job.kept()
    if kept and isinstance(error, KeyboardInterrupt):
        return Interrupted(kept)
    if kept and isinstance(error, FvprocError) and kept not in str(error):
        return type(error)(f"{error}; {kept}")
    return error


def finished(volume: ForceVolume, recipe: Recipe, outputs: Sequence[PathName]) -> ParameterMaps | None:
    """Return the maps that an earlier run of the same input, recipe and version has written; None if none are there.

    Outputs that tell that they are of that run are taken as they are. The rest is made from its maps: what is missing,
    and what is of a format that cannot tell. Not so if curves failed in it: give its maps to a `MapJob`, which computes
    those again.

    Raises
    ------
    OutputError
        If an output tells that it is of another run and none is unfinished here, which had the right to replace it; if
        another run is writing; if one cannot be written.
    """
    for path in outputs:
        if _finished.tells(path) and Path(path).is_file() and not partial_path(outputs[0]).exists():
            why = _finished.another(path, volume, recipe)
            if why is not None:
                raise OutputError(
                    f"{path}: exists already, and not of this run: {why};"
                    " give --overwrite (overwrite=True) or another name"
                )
    found = _finished.find(volume, recipe, outputs)
    if found is None:
        return None
    left = [path for path in outputs if path not in found.outputs]
    if any(_finished.tells(path) and Path(path).exists() for path in left if path not in found.stale):
        return None  # of another run; the unfinished one knows what it may do
    if _finished.failed(found.maps.provenance):
        return found.maps
    if not left:
        sweep(outputs[0])
        return found.maps
    event("writing", file=volume.path)
    curve = _curve_for(left, volume, recipe, found.maps)
    with ended(outputs[0], outputs[1:]):
        for path in left:
            writers.sweep(path)
            writers.save(found.maps, path, curve=curve)
    event("file_done", file=volume.path, outputs=[str(path) for path in left], failures=0)
    return found.maps
