"""A purification defense in one file: a random shift by a few pixels."""

from dataclasses import dataclass

import torch

from harness.contracts import Purifier, SampleRng, Tree, register


@register("shift")
@dataclass(frozen=True)
class Shift(Purifier):
    """Rolls the columns by a random number of pixels, reference and distorted image alike."""

    cite = ""

    most: int = 4

    def draw(self, images: torch.Tensor, rng: SampleRng) -> Tree:
        """Pixels to roll by, int64 of shape [N]."""
        return rng.integers(self.most + 1)

    def apply(self, images: torch.Tensor, draw: Tree) -> torch.Tensor:
        """Rolled images, same shape."""
        columns = torch.arange(images.shape[-1], device=images.device)
        source = (columns - draw.view(-1, 1)) % images.shape[-1]
        return images.gather(-1, source.view(len(images), 1, 1, -1).expand_as(images))
