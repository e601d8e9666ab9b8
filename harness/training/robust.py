"""Robust validation: how far PGD moves the metric on a fixed part of the validation split, and what order it leaves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.contracts import Attack, Entry, Metric, Norm
from harness.plugins.registry import Registry
from harness.statistics.pairs import pair_counts
from harness.statistics.two_afc import hard_accuracy
from harness.training.images import ImageCache
from harness.training.inner import Inner, Spent
from harness.training.recipe_file import EPS, RecipeFile, RobustUse

VALIDATED_BY = "pgd"
"""The attack of robust validation."""
_AT_ONCE = 16
_REACH = 2.5
"""Steps of PGD together, in radii: enough to cross the ball and turn once."""

_Floats = NDArray[np.float64]


class Robustness(NamedTuple):
    """Figures of one robust validation."""

    shift_up: float
    """Mean change of quality by the attack upwards, over the standard deviation of clean quality."""
    shift_down: float
    pair: float
    """Robust pair accuracy, the better image lowered and the worse one raised; of triplets the hard 2AFC accuracy."""


@dataclass(frozen=True)
class _Task:
    """One image to attack."""

    id: str
    ref: Tensor
    dist: Tensor
    sign: float


class RobustValidation:
    """PGD in both directions on a part of the validation split, on its central crops where the recipe file crops.

    Args:
        use: The section `robust` of the recipe file.
        file: The recipe file.
        entries: The validation split.
        images: Where decoded images are kept.
        registry: Where PGD comes from.
        device: Where the metric is.
    """

    def __init__(
        self,
        use: RobustUse,
        file: RecipeFile,
        entries: Sequence[Entry],
        images: ImageCache,
        registry: Registry,
        device: torch.device,
    ) -> None:
        self._entries, self._images, self._crop, self._device = (
            stratified(entries, use.limit),
            images,
            file.crop,
            device,
        )
        eps, norm = _ball(use, file)
        sizes = {"step_size": min(_REACH * eps / use.steps, 1.0), "l2_step": min(_REACH / use.steps, 2.0)}
        attack: Attack = registry.attack(VALIDATED_BY).build({"steps": use.steps, "keep": "best", **sizes})
        self._inner = Inner(attack, eps, norm, "up", "both", file.seed)

    def __call__(self, metric: Metric) -> tuple[Robustness, Spent]:
        """The figures, and what the attacks cost.

        Args:
            metric: As quality; left in evaluation mode.
        """
        judged = self._entries[0].judge is not None
        names = ("p0", "p1") if judged else ("up", "down")
        tasks: list[_Task] = []
        for entry in self._entries:
            ref, *shown = self._shown(entry)
            signs = (_turning(entry), -_turning(entry)) if judged else (1.0, -1.0)
            for name, dist, sign in zip(names, shown if judged else shown * 2, signs, strict=True):
                tasks.append(_Task(f"val/{entry.id}/{name}", ref, dist, sign))
        clean, attacked, spent = self._attack(metric, tasks)
        clean, attacked = clean.reshape(-1, 2), attacked.reshape(-1, 2)
        spread = float(clean.std()) or float("nan")
        if judged:
            judge = np.array([entry.judge for entry in self._entries])
            rejected_first = judge[:, None] > 0.5
            raised = np.where(rejected_first, attacked - clean, (attacked - clean)[:, ::-1])
            shifts = raised.mean(axis=0) / spread
            return Robustness(
                float(shifts[0]), float(shifts[1]), hard_accuracy(attacked[:, 0], attacked[:, 1], judge)[0]
            ), spent
        shifts = (attacked - clean).mean(axis=0) / spread
        opinion = np.array([entry.opinion for entry in self._entries])
        up, down = attacked.T
        pair = pair_counts(opinion, down, up, np.zeros(len(opinion), dtype=np.int64), 1).accuracy()
        return Robustness(float(shifts[0]), float(shifts[1]), pair), spent

    def _shown(self, entry: Entry) -> Tensor:
        """The images of an entry, P x 3 x H x W, cut to their centre where training crops."""
        item = self._images.item(entry)
        if self._crop is None:
            return item
        top, left = ((side - self._crop) // 2 for side in item.shape[2:])
        return item[:, :, top : top + self._crop, left : left + self._crop]

    def _attack(self, metric: Metric, tasks: Sequence[_Task]) -> tuple[_Floats, _Floats, Spent]:
        """Quality before and after of every task, and the cost; a result that gains nothing gives way to the start."""
        before, after, spent = [], [], Spent()
        for _, same in itertools.groupby(tasks, key=lambda task: task.dist.shape):
            run = list(same)
            for part in (run[i : i + _AT_ONCE] for i in range(0, len(run), _AT_ONCE)):
                ref, dist = (torch.stack([getattr(t, key) for t in part]).to(self._device) for key in ("ref", "dist"))
                sign = torch.tensor([task.sign for task in part], device=self._device)
                found = self._inner.attacked(metric, ref, dist, sign, [task.id for task in part], 1.0)
                with torch.no_grad():
                    reference = metric.encode(ref)
                    clean, attacked = metric.score(reference, dist), metric.score(reference, found.images)
                attacked = torch.where(sign * attacked > sign * clean, attacked, clean)
                before.append(clean.cpu().double())
                after.append(attacked.cpu().double())
                spent += found.spent
        return torch.cat(before).numpy(), torch.cat(after).numpy(), spent


def stratified(entries: Sequence[Entry], limit: int) -> list[Entry]:
    """At most `limit` entries, evenly spread over the order of their labels; the same ones every time."""
    ordered = sorted(entries, key=lambda e: (e.opinion if e.opinion is not None else e.judge, e.id))
    count = min(limit, len(ordered))
    return [ordered[int((i + 0.5) * len(ordered) / count)] for i in range(count)]


def _ball(use: RobustUse, file: RecipeFile) -> tuple[float, Norm]:
    """Radius and norm: its own, or those of the inner attack."""
    inner = file.inner
    eps = use.eps if use.eps is not None else inner.eps if inner is not None else EPS
    norm: Norm = use.norm or (inner.norm if inner is not None else "linf")
    return eps, norm


def _turning(entry: Entry) -> float:
    """The direction of p0 that turns the judge round; 0 where judges are split evenly."""
    assert entry.judge is not None
    return float(np.sign(entry.judge - 0.5))
