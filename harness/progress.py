"""What a person sees while a suite runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.run import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from harness.worker import Done

_TITLES = {"calibration": "calibrating scorers", "fits": "fitting attacks", "blocks": "attacking and scoring"}
_LINE_EVERY_S = 10.0


class SilentProgress(Progress):
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class ConsoleProgress(Progress):
    """Shows the stage, how many jobs are done, the time left and what ended last.

    Args:
        console: Where to show it (standard error, so that tables can be piped).
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, last="")
        self._name, self._done, self._total, self._printed = "", 0, 0, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, name: str, total: int) -> None:
        """Begin a bar."""
        self._name, self._done, self._total, self._printed = _TITLES.get(name, name), 0, total, 0.0
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._name, total=total, last="")
        if not self._console.is_terminal:
            self._console.print(f"{self._name}: 0 of {total}")

    def done(self, result: Done) -> None:
        """Advance it."""
        self._done += 1
        self._bar.update(self._task, advance=1, last=result.label + (" (failed)" if result.failed else ""))
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._printed > _LINE_EVERY_S or self._done == self._total):
            self._printed = now
            self._console.print(f"{self._name}: {self._done} of {self._total} ({result.label})")
