"""Training that keeps the slope of the score small: no attack, a penalty on the norm of its gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.recipes.clean import regression
from defenses.recipes.passes import UniformRecipe, check_shares
from harness.contracts import Metric, TrainingBatch, register

_SMALLEST = 1e-12
"""Length of a gradient below which it has no direction."""


@register("norm_regularised")
@dataclass(frozen=True)
class NormRegularised(UniformRecipe):
    """Eq. 5 + weight x mean(((f(x + h g/|g|) - f(x)) / h)^2) on clean images; g is the gradient of the quality f at x.

    The squared L2 norm of the gradient by a finite difference along it, after Liu et al. 2024 (norm regularisation
    training, there of the L1 norm): its gradient in the weights is of first order, so a metric whose backward pass has
    no backward pass of its own can be trained, too. g is a constant of the step. The metric is in evaluation mode
    throughout, because both ends of a difference must be scored by the same network; so dropout is off.
    """

    cite = "liu2024norm"

    weight: float = 1.0
    """Of the penalty, which is a squared slope: label units per unit of h, squared."""
    h: float = 1.0
    """L2 length of the step in [0, 1] image units; the end of it may leave [0, 1] by as much."""
    alpha: float = 0.7
    """Weight of the MSE within the regression loss; the rest is on the PLCC."""
    batch: int = 16
    """Images in a batch; the recipe file's ``batch``."""

    def __post_init__(self) -> None:
        check_shares(alpha=self.alpha)
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight should be 0 or more, got {self.weight}")
        if not 0 < self.h < float("inf"):
            raise ValueError(f"h should be above 0, got {self.h}")

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Eq. 5 and the penalty; logs ``mse``, ``plcc`` and ``gradient_norm``, the root of the mean square."""
        images = batch["clean"].detach().requires_grad_(True)
        with evaluating(metric):
            reference = metric.encode(batch["ref"])
            quality = metric.score(reference, images)
            (slope,) = torch.autograd.grad(quality.sum(), images, retain_graph=True)
            length = slope.flatten(1).norm(dim=1).clamp_min(_SMALLEST).view(-1, 1, 1, 1)
            ahead = metric.score(reference, (images + self.h * slope / length).detach())
        loss, figures = regression(quality, batch["target"], self.alpha)
        squared = ((ahead - quality) / self.h).square().mean()
        return loss + self.weight * squared, {**figures, "gradient_norm": squared.detach().sqrt()}


@contextlib.contextmanager
def evaluating(metric: Metric) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in metric.modules()}
    metric.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
