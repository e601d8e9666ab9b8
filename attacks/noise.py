"""Noise control: what a perturbation of the same size does when it is no attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("noise")
@dataclass(frozen=True)
class Noise(Attack):
    """Each value moved one way or the other with equal chance, by the same amount; never improved by keep-the-better.

    The amount is eps in Linf, and eps over the square root of the number of values in L2: a change as long as allowed.
    """

    cite = "robustiqa"

    control = True
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Images plus a random corner of the ball or, in L2, of the cube whose corners lie on it."""
        amount = budget.eps if budget.norm == "linf" else budget.eps / images[0].numel() ** 0.5
        return images + amount.view(-1, 1, 1, 1) * rng.signs(*images.shape[1:])
