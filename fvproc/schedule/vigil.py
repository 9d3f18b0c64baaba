"""Signs of life: questions to a cluster that may be dead or cut off; none of them is waited for for ever."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fvproc.errors import FvprocError

# How long the scheduler and a worker may take to answer, s.
ANSWER = 15.0
# How long a cluster may be without any worker that answers, s.
PATIENCE = 60.0
# A tile this late makes us look after the worker that has it, s.
LATE = 30.0


# How a worker that died or is cut off shows.
GONE: tuple[type[Exception], ...] = (OSError, TimeoutError)
if sys.version_info < (3, 11):
    # a class of its own there; importing asyncio takes a twentieth of a small run that has no cluster
    import asyncio

    GONE = (*GONE, asyncio.TimeoutError)


class Question:
    """Asked in a thread of its own, a daemon: one that waits for a dead peer must not keep Python from ending."""

    def __init__(self, question: Callable[[], Any]) -> None:
        self.since = time.monotonic()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._question = question
        threading.Thread(target=self._ask, name="fvproc-vigil", daemon=True).start()

    def _ask(self) -> None:
        try:
            self._answers.put((self._question(), None))
        except BaseException as error:
            self._answers.put((None, error))

    def answer(self, seconds: float) -> tuple[Any, BaseException | None]:
        """Return the answer, or the error in its place.

        Raises
        ------
        queue.Empty
            If there is none within so many seconds.
        """
        return self._answers.get(timeout=seconds) if seconds > 0 else self._answers.get_nowait()


def ask(question: Callable[[], Any], seconds: float, who: str) -> Any:
    """Return the answer to a question.

    Raises
    ------
    FvprocError
        If there is none within so many seconds, or nobody can be reached.
    """
    try:
        answer, error = Question(question).answer(seconds)
    except queue.Empty:
        raise FvprocError(f"{who} has not answered for {seconds:g} s; see whether it runs, then run again") from None
    if isinstance(error, GONE):
        raise FvprocError(f"{who} cannot be reached: {error}; see whether it runs, then run again") from None
    if error is not None:
        raise error
    return answer


@dataclass(frozen=True, slots=True)
class Worker:
    """What the scheduler knows of one: its threads, and its status as distributed has it."""

    threads: int
    status: str

    @property
    def working(self) -> bool:
        """Whether it is given tasks."""
        return self.status in ("running", "init")

    @property
    def paused(self) -> bool:
        """Whether its memory is full."""
        return self.status == "paused"


def staff(client: Any, seconds: float) -> dict[str, Worker]:
    """Return the workers that the scheduler has, by their addresses.

    Raises
    ------
    FvprocError
        If the scheduler does not answer.
    """

    def look(dask_scheduler: Any) -> dict[str, tuple[int, str]]:
        return {address: (state.nthreads, state.status.name) for address, state in dask_scheduler.workers.items()}

    seen = ask(lambda: client.run_on_scheduler(look), seconds, "the scheduler")
    return {address: Worker(*told) for address, told in seen.items()}


def ask_all(
    client: Any, function: Callable[[], Any], seconds: float, workers: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what a function returns on each worker, or each of some.

    One of `GONE` in place of it where a worker died or is silent.
    """
    if workers is None:
        workers = list(ask(client.nthreads, seconds, "the scheduler"))
    try:
        seen = ask(lambda: client.run(function, workers=list(workers), on_error="return"), seconds, "a worker")
    except FvprocError:
        # one that is silent holds up the answer of all: each by itself
        questions = {worker: Question(_of_one(client, function, worker)) for worker in workers}
        end = time.monotonic() + seconds
        seen = {}
        for worker, question in questions.items():
            try:
                answer, error = question.answer(max(0.0, end - time.monotonic()))
            except queue.Empty:
                answer, error = None, TimeoutError(f"has not answered for {seconds:g} s")
            seen[worker] = error if error is not None else answer[worker]
    for worker, answer in seen.items():
        if isinstance(answer, Exception) and not isinstance(answer, GONE):
            raise FvprocError(f"worker {worker}: ended in {type(answer).__name__}: {answer}") from answer
    return seen


def _of_one(client: Any, function: Callable[[], Any], worker: str) -> Callable[[], Any]:
    return lambda: client.run(function, workers=[worker])


def _sign() -> bool:
    return True


class Vigil:
    """Which workers are silent; asks without waiting, so that the others are not held up.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    seconds : float
        Silence after a question that makes a worker a silent one.
    """

    def __init__(self, client: Any, seconds: float) -> None:
        self._client, self._seconds = client, seconds
        self._asked: dict[str, Question] = {}
        self.silent: set[str] = set()

    def alive(self, worker: str) -> bool | None:
        """Return whether a worker answers; None while that is not known."""
        question = self._asked.get(worker)
        if question is None:
            self._asked[worker] = Question(_of_one(self._client, _sign, worker))
            return None
        try:
            _, error = question.answer(0.0)
        except queue.Empty:
            if time.monotonic() - question.since < self._seconds:
                return False if worker in self.silent else None
            self.silent.add(worker)
            return False
        del self._asked[worker]
        if error is None:
            self.silent.discard(worker)
            return True
        self.silent.add(worker)
        return False

    def review(self, present: Iterable[str]) -> None:
        """Ask the silent ones again; forget those that the scheduler has let go."""
        self.silent &= set(present)
        for worker in list(self.silent):
            self.alive(worker)


def holders(client: Any, futures: Iterable[Any], seconds: float) -> dict[str, tuple[str, ...]]:
    """Return the workers that compute or hold each of some tasks, by key; none where it waits for a worker.

    Raises
    ------
    FvprocError
        If the scheduler does not answer.
    """
    wanted = list(futures)

    def look() -> dict[str, tuple[str, ...]]:
        computing = {str(key): worker for worker, keys in client.processing().items() for key in keys}
        owners = {str(key): tuple(workers) for key, workers in client.who_has(wanted).items()}
        return {
            future.key: (computing[future.key],) if future.key in computing else owners.get(future.key, ())
            for future in wanted
        }

    return ask(look, seconds, "the scheduler")
