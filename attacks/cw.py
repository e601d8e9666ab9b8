"""C&W in the Linf box: Adam on a variable that cannot leave the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.ascent import Adam, Start, check_steps, moved_off, per_image, starting_points
from harness.contracts import Attack, Budget, Objective, SampleRng, register

INSIDE = 0.9
"""How much of its distance from the middle of the box a pixel starts at: at the edge itself tanh has no slope."""


@register("cw")
@dataclass(frozen=True)
class CW(Attack):
    """Carlini & Wagner 2017 (section V) for a scalar score and an Linf budget.

    x' = middle + half tanh(w) in the box [max(0, x - eps), min(1, x + eps)], in place of their [0, 1], and Adam on w
    minimises relu(tau - J) + penalty mean(delta^2). The margin of classes becomes the distance to tau: J of the start
    plus the range of clean quality, at or beyond its far end, so that nothing stops early inside it. A score without
    bounds, such as psnr's, may reach tau and stop there. Returns the best image evaluated.

    Attributes:
        steps: Adam steps.
        rate: Adam's step size, in w.
        penalty: Weight of the mean squared change; it only breaks ties.
        start: Where it starts: "zero" (the distorted image), "random" (uniform in the ball) or "reference" (the point
            of the ball nearest to the reference, which is evaluated too); where the gradient there is 0, at random.
    """

    cite = "carlini2017towards"
    version: ClassVar[int] = 2
    neutral: ClassVar[Mapping[str, Any]] = {"start": "zero"}

    steps: int = 100
    rate: float = 0.1
    penalty: float = 1e-3
    start: Start = "zero"

    def __post_init__(self) -> None:
        check_steps(steps=self.steps)
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate should be above 0 and finite, got {self.rate:g}")
        if not 0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty should be at least 0 and finite, got {self.penalty:g}")

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Minimise the loss for the given steps."""
        eps = per_image(budget.eps)
        low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
        middle, half = (low + high) / 2, (high - low) / 2
        start = starting_points(self.start, objective, images, budget, rng)
        with torch.no_grad():
            target = objective(start) + (objective.scale or 1.0)
        point = self._variable(start, middle, half)
        adam = Adam(self.rate)
        for step in range(self.steps):
            place = point.tanh()
            attacked = middle + half * place
            value, gradient = objective.gradient(attacked)
            if step == 0:
                moved, value, gradient = moved_off(objective, attacked, value, gradient, images, budget, rng)
                if moved is not attacked:
                    rows = per_image((moved != attacked).flatten(1).any(1))
                    point = torch.where(rows, self._variable(moved, middle, half), point)
                    place, attacked = point.tanh(), moved
            rise = torch.where(per_image(value < target), gradient, 0.0)
            rise = rise - 2 * self.penalty * (attacked - images) / images[0].numel()
            point = point + adam.step(rise * half * (1 - place.square()))
        with torch.no_grad():
            objective(middle + half * point.tanh())
        return objective.best()

    @staticmethod
    def _variable(images: Tensor, middle: Tensor, half: Tensor) -> Tensor:
        """The w of some images of the box, moved inside where they lie on its edge."""
        return torch.atanh(INSIDE * ((images - middle) / half).clamp(-1, 1))
