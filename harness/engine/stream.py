"""Jobs of one worker as a stream: blocks in flight together, images read ahead, files written behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from harness.engine.ahead import Ahead, Read
from harness.engine.behind import Behind
from harness.engine.jobs import BlockJob, do_blocks
from harness.engine.worker import Done, Job, Worker


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
    waiting = deque(jobs)
    with Behind() as behind, Ahead() as ahead:
        worker.store.behind = behind
        try:
            while waiting and not stop():
                yield from _next(worker, waiting, ahead, began)
        finally:
            worker.store.behind = None


def _next(worker: Worker, waiting: deque[Job], ahead: Ahead, began: Callable[[int, Job], None]) -> Iterator[Done]:
    first = waiting[0]
    if not isinstance(first, BlockJob):
        waiting.popleft()
        began(0, first)
        yield worker.execute(first)
        return
    together = [first, *_alike(worker, first, list(waiting)[1:])]
    for job in together:
        waiting.popleft()
        began(0, job)
    read = ahead.take([job.id for job in together])
    ahead.fetch(_reads(worker, list(waiting)[: len(together)]))
    yield from worker.executing(together, lambda: do_blocks(worker, together, read))


def _alike(worker: Worker, first: BlockJob, others: Sequence[Job]) -> list[BlockJob]:
    """The jobs after the first one that can be done with it."""
    if worker.packing is None:
        return []
    block, cells = first.block, [cell.id for cell in first.block.cells]
    most = worker.packing.slices(block, worker.context.slice_size) - 1
    following = takewhile(
        lambda job: (
            isinstance(job, BlockJob)
            and job.block.key[:2] == block.key[:2]
            and [cell.id for cell in job.block.cells] == cells
        ),
        others[:most],
    )
    return [job for job in following if isinstance(job, BlockJob)]


def _reads(worker: Worker, jobs: Sequence[Job]) -> dict[str, Read]:
    """What reads the images of the blocks among these jobs, where that can be done by another thread."""
    found: dict[str, Read] = {}
    for job in jobs:
        if isinstance(job, BlockJob) and (read := job.reader(worker)) is not None:
            found[job.id] = read
    return found
