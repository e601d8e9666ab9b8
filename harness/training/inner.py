"""The attack inside a training step: the flagged rows of a batch, moved against the metric as it is now.

Every draw follows from (seed, step, row, entry), so a training that was killed meets the same attacks again and nothing
of them is stored. The result is the attack's last word: to keep the better of it and the start would cost a forward
more in every step, and a training has no use for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Metric, Norm, SampleRng, TrainingBatch
from harness.engine.objective import Opinions, ScorerObjective, remembers
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.model import Plugin
from harness.plugins.registry import Registry
from harness.training.recipe_file import InnerUse, TrainingError

Direction = Literal["up", "down", "random_sign", "error"]
_SIGNS: Mapping[str, float] = {"up": 1.0, "down": -1.0}


@dataclass(frozen=True)
class Spent:
    """What attacking cost: evaluations over all samples, and seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.forwards + other.forwards, self.backwards + other.backwards, self.seconds + other.seconds)


class Inner:
    """An attack on rows of training batches.

    Args:
        attack: A white-box attack that learns nothing beforehand.
        eps: Radius of the ball, in [0, 1] image units.
        norm: Its norm.
        direction: Which way quality is pushed; None for triplets.
        which: Of triplets, the patches that are attacked.
        seed: The recipe file's.
        helpers: The metrics that the attack uses beside the one it attacks.
    """

    def __init__(
        self,
        attack: Attack,
        eps: float,
        norm: Norm,
        direction: Direction | None,
        which: Literal["both", "p0"],
        seed: int,
        helpers: Mapping[str, Metric] | None = None,
    ) -> None:
        self.attack, self.eps, self.norm = attack, eps, norm
        self.direction, self.which = direction, which
        self._seed, self.helpers = seed, dict(helpers or {})

    def __call__(
        self, metric: Metric, batch: TrainingBatch, names: Sequence[str], step: int
    ) -> tuple[TrainingBatch, Spent]:
        """The batch with its flagged rows attacked, and what that cost. The metric is left in evaluation mode.

        Args:
            metric: As quality in the label scale.
            batch: As `training_batch` makes it.
            names: The id of each row's entry.
            step: Number of the step.

        Raises:
            TrainingError: The attack's images are not finite.
        """
        rows = batch["attacked"].nonzero().flatten()
        if not len(rows):
            return batch, Spent()
        ids = [f"{step}/{row}/{names[row]}" for row in rows.tolist()]
        return self._triplets(metric, batch, rows, ids) if "judge" in batch else self._pairs(metric, batch, rows, ids)

    def _pairs(
        self, metric: Metric, batch: TrainingBatch, rows: Tensor, ids: Sequence[str]
    ) -> tuple[TrainingBatch, Spent]:
        ref, clean, target = batch["ref"][rows], batch["clean"][rows], batch["target"][rows]
        sign = self._sign(ids, target)
        opinions = Opinions(1.0, 0.0, target) if self.direction == "error" else None
        low, high = batch["limits"].tolist()
        found = self.attacked(metric, ref, clean, sign, ids, high - low, opinions)
        dist, start = batch["dist"].clone(), batch["start"].clone()
        dist[rows], start[rows] = found.images, found.start
        return batch.replaced(dist=dist, start=start), found.spent

    def _triplets(
        self, metric: Metric, batch: TrainingBatch, rows: Tensor, ids: Sequence[str]
    ) -> tuple[TrainingBatch, Spent]:
        """The rejected patch is raised and the preferred one lowered, or p0 alone the way that turns the judge round.

        Where judges are split evenly no patch is the better one, and none is attacked.
        """
        prefers_p1 = (batch["judge"][rows] - 0.5).sign()
        parts = [("p0", prefers_p1), ("p1", -prefers_p1)][: 1 if self.which == "p0" else 2]
        ref = torch.cat([batch["ref"][rows]] * len(parts))
        clean = torch.cat([batch[part][rows] for part, _ in parts])
        sign = torch.cat([sign for _, sign in parts])
        both = [f"{name}#{part}" for part, _ in parts for name in ids]
        found = self.attacked(metric, ref, clean, sign, both, 1.0)
        attacked = torch.where((sign == 0).view(-1, 1, 1, 1), clean, found.images).chunk(len(parts))
        changed = {}
        for (part, _), images in zip(parts, attacked, strict=True):
            changed[part] = batch[part].clone()
            changed[part][rows] = images
        return batch.replaced(**changed), found.spent

    def _sign(self, ids: Sequence[str], target: Tensor) -> Tensor:
        """Direction of each sample, [N]; of `error` that is settled by where its prediction stands."""
        if self.direction == "random_sign":
            return SampleRng.for_samples(self._seed, ids, "train/sign", target.device).signs()
        return torch.full_like(target, _SIGNS.get(str(self.direction), 1.0))

    def attacked(
        self,
        metric: Metric,
        ref: Tensor,
        clean: Tensor,
        sign: Tensor,
        ids: Sequence[str],
        scale: float,
        opinions: Opinions | None = None,
    ) -> AttackedRows:
        """Attack some images.

        Args:
            metric: What is attacked, as quality; left in evaluation mode.
            ref: References, N x 3 x H x W.
            clean: Images to start from, N x 3 x H x W.
            sign: Direction of each, [N].
            ids: What each sample's draws are seeded by.
            scale: Range of quality.
            opinions: Labels, where the error of the prediction is to grow.
        """
        began = time.perf_counter()
        metric.eval()
        scorer = Scorer(metric)
        device = clean.device
        budget = Budget(self.norm, torch.full((len(clean),), self.eps, device=device))
        draws = SampleRng.for_samples(self._seed, ids, "train/defense", device)
        if opinions is not None:
            with torch.no_grad():
                sign = opinions.away(scorer.quality(scorer.encode(ref, draws), clean))
        objective = _Begun(
            scorer,
            ref,
            clean,
            sign,
            budget if remembers(self.attack) else None,
            draws,
            scale=scale,
            build=self.helpers.__getitem__,
            opinions=opinions,
        )
        rng = SampleRng.for_samples(self._seed, ids, "train/attack", device)
        images = budget.project(self.attack.perturb(objective, clean.clone(), budget, rng).detach(), clean)
        finite = images.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            place = ids[int(finite.int().argmin())]  # step/row/entry of a batch
            raise TrainingError(
                f"the inner attack's image of '{place}' is not finite: the training diverged. Lower `learning_rate`."
            )
        ledger = objective.ledger
        extra = len(clean) if opinions is not None else 0
        spent = Spent(int(ledger.forwards.sum()) + extra, int(ledger.backwards.sum()), time.perf_counter() - began)
        start = torch.full_like(sign, torch.nan) if opinions is not None or objective.first is None else objective.first
        return AttackedRows(images.contiguous(), start, spent)


@dataclass(frozen=True)
class AttackedRows:
    """Attacked images."""

    images: Tensor
    """N x 3 x H x W, inside ball and box, without a graph."""
    start: Tensor
    """Quality of the images where the attack began, [N]; nan where that is not known."""
    spent: Spent


class _Begun(ScorerObjective):
    """An objective that remembers the quality of the first whole batch it was asked for."""

    first: Tensor | None = None

    def _remember(self, images: Tensor, value: Tensor) -> None:
        if self.first is None and self._rows is None and value.shape == self.sign.shape:
            self.first = (self.sign * value).detach()
        super()._remember(images, value)


def build_inner(use: InnerUse, kind: str, seed: int, attack: Attack, registry: Registry, device: torch.device) -> Inner:
    """The inner attack of a recipe file.

    Args:
        use: The section `inner`.
        kind: Of the data set.
        seed: Of the member.
        attack: The attack, built and passed by `refuse_attack`.
        registry: Where the metrics it uses come from.
        device: Where it runs.
    """
    kept = {name: default_metric(name, registry, device) for name in attack.uses_metrics()}
    direction = None if kind == "triplets" else (use.direction or "random_sign")
    return Inner(attack, use.eps, use.norm, direction, use.which, seed, kept)


def refuse_attack(use: InnerUse, plugin: Plugin[Attack], attack: Attack, kind: str) -> None:
    """Before the first step: what cannot be an inner attack.

    Raises:
        TrainingError: It learns beforehand, spends queries, is a control, does not work in the norm, or the section has
            a key that means nothing for this kind of data set.
    """
    here = f"inner: the attack '{plugin.name}'"
    if attack.control:
        raise TrainingError(f"{here} is a control and attacks nothing. Take pgd.")
    if attack.fits:
        raise TrainingError(
            f"{here} learns from a whole split before it attacks, which no step can wait for. Take pgd."
        )
    if not attack.needs_gradient or hasattr(attack, "queries"):
        raise TrainingError(
            f"{here} spends queries where training has the gradient. Take a white-box attack: pgd, apgd."
        )
    if use.norm not in attack.norms:
        raise TrainingError(f"{here} works in {', '.join(sorted(attack.norms))}, not in {use.norm}. Change `norm`.")
    if kind == "triplets" and use.direction is not None:
        raise TrainingError("inner: triplets have no `direction`: judges say which patch is raised. Remove the key.")
    if kind == "pairs" and use.which != "both":
        raise TrainingError("inner: `which` is for triplets, and this data set holds pairs. Remove the key.")
