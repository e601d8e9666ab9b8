"""Random rotation: a purification defense by geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import Purifier, SampleRng, Tree, register

_FILLS = {"zeros": "zeros", "reflect": "reflection"}


@register("rotate")
@dataclass(frozen=True)
class Rotate(Purifier):
    """Turns by a random angle about the centre, reference and distorted image alike; the size stays.

    The defaults are those of torchvision's RandomRotation(15), which other benchmarks use: nearest pixel, black
    corners. The gradient of the nearest pixel goes to the pixel that was taken, which is exact.

    Attributes:
        degrees: Largest angle; angles are uniform between minus it and it, positive counter-clockwise.
        interpolation: "nearest" or "bilinear".
        fill: What lies outside the image: "zeros", or "reflect", the image mirrored at its edges.
    """

    cite = ""

    degrees: float = 15.0
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    fill: Literal["zeros", "reflect"] = "zeros"

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise ValueError(f"degrees should be above 0 and at most 180, got {self.degrees:g}")
        if self.interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation should be nearest or bilinear, got {self.interpolation!r}")
        if self.fill not in _FILLS:
            raise ValueError(f"fill should be zeros or reflect, got {self.fill!r}")

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """An angle in degrees for each sample, [N]."""
        return rng.uniform(low=-self.degrees, high=self.degrees)

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Turned images, same shape; differentiable."""
        turned = functional.grid_sample(
            images,
            _grid(draw, *images.shape[-2:]).to(images.dtype),
            mode=self.interpolation,
            padding_mode=_FILLS[self.fill],
            align_corners=False,
        )
        return turned.clamp(0, 1)


def _grid(degrees: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from, N x H x W x 2, in units of half the sides about the centre."""
    radians = torch.deg2rad(degrees).view(-1, 1, 1)
    down = (torch.arange(height, device=degrees.device) + 0.5 - height / 2).view(1, -1, 1)
    right = (torch.arange(width, device=degrees.device) + 0.5 - width / 2).view(1, 1, -1)
    x = radians.cos() * right - radians.sin() * down
    y = radians.sin() * right + radians.cos() * down
    return torch.stack((x * (2 / width), y * (2 / height)), -1)
