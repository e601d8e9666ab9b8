"""Where jobs run: in this process, in worker processes, or on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.engine.worker import Done, Job


class Executor(Protocol):
    """Runs jobs in any order and yields what became of each."""

    @property
    def workers(self) -> int:
        """How many there are, or may be."""
        ...

    def run(
        self,
        jobs: Sequence[Job],
        stop: Callable[[], bool],
        began: Callable[[int, Job], None],
        at: Callable[[int, str], None],
    ) -> Iterator[Done]:
        """Run every job; once `stop` says so, finish the ones begun and begin no other.

        Args:
            jobs: What to run.
            stop: Asked before each job.
            began: Told the number of the worker, from 0, and the job that it begins.
            at: Told now and then the number of the worker and how far it is in its job, in words.
        """
        ...

    def close(self) -> None:
        """Let go of workers."""
        ...
