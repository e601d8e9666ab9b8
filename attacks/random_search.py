"""Random search: the least that a black-box attack has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("random_search")
@dataclass(frozen=True)
class RandomSearch(Attack):
    """The best of independent draws: corners of the Linf ball, or points on the L2 sphere, all equally likely.

    Attributes:
        queries: Draws per sample.
        block: Side in pixels of the squares that share a value per channel; 1 draws every pixel by itself.
    """

    cite = "robustiqa"

    needs_gradient = False
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})
    queries: int = 10_000
    block: int = 1

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries should be at least 1, got {self.queries}")
        if self.block < 1:
            raise ValueError(f"block should be at least 1 px, got {self.block}")

    @torch.no_grad()
    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Evaluate every draw; the best is kept."""
        eps = budget.eps.view(-1, 1, 1, 1)
        for _ in range(self.queries):
            if budget.norm == "linf":
                delta = eps * self._enlarged(rng.signs(*self._grid(images)), images)
            else:
                delta = self._enlarged(rng.normal(*self._grid(images)), images)
                delta = delta * (eps / delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1))
            objective((images + delta).clamp_(0, 1))
        return objective.best()

    def _grid(self, images: Tensor) -> tuple[int, int, int]:
        """Channels, rows and columns of blocks."""
        height, width = images.shape[2:]
        return 3, math.ceil(height / self.block), math.ceil(width / self.block)

    def _enlarged(self, values: Tensor, images: Tensor) -> Tensor:
        """A value per block as a value per pixel."""
        if self.block == 1:
            return values
        height, width = images.shape[2:]
        return F.interpolate(values, scale_factor=self.block, mode="nearest")[:, :, :height, :width]
