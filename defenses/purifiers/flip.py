"""Random flip: a purification defense by geometry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contracts import Purifier, SampleRng, Tree, register


@register("flip")
@dataclass(frozen=True)
class Flip(Purifier):
    """Flips left-right and up-down, each with its own chance, reference and distorted image alike.

    Attributes:
        probability: Chance of a flip on each axis. 1 is the deterministic turn by 180 degrees of other benchmarks.
    """

    cite = ""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability should be between 0 and 1, got {self.probability:g}")

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """Whether to flip (width, height), bool of shape [N, 2]."""
        return rng.uniform(2) < self.probability

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Flipped images, same shape; differentiable."""
        wide, high = draw[:, 0].view(-1, 1, 1, 1), draw[:, 1].view(-1, 1, 1, 1)
        images = torch.where(wide, images.flip(-1), images)
        return torch.where(high, images.flip(-2), images)
