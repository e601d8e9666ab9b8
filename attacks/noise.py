"""Noise control: what a perturbation of the same size does when it is no attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("noise")
@dataclass(frozen=True)
class Noise(Attack):
    """Each value moved by +eps or -eps with equal chance; never improved by keep-the-better."""

    control = True

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Images plus a random corner of the Linf ball."""
        return images + budget.eps.view(-1, 1, 1, 1) * rng.signs(*images.shape[1:])
