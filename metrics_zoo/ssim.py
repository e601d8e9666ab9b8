"""Structural similarity (Wang et al. 2004): of the luma as it is, and as the authors' ssim.m computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import register
from metrics_zoo.gaussian import C1, C2, VIEWED, Channel, Framed, LumaDepth, LumaMoments, blur_valid


@register("ssim")
class SSIM(Framed):
    """Mean SSIM of the BT.601 luma at full resolution: not the SSIM of most published tables, which is `ssim-matlab`.

    Wang et al. 2004, eq. 13: 11 x 11 Gaussian window (sigma 1.5), K1 = .01, K2 = .03, data range 1, population moments
    (no sample correction), averaged over the windows that lie inside the image; in [-1, 1]. It is scikit-image's
    structural_similarity with Gaussian weights and the authors' first program, ssim_index.m. Their ssim.m, which
    most tables were made with, averages images of 384 px and more down first and so scores most noise and blur higher.

    Args:
        channel: Whether the BT.601 luma is compared, or R, G and B each, whose SSIMs are averaged.
        luma: Whether what is compared keeps its precision or is rounded to 8 bits first (gradient: straight through).
        downsample: Average over blocks of max(1, round(shorter side / 256)) pixels first, as ssim.m does.
        crop_border: Pixels left out along every border, before all else.
    """

    cite = "wang2004ssim"
    higher_is_better: ClassVar[bool] = True
    minimum_size: ClassVar[int] = 11
    neutral: ClassVar[Mapping[str, Any]] = {"channel": "y", "luma": "float", "downsample": False, "crop_border": 0}

    def __init__(
        self,
        *,
        channel: Channel = "y",
        luma: LumaDepth = "float",
        downsample: bool = False,
        crop_border: int = 0,
    ) -> None:
        super().__init__(channel=channel, luma=luma, crop_border=crop_border)
        self.downsample = downsample

    def encode(self, ref: Tensor) -> LumaMoments:
        """What of the reference is compared, with its local mean and variance."""
        y = self._compared(ref)
        mean, square = blur_valid(torch.cat((y, y * y), dim=1)).chunk(2, dim=1)
        return LumaMoments(y, mean, square - mean * mean)

    def score(self, reference: LumaMoments, dist: Tensor) -> Tensor:
        """SSIM of each image, shape [N]."""
        y = self._compared(dist)
        moments = blur_valid(torch.cat((y, y * y, y * reference.luma), dim=1))
        mean, square, product = moments.chunk(3, dim=1)
        cross = reference.mean * mean
        means = reference.mean * reference.mean + mean * mean
        structure = (2 * (product - cross) + C2) / (reference.variance + square - mean * mean + C2)
        similarity = (2 * cross + C1) / (means + C1) * structure
        result: Tensor = similarity.flatten(1).mean(dim=1)
        return result

    def _compared(self, images: Tensor) -> Tensor:
        """N x 3 x H x W to what is compared, N x C x h x w in [0, 1]."""
        maps = self.framed(images)
        return averaged(maps, block_of(maps)) if self.downsample else maps


@register("ssim-matlab", luma="uint8", downsample=True)
class MatlabSSIM(SSIM):
    """The SSIM of most published tables: ssim.m (Wang, 2009) on MATLAB's rgb2gray, in [-1, 1].

    The luma is rounded to 8 bits and averaged over blocks of round(shorter side / 256) pixels, then compared as by
    `ssim`. The published SROCC of .948 on LIVE is of this kind. The backward pass takes the rounding for the identity.
    """

    exact_gradient: ClassVar[bool] = False


@register("ssim-matlab-rgb", channel="rgb", luma="uint8", downsample=True)
class MatlabRGBSSIM(SSIM):
    """ssim.m (Wang, 2009) on R, G and B of an 8-bit image, averaged, in [-1, 1]: piq's ssim, not that of most tables.

    Each channel is averaged over blocks of round(shorter side / 256) pixels, then compared as by `ssim`. ssim.m itself
    takes one channel; values published for colour images by calling it three times are of this kind. The backward
    pass takes the rounding of pixels off the 8-bit grid for the identity.
    """

    exact_gradient: ClassVar[bool] = False


def block_of(maps: Tensor) -> int:
    """Side of the blocks over which ssim.m averages: max(1, round(shorter side / 256)), a half rounded up."""
    return max(1, math.floor(min(maps.shape[-2:]) / VIEWED + 0.5))


def averaged(maps: Tensor, block: int) -> Tensor:
    """Every block-th mean over block x block pixels: N x C x H x W to N x C x ceil(H / block) x ceil(W / block).

    As MATLAB's ``imfilter(image, fspecial('average', block), 'symmetric')`` taken at 1, 1 + block, ...: the first mean
    begins (block - 1) // 2 pixels before the first pixel, and beyond the borders the image is mirrored.
    """
    if block == 1:
        return maps
    for axis in (2, 3):
        maps = maps.index_select(axis, _mirrored(maps.shape[axis], block).to(maps.device))
    return F.avg_pool2d(maps, block)


def _mirrored(size: int, block: int) -> Tensor:
    """Indices along one axis of the pixels that the means are over, in order."""
    first = -((block - 1) // 2)
    index = torch.arange(first, first + math.ceil(size / block) * block)
    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= size, 2 * size - 1 - index, index)
