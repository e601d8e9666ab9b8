"""FGSM: one signed-gradient step of the whole budget."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method (Goodfellow et al. 2015, eq. 2 of section 4): x + eps sign(dJ/dx), no random start."""

    cite = "goodfellow2015explaining"

    def uses_best(self) -> bool:
        """Never: there is one step."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """One step of size eps from the distorted images."""
        _, gradient = objective.gradient(images)
        return images + budget.eps.view(-1, 1, 1, 1) * gradient.sign()
