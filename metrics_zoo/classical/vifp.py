"""Visual information fidelity in the pixel domain (Sheikh & Bovik 2006) on luma."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from harness.contracts import register, retired
from metrics_zoo.classical.maps import SQUARE, window
from metrics_zoo.gaussian import Roundable, channels

NOISE = 2 / SQUARE
"""Variance of the visual noise: 2 for pixels in [0, 255] (the authors' value for the pixel domain)."""
_FLAT = 1e-10
"""Reference variance up to which a window counts as flat and carries no information: above what rounding leaves of a
flat image in float32, below what a step of one grey level of 255 makes."""
_TINY = 1e-12
"""Added to both sums of information, so that a wholly flat reference gives 1."""


def _taps(radius: int) -> tuple[float, ...]:
    """Half of the normalised Gaussian of 2 x radius + 1 taps and a fifth of that as sigma, from the centre."""
    sigma = (2 * radius + 1) / 5
    half = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(radius + 1)]
    total = half[0] + 2 * sum(half[1:])
    return tuple(weight / total for weight in half)


WINDOWS = tuple(_taps(radius) for radius in (8, 4, 2, 1))
"""The Gaussian of each scale, finest first: 17, 9, 5 and 3 taps."""


class VIFpReference(NamedTuple):
    """What one scale needs of the reference (h x w is the size of the scale, r the radius of its window)."""

    luma: Tensor
    """Luma less its mean over the image, N x 1 x h x w in [-1, 1]."""
    mean: Tensor
    """Local mean of the luma, N x 1 x (h - 2r) x (w - 2r)."""
    precision: Tensor
    """1 / local variance of the luma, 0 in flat windows; same shape."""
    information: Tensor
    """What the visual system takes from this scale of the reference, in nats; shape [N]."""


@register("vifp")
@retired(
    "vif",
    cure="What had this name is 'vifp', VIF in the pixel domain (vifp_mscale.m): write that to have it. "
    "The VIF of published tables is another metric, in the wavelet domain (vifvec.m), and is not part of robustiqa.",
)
class VIFp(Roundable):
    """VIFp of the BT.601 luma, data range 1: information shared with the reference over information in it, from 0 up.

    The ratio of sums I(C; F | s) / I(C; E | s) that defines VIF in the paper (Sheikh & Bovik 2006, Section III), for
    the pixel-domain model its authors published: the distortion channel D = g C + V is fitted by least squares in
    Gaussian windows of 17, 9, 5 and 3 px (sigma a fifth of that) on four scales, a negative g counts as 0, and the
    visual noise has the variance 2 in units of [0, 255]. An image with more contrast than its reference can score
    above 1. A flat reference has no information to lose: every image scores 1.

    This is the authors' vifp_mscale.m, which takes a grey image: MATLAB's rgb2gray has 8 bits (``luma: uint8``). It is
    not the VIF of published tables, which is defined in the wavelet domain (vifvec.m): the two share the idea and not
    the values.

    Args:
        luma: Whether the luma keeps its precision or is rounded to 8 bits first (gradient: straight through).
    """

    cite = "sheikh2006vif"
    higher_is_better: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, Any]] = {"luma": "float"}
    minimum_size: ClassVar[int] = 41
    """41 px leave the coarsest of four scales 3 px, one window."""

    def encode(self, ref: Tensor) -> tuple[VIFpReference, ...]:
        """Local moments of the reference and its information, on every scale, finest first."""
        return tuple(_reference(y, taps) for y, taps in zip(self._scales(ref), WINDOWS, strict=True))

    def score(self, reference: tuple[VIFpReference, ...], dist: Tensor) -> Tensor:
        """VIFp of each image, shape [N]."""
        shared = dist.new_zeros(len(dist))
        for known, y, taps in zip(reference, self._scales(dist), WINDOWS, strict=True):
            mean, square, product = window(torch.cat((y, y * y, y * known.luma), dim=1), taps).split(1, dim=1)
            variance = (square - mean * mean).clamp_min(0)
            covariance = (product - known.mean * mean).clamp_min(0)
            # What the reference explains of the variance; rounding alone can bring it above the variance.
            explained = torch.minimum(covariance * covariance * known.precision, variance)
            information = torch.log1p(explained / (variance - explained + NOISE))
            shared = shared + information.flatten(1).sum(dim=1)
        total = torch.stack([known.information for known in reference]).sum(dim=0)
        return (shared + _TINY) / (total + _TINY)

    def _scales(self, images: Tensor) -> list[Tensor]:
        """Luma less its mean on every scale, finest first; variances are the same and lose fewer digits around 0."""
        y = channels(images, "y", self.luma)
        scales = [y - y.mean(dim=(2, 3), keepdim=True)]
        for taps in WINDOWS[1:]:
            scales.append(window(scales[-1], taps)[..., ::2, ::2])
        return scales


def _reference(y: Tensor, taps: tuple[float, ...]) -> VIFpReference:
    mean, square = window(torch.cat((y, y * y), dim=1), taps).split(1, dim=1)
    variance = square - mean * mean
    flat = variance <= _FLAT
    information = torch.log1p(variance.masked_fill(flat, 0) / NOISE).flatten(1).sum(dim=1)
    return VIFpReference(y, mean, variance.masked_fill(flat, 1).reciprocal().masked_fill(flat, 0), information)
