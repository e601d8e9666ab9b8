"""Structural similarity (Wang et al. 2004) on luma."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, register
from metrics_zoo.gaussian import C1, C2, LumaMoments, blur_valid, luma


@register("ssim")
class SSIM(Metric):
    """Mean SSIM of the BT.601 luma: 11 x 11 Gaussian window (sigma 1.5), K1 = .01, K2 = .03, data range 1.

    Population moments (no sample correction), averaged over the windows that lie inside the image; in [-1, 1].
    """

    higher_is_better: ClassVar[bool] = True
    minimum_size: ClassVar[int] = 11

    def encode(self, ref: Tensor) -> LumaMoments:
        """Luma of the reference with its local mean and variance."""
        y = luma(ref)
        mean, square = blur_valid(torch.cat((y, y * y), dim=1)).split(1, dim=1)
        return LumaMoments(y, mean, square - mean * mean)

    def score(self, reference: LumaMoments, dist: Tensor) -> Tensor:
        """SSIM of each image, shape [N]."""
        y = luma(dist)
        moments = blur_valid(torch.cat((y, y * y, y * reference.luma), dim=1))
        mean, square, product = moments.split(1, dim=1)
        cross = reference.mean * mean
        means = reference.mean * reference.mean + mean * mean
        structure = (2 * (product - cross) + C2) / (reference.variance + square - mean * mean + C2)
        similarity = (2 * cross + C1) / (means + C1) * structure
        result: Tensor = similarity.flatten(1).mean(dim=1)
        return result
