"""Random transforms of both images: the idea of E-LPIPS (Kettunen et al. 2019, https://arxiv.org/abs/1906.03973)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import Purifier, SampleRng, Tree, register


@register("transform_ensemble")
@dataclass(frozen=True)
class TransformEnsemble(Purifier):
    """One random transform of reference and distorted image alike; over many draws, E-LPIPS' ensemble of transforms.

    In this order: mirrored, transposed (square images alone), shifted (continued by the last pixels), every channel
    darkened by its own factor, made coarser by averaging blocks. E-LPIPS also permutes channels and drops features,
    which this does not.

    Attributes:
        shift: Largest shift along each axis, in pixels.
        colour: Most of a channel's brightness that is taken, in [0, 1).
        coarsest: Largest side of the averaged blocks in pixels; sides are uniform from 1 to it.
    """

    cite = "kettunen2019elpips"

    shift: int = 4
    colour: float = 0.2
    coarsest: int = 2

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift should be at least 0, got {self.shift}")
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour should be at least 0 and below 1, got {self.colour:g}")
        if self.coarsest < 1:
            raise ValueError(f"coarsest should be at least 1, got {self.coarsest}")

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """Choices of each sample: flips, shifts, blocks [N, ...] as integers, and factors of channels [N, 3]."""
        return {
            "flips": rng.integers(2, 2),
            "shifts": rng.integers(2 * self.shift + 1, 2) - self.shift,
            "factors": 1 - self.colour * rng.uniform(3),
            "blocks": 1 + rng.integers(self.coarsest),
        }

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Transformed images, same shape; differentiable."""
        mirrored, swapped = draw["flips"].view(-1, 2, 1, 1, 1).bool().unbind(1)
        images = torch.where(mirrored, images.flip(-1), images)
        if images.shape[-1] == images.shape[-2]:
            images = torch.where(swapped, images.transpose(-1, -2), images)
        down, right = draw["shifts"].unbind(1)
        images = _shifted(_shifted(images, down, 2), right, 3)
        images = images * draw["factors"].view(-1, 3, 1, 1).to(images.dtype)
        for side in range(2, self.coarsest + 1):
            images = torch.where((draw["blocks"] == side).view(-1, 1, 1, 1), _coarse(images, side), images)
        return images.clamp(0, 1)


def _shifted(images: Tensor, by: Tensor, axis: int) -> Tensor:
    """Each image moved along an axis by its own number of pixels, shape [N]."""
    places = torch.arange(images.shape[axis], device=images.device)
    source = (places[None] - by[:, None]).clamp(0, len(places) - 1)
    shape = [len(images), 1, 1, 1]
    shape[axis] = len(places)
    return images.gather(axis, source.view(shape).expand_as(images))


def _coarse(images: Tensor, side: int) -> Tensor:
    """Means of blocks in the place of their pixels; blocks at the edges may be cut."""
    height, width = images.shape[-2:]
    means = functional.avg_pool2d(images, side, ceil_mode=True)
    return means.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width]
