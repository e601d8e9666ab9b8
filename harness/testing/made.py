"""What the check of attacks makes for itself: metrics, a randomised defense, and a mapping that knows it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, Purifier, SampleRng, Tree


class Formula(Metric):
    """Without parameters: minus the mean squared error, of which every other value counts double."""

    higher_is_better: ClassVar[bool] = True

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """Minus the weighted error of each image, shape [N]."""
        weight = 1 + (torch.arange(dist[0].numel(), device=dist.device) % 2).view(dist.shape[1:])
        error: Tensor = (weight * (dist - reference).square()).flatten(1).mean(1)
        return -error


class Linear(Metric):
    """Without parameters: a weighted mean of the difference. An attack cannot lose its way on it: one slope for all."""

    higher_is_better: ClassVar[bool] = True

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """The weighted mean of each image's difference, shape [N]."""
        weight = torch.cos(1.7 * torch.arange(dist[0].numel(), device=dist.device, dtype=dist.dtype))
        change: Tensor = (weight.view(dist.shape[1:]) * (dist - reference)).flatten(1).mean(1)
        return change


@dataclass(frozen=True)
class Turn(Purifier):
    """A randomised defense: mirrors an image or leaves it."""

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """Which images are mirrored, bool of shape [N]."""
        return rng.integers(2) > 0

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """The images, some of them mirrored."""
        return torch.where(draw.view(-1, 1, 1, 1), images.flip(-1), images)


class Watched(dict[int, Mapping[str, Tensor]]):
    """What an attack has learnt, and whether it was looked at."""

    used = False

    def __getitem__(self, sign: int) -> Mapping[str, Tensor]:
        self.used = True
        return super().__getitem__(sign)

    def get(self, sign: int, default: Any = None) -> Any:
        """As a mapping's, and noted."""
        self.used = True
        return super().get(sign, default)

    def values(self) -> Any:
        """As a mapping's, and noted."""
        self.used = True
        return super().values()

    def items(self) -> Any:
        """As a mapping's, and noted."""
        self.used = True
        return super().items()
