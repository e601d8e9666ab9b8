"""Jobs of one worker as a stream: blocks in flight together, images read ahead, files written behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile

from harness.engine.ahead import Ahead, Read
from harness.engine.behind import Behind
from harness.engine.jobs import BlockJob, do_blocks
from harness.engine.worker import Done, Job, Worker

_AT_A_TIME_S = 60.0
"""Blocks are done together as long as that takes no more than this: a Ctrl-C waits for those that were begun."""
_AHEAD_BYTES = 1 << 30
"""Of images that are read ahead; one block is in any case."""


def streamed(
    worker: Worker, jobs: Sequence[Job], stop: Callable[[], bool], began: Callable[[int, Job], None]
) -> Iterator[Done]:
    """Do jobs in order, until told to stop; then what was begun is finished.

    Args:
        worker: Does them.
        jobs: Facts, fits, blocks or others.
        stop: Whether to begin no more.
        began: Hears of each job that begins.

    Raises:
        StoreError: The run folder cannot be written.
    """
    with Behind() as behind, Ahead() as ahead:
        worker.store.behind = behind
        try:
            stream = _Stream(worker, deque(jobs), ahead)
            while stream.waiting and not stop():
                yield from stream.next(began)
        finally:
            worker.store.behind = None


class _Stream:
    """What is left to do, and how long a block took."""

    def __init__(self, worker: Worker, waiting: deque[Job], ahead: Ahead) -> None:
        self.waiting = waiting
        self._worker, self._ahead = worker, ahead
        self._seconds = 0.0

    def next(self, began: Callable[[int, Job], None]) -> list[Done]:
        """Do the next job, or the next blocks together."""
        worker, first = self._worker, self.waiting.popleft()
        began(0, first)
        if not isinstance(first, BlockJob):
            return [worker.execute(first)]
        together = [first, *self._with(first)]
        for job in together[1:]:
            self.waiting.popleft()
            began(0, job)
        read = self._ahead.take([job.id for job in together])
        size = max((sum(batch.nbytes for batch in batches) for batches in read.values()), default=_AHEAD_BYTES)
        self._ahead.fetch(self._reads(min(len(together), max(_AHEAD_BYTES // size, 1))))
        started = time.monotonic()
        done = worker.executing(together, lambda: do_blocks(worker, together, read))
        self._seconds = (time.monotonic() - started) / len(together)
        return done

    def _with(self, first: BlockJob) -> list[BlockJob]:
        """The jobs next in line that can be done with this one."""
        worker, block, cells = self._worker, first.block, [cell.id for cell in first.block.cells]
        if worker.packing is None:
            return []
        most = worker.packing.slices(block, worker.context.slice_size)
        if self._seconds:
            most = min(most, max(int(_AT_A_TIME_S / self._seconds), 1))
        blocks = takewhile(lambda job: isinstance(job, BlockJob), islice(self.waiting, most - 1))
        return list(
            takewhile(
                lambda job: job.block.key[:2] == block.key[:2] and [cell.id for cell in job.block.cells] == cells,
                (job for job in blocks if isinstance(job, BlockJob)),
            )
        )

    def _reads(self, count: int) -> dict[str, Read]:
        """What reads the images of the next blocks, where that can be done by another thread."""
        found: dict[str, Read] = {}
        for job in islice(self.waiting, count):
            if isinstance(job, BlockJob) and (read := job.reader(self._worker)) is not None:
                found[job.id] = read
        return found
