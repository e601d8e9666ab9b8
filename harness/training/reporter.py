"""What a person sees while training: a bar on a terminal, one line per validation elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from harness.training.measures import COLLAPSE, MEASURES, WORDS, Validation


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
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TextColumn("{task.fields[left]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
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

    def begin(self, member: str, step: int) -> None:
        """A member begins, or goes on, at a step."""
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
            self._bar.update(self._task, completed=completed, description=f"{self._who}{of}", left=self._left())

    def validated(self, point: Validation, kind: str) -> None:
        """A validation is done."""
        alarm = f"  COLLAPSE: std(prediction)/std(label) is below {COLLAPSE}" if point.collapsed else ""
        left = self._left() if self._bar is None else ""
        self._say(
            f"{self._who}: step {point.step}/{self._steps}  loss {point.loss:.4f}  validation "
            f"{WORDS[MEASURES[kind]]} {point.figure:.4f}  spread {point.spread:.2f}{f'  {left}' if left else ''}{alarm}"
        )

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
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
