"""Files that are written behind: by a thread, in order, while the device goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

_WAITING = 64
"""Files that may wait to be written; then whoever has another one waits too."""


class Behind:
    """Writes one file after the other in a thread of its own.

    Leaving the context waits for every file. What a write raises is raised by the next call, or on leaving.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "written-behind")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None or isinstance(error, GeneratorExit):
            self.drain()

    def put(self, write: Callable[[], None]) -> None:
        """Write a file when those before it are written.

        Raises:
            Exception: What an earlier one raised; this one is not written.
        """
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= _WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(write))

    def drain(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: What one of them raised.
        """
        while self._waiting:
            self._waiting.popleft().result()
