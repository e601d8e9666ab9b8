"""Progress of downloads on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from harness.cli.common import console
from harness.wording import for_one_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from harness.plugins.weights.fetch import Bar


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Bar | None]]:
    """Progress of downloads on a terminal, and nothing elsewhere."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda name: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=screen, transient=True) as bars:
        yield lambda name: _Bar(bars, name)


class _Bar:
    """One download among rich's bars, told in the way of pooch."""

    def __init__(self, bars: Progress, name: str) -> None:
        self._bars = bars
        self._task = bars.add_task(for_one_line(name), total=None)

    @property
    def total(self) -> int:
        """Bytes expected."""
        return int(self._bars.tasks[self._task].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self._bars.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        """So many more bytes came."""
        self._bars.advance(self._task, size)

    def reset(self) -> None:
        """Begin again at 0."""
        self._bars.update(self._task, completed=0)

    def close(self) -> None:
        """The download ended; what is left is verifying it."""
        self._bars.refresh()
