"""steps.jsonl of a run folder: one line per step, cut back to the checkpoint when a killed training goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from harness.files import write_whole
from harness.training.finite_json import finite_json

STEPS = "steps.jsonl"


class Step(NamedTuple):
    """One training step."""

    step: int
    """From 0."""
    loss: float
    figures: Mapping[str, float]
    """What the recipe's loss gave to log."""
    gradient_norm: float
    """Before clipping."""
    forwards: int
    """Images scored, by the inner attack and by the loss."""
    backwards: int
    """Images whose score was differentiated, likewise."""
    attack_s: float
    """Seconds of the inner attack."""
    step_s: float
    """Seconds of the whole step."""
    spread: float
    """std(prediction) / std(label) over the last training batches; nan until there are enough, and for triplets."""


class StepLog:
    """Appends steps to the file of a run folder.

    Args:
        folder: The run folder.
        begun: Steps of the checkpoint from which training goes on: later lines are cut off.
    """

    def __init__(self, folder: Path, begun: int) -> None:
        self._path = folder / STEPS
        self._begun = begun
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        kept = [line for line in _lines(self._path) if line[0] < self._begun]
        write_whole(self._path, "".join(text for _, text in kept).encode())
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, step: Step) -> None:
        """Write one line at once, so that whoever watches sees it and a kill loses none."""
        assert self._file is not None
        self._file.write(finite_json(step._asdict()) + "\n")
        self._file.flush()


def _lines(path: Path) -> list[tuple[int, str]]:
    """(step, line) of every whole line; what a kill cut short ends the list."""
    found: list[tuple[int, str]] = []
    if not path.is_file():
        return found
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            entry: Any = json.loads(text)
            found.append((int(entry["step"]), text))
        except (ValueError, TypeError, KeyError):
            break
    return found
