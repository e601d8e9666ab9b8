"""Gaussian noise as a purification defense."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from defenses.noise import noise_of, seeds_of
from harness.contracts import Purifier, SampleRng, Tree, register


@register("noise")
@dataclass(frozen=True)
class GaussianNoise(Purifier):
    """Adds white Gaussian noise, the same to reference and distorted image.

    Attributes:
        sigma: Standard deviation, in units of images in [0, 1].
    """

    cite = ""

    sigma: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma should be above 0 and at most 1, got {self.sigma:g}")

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """The seed of each sample's noise, int64 of shape [N]."""
        return seeds_of(rng)

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Noisy images, same shape; differentiable."""
        return (images + self.sigma * noise_of(draw, images)).clamp(0, 1)
