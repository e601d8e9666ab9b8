"""Gaussian blur as a purification defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import Purifier, Tree, register

_TRUNCATE = 4.0
"""Standard deviations at which the kernel ends, as in scipy."""


@register("blur")
@dataclass(frozen=True)
class Blur(Purifier):
    """Blurs reference and distorted image with a Gaussian; beyond its edges an image is continued by its last pixels.

    Attributes:
        sigma: Standard deviation in pixels.
    """

    cite = ""
    randomised: ClassVar[bool] = False

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 100:
            raise ValueError(f"sigma should be above 0 and at most 100 pixels, got {self.sigma:g}")

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Blurred images, same shape; differentiable."""
        channels, radius = images.shape[1], int(_TRUNCATE * self.sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        weights = torch.softmax(-0.5 * (offsets / self.sigma).square(), 0).expand(channels, 1, 1, -1)
        padded = functional.pad(images, (radius,) * 4, mode="replicate")
        across = functional.conv2d(padded, weights, groups=channels)
        return functional.conv2d(across, weights.transpose(2, 3), groups=channels).clamp(0, 1)
