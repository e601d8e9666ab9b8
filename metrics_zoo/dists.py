"""DISTS, deep image structure and texture similarity, written from the paper.

Ding et al. 2020, "Image Quality Assessment: Unifying Structure and Texture Similarity", arXiv 2004.07728.

The published weights are two files, and `dists_state` joins them: torchvision's VGG16, whose ``features.*`` become
``trunk.features.*``, and the file with ``alpha`` and ``beta``, names unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness.contracts import Metric, register
from metrics_zoo.backbones import VGG16, feature_state

__all__ = ["DISTS", "dists_state"]

_C1 = 1e-6
"""Stabiliser of the texture term, c1."""
_C2 = 1e-6
"""Stabiliser of the structure term, c2."""
_FLOOR = 1e-12
"""Added under the root of l2 pooling, so that its gradient is finite where all is dark."""


def dists_state(trunk: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `DISTS` from the two published ones, by renaming alone.

    Args:
        trunk: torchvision's VGG16, whole or its ``features.*`` part; the classifier is left out.
        weights: ``alpha`` and ``beta``, 1 x 1475 x 1 x 1 each.
    """
    return {**{f"trunk.{name}": tensor for name, tensor in feature_state(trunk).items()}, **weights}


def l2_pool(maps: Tensor) -> Tensor:
    """Root of the Hanning-weighted mean square in 3 x 3 windows, stride 2 (the paper's l2 pooling, P(x)).

    The weights (1 2 1) x (1 2 1) / 16 are two 2 x 2 means in a row.

    Args:
        maps: N x C x h x w; beyond the borders all is 0.

    Returns:
        N x C x ceil(h / 2) x ceil(w / 2).
    """
    means = F.avg_pool2d(F.avg_pool2d(maps.square(), 2, 1, padding=1), 2, 2)
    return means.add_(_FLOOR).sqrt_()


class Moments(NamedTuple):
    """One feature map of the reference."""

    mean: Tensor
    """Mean of each channel, N x C."""
    variance: Tensor
    """Population variance of each channel, N x C."""
    centred: Tensor
    """The map less its mean, N x C x h x w."""


@register("dists", weights="dists")
class DISTS(Metric):
    """DISTS (Ding et al. 2020); lower is better, 0 is identical.

    1 - the weighted mean of texture similarity l and structure similarity s over 1475 maps.
    Of the maps x, y of one channel, with global means m, variances v and covariance c (the paper's SSIM-like terms):
    l = (2 m_x m_y + c1) / (m_x^2 + m_y^2 + c1), s = (2 c_xy + c2) / (v_x + v_y + c2), and
    D = 1 - sum(alpha l + beta s), the weights divided by their sum. The maps are the image itself and the ends of the
    five stages of VGG16 with l2 pooling.

    Args:
        short_side: Images whose shorter side is longer are resized to it first, as the authors do; 0 never resizes.
    """

    cite = "ding2022dists"
    higher_is_better: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True

    def __init__(self, *, short_side: int = 256) -> None:
        super().__init__()
        if short_side < 0:
            raise ValueError(f"short_side should be a number of pixels, or 0, got {short_side}")
        self.short_side = short_side
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.trunk = VGG16(pool=l2_pool)
        self.channels = (3, *self.trunk.channels)
        self.alpha, self.beta = (nn.Parameter(torch.full((1, sum(self.channels), 1, 1), 0.1)) for _ in range(2))

    @classmethod
    def published_state(cls, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The state dict from the published files ``trunk`` and ``weights``; see `dists_state`."""
        return dists_state(parts["trunk"], parts["weights"])

    def encode(self, ref: Tensor) -> tuple[Moments, ...]:
        """Mean, variance and centred values of every map of the reference: the image, then VGG16's stages."""
        return tuple(_moments(maps) for maps in self._maps(ref))

    def score(self, reference: tuple[Moments, ...], dist: Tensor) -> Tensor:
        """DISTS of each image, shape [N], in [0, 1] for weights that are not negative and maps of like sign."""
        texture, structure = [], []
        for y, maps in zip(reference, self._maps(dist), strict=True):
            mean, variance, covariance = _Statistics.apply(maps, y.centred)  # type: ignore[no-untyped-call]
            texture.append((2 * mean * y.mean + _C1) / (mean.square() + y.mean.square() + _C1))
            structure.append((2 * covariance + _C2) / (variance + y.variance + _C2))
        total = self.alpha.sum() + self.beta.sum()
        weighted = torch.cat(texture, dim=1) * self.alpha.view(1, -1) + torch.cat(structure, dim=1) * self.beta.view(
            1, -1
        )
        similarity: Tensor = weighted.sum(dim=1) / total
        return 1 - similarity

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        images = self._resized(images)
        return (images, *self.trunk(images))

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        shorter = min(height, width)
        if not 0 < self.short_side < shorter:
            return images
        size = (height * self.short_side // shorter, width * self.short_side // shorter)
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _moments(maps: Tensor) -> Moments:
    mean = maps.mean(dim=(2, 3), keepdim=True)
    centred = maps - mean
    return Moments(mean.flatten(1), centred.square().mean(dim=(2, 3)), centred)


class _Statistics(torch.autograd.Function):
    """Mean and variance of each channel, and its covariance with a centred reference; the gradient is one pass."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _moments(maps)
        ctx.save_for_backward(x.centred, reference)
        return x.mean, x.variance, (x.centred * reference).mean(dim=(2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean: Tensor, variance: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor | None]:
        centred, reference = ctx.saved_tensors
        count = centred.shape[2] * centred.shape[3]
        mean, variance, covariance = (g[:, :, None, None] / count for g in (mean, variance, covariance))
        slope = torch.addcmul(mean, centred, variance, value=2).addcmul_(reference, covariance)
        return slope, centred * covariance if ctx.needs_input_grad[1] else None
