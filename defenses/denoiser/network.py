"""The denoiser's network: a U-Net of two halvings (Ronneberger et al. 2015) that predicts the noise in an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HIGHEST_STEP = 100
"""It is trained on the first steps of the schedule alone, because purification goes no further."""

_WIDTHS = (32, 64, 96)
_EMBEDDING = 64
_FREQUENCIES = 16


class Denoiser(nn.Module):
    """Noise of an image after a step of the schedule: 0.78 million weights, no normalisation, any size.

    It works on the image unshuffled by 2 (12 channels at half the size), which spares three quarters of the work of a
    network at full size. Every block is told the step by a scale and a shift of its channels.
    """

    multiple = 8
    """Sides of an image have to be multiples of this: one unshuffling and two halvings."""

    def __init__(self) -> None:
        super().__init__()
        narrow, middle, wide = _WIDTHS
        self.embed = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )
        self.enter = nn.Conv2d(12, narrow, 3, padding=1)
        self.down = nn.ModuleList([_Block(narrow, narrow), _Block(middle, middle)])
        self.sink = nn.ModuleList(
            [nn.Conv2d(narrow, middle, 3, stride=2, padding=1), nn.Conv2d(middle, wide, 3, stride=2, padding=1)]
        )
        self.bottom = nn.ModuleList([_Block(wide, wide), _Block(wide, wide)])
        self.rise = nn.ModuleList([nn.Conv2d(middle, narrow, 3, padding=1), nn.Conv2d(wide, middle, 3, padding=1)])
        self.up = nn.ModuleList([_Block(2 * narrow, narrow), _Block(2 * middle, middle)])
        self.leave = nn.Conv2d(narrow, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, images: Tensor, index: Tensor) -> Tensor:
        """The noise in each image.

        Args:
            images: N x 3 x H x W with H and W multiples of 8; images in [-1, 1] after step `index` of the schedule.
            index: The last step taken, int64 of shape [N] in [0, 100).

        Returns:
            An estimate of the standard normal noise, N x 3 x H x W.
        """
        step = self.embed(_frequencies(index).to(images.dtype))
        first = self.down[0](self.enter(functional.pixel_unshuffle(images, 2)), step)
        second = self.down[1](self.sink[0](first), step)
        x = self.sink[1](second)
        for block in self.bottom:
            x = block(x, step)
        x = self.up[1](torch.cat((self.rise[1](_twice(x)), second), 1), step)
        x = self.up[0](torch.cat((self.rise[0](_twice(x)), first), 1), step)
        return functional.pixel_shuffle(self.leave(functional.silu(x)), 2)


class _Block(nn.Module):
    """x plus two convolutions of it; the step scales and shifts what is between them."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, padding=1)
        self.step = nn.Linear(_EMBEDDING, 2 * leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1)
        self.skip = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)
        nn.init.zeros_(self.step.weight)
        nn.init.zeros_(self.step.bias)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        scale, shift = self.step(step)[:, :, None, None].chunk(2, 1)
        inner = self.first(functional.silu(x)) * (1 + scale) + shift
        found: Tensor = self.skip(x) + self.second(functional.silu(inner))
        return found


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _frequencies(index: Tensor) -> Tensor:
    """Sines and cosines of the step, [N, 32] (Vaswani et al. 2017, section 3.5)."""
    exponents = torch.arange(_FREQUENCIES, device=index.device) / _FREQUENCIES
    angles = index[:, None] * torch.exp(-math.log(1000.0) * exponents)
    return torch.cat((angles.sin(), angles.cos()), 1)
