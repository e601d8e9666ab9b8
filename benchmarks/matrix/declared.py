"""What a matrix file says: arms, members, the choice of the rate, evaluation, contrasts, and what to drop first."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic

from harness.suite.compose import FileKind, read_as
from harness.suite.layout_names import NAME
from harness.training.recipe_file import RecipeFile, TrainedMetric
from harness.wording import did_you_mean

MATRICES = FileKind("matrix", "name, metric, dataset, base, arms, ...", "suites/train/defenses_mini/matrix.yaml")
BASE = "base"
_OURS = ("name", "metric", "dataset", "seed", "threads", "output", "folds", "seeds", "resplit")
"""Keys of a recipe file that the matrix fills in itself."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _of_recipe(keys: Mapping[str, Any]) -> dict[str, Any]:
    known = [key for key in RecipeFile.model_fields if key not in _OURS]
    for key in keys:
        if key not in known:
            raise ValueError(f"'{key}' is no key of a recipe file that may stand here.{did_you_mean(key, known)}")
    return dict(keys)


_Recipe = Annotated[dict[str, Any], pydantic.AfterValidator(_of_recipe)]
_Count = pydantic.PositiveInt


class Members(_Strict):
    """What is trained several times over: seeds of batches, or folds of the data set."""

    seeds: _Count | None = None
    folds: Annotated[int, pydantic.Field(ge=3)] | None = None

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.seeds is None) == (self.folds is None):
            raise ValueError("should give either `seeds` or `folds`")
        return self

    @property
    def count(self) -> int:
        """How many there are."""
        return self.seeds or self.folds or 0

    @property
    def word(self) -> str:
        """What one is called."""
        return "seed" if self.seeds else "fold"


class Arm(_Strict):
    """One way to train: keys of a recipe file over those of `common`."""

    says: str = ""
    """In words, for tables."""
    members: _Count | None = None
    """Trained on the first so many members; on all by default."""
    keys: _Recipe = {}


class Rate(_Strict):
    """The learning rate of all arms: the one of the highest mean robust validation pair accuracy.

    Only rates count at which every arm of the grid keeps a validation SROCC of at least the base's minus `may_lose`;
    if none does, the lowest is taken.
    """

    grid: Annotated[list[pydantic.PositiveFloat], pydantic.Field(min_length=1)]
    arms: Annotated[list[str], pydantic.Field(min_length=1)]
    member: pydantic.NonNegativeInt = 0
    steps: _Count
    may_lose: float


class Evaluation(_Strict):
    """A suite on the test split; attacks as a suite lists them."""

    attacks: Annotated[list[Any], pydantic.Field(min_length=1)]
    limit: _Count
    members: _Count | None = None
    """The first so many members; all by default."""
    arms: list[str] | None = None
    """All by default."""
    shares: list[Annotated[float, pydantic.Field(gt=0, le=1)]] = []
    """Of a frontier: how much of the arm's weights stands in the mixture with the base's."""


class Matrix(_Strict):
    """A matrix file, checked."""

    name: Annotated[str, pydantic.Field(pattern=NAME)]
    metric: TrainedMetric
    dataset: dict[str, Any]
    members: Members
    head: str | None = None
    """Shell pattern on the weights of the last linear layer, for arms on another label scale than the base's."""
    base: _Recipe
    common: _Recipe
    arms: dict[Annotated[str, pydantic.Field(pattern=NAME)], Arm]
    rate: Rate | None = None
    budgets: dict[str, list[float]]
    evaluation: Evaluation
    check: Evaluation | None = None
    frontier: Evaluation | None = None
    contrasts: dict[str, Annotated[list[str], pydantic.Field(min_length=2, max_length=2)]] = {}
    """What it asks -> [arm, arm it is compared with]."""
    drop: list[str] = []
    """Shell patterns on names of cells, `ARM@MEMBER`, `check/ARM` or `frontier/ARM`, in the order they are given up."""

    @pydantic.model_validator(mode="after")
    def _known(self) -> Self:
        arms = [BASE, *self.arms]
        if BASE in self.arms:
            raise ValueError("'base' is the metric before an arm is trained, and none of `arms`")
        named = [*(self.rate.arms if self.rate else ()), *(arm for pair in self.contrasts.values() for arm in pair)]
        for part in (self.evaluation, self.check, self.frontier):
            named += (part.arms or ()) if part else ()
        for name in named:
            if name not in arms:
                raise ValueError(f"'{name}' is no arm.{did_you_mean(name, arms)}")
        if self.rate is not None and self.rate.member >= self.members.count:
            raise ValueError(f"rate.member {self.rate.member}: members are numbered 0 to {self.members.count - 1}")
        return self

    def keys(self, arm: str) -> dict[str, Any]:
        """The keys of an arm's recipe file but those that a cell fills in; a null takes one of `common` away."""
        own = self.base if arm == BASE else merged(self.common, self.arms[arm].keys)
        return {key: value for key, value in own.items() if value is not None}

    def label_scale(self, arm: str) -> tuple[float, float]:
        """What opinions 0 and 1 are to an arm."""
        low, high = self.keys(arm).get("label_scale", RecipeFile.model_fields["label_scale"].default)
        return float(low), float(high)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged key by key; a mapping that names another plugin replaces the one under it."""
    found = copy.deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both and "name" not in value else copy.deepcopy(value)
    return found


def read_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        UserError: It cannot be read, or has unknown keys or wrong values; all of them with their lines.
    """

    def prepare(value: dict[str, Any]) -> None:
        if isinstance(value.get("metric"), str):
            value["metric"] = {"name": value["metric"]}

    return read_as(path, MATRICES, Matrix, prepare)
