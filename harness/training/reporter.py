"""What a person sees while training: a bar on a terminal, one line per validation elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from harness.training.measures import COLLAPSE, MEASURES, WORDS, Validation
from harness.wording import for_one_line, plain_console


class Reporter:
    """Shows which member is trained, how far it is, and how long the rest takes.

    Args:
        name: The recipe file's name.
        members: How many are trained.
        steps: Most steps of each.
    """

    def __init__(self, name: str, members: int, steps: int) -> None:
        self._name, self._members, self._steps = name, members, steps
        self._who, self._number, self._step = name, 0, 0
        self._resumed, self._done, self._began = 0, 0, time.monotonic()
        self._alarm: int | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TextColumn("{task.fields[left]}"),
                TimeElapsedColumn(),
                console=plain_console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=self._members * self._steps, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, member: str, step: int, alarm: int | None = None) -> None:
        """A member begins, or goes on, at a step; `alarm`: the step at which it collapsed before that."""
        self._alarm = alarm
        self._done += self._step - self._resumed
        self._number += 1
        self._who = f"{self._name} {member}".rstrip()
        self._step = self._resumed = step
        if 0 < step < self._steps:
            self._say(f"{self._who}: goes on after step {step}")
        elif step:
            self._say(f"{self._who}: was trained before")
        self.advanced(step)

    def advanced(self, step: int) -> None:
        """A step is done."""
        self._step = step
        if self._bar is not None:
            of = f" ({self._number} of {self._members})" if self._members > 1 else ""
            completed = (self._number - 1) * self._steps + step
            alarm = "" if self._alarm is None else " COLLAPSED"
            self._bar.update(
                self._task, completed=completed, description=for_one_line(f"{self._who}{of}{alarm}"), left=self._left()
            )

    def alarmed(self, step: int, spread: float) -> None:
        """Predictions of training batches hardly vary any more."""
        self._alarm = step
        self._say(
            f"{self._who}: COLLAPSE at step {step}: std(prediction)/std(label) of the last training batches is "
            f"{spread:.2f}, below {COLLAPSE}. The metric is turning into a constant, which SROCC does not show."
        )

    def validated(self, point: Validation, kind: str) -> None:
        """A validation is done."""
        alarm = f"  COLLAPSE: std(prediction)/std(label) is below {COLLAPSE}" if point.collapsed else ""
        left = self._left() if self._bar is None else ""
        self._say(
            f"{self._who}: step {point.step}/{self._steps}  loss {point.loss:.4f}  validation "
            f"{WORDS[MEASURES[kind]]} {point.figure:.4f}  spread {point.spread:.2f}{_under_attack(point, kind)}"
            f"{f'  {left}' if left else ''}{alarm}"
        )

    def noted(self, line: str) -> None:
        """What a recipe has to say of the data before the first step."""
        self._say(f"{self._name}: {line}")

    def stopped(self, step: int, patience: int) -> None:
        """A member ends early."""
        self._say(f"{self._who}: stopped after step {step}, {patience} validation(s) without a better one")

    def _left(self) -> str:
        """'4 min left', by the pace of this invocation; empty before there is one."""
        from harness.engine.progress import duration  # brings the engine with it

        here = self._done + self._step - self._resumed
        ahead = (self._members - self._number) * self._steps + self._steps - self._step
        if not here or not ahead:
            return ""
        return f"{duration((time.monotonic() - self._began) / here * ahead)} left"

    def _say(self, line: str) -> None:
        line = for_one_line(line)
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)


def _under_attack(point: Validation, kind: str) -> str:
    """What robust validation found, where there is one."""
    if point.pair is None or point.shift_up is None or point.shift_down is None:
        return ""
    what = "pair accuracy" if kind == "pairs" else "2AFC accuracy"
    return f"  attacked: {what} {point.pair:.3f}, shift/sigma {point.shift_up:+.2f} up, {point.shift_down:+.2f} down"
