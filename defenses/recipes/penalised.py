"""Adversarial training with penalised labels (AT-): the more an attack is seen, the lower its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.recipes.clean import regression
from defenses.recipes.passes import UniformRecipe, check_shares
from harness.contracts import Entry, Metric, TrainingBatch, UserError, register
from harness.plugins.build import build_metric

CONSTANT = "constant"
"""The distance that is the same for every image."""
_NEAR_ONE = 0.01
_SIDE = 64
"""Of the image that a metric compares with itself, unless it needs a larger one."""


@register("penalised")
@dataclass(frozen=True)
class Penalised(UniformRecipe):
    """Eq. 5 on attacked images with penalised labels and, beside them, on the same images unattacked.

    The label of an attacked image is clip(y - penalty x D(attacked, unattacked) x (high - low), low, high), with the
    lowest and the highest label of the train split: the label penalty of Chistyakova et al. (AT-), whose own distance
    is 1 - SSIM. D compares with the unattacked image and not with the reference, and no gradient goes through it.
    """

    cite = "chistyakova2024increasing"
    attacks: ClassVar[bool] = True
    penalty: float = 1.0
    """Labels lost at a distance of 1, as a share of their range."""
    distance: str = "ssim"
    """A registered metric such as ssim, ms_ssim, lpips-alex or lpips-vgg, clamped to [0, 1], or `constant`.

    Of a metric of which higher is better, D is 1 - score: it must be 1 for an image and itself, like SSIM."""
    constant: float = 0.05
    """D of every image where `distance` is `constant`."""
    alpha: float = 0.7
    """Weight of the MSE; the rest is on the PLCC."""
    batch: int = 8
    """Images in a batch, each of them attacked and unattacked; the recipe file's ``batch``."""

    def __post_init__(self) -> None:
        check_shares(alpha=self.alpha, constant=self.constant)
        if not 0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty should be 0 or more, got {self.penalty}")

    def uses_metrics(self) -> tuple[str, ...]:
        """The metric that D is made of, unless it is constant."""
        return () if self.distance == CONSTANT else (self.distance,)

    def check(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Whether 1 - score is a distance; the split is not looked at.

        Raises:
            ValueError: Of an image and itself the metric does not say 1: of decibels, say, no label would be penalised.
        """
        try:
            judge = None if self.distance == CONSTANT else build_metric(self.distance, {})
        except UserError:  # unknown, which is told where it is looked up, or of a plugin file
            return ()
        if judge is None or not judge.higher_is_better:
            return ()
        side = max(judge.minimum_size, _SIDE)
        image = torch.linspace(0.2, 0.8, 3 * side * side).view(1, 3, side, side)
        with torch.no_grad():
            same = float(judge.eval()(ref=image, dist=image))
        if not abs(same - 1) <= _NEAR_ONE:
            raise ValueError(
                f"distance '{self.distance}' gives an image compared with itself {same:.4g} and not 1, so 1 - score is "
                "no distance. Take ssim, ms_ssim, lpips-alex, lpips-vgg or constant."
            )
        return ()

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Eq. 5 on both halves at once; logs ``mse``, ``plcc`` and ``penalty``, the mean of what labels lost."""
        target = batch["target"]
        lowered = self.penalised(batch)
        reference = metric.encode(batch["ref"])
        prediction = torch.cat([metric.score(reference, batch[part]) for part in ("dist", "clean")])
        loss, figures = regression(prediction, torch.cat((lowered, target)), self.alpha)
        return loss, {**figures, "penalty": (target - lowered).mean()}

    @torch.no_grad()
    def penalised(self, batch: TrainingBatch) -> Tensor:
        """Labels of the attacked images, [N] in label units."""
        low, high = batch["limits"].unbind()
        lost = self.penalty * self._distances(batch) * (high - low)
        return torch.minimum(torch.maximum(batch["target"] - lost, low), high)

    def _distances(self, batch: TrainingBatch) -> Tensor:
        """D of each attacked image from the same image unattacked, [N] in [0, 1]."""
        if self.distance == CONSTANT:
            return torch.full_like(batch["target"], self.constant)
        judge = batch.plugin(self.distance)
        score = judge(ref=batch["clean"], dist=batch["dist"])
        distances: Tensor = 1 - score if judge.higher_is_better else score
        return distances.clamp(0, 1)
