"""Haar wavelet-based perceptual similarity index (Reisenhofer, Bosse, Kutyniok & Wiegand 2018), in colour."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import Metric, register
from metrics_zoo.classical.maps import SQUARE, halve, similarity, yiq

_C = 30 / SQUARE
"""Stabiliser of the similarity: 30 for pixels in [0, 255] (fitted by the authors)."""
ALPHA = 4.2
"""Slope of the logistic function l_alpha (fitted by the authors)."""
_FAINT = 1e-8
"""Weight that every place has beside its own, so that two black images, which have none, score 1."""


class WaveletMaps(NamedTuple):
    """What HaarPSI takes from an image (h x w is the size of the halved image)."""

    fine: Tensor
    """Magnitudes of vertical and horizontal Haar coefficients, 2 x 2 then 4 x 4 px; N x 4 x h x w."""
    coarse: Tensor
    """The same for 8 x 8 px, N x 2 x h x w."""
    colour: Tensor
    """Magnitudes of the 2 x 2 means of I and Q, N x 2 x h x w."""


@register("haarpsi")
class HaarPSI(Metric):
    """HaarPSI in colour (YIQ), data range 1: in [0, 1].

    In the paper's terms (Reisenhofer et al. 2018): the image is halved; the local similarity HS of an
    orientation is the logistic function l_alpha of the mean of S(a, b, C) = (2ab + C) / (a² + b² + C) over the
    magnitudes of its two finest Haar coefficients; its weight W is the larger magnitude of the third scale. I and Q
    make a third orientation, from their 2 x 2 means, with the mean of both weights. The score is the square of the
    inverse of l_alpha at the weighted mean of HS. Outside the image lie zeros.
    """

    cite = "reisenhofer2018haarpsi"
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 2
    minimum_size: ClassVar[int] = 16
    """16 px leave the halved image one whole 8 x 8 window."""

    def encode(self, ref: Tensor) -> WaveletMaps:
        """Haar magnitudes and colours of the halved reference."""
        return _maps(ref)

    def score(self, reference: WaveletMaps, dist: Tensor) -> Tensor:
        """HaarPSI of each image, shape [N]."""
        maps = _maps(dist)
        fine = similarity(reference.fine, maps.fine, _C)
        colour = similarity(reference.colour, maps.colour, _C).mean(dim=1, keepdim=True)
        alike = ALPHA * torch.cat(((fine[:, :2] + fine[:, 2:]) / 2, colour), dim=1).flatten(1)
        weight = torch.maximum(reference.coarse, maps.coarse) + _FAINT
        weight = torch.cat((weight, weight.mean(dim=1, keepdim=True)), dim=1).flatten(1)
        # The inverse of l_alpha at a mean m is log(m / (1 - m)) / alpha; summing 1 - m by itself keeps it exact near 1.
        same, other = (weight * torch.sigmoid(alike)).sum(dim=1), (weight * torch.sigmoid(-alike)).sum(dim=1)
        return ((same / other).log() / ALPHA).square()


def _maps(images: Tensor) -> WaveletMaps:
    halved = halve(yiq(images))
    y, colours = halved[:, :1], F.pad(halved[:, 1:], (0, 1, 0, 1))
    scales = _haar(y)
    return WaveletMaps(torch.cat(scales[:2], dim=1), scales[2], F.avg_pool2d(colours, 2, stride=1).abs())


def _haar(y: Tensor) -> list[Tensor]:
    """Magnitudes of the Haar coefficients at every pixel, in windows of 2, 4 and 8 px: N x 2 x h x w each.

    Vertical differences first. A coefficient is the difference of the sums of two halves over the side of the window,
    which starts side / 2 - 1 px before the pixel.
    """
    height, width = y.shape[-2:]
    sums = F.pad(y, (3, 4, 3, 4))
    scales = []
    for half in (1, 2, 4):
        top, bottom = sums[..., :-half, :], sums[..., half:, :]
        above, across = top - bottom, top + bottom
        vertical = above[..., :-half] + above[..., half:]
        horizontal = across[..., :-half] - across[..., half:]
        sums = across[..., :-half] + across[..., half:]
        found = torch.cat((vertical, horizontal), dim=1)[..., 4 - half :, 4 - half :][..., :height, :width]
        scales.append(found.abs() / (2 * half))
    return scales
