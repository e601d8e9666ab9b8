"""FGSM: one signed-gradient step of the whole budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.ascent import moved_off, per_image
from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method (Goodfellow et al. 2015, eq. 2 of section 4): x + eps sign(dJ/dx), no random start.

    Where the gradient is 0, and that would be no step at all, it is taken at a random point of the ball.
    """

    cite = "goodfellow2015explaining"
    version: ClassVar[int] = 2

    def uses_best(self) -> bool:
        """Never: there is one step."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """One step of size eps from the distorted images."""
        value, gradient = objective.gradient(images)
        start, _, gradient = moved_off(objective, images, value, gradient, images, budget, rng)
        return budget.project(start + per_image(budget.eps) * gradient.sign(), images)
