"""Jobs that were lost with their actor: whose fault that was, judged when it is known whether the node still stands.

Ray says at once that an actor does not answer, and whether its node is gone only when that has missed several checks of
health. Until then a job is done elsewhere, and nothing is held against it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from harness.engine.executors.ray_actors import Lost
from harness.engine.worker import Job

STANDS_AFTER_S = 90.0
"""A node that Ray has not missed by then still stood when its actor was lost: Ray gives a node five checks of health of
up to 13 s each."""
LOSSES_ALONE = 5
"""How often an actor may be lost with a job while its node stands, before that is the job's fault."""
LOSSES_OF_MEMORY = 2


@dataclass(frozen=True)
class _Open:
    """A loss of which it is not known whether the node went, too."""

    node: str
    job: str
    judged_at: float


class Losses:
    """Counts, for each job, the losses that are its own.

    Args:
        gone: Told the id of each node that is found to be gone while something was lost there.
        clock: Seconds.
    """

    def __init__(self, gone: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._gone, self._clock = gone, clock
        self._open: list[_Open] = []
        self._own: Counter[str] = Counter()
        self._held: list[tuple[Job, Lost]] = []

    @property
    def is_open(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self._open or self._held)

    def add(self, node: str, lost: Lost, job: Job | None) -> None:
        """An actor was lost.

        Args:
            node: Where it was; empty where that is not known.
            lost: What Ray says.
            job: What it was at; None where it was at none.
        """
        if lost.with_node:
            self._gone(node)
        elif lost.memory:
            self._own[job.id if job else ""] += 1
        else:
            self._open.append(_Open(node, job.id if job else "", self._clock() + STANDS_AFTER_S))
        if job is not None:
            self._held.append((job, lost))

    def judge(self, alive: Collection[str]) -> tuple[list[Job], list[tuple[Job, str]]]:
        """Judge what can be judged.

        Args:
            alive: Ids of the nodes that Ray has not missed.

        Returns:
            Jobs that are to be done elsewhere, and those that are at fault, with why. A job that would be at fault if
            its nodes stood is kept back until that is known.
        """
        still = []
        for one in self._open:
            if one.node and one.node not in alive:
                self._gone(one.node)
            elif self._clock() < one.judged_at:
                still.append(one)
            else:
                self._own[one.job] += 1
        self._open = still
        unknown = Counter(one.job for one in still)
        again, guilty, held = [], [], []
        for job, lost in self._held:
            own, limit = self._own[job.id], LOSSES_OF_MEMORY if lost.memory else LOSSES_ALONE
            if own >= limit:
                guilty.append((job, f"its worker was lost {own} times: {lost}"))
            elif own + unknown[job.id] >= limit:
                held.append((job, lost))
            else:
                again.append(job)
        self._held = held
        return again, guilty

    def drop(self) -> int:
        """Forget the jobs that are kept back.

        Returns:
            How many these were.
        """
        count, self._held = len(self._held), []
        return count
