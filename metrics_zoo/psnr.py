"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, register

_FLOOR = 1e-10
"""Smallest mean squared error counted, so that identical images score 100 dB."""


@register("psnr")
class PSNR(Metric):
    """PSNR in dB over all RGB pixels, data range 1: 10 log10(1 / MSE), at most 100 dB.

    The mean squared error is floored at 1e-10: identical pairs have a finite score and a zero gradient.
    """

    higher_is_better: ClassVar[bool] = True

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """PSNR of each image, shape [N], in dB."""
        error = (dist - reference).square().flatten(1).mean(dim=1)
        return -10 * torch.log10(error.clamp_min(_FLOOR))
