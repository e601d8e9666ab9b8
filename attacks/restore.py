"""Restore control: the honest way to raise quality inside the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("restore")
@dataclass(frozen=True)
class Restore(Attack):
    """The point of the ball nearest to the reference.

    In Linf each value moves towards the reference by at most eps, delta = clip(reference - distorted, -eps, eps); in L2
    the image moves along the line to the reference. Upwards the best image of a ball is at least this one.
    """

    cite = "robustiqa"

    control = True
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The restored images."""
        if budget.norm == "l2":
            return budget.project(objective.reference, images)
        eps = budget.eps.view(-1, 1, 1, 1)
        return images + torch.minimum(torch.maximum(objective.reference - images, -eps), eps)
