"""What a run keeps beside its outputs: the names of its files, and the locks that keep two runs from one output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fvproc.errors import OutputError
from fvproc.journal_file import JournalFile
from fvproc.partial import is_ours


def behind(output: str | os.PathLike[str]) -> Path:
    """Return the file that writing `output` would change: of a link, what it leads to, there or not."""
    path = Path(output)
    # no folder can be made where a link to a missing one is
    followed = path.is_symlink() or any(folder.is_symlink() and not folder.exists() for folder in path.parents)
    return Path(os.path.realpath(path)) if followed else path


def partial_path(output: str | os.PathLike[str]) -> Path:
    """Return where the records of a run are kept until `output` is complete: on its disk, whatever link leads there."""
    path = behind(output)
    return path.with_name(path.name + ".partial")


def kept_beside(output: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the files that a run writes beside `output`: its partial file, its journal."""
    partial = partial_path(output)
    return partial, partial.with_name(partial.name + ".journal")


def sweep(output: str | os.PathLike[str]) -> None:
    """Remove what a run left that was killed after its output was in place, unless another works there."""
    partial, lines = kept_beside(output)
    if lines.exists():
        with suppress(OutputError, OSError):
            file = JournalFile(lines, Path(output))
            if file.begun or is_ours(partial):
                partial.unlink(missing_ok=True)
            file.close(remove=True)


class Locks:
    """Outputs that this run writes and no other meanwhile; what another keeps beside them stays what it is.

    Raises
    ------
    OutputError
        If another run is writing one of them.
    """

    def __init__(self, outputs: Iterable[str | os.PathLike[str]]) -> None:
        self._files: list[JournalFile] = []
        try:
            for output in outputs:
                lines = kept_beside(output)[1]
                lines.parent.mkdir(parents=True, exist_ok=True)
                self._files.append(JournalFile(lines, Path(output)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write them."""
        for file in self._files:
            file.close()


@contextmanager
def ended(output: str | os.PathLike[str], others: Iterable[str | os.PathLike[str]] = ()) -> Iterator[None]:
    """Lock a run whose maps are complete while its last outputs are written; then remove what it left.

    Parameters
    ----------
    output : path-like
        The first output of the run.
    others : iterable of path-like
        Its other ones.

    Raises
    ------
    OutputError
        If another run is writing them.
    """
    partial, lines = kept_beside(output)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        file = JournalFile(lines, Path(output))
        stack.callback(file.close)
        stack.callback(Locks(others).close)
        yield
        if file.begun or is_ours(partial):
            partial.unlink(missing_ok=True)
        file.clear()  # so that it goes
