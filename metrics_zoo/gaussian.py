"""The 11 x 11 Gaussian window of SSIM (sigma 1.5), and BT.601 colours; shared by several metrics."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import Metric, Tree

Channel = Literal["y", "rgb"]
"""The BT.601 luma, or R, G and B each by itself."""
LumaDepth = Literal["float", "uint8"]
"""Whether what is compared keeps its precision, or is rounded to 8 bits, as MATLAB's rgb2gray does to a uint8 image."""
RGB2GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
"""MATLAB's rgb2gray: the first row of the inverse of the NTSC matrix of three digits; .299, .587, .114 to 6e-5."""
VIEWED = 256
"""ssim.m and FSIM bring the shorter side near this many pixels by averaging."""
RADIUS = 5
"""The window has 2 x RADIUS + 1 = 11 taps along each axis."""
SIGMA = 1.5
C1 = 0.01**2
"""Stabiliser of SSIM's luminance term, for a data range of 1 (Wang et al. 2004)."""
C2 = 0.03**2
"""Stabiliser of SSIM's structure term, for a data range of 1 (Wang et al. 2004)."""


class LumaMoments(NamedTuple):
    """What SSIM needs of the reference, at one scale (h x w is the size of the scale)."""

    luma: Tensor
    """N x 1 x h x w in [0, 1]; N x 3 x h x w where R, G and B are compared."""
    mean: Tensor
    """Gaussian mean of the luma, N x 1 (or 3) x (h - 10) x (w - 10)."""
    variance: Tensor
    """Gaussian variance of the luma, same shape."""


class Roundable(Metric):
    """A metric that rounds what it compares to 8 bits where its ``luma`` says so."""

    def __init__(self, *, luma: LumaDepth = "float") -> None:
        super().__init__()
        self.luma: LumaDepth = luma
        self.exact_gradient = luma == "float"  # type: ignore[misc]

    def surrogate(self, reference: Tree, dist: Tensor) -> Tensor:
        """The score with nothing of the distorted image rounded, shape [N]; the reference stays as it was encoded."""
        unrounded = copy.copy(self)
        unrounded.luma = "float"
        return unrounded.score(reference, dist)


class Framed(Roundable):
    """A metric of the luma, or of R, G and B, without a border of pixels.

    Args:
        channel: Whether all of R, G and B are compared, or the BT.601 luma.
        luma: Whether what is compared keeps its precision or is rounded to 8 bits first (gradient: straight through).
        crop_border: Pixels left out along every border.
    """

    def __init__(self, *, channel: Channel, luma: LumaDepth, crop_border: int) -> None:
        super().__init__(luma=luma)
        if crop_border < 0:
            raise ValueError(f"crop_border should be a number of pixels, or 0, got {crop_border}")
        self.channel: Channel = channel
        self.crop_border = crop_border
        self.minimum_size = type(self).minimum_size + 2 * crop_border  # type: ignore[misc]

    def framed(self, images: Tensor) -> Tensor:
        """What of RGB images is compared: N x 3 x H x W to N x C x h x w in [0, 1]."""
        return channels(cropped(images, self.crop_border), self.channel, self.luma)


def _taps() -> tuple[float, ...]:
    """Normalised weights of the taps at distance 0, 1, ..., RADIUS from the centre."""
    half = [math.exp(-(k**2) / (2 * SIGMA**2)) for k in range(RADIUS + 1)]
    total = half[0] + 2 * sum(half[1:])
    return tuple(weight / total for weight in half)


TAPS = _taps()


def on_grid(maps: Tensor) -> Tensor:
    """Values in [0, 1] at the nearest of 256 levels, halves up, as MATLAB's uint8; the gradient is passed through."""
    levels = (maps * 255 + 0.5).floor() / 255
    return levels.detach() + (maps - maps.detach())


def channels(images: Tensor, channel: Channel, depth: LumaDepth) -> Tensor:
    """What of RGB images is compared: N x 3 x H x W in [0, 1] to N x C x H x W, C being 1 for the luma and 3 for RGB.

    The luma of 8 bits is MATLAB's rgb2gray of a uint8 image, whose weights have no ties to round.
    """
    if depth == "float":
        return luma(images) if channel == "y" else images
    return on_grid(_weighted(images, RGB2GRAY) if channel == "y" else images)


def cropped(images: Tensor, border: int) -> Tensor:
    """Images without this many pixels along every border: N x C x H x W to N x C x (H - 2 border) x (W - 2 border)."""
    return images[..., border:-border, border:-border] if border else images


def luma(images: Tensor) -> Tensor:
    """BT.601 luma of RGB images: N x 3 x H x W in [0, 1] to N x 1 x H x W in [0, 1]."""
    return _weighted(images, (0.299, 0.587, 0.114))


def _weighted(images: Tensor, weights: tuple[float, float, float]) -> Tensor:
    red, green, blue = weights
    return red * images[:, 0:1] + green * images[:, 1:2] + blue * images[:, 2:3]


def ycbcr(images: Tensor) -> Tensor:
    """BT.601 full-range YCbCr without offset: N x 3 x H x W, Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    y = luma(images)
    return torch.cat((y, (images[:, 2:3] - y) * (0.5 / (1 - 0.114)), (images[:, 0:1] - y) * (0.5 / (1 - 0.299))), dim=1)


def blur_valid(maps: Tensor) -> Tensor:
    """Gaussian means over whole windows only: N x C x H x W to N x C x (H - 10) x (W - 10)."""
    return _along(_along(maps, 2), 3)


def blur(maps: Tensor) -> Tensor:
    """Gaussian means of every pixel, borders replicated: N x C x H x W to N x C x H x W."""
    result: Tensor = _Blur.apply(maps)  # type: ignore[no-untyped-call]
    return result


def _along(maps: Tensor, axis: int) -> Tensor:
    """The window along one axis as a sum of shifted views: several times faster on CPU than a one-channel conv2d."""
    size = maps.shape[axis] - 2 * RADIUS
    total = maps.narrow(axis, RADIUS, size) * TAPS[0]
    for distance in range(1, RADIUS + 1):
        pair = maps.narrow(axis, RADIUS - distance, size) + maps.narrow(axis, RADIUS + distance, size)
        total = total.add_(pair, alpha=TAPS[distance])
    return total


class _Blur(torch.autograd.Function):
    """Replicate padding and the separable window, with the adjoint written out: autograd would keep ten buffers."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        rows = _along(F.pad(maps, (0, 0, RADIUS, RADIUS), mode="replicate"), 2)
        return _along(F.pad(rows, (RADIUS, RADIUS, 0, 0), mode="replicate"), 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        wide = 2 * RADIUS
        columns = _fold(_along(F.pad(gradients[0], (wide, wide, 0, 0)), 3), 3)
        return _fold(_along(F.pad(columns, (0, 0, wide, wide)), 2), 2)


def _fold(maps: Tensor, axis: int) -> Tensor:
    """Adjoint of replicate padding: what fell on the padding is added to the border pixel."""
    size = maps.shape[axis] - 2 * RADIUS
    inner = maps.narrow(axis, RADIUS, size)
    inner.narrow(axis, 0, 1).add_(maps.narrow(axis, 0, RADIUS).sum(axis, keepdim=True))
    inner.narrow(axis, size - 1, 1).add_(maps.narrow(axis, RADIUS + size, RADIUS).sum(axis, keepdim=True))
    return inner
