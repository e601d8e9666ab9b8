"""Restore control: the honest way to raise quality inside the budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("restore")
@dataclass(frozen=True)
class Restore(Attack):
    """Moves each value towards the reference by at most eps: delta = clip(reference - distorted, -eps, eps)."""

    control = True

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The image of the Linf ball nearest to the reference."""
        eps = budget.eps.view(-1, 1, 1, 1)
        return images + torch.minimum(torch.maximum(objective.reference - images, -eps), eps)
