"""Where a killed training goes on: metric, link, best weights so far and Adam's moments, in one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.files import write_whole
from harness.training.finite_json import finite_json
from harness.training.measures import Validation
from harness.training.overheard import NO_WINDOW
from harness.training.recipe_file import TrainingError

_FILE = "checkpoint.safetensors"
HISTORY = "history.jsonl"
"""One line per validation."""

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training is after one of its validations."""

    identity: str
    """What it must agree with to be continued."""
    step: int
    history: tuple[Validation, ...]
    seconds: float
    metric: Tensors
    best: Tensors
    """Weights of the best validation so far."""
    link: Tensors
    """Empty without a link."""
    best_link: Tensors
    moments: Mapping[int, Tensors]
    """Number of a trained parameter -> Adam's state of it."""
    average: Tensors = field(default_factory=dict)
    """Running mean of metric and link; empty without `ema`."""
    window: Tensor = field(default_factory=lambda: NO_WINDOW)
    """Moments of predictions and labels of the last batches, [batches, 6]."""
    armed: bool = False
    """Whether the alarm over such batches is on."""
    alarm: int | None = None
    """First step at which it fell below."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Totals: forwards, backwards, attack_s, clean and attacked images, and distinct ones."""


def save_checkpoint(folder: Path, state: Checkpoint) -> None:
    """Write a checkpoint, and its history as one line per validation."""
    tensors = {
        **_named("metric.", state.metric),
        **_named("best.", state.best),
        **_named("link.", state.link),
        **_named("best_link.", state.best_link),
        **_named("average.", state.average),
        "window": state.window,
    }
    for index, moments in state.moments.items():
        tensors.update(_named(f"adam.{index}.", moments))
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    figures = {
        "identity": state.identity,
        "step": state.step,
        "history": state.history,
        "seconds": state.seconds,
        "armed": state.armed,
        "alarm": state.alarm,
        "spent": state.spent,
    }
    write_whole(folder / _FILE, save(tensors, {"training": finite_json(figures)}))
    lines = [finite_json(point._asdict()) for point in state.history]
    write_whole(folder / HISTORY, ("\n".join(lines) + "\n").encode())


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint of a run folder, if it has one.

    Raises:
        TrainingError: It is damaged, or of a training with another identity.
    """
    if not has_checkpoint(folder):
        return None
    figures = refuse_another(folder, identity)
    with safe_open(folder / _FILE, framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("adam.", tensors).items():
        index, field = key.split(".")
        moments.setdefault(int(index), {})[field] = value
    return Checkpoint(
        identity=identity,
        step=figures["step"],
        history=tuple(_validation(*point) for point in figures["history"]),
        seconds=figures["seconds"],
        metric=_under("metric.", tensors),
        best=_under("best.", tensors),
        link=_under("link.", tensors),
        best_link=_under("best_link.", tensors),
        moments=moments,
        average=_under("average.", tensors),
        window=tensors.get("window", NO_WINDOW),  # earlier checkpoints had none of these
        armed=figures.get("armed", False),
        alarm=figures.get("alarm"),
        spent=figures.get("spent", {}),
    )


def has_checkpoint(folder: Path) -> bool:
    """Whether a run folder has a checkpoint, of whatever training."""
    return (folder / _FILE).is_file()


def refuse_another(folder: Path, identity: str) -> dict[str, Any]:
    """Figures of the checkpoint in a run folder; its tensors are not read.

    Raises:
        TrainingError: It is damaged, or of a training with another identity.
    """
    path = folder / _FILE
    try:
        with safe_open(path, framework="pt") as stored:
            figures: dict[str, Any] = json.loads(stored.metadata()["training"])
        found = figures["identity"]
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path}: damaged ({error}). Remove the file to begin anew.") from error
    if found != identity:
        raise TrainingError(
            f"run folder {folder}: holds a run of another recipe or data set. "
            "Remove the folder, or give the recipe another name."
        )
    return figures


def _validation(
    step: int,
    figure: float | None,
    spread: float | None,
    loss: float | None,
    collapsed: bool,
    *robust: float | None,
) -> Validation:
    figure, spread, loss = (math.nan if value is None else value for value in (figure, spread, loss))
    return Validation(step, figure, spread, loss, collapsed, *robust)


def _named(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in tensors.items()}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
