"""The nouns of the schedule: errands that travel, jobs that wait for tiles, crews that do them, and the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fvproc import engine
from fvproc.errors import FileFormatError, FvprocError
from fvproc.quantities import Flag
from fvproc.recipe import Recipe
from fvproc.schedule.limits import require_files
from fvproc.volume import ForceVolume, Tile

# Large enough that starting a tile costs nothing beside it, small enough to balance the load and to stay in cache.
TILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Errand:
    """All that whoever computes must know of one volume; sent once, a task is then two integers."""

    volume: ForceVolume
    recipe: Recipe
    kernel_version: str = engine.KERNEL_VERSION


@dataclass(frozen=True, slots=True)
class Failure:
    """A tile whose curves could not be computed, and why."""

    tile: Tile
    flag: Flag
    reason: str


Outcome = np.ndarray | Failure | Exception


class Landed(NamedTuple):
    """A tile that came back: of which errand, what became of it, and how long it took where it was computed."""

    number: int
    tile: Tile
    outcome: Outcome
    seconds: float


class Job(Protocol):
    """One volume on its way to its maps: knows what is left to do, takes what is done.

    One that has `files`, too, says how many it holds open; else these are two.
    """

    @property
    def errand(self) -> Errand:
        """What travels."""

    def left(self) -> Sequence[Tile]:
        """Runs of curves that are not done yet, in order; a resumed job begins with gaps."""

    def place(self, tile: Tile, outcome: np.ndarray | Failure) -> None:
        """Take the records of a tile, or the reason why there are none."""

    def finish(self) -> None:
        """All tiles are in place: write the outputs."""

    def fail(self, error: Exception) -> None:
        """Take what ended the job; raise it where it must end the whole run."""

    def pause(self) -> None:
        """The run ends before the job is done: keep what is done."""


class Crew(Protocol):
    """Those who compute: threads of this process, or a cluster."""

    def room(self) -> int:
        """Return how many tiles may be submitted now."""

    def curves(self, number: int, errand: Errand, left: int) -> int:
        """Return how many curves the next tile of an errand should hold, `left` being left to do."""

    def submit(self, number: int, errand: Errand, tile: Tile) -> None:
        """Have a tile computed."""

    def landed(self) -> list[Landed]:
        """Return the tiles that came back, after a short wait if there are none; raise if none ever will."""

    def idle(self) -> bool:
        """Return whether nothing is in flight."""

    def forget(self, number: int) -> None:
        """No more tiles of this errand will be submitted."""

    def close(self, seconds: float) -> None:
        """End: let go of what is in flight, and wait no longer than so many seconds for it."""

    def news(self) -> list[str]:
        """Return what people should know of those who compute, each once."""

    @property
    def workers(self) -> int:
        """Threads that compute."""


class Progress(Protocol):
    """Told how a run goes on; called from one thread.

    One that has a method ``tell(text)``, too, gets what people should know of a cluster; else that is a Python warning.
    """

    def start(self, workers: int) -> None:
        """Work begins."""

    def expect(self, curves: int, done: int = 0) -> None:
        """A volume of so many curves was opened; `done` of them were done by an earlier run."""

    def advance(self, tile: Tile, failed: bool) -> None:
        """A tile is in its place."""

    def staff(self, workers: int) -> None:
        """Workers joined or left."""

    def finish(self) -> None:
        """No more tiles will come."""


def base_curves(volume: ForceVolume, tile_bytes: int = TILE_BYTES) -> int:
    """Return how many curves make a tile of about `tile_bytes`, in whole chunks of the file."""
    step = volume.tile_alignment
    return max(1, tile_bytes // max(volume.curve_bytes, 1) // step) * step


def cut(volume: ForceVolume, tile_bytes: int = TILE_BYTES) -> list[Tile]:
    """Partition the grid into tiles of about `tile_bytes`, aligned to the file's layout.

    Parameters
    ----------
    volume : ForceVolume
        What to cut.
    tile_bytes : int
        Bytes of raw curves in a tile; a tile holds at least `volume.tile_alignment` curves.
    """
    return split(Tile(0, volume.grid.curves), base_curves(volume, tile_bytes))


def split(tile: Tile, curves: int) -> list[Tile]:
    """Cut a tile into tiles of so many curves, the last with what is left."""
    return [Tile(start, min(start + curves, tile.stop)) for start in range(tile.start, tile.stop, curves)]


def attempt(errand: Errand, tile: Tile) -> np.ndarray | Failure:
    """Run a tile; what the file is to blame for becomes a Failure, what we are to blame for goes up.

    Raises
    ------
    OutOfFilesError
        If this process may open no other file.
    RuntimeError
        If a tile fails in a way that no file explains: a bug, with the tile it happened in.
    """
    try:
        return engine.run_tile(errand.volume, errand.recipe, tile)
    except (OSError, FileFormatError) as error:
        require_files(error)
        return Failure(tile, Flag.READ_ERROR, str(error))
    except FvprocError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"{errand.volume.path}: curves {tile.start} to {tile.stop - 1} ended in {type(error).__name__}: {error}."
            " This is a bug in fvproc; please report it with the file."
        ) from error
