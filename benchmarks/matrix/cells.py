"""The cells of a matrix: what is trained and evaluated, where each stands, and the recipe file of each."""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from declared import BASE, Evaluation, Matrix, merged
from safetensors.torch import load_file, save_file

from harness.errors import UserError
from harness.files import write_whole

PLAN, CHOICE = "plan.json", "rate.json"


class Cell(NamedTuple):
    """One arm trained on one member."""

    arm: str
    member: int

    @property
    def name(self) -> str:
        """ARM@MEMBER."""
        return f"{self.arm}@{self.member}"


@dataclass(frozen=True)
class Work:
    """A matrix and the folder it is worked out in.

    Attributes:
        matrix: What is asked for.
        folder: Holds recipe files, run folders, weights, and the runs of the evaluation.
    """

    matrix: Matrix
    folder: Path

    @functools.cached_property
    def dropped(self) -> Sequence[str]:
        """Names of cells that the plan gave up."""
        path = self.folder / PLAN
        return tuple(json.loads(path.read_text())["dropped"]) if path.is_file() else ()

    def cells(self, *, with_base: bool = True) -> list[Cell]:
        """Every cell that is trained: bases, then arms that all members have, member by member, then the others."""
        count = self.matrix.members.count
        found = [Cell(BASE, member) for member in range(count)] if with_base else []
        of = {name: arm.members or count for name, arm in self.matrix.arms.items()}
        for whole in (True, False):
            for member in range(count):
                found += [Cell(name, member) for name, n in of.items() if member < n and (n >= count) == whole]
        return [cell for cell in found if cell.name not in self.dropped]

    def evaluated(self, part: Evaluation, kind: str, *, planned: bool = False) -> list[Cell]:
        """The cells that a part of the evaluation takes: of those, the ones that are trained, or all `planned`."""
        return [
            cell
            for cell in self.cells()
            if (part.arms is None or cell.arm in (BASE, *part.arms))
            and cell.member < (part.members or self.matrix.members.count)
            and f"{kind}/{cell.arm}" not in self.dropped
            and (planned or self.weights(cell).is_file())
        ]

    def untrained(self) -> list[str]:
        """Names of cells that are neither dropped nor trained."""
        return [cell.name for cell in self.cells() if not self.weights(cell).is_file()]

    def run(self, cell: Cell | str) -> Path:
        """The run folder of a training."""
        return self.folder / "training" / (cell if isinstance(cell, str) else cell.name)

    def weights(self, cell: Cell | str) -> Path:
        """The weight file of a training."""
        return self.folder / "weights" / f"{cell if isinstance(cell, str) else cell.name}.safetensors"

    def dataset(self, member: int) -> dict[str, Any]:
        """The data set as a member sees it."""
        folds = self.matrix.members.folds
        return {**self.matrix.dataset, **({"folds": folds, "fold": member} if folds else {})}

    def recipe(self, cell: Cell, name: str | None = None, **changed: Any) -> Path:
        """Write the recipe file of a cell.

        Args:
            cell: The cell.
            name: What the training is called; the cell's name by default.
            **changed: Keys that differ from the matrix file's.

        Returns:
            The path of the recipe file.
        """
        name = name or cell.name
        metric = self.matrix.metric.model_dump(exclude_none=True)
        if cell.arm != BASE:
            metric["weights"] = str(self.start(cell))
        chosen = self.folder / CHOICE
        if cell.arm != BASE and "learning_rate" not in changed and chosen.is_file():
            changed["learning_rate"] = json.loads(chosen.read_text())["learning_rate"]
        content = {
            **merged(self.matrix.keys(cell.arm), changed),
            "name": f"{self.matrix.name}.{name}".replace("@", ".").replace("/", "."),
            "metric": metric,
            "dataset": self.dataset(cell.member),
            "seed": cell.member,
            "threads": 1,
            "output": str(self.weights(name).with_suffix("")),
        }
        path = self.folder / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump(content, sort_keys=False).encode())
        return path

    def start(self, cell: Cell) -> Path:
        """The base weights of a cell's member, in the label scale of its arm."""
        base, scale = self.weights(Cell(BASE, cell.member)), self.matrix.label_scale(cell.arm)
        own = self.matrix.label_scale(BASE)
        if scale == own:
            return base
        if self.matrix.head is None:
            raise UserError(
                f"arm '{cell.arm}' has a label scale of its own. Say under `head` which weights are scaled."
            )
        path = base.with_name(f"base@{cell.member}.on-{scale[0]:g}-{scale[1]:g}.safetensors")
        if base.is_file() and not path.is_file():
            save_file(on_scale(load_file(base), self.matrix.head, own, scale), path)
        return path


def on_scale(
    weights: dict[str, torch.Tensor], head: str, own: tuple[float, float], scale: tuple[float, float]
) -> dict[str, torch.Tensor]:
    """Weights of the same metric after the affine map between two label scales, by its last linear layers alone.

    Args:
        weights: A state dict.
        head: Shell pattern on the names of the last layers; the score is a mean of their outputs, with weights that
            add up to 1.
        own: The scale the weights are in, [low, high].
        scale: The scale they should be in.

    Raises:
        UserError: No weight has such a name.
    """
    factor = (scale[1] - scale[0]) / (own[1] - own[0])
    chosen = fnmatch.filter(weights, head)
    if not chosen:
        raise UserError(f"head: no weight is called {head}. Name the last linear layers.")
    found = dict(weights)
    for name in chosen:
        shifted = scale[0] - own[0] * factor if name.endswith("bias") else 0.0
        found[name] = weights[name] * factor + shifted
    return found
