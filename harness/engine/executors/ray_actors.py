"""An actor of a Ray cluster as the driver sees it: where it is, what it is asked, and the jobs it has."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from harness.engine.worker import Job

ASKED_EVERY_S = 2.0
"""How often an actor is asked how far it is."""
_MEMORY = (
    "memory ran out on its node; 'resources: {memory: 8}' sets so many GiB aside for each, --memory 4GiB makes batches "
    "smaller"
)


@dataclass(frozen=True)
class Lost:
    """Why an actor will not answer any more.

    Attributes:
        reason: As Ray says it.
        with_node: Whether Ray says that its node is gone; otherwise that may still come out.
        memory: Whether Ray ended it because memory ran out.
        alone: Whether Ray says that its process ended, and has not missed the node.
    """

    reason: str
    with_node: bool = False
    memory: bool = False
    alone: bool = False

    def __str__(self) -> str:
        """In words."""
        return _MEMORY if self.memory else self.reason


@dataclass(frozen=True)
class GivenBack:
    """A job that an actor was asked to give back before it had begun."""

    job: Job


@dataclass
class Actor:
    """One actor; where it has two jobs, it begins the second without asking."""

    handle: Any
    node: str = ""
    """Id of its node, once it has said so."""
    ready_for: int = 0
    """The stage whose files it has."""
    doing: str = "where"
    """Which of its methods is asked: where, about, begin, prepare, check, execute; empty where it is idle."""
    answer: Any = None
    """Reference to what that will return."""
    job: Job | None = None
    next_job: Job | None = None
    """What it does after `job`, unless it is taken back."""
    next_answer: Any = None
    is_asked_back: bool = False
    """Whether it was asked to give that back."""
    told: Any = None
    """Reference to what it will say of how far it is."""
    next_asked: float = 0.0
    """When it is to be asked again."""
    _handed: int = 0

    def ask(self, method: str, *arguments: Any) -> None:
        """Call one of its methods; what comes back is its next answer."""
        self.doing, self.answer = method, getattr(self.handle, method).remote(*arguments)

    def take(self, job: Job) -> None:
        """Hand it a job: it has none, or one."""
        self._handed += 1
        answer = self.handle.execute.remote(job, self._handed)
        if self.job is None:
            self.job, self.answer = job, answer
            self._begin()
        else:
            self.next_job, self.next_answer = job, answer

    def answered(self) -> Job:
        """It has answered, and begun what it has besides.

        Returns:
            The job that was answered.
        """
        job, self.job, self.answer = self.job, self.next_job, self.next_answer
        self.doing = ""
        self._forget_next()
        if self.job is not None:
            self._begin()
        assert job is not None
        return job

    def ask_back(self) -> None:
        """Ask for the job back that it has not begun."""
        self.is_asked_back = True
        self.handle.withdraw.remote(self._handed)

    def gave_back(self) -> Job | None:
        """It has given back what it had not begun."""
        job = self.next_job
        self._forget_next()
        return job

    @property
    def jobs(self) -> list[Job]:
        """What it has, last what it is at."""
        return [job for job in (self.next_job, self.job) if job is not None]

    def _begin(self) -> None:
        self.doing, self.next_asked = "execute", time.monotonic() + ASKED_EVERY_S

    def _forget_next(self) -> None:
        self.next_job = self.next_answer = None
        self.is_asked_back = False


def hand_out(
    actors: Iterable[tuple[int, Actor]],
    waiting: deque[Job],
    stage: int,
    supply: Callable[[Actor], None],
    began: Callable[[int, Job], None],
) -> None:
    """Give idle actors jobs; while more wait than there are actors, a second one each, so that none waits for answers.

    Args:
        actors: With their numbers.
        waiting: Jobs, in the order in which they are handed out.
        stage: Whose files actors need.
        supply: Sends an actor these files.
        began: Told what begins.
    """
    actors = list(actors)
    idle = 0
    for number, actor in actors:
        if actor.doing:
            continue
        if not waiting:
            idle += actor.ready_for == stage
        elif actor.ready_for == stage:
            actor.take(job := waiting.popleft())
            began(number, job)
        else:
            supply(actor)
    for _, actor in actors:
        if actor.job is not None and actor.next_job is None and len(waiting) > len(actors):
            actor.take(waiting.popleft())
    take_back([actor for _, actor in actors], idle)


def take_back(actors: Iterable[Actor], count: int) -> None:
    """Have so many of the actors asked to give back what they have not begun."""
    having = [actor for actor in actors if actor.next_job is not None]
    asked = sum(actor.is_asked_back for actor in having)
    for actor in [actor for actor in having if not actor.is_asked_back][: max(0, count - asked)]:
        actor.ask_back()
