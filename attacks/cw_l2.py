"""C&W in its L2 form: the shortest change that raises J, at the price at which it is as long as the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.ascent import TINY, Adam, lengths, moved_off, per_image
from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register

FACTOR = 4.0
"""By what the price changes while the budget has been missed to one side alone."""


@register("cw_l2")
@dataclass(frozen=True)
class CWL2(Attack):
    """Carlini & Wagner 2017 (section VI-A) for a scalar score: minimise ||delta||^2 + c relu(tau - J), for the right c.

    Tau as in `cw`. The original looks for the smallest c that changes the class; here c is the one at which delta is as
    long as the radius, found per sample by bisection from c = 2 eps / ||dJ/dx||, which is exact where J is linear.
    Where dJ/dx is 0 at the image itself, it is taken at a random point of the ball, and searches begin there. The box
    is kept by projection (their section V-B, first method): tanh has no slope at pixels that are 0 or 1. Each search
    ends with delta brought to the length of the radius, and the best image evaluated is returned.

    Attributes:
        searches: Values of c tried.
        steps: Adam steps for each.
        rate: Adam's first step size, as a share of the root mean square change at the radius; it falls to 0 linearly.
    """

    cite = "carlini2017towards"
    version: ClassVar[int] = 2
    norms: ClassVar[frozenset[Norm]] = frozenset({"l2"})

    searches: int = 5
    steps: int = 50
    rate: float = 0.6

    def __post_init__(self) -> None:
        if self.searches < 1:
            raise ValueError(f"searches should be at least 1, got {self.searches}")
        if self.steps < 1:
            raise ValueError(f"steps should be at least 1, got {self.steps}")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate should be above 0 and finite, got {self.rate:g}")

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Search c by bisection, on a logarithmic scale."""
        eps = per_image(budget.eps)
        value, gradient = objective.gradient(images)
        target = value + (objective.scale or 1.0)
        start, _, gradient = moved_off(objective, images, value, gradient, images, budget, rng)
        price = 2 * eps / lengths(gradient).clamp_min(1e-12)
        low, high = torch.zeros_like(price), torch.full_like(price, torch.inf)
        for _ in range(self.searches):
            delta = self._shortest(objective, images, start - images, eps, price, target)
            length = lengths(delta)
            with torch.no_grad():
                objective(budget.project(images + delta * (eps / length.clamp_min(TINY)), images))
            short = length < eps
            low, high = torch.where(short, price, low), torch.where(short, high, price)
            price = torch.where(high.isinf(), low * FACTOR, torch.where(low > 0, (low * high).sqrt(), high / FACTOR))
        return objective.best()

    def _shortest(
        self, objective: Objective, images: Tensor, delta: Tensor, eps: Tensor, price: Tensor, target: Tensor
    ) -> Tensor:
        """The change that minimises the loss at a price, looked for from `delta` on; N x 3 x H x W."""
        unit = eps / images[0].numel() ** 0.5
        adam = Adam(self.rate)
        for step in range(self.steps):
            value, gradient = objective.gradient(images + delta)
            rise = torch.where(per_image(value < target), price * gradient, 0.0) - 2 * delta
            move = (1 - step / self.steps) * unit * adam.step(rise)
            delta = torch.minimum(torch.maximum(delta + move, -images), 1 - images)
        return delta
