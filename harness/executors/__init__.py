"""Where jobs run: in this process, or in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from harness.worker import Done, Job


class Executor(Protocol):
    """Runs jobs in any order and yields what became of each."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Run every job; the caller may stop early."""
        ...

    def close(self) -> None:
        """Let go of workers."""
        ...
