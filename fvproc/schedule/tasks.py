"""What runs on the workers of a cluster: a task of some curves, and the errand that its tasks share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from fvproc import engine
from fvproc.maps import joined
from fvproc.schedule.work import Errand, Failure, attempt, split
from fvproc.volume import Tile


@dataclass(frozen=True, slots=True)
class Report:
    """What a task brings home: runs of curves with their records or the reason why there are none."""

    parts: list[tuple[Tile, np.ndarray | Failure]]
    seconds: float
    worker: str
    kernel_version: str


def deliver(errand: Errand) -> Errand:
    """Return the errand: where this ran, it is held for the tasks that need it."""
    return errand


def task(errand: Errand, start: int, stop: int, step: int, kernel_version: str) -> Report:
    """Compute curves [start, stop) on a worker, `step` at a time, so that its memory holds no more raw curves."""
    from distributed import get_worker

    try:
        address = get_worker().address
    except ValueError:
        address = "none"  # called outside of a cluster
    began = time.perf_counter()
    parts: list[tuple[Tile, np.ndarray | Failure]] = []
    # a worker that joined later was in no preflight
    if kernel_version == engine.KERNEL_VERSION:
        outcomes = [(tile, attempt(errand, tile)) for tile in split(Tile(start, stop), step)]
        for failed, group in groupby(outcomes, lambda one: isinstance(one[1], Failure)):
            run = list(group)
            if failed:
                parts += run
            else:
                whole = Tile(run[0][0].start, run[-1][0].stop)
                parts.append((whole, joined([outcome for _, outcome in run if isinstance(outcome, np.ndarray)])))
    return Report(parts, time.perf_counter() - began, address, engine.KERNEL_VERSION)
