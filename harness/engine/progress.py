"""What a person sees while a suite runs: a bar and a line for each worker on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from harness.engine.worker import Done, Job
from harness.wording import counted, for_html, for_one_line, plain_console, rich_text, tell

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {
    "probes": "probing metrics",
    "calibration": "calibrating scorers",
    "probes+calibration": "probing metrics, calibrating scorers",
    "fits": "fitting attacks",
    "blocks": "attacking and scoring",
    "gallery": "choosing pictures",
}
_LINE_EVERY_S = 10.0
_SILENT_AT_MOST_S = 25.0
"""Without a terminal a line is printed after so long, whatever happens: what runs, and what is left."""
_LOOKED_EVERY_S = 5.0
_NO_RATE_BELOW_S = 0.1
"""So short a time says nothing of a rate."""
_ALIKE: Mapping[str, float] = MappingProxyType({})
_SHARE = re.compile(r"(\d+) of (\d+)")
"""How what a worker says of its job begins, where it can be told how much of it is done."""


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

    def stage(
        self,
        name: str,
        total: int,
        workers: int,
        expected: float | None = None,
        lengths: Mapping[str, float] = _ALIKE,
    ) -> None:
        """A stage begins.

        Args:
            name: What it does.
            total: Its jobs.
            workers: How many do them.
            expected: Seconds that it takes by earlier runs; None where that is not known.
            lengths: Label of a job -> how long it takes compared with the others; all are alike where it has none.
        """

    def began(self, worker: int, job: Job) -> None:
        """A worker, numbered from 0, begins a job."""

    def at(self, worker: int, text: str) -> None:
        """A worker says how far it is in its job: '3 of 40 cells: pgd up', or in other words; '' if it is lost."""

    def done(self, result: Done) -> None:
        """A job has ended."""


class _Left:
    """How much of a stage is done, parts of jobs that run counted in, and how long the rest takes."""

    def __init__(self, total: int, expected: float | None, lengths: Mapping[str, float] = _ALIKE) -> None:
        self.done, self.total, self._expected, self._lengths = 0, total, expected, lengths
        self._started = time.monotonic()
        self._shares: dict[int, float] = {}
        self._running: dict[int, str] = {}
        self._whole, self._behind = sum(lengths.values()) or float(total), 0.0

    def _length(self, label: str) -> float:
        return self._lengths.get(label, 0.0 if self._lengths else 1.0)

    def began(self, worker: int, label: str) -> None:
        """A worker begins a job."""
        self._shares[worker], self._running[worker] = 0.0, label

    def at(self, worker: int, text: str) -> None:
        """A worker says how far it is."""
        found = _SHARE.match(text)
        if found and int(found[2]):
            self._shares[worker] = min(int(found[1]) / int(found[2]), 1.0)

    def lost(self, worker: int) -> None:
        """A worker was lost, and what it did of its job."""
        self._shares.pop(worker, None)

    def ended(self, worker: int | None, label: str) -> None:
        """A job has ended, on this worker if that is known."""
        self.done += 1
        self._behind += self._length(label)
        self._shares.pop(worker if worker is not None else -1, None)

    @property
    def so_far(self) -> float:
        """Jobs done, with the parts of those that run."""
        return min(self.done + sum(self._shares.values()), self.total)

    @property
    def share(self) -> float:
        """How much of the work is done, 0 to 1: of long jobs and short ones."""
        running = sum(part * self._length(self._running[worker]) for worker, part in self._shares.items())
        return min((self._behind + running) / self._whole, 1.0)

    @property
    def spent(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._started

    def text(self) -> str:
        """'about 4 min left'; empty where nothing is known yet."""
        spent, share = self.spent, self.share
        if not self.done and self._expected is not None and self._expected > spent:
            return f"about {duration(self._expected - spent)} left, by earlier runs"
        if not share or spent < _NO_RATE_BELOW_S:
            return ""
        about = "" if self.done else "about "
        return f"{about}{duration(spent / share * (1 - share))} left"


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
        self._live: Any = Live(Group(self._bar, self._workers), console=console, transient=True, refresh_per_second=2)
        self._name, self._left = "", _Left(0, None)
        self._printed = 0.0
        self._running: dict[int, str] = {}
        self._said: dict[int, str] = {}
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._console.is_terminal:
            self._live.stop()

    def stage(
        self,
        name: str,
        total: int,
        workers: int,
        expected: float | None = None,
        lengths: Mapping[str, float] = _ALIKE,
    ) -> None:
        """Begin a bar."""
        self._name = for_one_line(_TITLES.get(name, name))
        self._left = _Left(total, expected, {for_one_line(label): one for label, one in lengths.items()})
        self._printed = 0.0
        self._running, self._said = {}, {}
        for bar in (self._bar, self._workers):
            for task in bar.task_ids:
                bar.remove_task(task)
        left = self._left.text()
        self._bar.add_task(self._name, total=total, pace=left)
        for number in range(min(workers, total)):
            self._workers.add_task("starting", number=number + 1, total=None)
        if not self._console.is_terminal:
            self._say(f"{self._name}: 0 of {total}{f', {left}' if left else ''}")
            self._printed = time.monotonic()

    def began(self, worker: int, job: Job) -> None:
        """Say what a worker is at."""
        label = for_one_line(job.label)
        self._running[worker] = label
        self._said.pop(worker, None)
        self._left.began(worker, label)
        if worker < len(self._workers.task_ids):
            self._workers.reset(self._workers.task_ids[worker], description=label)

    def at(self, worker: int, text: str) -> None:
        """Say how far a worker is: 'fit facpa to birqa-tiny: 120 of 200 batches'."""
        if not text:
            self._lost(worker)
            return
        self._said[worker] = for_one_line(text)
        self._left.at(worker, text)
        if worker < len(self._workers.task_ids):
            line = f"{self._running.get(worker, '')}: {self._said[worker]}"
            self._workers.update(self._workers.task_ids[worker], description=line)
            self._bar.update(self._bar.task_ids[0], completed=self._left.so_far, pace=self._pace())
        if not self._console.is_terminal and time.monotonic() - self._printed > _LINE_EVERY_S:
            self._say_where(worker)

    def _lost(self, worker: int) -> None:
        self._running.pop(worker, None)
        self._said.pop(worker, None)
        self._left.lost(worker)
        if worker < len(self._workers.task_ids):
            self._workers.reset(self._workers.task_ids[worker], description="lost")

    def _watch(self) -> None:
        """Without a terminal: say what runs where nobody else has for long."""
        while not self._closing.wait(_LOOKED_EVERY_S):
            if self._running and time.monotonic() - self._printed > _SILENT_AT_MOST_S:
                self._say_where(next(iter(list(self._running))))

    def _say_where(self, worker: int) -> None:
        """'attacking and scoring: 0 of 12, about 9 min left; now mini test / psnr / slice 0: 3 of 40 cells: pgd up'."""
        self._printed = time.monotonic()
        told = [f"{self._name}: {self._left.done} of {self._left.total}", *filter(None, [self._pace()])]
        now = ": ".join(filter(None, (self._running.get(worker, ""), self._said.get(worker, ""))))
        more = len(self._running) - 1
        others = f" (and {counted(more, 'other worker')})" if more else ""
        self._say(f"{', '.join(told)}; now {now}{others}")

    def done(self, result: Done) -> None:
        """Advance the bar."""
        label = for_one_line(result.label)
        worker = next((number for number, running in self._running.items() if running == label), None)
        self._left.ended(worker, label)
        if worker is not None:
            del self._running[worker]
        pace = self._pace()
        self._bar.update(self._bar.task_ids[0], completed=self._left.so_far, pace=pace)
        if result.failed:
            self._say(f"failed: {result.label}")
        now = time.monotonic()
        done, total = self._left.done, self._left.total
        if not self._console.is_terminal and (now - self._printed > _LINE_EVERY_S or done == total):
            self._printed = now
            last = f"; last: {result.label}" if done < total else ""
            self._say(f"{self._name}: {done} of {total}, {pace}{last}")

    def _say(self, line: str) -> None:
        """One line, however long: labels are looked for in logs."""
        self._console.print(rich_text(for_one_line(line)), soft_wrap=True)

    def _pace(self) -> str:
        """'12.3/min, 4 min left'; before the first has ended 'about 4 min left', or nothing where that is not known."""
        left = self._left
        spent = left.spent
        told = left.text() if left.done < left.total else f"took {duration(spent)}"
        if spent < _NO_RATE_BELOW_S or not left.done:
            return told
        rate = 60 * left.done / spent
        return f"{rate:.3g}/min, {told}" if rate < 1000 else f"{rate:.0f}/min, {told}"


class NotebookProgress(Progress):
    """A bar that a notebook draws and redraws; when it ends, one line stays."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._handle: Any = display(HTML(""), display_id=True)
        self._name, self._last, self._failed, self._left = "", "", 0, _Left(0, None)
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        self._draw(f"{'stopped' if error else 'done'} after {duration(time.monotonic() - self._began)}{failed}")

    def stage(
        self,
        name: str,
        total: int,
        workers: int,
        expected: float | None = None,
        lengths: Mapping[str, float] = _ALIKE,
    ) -> None:
        """Begin a bar."""
        self._name, self._last, self._left = _TITLES.get(name, name), "", _Left(total, expected, lengths)
        self._show()

    def began(self, worker: int, job: Job) -> None:
        """Say what runs."""
        self._last = job.label
        self._show()

    def at(self, worker: int, text: str) -> None:
        """Say how far a long job is."""
        self._show(f": {text}" if text else "")

    def done(self, result: Done) -> None:
        """Advance the bar."""
        self._left.ended(None, result.label)
        self._failed += result.failed
        self._show()

    def _show(self, more: str = "") -> None:
        done, total = self._left.done, self._left.total
        left = f", {told}" if done < total and (told := self._left.text()) else ""
        last = f"; {self._last}{more}" if self._last else ""
        self._draw(f"{self._name}: {done} of {total}{left}{last}")

    def _draw(self, text: str) -> None:
        done, total = self._left.done, self._left.total
        bar = f'<progress max="{total}" value="{done}"></progress> ' if done < total else ""
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
