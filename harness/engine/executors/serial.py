"""Jobs in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.engine.stream import streamed
from harness.engine.worker import Context, Done, Job, Worker


class SerialExecutor:
    """One worker: this process.

    Args:
        context: What the worker must know.
    """

    workers = 1

    def __init__(self, context: Context) -> None:
        self._worker = Worker(context)

    def run(
        self,
        jobs: Sequence[Job],
        stop: Callable[[], bool],
        began: Callable[[int, Job], None],
        at: Callable[[int, str], None],
    ) -> Iterator[Done]:
        """Run the jobs in order, until told to stop."""
        self._worker.watcher = lambda text: at(0, text)
        if self._worker.packing is not None or self._worker.device.type != "cpu":
            yield from streamed(self._worker, jobs, stop, began)
            return
        for job in jobs:
            if stop():
                return
            began(0, job)
            yield self._worker.execute(job)

    def close(self) -> None:
        """Nothing to let go of."""
