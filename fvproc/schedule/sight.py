"""Which workers of a cluster see the inputs of a run: those that do not get no work while there are others."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from fvproc import readers
from fvproc.errors import FileFormatError
from fvproc.events import event
from fvproc.schedule import preflight, vigil
from fvproc.volume import ForceVolume


class Sight:
    """What is known of each worker; asks those that join, and again those that lacked an input.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    known : set of str
        Workers that are fit, as the preflight found.
    seconds : float
        In which a worker answers.
    """

    def __init__(self, client: Any, known: set[str], seconds: float) -> None:
        self._client, self._known, self._seconds = client, set(known), seconds
        self._questions: list[tuple[vigil.Question, list[str], ForceVolume | None]] = []
        self._lacks: dict[str, str] = {}
        self._unseen: dict[int, str | None] = {}
        self._news: list[str] = []

    def lacks(self, worker: str) -> bool:
        """Return whether a worker could not see an input when it was asked last."""
        return worker in self._lacks

    def news(self) -> list[str]:
        """Return what people should know, each once."""
        news, self._news = self._news, []
        return news

    # ---- without waiting

    def meet(self, present: Iterable[str], volume: ForceVolume | None) -> None:
        """Ask those who joined what the preflight asks, and what they see of an input that is being processed now.

        Not of the first one: that may be done, and archived, for hours.
        """
        present = list(present)
        self._lacks = {worker: why for worker, why in self._lacks.items() if worker in present}
        asked = {worker for _, workers, _ in self._questions for worker in workers}
        again = self._lacks if volume is not None else {}
        new = sorted(
            worker for worker in present if worker not in asked and (worker not in self._known or worker in again)
        )
        if new:
            path = None if volume is None else preflight.path_of(volume)
            question = vigil.Question(
                lambda: self._client.run(preflight.inspection(path), workers=new, on_error="return")
            )
            self._questions.append((question, new, volume))

    def hear(self) -> None:
        """Take the answers that have come.

        Raises
        ------
        FvprocError
            If a worker lacks fvproc, or has another kernel.
        """
        for asked in list(self._questions):
            question, workers, volume = asked
            with suppress(queue.Empty):
                seen, error = question.answer(0.0)
                self._questions.remove(asked)
                # who gave no answer is gone, or was not ready for it: then asked again at the next count
                self._known -= set(workers)
                if error is None:
                    self._note(self._lacking(seen, volume))

    # ---- waiting, before an input is given up

    def look(self, number: int, volume: ForceVolume, workers: Sequence[str]) -> None:
        """Ask workers what they see of an input that some could not read; once for each.

        Raises
        ------
        FvprocError
            If the scheduler does not answer, or a worker is no longer ours.
        """
        if number in self._unseen or preflight.path_of(volume) is None:
            return
        self._unseen[number] = None
        try:
            readers.require_unchanged(volume)
        except FileFormatError:
            return  # it is gone for us as well, which its job tells better
        seen = vigil.ask_all(self._client, preflight.inspection(volume.path), self._seconds, workers)
        reasons = self._lacking(seen, volume)
        whys = [why for why in reasons.values() if why is not None]
        if len(whys) < len(reasons):
            self._note(reasons)
        elif whys:  # the input is to blame, and not a worker
            others = f" (and the others likewise: {len(whys)} workers)" if len(whys) > 1 else ""
            self._unseen[number] = f"{whys[0]}{others}"

    def unseen(self, number: int) -> str | None:
        """Return why no worker can read an input that was looked for; None if one can."""
        return self._unseen.get(number)

    def _lacking(self, seen: dict[str, Any], volume: ForceVolume | None) -> dict[str, str | None]:
        """Return of each worker that answered why it cannot read an input, None if it can or none was asked for."""
        reasons: dict[str, str | None] = {}
        for worker, answer in seen.items():
            if not isinstance(answer, vigil.GONE):
                preflight.require_ours(f"worker {worker}", answer)
                reasons[worker] = None if volume is None else preflight.lacking(f"worker {worker}", answer, volume)
        return reasons

    def _note(self, reasons: dict[str, str | None]) -> None:
        self._known.update(reasons)
        for worker, why in reasons.items():
            if why is None:
                self._lacks.pop(worker, None)
            elif worker not in self._lacks:
                self._lacks[worker] = why
                event("worker_left_out", level=logging.WARNING, worker=worker, reason=why)
                self._news.append(f"{why}; it is left out while there are others")
