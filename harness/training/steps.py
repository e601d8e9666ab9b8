"""steps.jsonl of a run folder: one line per step, cut back to the checkpoint when a killed training goes on.

Its reader, `logged`, is that of history.jsonl, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from harness.files import shown, write_whole
from harness.training.finite_json import finite_json
from harness.training.recipe_file import TrainingError

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
    start: float = math.nan
    """Mean quality of the attacked images where their attacks began, in label units; nan where it is not known."""


class StepLog:
    """Appends steps to the file of a run folder.

    Args:
        folder: The run folder.
        begun: Steps of the checkpoint from which training goes on: later lines are cut off.

    Raises:
        TrainingError: On entering, a line that is there cannot be read.
    """

    def __init__(self, folder: Path, begun: int) -> None:
        self._path = folder / STEPS
        self._begun = begun
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        kept = [finite_json(row) + "\n" for row in logged(self._path) if row["step"] < self._begun]
        write_whole(self._path, "".join(kept).encode())
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


def logged(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a log, one a line; none without a file, nor of a last line that a kill cut short.

    Raises:
        TrainingError: Another line cannot be read; names it and the cure.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{shown(path)}: cannot be read ({error}). Remove the run folder, or give another with --out."
        ) from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError("no object with a whole number 'step'")
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise TrainingError(
                f"{shown(path)}, line {number}: {error}. Remove the line, or train again into another folder."
            ) from error
        yield row
