"""What a person sees while a suite runs: a bar and a line for each worker on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from harness.engine.worker import Done, Job
from harness.wording import for_html, for_one_line, plain_console, rich_text, tell

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {
    "probes": "probing metrics",
    "calibration": "calibrating scorers",
    "fits": "fitting attacks",
    "blocks": "attacking and scoring",
}
_LINE_EVERY_S = 10.0
_NO_RATE_BELOW_S = 0.1
"""So short a time says nothing of a rate."""


class Progress:
    """What a run tells whoever is watching; this one tells nobody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def tell(self, text: str) -> None:
        """Something is wrong with what was stored, and is put right; said even where nobody watches."""
        tell(f"note: {text}")

    def stage(self, name: str, total: int, workers: int) -> None:
        """A stage of so many jobs begins, on so many workers."""

    def began(self, worker: int, job: Job) -> None:
        """A worker, numbered from 0, begins a job."""

    def at(self, worker: int, text: str) -> None:
        """A worker says how far it is in its job."""

    def done(self, result: Done) -> None:
        """A job has ended."""


class ConsoleProgress(Progress):
    """Shows the stage, how many of its jobs are done, their rate, the time left, and what each worker is at.

    Args:
        console: Where to show it (standard error, so that tables can be piped).
    """

    def __init__(self, console: Console) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._workers = Bar(
            TextColumn("  worker {task.fields[number]}:"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        self._live: Any = Live(Group(self._bar, self._workers), console=console, transient=True, refresh_per_second=4)
        self._name, self._done, self._total = "", 0, 0
        self._started = self._printed = 0.0
        self._running: dict[int, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def stage(self, name: str, total: int, workers: int) -> None:
        """Begin a bar."""
        self._name, self._done, self._total = for_one_line(_TITLES.get(name, name)), 0, total
        self._started, self._printed = time.monotonic(), 0.0
        self._running.clear()
        for bar in (self._bar, self._workers):
            for task in bar.task_ids:
                bar.remove_task(task)
        self._bar.add_task(self._name, total=total, pace="")
        for number in range(min(workers, total)):
            self._workers.add_task("starting", number=number + 1, total=None)
        if not self._console.is_terminal:
            self._say(f"{self._name}: 0 of {total}")

    def began(self, worker: int, job: Job) -> None:
        """Say what a worker is at."""
        label = for_one_line(job.label)
        self._running[worker] = label
        if worker < len(self._workers.task_ids):
            self._workers.reset(self._workers.task_ids[worker], description=label)

    def at(self, worker: int, text: str) -> None:
        """Say how far a worker is: 'fit facpa to birqa-tiny: 120 of 200 batches'."""
        line = for_one_line(f"{self._running.get(worker, '')}: {text}")
        if worker < len(self._workers.task_ids):
            self._workers.update(self._workers.task_ids[worker], description=line)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > _LINE_EVERY_S:
            self._printed = now
            self._say(line)

    def done(self, result: Done) -> None:
        """Advance the bar."""
        self._done += 1
        pace = self._pace()
        self._bar.update(self._bar.task_ids[0], advance=1, pace=pace)
        if result.failed:
            self._say(f"failed: {result.label}")
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._printed > _LINE_EVERY_S or self._done == self._total):
            self._printed = now
            last = f"; last: {result.label}" if self._done < self._total else ""
            self._say(f"{self._name}: {self._done} of {self._total}, {pace}{last}")

    def _say(self, line: str) -> None:
        """One line, however long: labels are looked for in logs."""
        self._console.print(rich_text(for_one_line(line)), soft_wrap=True)

    def _pace(self) -> str:
        """'12.3/min, 4 min left'."""
        spent = time.monotonic() - self._started
        ahead = self._total - self._done
        told = f"{duration(spent / self._done * ahead)} left" if ahead else f"took {duration(spent)}"
        if spent < _NO_RATE_BELOW_S:
            return told
        rate = 60 * self._done / spent
        return f"{rate:.3g}/min, {told}" if rate < 1000 else f"{rate:.0f}/min, {told}"


class NotebookProgress(Progress):
    """A bar that a notebook draws and redraws; when it ends, one line stays."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._handle: Any = display(HTML(""), display_id=True)
        self._name, self._last, self._done, self._total, self._failed = "", "", 0, 0, 0
        self._began = self._started = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        self._draw(f"{'stopped' if error else 'done'} after {duration(time.monotonic() - self._began)}{failed}")

    def stage(self, name: str, total: int, workers: int) -> None:
        """Begin a bar."""
        self._name, self._last, self._done, self._total = _TITLES.get(name, name), "", 0, total
        self._started = time.monotonic()
        self._show()

    def began(self, worker: int, job: Job) -> None:
        """Say what runs."""
        self._last = job.label
        self._show()

    def at(self, worker: int, text: str) -> None:
        """Say how far a long job is."""
        self._show(f": {text}")

    def done(self, result: Done) -> None:
        """Advance the bar."""
        self._done += 1
        self._failed += result.failed
        self._show()

    def _show(self, more: str = "") -> None:
        spent, ahead = time.monotonic() - self._started, self._total - self._done
        left = f", {duration(spent / self._done * ahead)} left" if self._done and ahead else ""
        last = f"; {self._last}{more}" if self._last else ""
        self._draw(f"{self._name}: {self._done} of {self._total}{left}{last}")

    def _draw(self, text: str) -> None:
        bar = f'<progress max="{self._total}" value="{self._done}"></progress> ' if self._done < self._total else ""
        self._handle.update(self._html(f"<div>{bar}{for_html(text)}</div>"))


def fitting_progress() -> Progress:
    """What fits the place: a bar in notebooks and terminals, lines on standard error elsewhere."""
    console = plain_console(stderr=True)
    if console.is_jupyter:
        with contextlib.suppress(ImportError):
            return NotebookProgress()
    return ConsoleProgress(console)


def duration(seconds: float) -> str:
    """A span of time as people say it: '12 s', '3 min 20 s', '45 min', '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
