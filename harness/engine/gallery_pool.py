"""From which images the gallery of a report is chosen: a bounded pool of attacked images, kept while a run goes on.

Of every metric one attacked scorer on one data set competes, at one budget. Of each image and direction the pool holds
what the attack that went furthest in 8 bits left, whatever order the attacks come in and however often one is done
again, so that kills and the number of workers change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.suite.identity import identity
from harness.suite.plan import Cell, Plan, ScorerSpec, SplitSpec
from harness.wording import usual_of

POOL_SAMPLES = 128
"""Samples of a data set, first in hash order, that compete: references take turns among them."""
POOL_BYTES = 256 << 20
"""Of disk that the pools of a run may take between them, until the gallery is chosen."""
_MOST_BYTES = 16 << 20
"""Of these, what a metric may take in one direction."""


@dataclass(frozen=True)
class Contest:
    """What competes for the pictures of one metric.

    Attributes:
        metric: Its label.
        cells: Attacked cells, at one budget.
        controls: Sign -> the control cell that an attack of this sign is held against: restore for +1, noise for -1.
        others: Label -> how to build it, of the run's other metrics, which are asked what they say.
    """

    metric: str
    cells: tuple[Cell, ...]
    controls: Mapping[int, Cell]
    others: Mapping[str, ScorerSpec]

    @property
    def split(self) -> SplitSpec:
        """Where the images come from."""
        return self.cells[0].split

    @property
    def scorer(self) -> ScorerSpec:
        """What is attacked."""
        return self.cells[0].scorer


@dataclass(frozen=True)
class Pool:
    """What a worker has to know of it.

    Attributes:
        cells: Ids of the cells that compete.
        quota: Bytes of images that one metric may keep in one direction.
    """

    cells: frozenset[str]
    quota: int

    def takes(self, cell: Cell, rank: int, image: Tensor) -> bool:
        """Whether an image of a cell competes.

        Args:
            cell: The cell.
            rank: Place of its sample in the split.
            image: The image, 3 x H x W: of samples as large as this one, those before it have to fit too.
        """
        return cell.id in self.cells and rank < POOL_SAMPLES and (rank + 1) * image.numel() <= self.quota


def contests(plan: Plan) -> tuple[Contest, ...]:
    """One for each metric that is attacked, in the plan's order: on its first data set, without a defense if it can."""
    grounds: dict[str, dict[tuple[str, str], list[Cell]]] = {}
    for cell in plan.cells:
        if cell.attack and cell.scorer.key == cell.source.key and not (cell.for_verdicts or cell.for_maps):
            own = grounds.setdefault(cell.scorer.metric.label, {})
            own.setdefault((cell.split.key, cell.scorer.key), []).append(cell)
    found = []
    for metric, by_scorer in grounds.items():
        undefended = [cells for cells in by_scorer.values() if cells[0].scorer.label == metric]
        cells = [*undefended, *by_scorer.values()][0]
        attacked = [cell for cell in cells if cell.attack and not cell.attack.control]
        if attacked:
            found.append(_contest(metric, attacked, cells, plan))
    return tuple(found)


def _contest(metric: str, attacked: Sequence[Cell], cells: Sequence[Cell], plan: Plan) -> Contest:
    norm, eps = budget_shown([(cell.norm, cell.eps) for cell in attacked])
    here = [cell for cell in cells if (cell.norm, cell.eps) == (norm, eps)]
    named = {cell.attack.name: cell for cell in reversed(here) if cell.attack and cell.attack.control}
    controls = {sign: named[name] for sign, name in ((1, "restore"), (-1, "noise")) if name in named}
    split = attacked[0].split.key
    plain = [cell.scorer for cell in plan.cells if cell.split.key == split and not cell.for_maps]
    others = {spec.label: spec for spec in plain if spec.label == spec.metric.label != metric}
    competing = [cell for cell in here if cell.attack and not cell.attack.control]
    return Contest(metric, tuple(competing), controls, others)


def budget_shown(budgets: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """The (norm, eps) that pictures are shown at, as reports begin with: in linf if any is, 8/255, else the largest."""
    norm = "linf" if any(norm == "linf" for norm, _ in budgets) else budgets[0][0]
    return norm, usual_of(eps for other, eps in budgets if other == norm)


def pool_of(plan: Plan) -> Pool:
    """The pool of a plan."""
    competing = contests(plan)
    pools = {pool_name(cell) for one in competing for cell in one.cells}
    quota = min(_MOST_BYTES, POOL_BYTES // max(len(pools), 1))
    return Pool(frozenset(cell.id for one in competing for cell in one.cells), quota)


def pool_name(cell: Cell) -> str:
    """What the pool is called that a cell's images compete in: cells that differ in the attack alone share it."""
    parts = {"split": cell.split.key, "source": cell.source.key, "endpoint": cell.endpoint, "patch": cell.patch}
    return identity("pool", {**parts, "norm": cell.norm, "eps": cell.eps, "eot": cell.eot})


Candidates = dict[str, tuple[str, float, Tensor]]
"""Item -> (id of the cell, how far it moved in 8 bits along its sign, the attacked image: uint8, 3 x H x W)."""


def merged_candidates(known: Candidates, new: Candidates) -> Candidates:
    """Of each item the one that moved further; of two alike the one whose cell's id comes first."""
    merged = dict(known)
    for item, one in new.items():
        if item not in merged or (-one[1], one[0]) < (-merged[item][1], merged[item][0]):
            merged[item] = one
    return merged


def candidate_tensors(candidates: Candidates) -> dict[str, Tensor]:
    """Candidates as a file holds them."""
    found = {f"{cell}/{item}": image for item, (cell, _, image) in candidates.items()}
    return found | {
        f"moved/{item}": torch.tensor(moved, dtype=torch.float64) for item, (_, moved, _) in candidates.items()
    }


def candidates_in(tensors: Mapping[str, Tensor]) -> Candidates:
    """What `candidate_tensors` made."""
    found = {}
    for name, tensor in tensors.items():
        cell, _, item = name.partition("/")
        if cell != "moved" and f"moved/{item}" in tensors:
            found[item] = (cell, float(tensors[f"moved/{item}"]), tensor)
    return found
