"""Clean training: no attack, the regression loss of Eq. 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.recipes.passes import UniformRecipe, check_shares
from harness.contracts import Metric, TrainingBatch, register

SMALLEST_SPREAD = 1e-6
"""Standard deviation of the targets below which a batch has no correlation to train on."""
_EPSILON = 1e-8
"""Keeps the correlation's denominator, a sum of squared deviations, away from zero."""


@register("clean")
@register("clean-plus", warm=0.0)
@dataclass(frozen=True)
class Clean(UniformRecipe):
    """alpha x MSE - (1 - alpha) x PLCC on clean images (Eq. 5), after a warm start on the MSE alone; uniform batches.

    PLCC's gradient grows as 1 / std(prediction), so from a cold start it shrinks the predictions to a constant: use
    labels on a scale like 1 to 5, and a warm start. `clean-plus` has none: it is trained on from trained weights, as
    long as the recipes that attack are, and shows what the longer training alone does.
    """

    cite = "gushchin_birqa"

    alpha: float = 0.7
    """Weight of the MSE after the warm start."""
    warm: float = 0.3
    """Share of the steps that train on the MSE alone."""
    batch: int = 16
    """Images in a batch; the recipe file's ``batch``."""

    def __post_init__(self) -> None:
        check_shares(alpha=self.alpha, warm=self.warm)

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Eq. 5 on one batch; logs ``mse`` and ``plcc``."""
        prediction = metric(ref=batch["ref"], dist=batch["clean"])
        target = batch["target"]
        warming = float(batch["step"]) < self.warm * float(batch["steps"])
        return regression(prediction, target, alpha=1.0 if warming else self.alpha)


def regression(prediction: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 5, alpha x MSE - (1 - alpha) x PLCC; the MSE alone where the targets are as good as equal.

    Args:
        prediction: Qualities, [N].
        target: Labels in the same units, [N].
        alpha: Weight of the MSE, in [0, 1].

    Returns:
        The loss, and the figures ``mse`` and ``plcc`` without gradient.
    """
    error = (prediction - target).square().mean()
    correlation = differentiable_plcc(prediction, target)
    flat = target.std(correction=0) < SMALLEST_SPREAD
    loss = torch.where(flat, error, alpha * error - (1 - alpha) * correlation)
    return loss, {"mse": error.detach(), "plcc": correlation.detach()}


def differentiable_plcc(prediction: Tensor, target: Tensor) -> Tensor:
    """Pearson's linear correlation of two vectors, 0 where either is constant; its gradient is finite everywhere."""
    x, y = prediction - prediction.mean(), target - target.mean()
    return (x * y).sum() / torch.sqrt((x.square().sum() + _EPSILON) * (y.square().sum() + _EPSILON))
