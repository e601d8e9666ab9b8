"""Images that are decoded ahead: by a thread, for the next blocks, while the device is busy with these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from harness.engine.batches import Batch

Read = Callable[[], list[Batch]]
"""Reads the images of a block, on the host."""


class Ahead:
    """Reads the images of blocks in a thread; whoever takes some says which few come next."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "decoded-ahead")
        self._coming: dict[str, Future[list[Batch]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def take(self, wanted: Iterable[str]) -> dict[str, list[Batch]]:
        """The images of these blocks, those that were read: one that was not, or could not be, is not among them."""
        found = {}
        for name in wanted:
            future = self._coming.pop(name, None)
            if future is not None and future.exception() is None:
                found[name] = future.result()
        return found

    def fetch(self, reads: Mapping[str, Read]) -> None:
        """Begin to read the images of the blocks that come next; others that were expected are forgotten."""
        for name in [name for name in self._coming if name not in reads]:
            self._coming.pop(name).cancel()
        for name, read in reads.items():
            if name not in self._coming:
                self._coming[name] = self._thread.submit(read)
