"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) on luma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import register
from metrics_zoo.classical.maps import window
from metrics_zoo.gaussian import C1, C2, TAPS, LumaMoments, Roundable, channels

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weight of each scale, finest first (Section 3.2 of the paper)."""


@register("ms_ssim")
class MSSSIM(Roundable):
    """MS-SSIM of the BT.601 luma (Wang et al. 2003, eq. 7): five scales, data range 1; in [0, 1].

    The mean contrast-structure of the four finer scales and the mean SSIM of the coarsest, each at least 0, raised to
    .0448, .2856, .3001, .2363 and .1333 and multiplied. The window is that of SSIM: 11 x 11 Gaussian (sigma 1.5),
    K1 = .01, K2 = .03, population moments, whole windows only. Each scale is the 2 x 2 means of the one before; an odd
    side starts with a line of zeros, as in the common PyTorch implementation. A pair with a factor of 0 scores 0 and
    has a gradient of 0. It is pytorch-msssim's ms_ssim of the luma; the authors' program takes a grey image, which
    from MATLAB's rgb2gray has 8 bits (``luma: uint8``). pyiqa's ms_ssim takes each value of the contrast map to be at
    least 0, not their mean, and so is another number where contrast is inverted in places.

    Args:
        luma: Whether the luma keeps its precision or is rounded to 8 bits first (gradient: straight through).
    """

    cite = "wang2003msssim"
    higher_is_better: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"luma": "float"}
    minimum_size: ClassVar[int] = 161
    """161 px leave the coarsest of five scales 11 px, one window."""

    def encode(self, ref: Tensor) -> tuple[LumaMoments, ...]:
        """Luma of the reference with its local mean and variance, on every scale, finest first."""
        return tuple(_moments(y) for y in _scales(channels(ref, "y", self.luma)))

    def score(self, reference: tuple[LumaMoments, ...], dist: Tensor) -> Tensor:
        """MS-SSIM of each image, shape [N]."""
        score = dist.new_ones(len(dist))
        scales = _scales(channels(dist, "y", self.luma))
        for scale, (known, y, exponent) in enumerate(zip(reference, scales, EXPONENTS, strict=True), start=1):
            mean, square, product = window(torch.cat((y, y * y, y * known.luma), dim=1), TAPS).split(1, dim=1)
            cross = known.mean * mean
            mean_square = mean * mean
            values = (2 * (product - cross) + C2) / (known.variance + square - mean_square + C2)
            if scale == len(EXPONENTS):
                values = values * ((2 * cross + C1) / (known.mean * known.mean + mean_square + C1))
            score = score * _power(values.flatten(1).mean(dim=1), exponent)
        return score


def _scales(y: Tensor) -> list[Tensor]:
    """Luma on every scale, finest first."""
    scales = [y]
    while len(scales) < len(EXPONENTS):
        last = scales[-1]
        scales.append(F.avg_pool2d(last, 2, padding=(last.shape[2] % 2, last.shape[3] % 2)))
    return scales


def _moments(y: Tensor) -> LumaMoments:
    mean, square = window(torch.cat((y, y * y), dim=1), TAPS).split(1, dim=1)
    return LumaMoments(y, mean, square - mean * mean)


def _power(values: Tensor, exponent: float) -> Tensor:
    """The power of each value, and 0 with slope 0 where a value is not positive: the true slope there is infinite."""
    none = values <= 0
    power: Tensor = values.masked_fill(none, 1) ** exponent
    return power.masked_fill(none, 0)
