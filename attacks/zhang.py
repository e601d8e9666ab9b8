"""Zhang et al.: move the score while another metric sees no change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.ascent import Adam, Start, check_steps, may_leave, moved_off, per_image, starting_points
from harness.contracts import Attack, Budget, Metric, Objective, SampleRng, Tree, UserError, register


@register("zhang")
@dataclass(frozen=True)
class Zhang(Attack):
    """Perceptual attack of Zhang et al. 2022 (NeurIPS, on no-reference metrics), kept within the budget.

    Maximises J / range - weight D(x', x), by Adam from the distorted image x, projected onto the budget after each
    step; `range` is that of clean quality. D is the drop of a metric that sees x as the reference and scores it s:
    D = |s - score(x')| / max(1, |s|), that is 1 - SSIM by default, the distance itself for metrics that are 0 for equal
    images, and for PSNR, here 100 dB for equal images, the share of them lost. Returns the last iterate.

    Attributes:
        fidelity: Registered name of the metric behind D.
        weight: Weight of D (mu).
        rate: Adam's step size, in [0, 1] image units.
        steps: Adam steps.
        start: "zero" (the distorted image), "random" (uniform in the ball) or "reference" (the point of the ball
            nearest to the reference). Where the gradient of J there is 0 it starts at random, but for a run upwards
            from the reference.
    """

    cite = "zhang2022perceptual"
    version: ClassVar[int] = 2
    neutral: ClassVar[Mapping[str, Any]] = {"start": "zero"}

    fidelity: str = "ssim"
    weight: float = 1.0
    rate: float = 0.005
    steps: int = 10
    start: Start = "zero"

    def __post_init__(self) -> None:
        if not self.fidelity:
            raise ValueError("fidelity should be the name of a metric, such as ssim")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight should be at least 0 and finite, got {self.weight:g}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate should be above 0 and at most 1, got {self.rate:g}")
        check_steps(steps=self.steps)

    def uses_best(self) -> bool:
        """Never: the image of highest J need not be the faithful one."""
        return False

    def uses_metrics(self) -> tuple[str, ...]:
        """The metric behind D."""
        return (self.fidelity,)

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend the sum of both terms for the given steps."""
        change = _Change(self.fidelity, objective.plugin(self.fidelity), images)
        adam, attacked = Adam(self.rate), starting_points(self.start, objective, images, budget, rng)
        for step in range(self.steps):
            value, gradient = objective.gradient(attacked)
            if step == 0 and self.start != "random":
                leaving = may_leave(self.start, objective)
                attacked, _, gradient = moved_off(objective, attacked, value, gradient, images, budget, rng, leaving)
            rise = gradient / (objective.scale or 1.0) - self.weight * change.gradient(attacked)
            attacked = budget.project(attacked + adam.step(rise), images)
        return attacked


class _Change:
    """D(x', x) of a batch.

    Args:
        name: What messages call the metric.
        metric: The metric.
        images: x, N x 3 x H x W.

    Raises:
        UserError: The metric cannot be followed, scores no images so small, or is not finite for equal images.
    """

    def __init__(self, name: str, metric: Metric, images: Tensor) -> None:
        if not metric.differentiable:
            raise UserError(f"zhang: fidelity '{name}' is not differentiable. Take one that is, such as ssim.")
        height, width = images.shape[-2:]
        if min(height, width) < metric.minimum_size:
            raise UserError(
                f"zhang: fidelity '{name}' needs images of at least {metric.minimum_size} px a side, and these have "
                f"{width} x {height}. Take another, such as psnr, or larger images."
            )
        self._metric = metric
        with torch.no_grad():
            self._reference: Tree = metric.encode(images)
            equal = metric.score(self._reference, images)
        if not bool(equal.isfinite().all()):
            raise UserError(
                f"zhang: fidelity '{name}' has no finite score for equal images. Take another, such as ssim."
            )
        self._unit = (-1.0 if metric.higher_is_better else 1.0) / equal.abs().clamp_min(1.0)

    def gradient(self, attacked: Tensor) -> Tensor:
        """dD/dx', N x 3 x H x W; 0 where it does not exist, as at the kink of a distance of 0."""
        leaf = attacked.detach().requires_grad_(True)
        with torch.enable_grad():
            score = self._metric.score(self._reference, leaf)
            (slope,) = torch.autograd.grad(score.sum(), leaf)
        return (per_image(self._unit) * slope).nan_to_num(0.0, 0.0, 0.0)
