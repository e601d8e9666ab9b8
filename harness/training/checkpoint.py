"""Where a killed training goes on: metric, link, best weights so far and Adam's moments, in one sealed file.

One whose seal does not fit is damaged: it says so once and counts as not there, so the training begins anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from harness.engine import seal
from harness.files import write_whole
from harness.training.finite_json import finite_json
from harness.training.measures import Validation
from harness.training.overheard import NO_WINDOW
from harness.training.recipe_file import TrainingError
from harness.wording import tell

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
    # Within the one entry: safetensors keeps several in an order that changes from process to process.
    figures[seal.KEY] = seal.unfilled(_FILE)
    write_whole(folder / _FILE, seal.filled(save(tensors, {"training": finite_json(figures)}), _FILE))
    lines = [finite_json(point._asdict()) for point in state.history]
    write_whole(folder / HISTORY, ("\n".join(lines) + "\n").encode())


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint of a run folder, if it has one that is whole.

    Raises:
        TrainingError: It is no checkpoint, or of a training with another identity.
    """
    if not has_checkpoint(folder):
        return None
    content = (folder / _FILE).read_bytes()
    if wrong := _damage(content):
        tell(f"note: {folder / _FILE}: damaged ({wrong}); the training begins anew.")
        return None
    if not seal.is_sealed(content):
        tell(
            f"note: {folder / _FILE}: it carries no seal, as an older version wrote it, so damage would not be seen; "
            "the training goes on from it."
        )
    figures = refuse_another(folder, identity)
    tensors = load(content)
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
    """Figures of the checkpoint in a run folder; none where it is damaged.

    Raises:
        TrainingError: It is no checkpoint, or of a training with another identity.
    """
    path = folder / _FILE
    if _damage(path.read_bytes()):
        return {}
    try:
        with safe_open(path, framework="pt") as stored:
            figures: dict[str, Any] = json.loads(stored.metadata()["training"])
        found = figures["identity"]
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path}: no checkpoint of a training ({error}). Remove the file to begin anew.") from error
    if found != identity:
        raise TrainingError(
            f"run folder {folder}: holds a run of another recipe or data set. "
            "Remove the folder, or give the recipe another name."
        )
    return figures


def _damage(content: bytes) -> str:
    """What is wrong with a file that was written as a checkpoint, empty if nothing is or if it carries no seal."""
    if not content:
        return "it is empty"
    return seal.broken(content, _FILE) if seal.is_sealed(content) else ""


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
