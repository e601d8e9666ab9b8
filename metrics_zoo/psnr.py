"""Peak signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import register
from metrics_zoo.gaussian import Channel, Framed, LumaDepth

_FLOOR = 1e-10
"""Smallest mean squared error counted, so that identical images score 100 dB."""


@register("psnr")
class PSNR(Framed):
    """PSNR in dB over all RGB pixels, data range 1: 10 log10(1 / MSE), at most 100 dB.

    The mean squared error is floored at 1e-10: identical pairs have a finite score and a zero gradient. The luma
    (``channel: y``) has the full range; papers on super-resolution take MATLAB's Y of 16 to 235, whose PSNR is
    20 log10(255 / 219) = 1.32 dB above it.

    Args:
        channel: Whether all of R, G and B are compared, or the BT.601 luma.
        luma: Whether what is compared keeps its precision or is rounded to 8 bits first (gradient: straight through).
        crop_border: Pixels left out along every border.
    """

    cite = ""
    higher_is_better: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"channel": "rgb", "luma": "float", "crop_border": 0}

    def __init__(self, *, channel: Channel = "rgb", luma: LumaDepth = "float", crop_border: int = 0) -> None:
        super().__init__(channel=channel, luma=luma, crop_border=crop_border)

    def encode(self, ref: Tensor) -> Tensor:
        """What of the reference is compared, N x C x h x w."""
        return self.framed(ref)

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """PSNR of each image, shape [N], in dB."""
        error = (self.encode(dist) - reference).square().flatten(1).mean(dim=1)
        return -10 * torch.log10(error.clamp_min(_FLOOR))
