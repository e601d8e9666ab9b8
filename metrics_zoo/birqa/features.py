"""The four analytic feature maps of BiRQA (paper, Section 3.1), on every level of the image pyramid.

Everything here runs in fp32 at least, whatever precision the network runs in: local binary patterns are comparisons.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics_zoo.gaussian import C1, C2, blur, ycbcr

LEVELS = 4
"""Pyramid levels, each half the size of the one before (Section 3.1)."""
CHANNELS = {"ssim": 1, "information": 2, "colour": 3, "lbp": 3}
"""Maps of each feature, in the order the network expects them."""
DEAD_ZONE = 1e-3
"""A neighbour counts as "not darker" down to this much below the centre, so rounding errors flip no bit."""
TEMPERATURE = 0.02
"""Width of the sigmoid whose derivative stands in for that of a comparison (BPDA)."""
NOISE_VARIANCE = 1e-4
"""Variance at which a region starts to carry information, for luma in [0, 1]; larger than what rounding can move."""
INFORMATION_SCALE = 1 / 8
"""Brings log(1 + variance / NOISE_VARIANCE) to about [0, 1]: the largest possible variance, 1/4, gives .98."""

# Row and column of neighbour i in a 3 x 3 window: it sets bit i of the code.
_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


class ReferenceLevel(NamedTuple):
    """What one pyramid level needs of the reference (h x w is the size of the level)."""

    ycbcr: Tensor
    """N x 3 x h x w; Y in [0, 1], Cb and Cr in [-.5, .5]."""
    mean: Tensor
    """Gaussian mean of Y, N x 1 x h x w."""
    variance: Tensor
    """Gaussian variance of Y, N x 1 x h x w."""
    information: Tensor
    """Informational map, N x 1 x h x w."""
    code: Tensor
    """Local binary patterns as uint8, N x 1 x h x w."""


def reference_pyramid(ref: Tensor) -> tuple[ReferenceLevel, ...]:
    """Everything the features take from the reference alone, finest level first.

    Args:
        ref: Reference images, N x 3 x H x W in [0, 1].
    """
    with torch.autocast(ref.device.type, enabled=False):
        return tuple(_reference_level(image) for image in _pyramid(ref))


def feature_pyramid(reference: tuple[ReferenceLevel, ...], dist: Tensor) -> list[Tensor]:
    """The feature maps of every level, N x 9 x h x w each, finest first; channels in the order of `CHANNELS`.

    Args:
        reference: What `reference_pyramid` returned.
        dist: Distorted images, N x 3 x H x W in [0, 1].
    """
    with torch.autocast(dist.device.type, enabled=False):
        return [_features(level, image) for level, image in zip(reference, _pyramid(dist), strict=True)]


def _pyramid(images: Tensor) -> list[Tensor]:
    """YCbCr images, each level the 2 x 2 means of the one before (odd sizes: means of what the border window holds)."""
    levels = [ycbcr(images.to(torch.promote_types(images.dtype, torch.float32)))]
    while len(levels) < LEVELS:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True))
    return levels


def _reference_level(image: Tensor) -> ReferenceLevel:
    y = image[:, 0:1]
    mean, square = blur(torch.cat((y, y * y), dim=1)).split(1, dim=1)
    variance = square - mean * mean
    return ReferenceLevel(image, mean, variance, information(variance), binary_patterns(y.detach()))


def _features(reference: ReferenceLevel, image: Tensor) -> Tensor:
    y = image[:, 0:1]
    moments = blur(torch.cat((y, y * y, y * reference.ycbcr[:, 0:1]), dim=1))
    mean, square, product = moments.split(1, dim=1)
    variance = square - mean * mean
    cross = reference.mean * mean
    luminance = (2 * cross + C1) / (reference.mean * reference.mean + mean * mean + C1)
    structure = (2 * (product - cross) + C2) / (reference.variance + variance + C2)
    patterns = compare_patterns(y, reference.code)
    return torch.cat(
        (
            luminance * structure,
            reference.information,
            information(variance),
            image - reference.ycbcr,
            reference.code.to(image.dtype) / 255,
            patterns,
        ),
        dim=1,
    )


def information(variance: Tensor) -> Tensor:
    """Informational content log(1 + variance / noise) of a region, as in IW-SSIM (Wang and Li 2010)."""
    return torch.log1p(variance.clamp_min(0) * (1 / NOISE_VARIANCE)) * INFORMATION_SCALE


def binary_patterns(y: Tensor) -> Tensor:
    """Local binary patterns of 8 neighbours at radius 1: bit i = [neighbour i - centre >= -DEAD_ZONE].

    Args:
        y: Luma, N x 1 x h x w; borders are replicated.

    Returns:
        Codes as uint8, same shape; neighbours run clockwise from the top left, bit 0 first.
    """
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
    code = torch.zeros_like(y, dtype=torch.uint8)
    for bit, neighbour in enumerate(_neighbours(padded, y)):
        code.add_((neighbour - y).ge_(-DEAD_ZONE).to(torch.uint8), alpha=1 << bit)
    return code


def compare_patterns(y: Tensor, reference_code: Tensor) -> Tensor:
    """Code of the distorted luma / 255, and the share b + r - 2br of bits that differ from the reference's.

    Forward is exact. Backward takes each bit b for sigmoid((difference + DEAD_ZONE) / TEMPERATURE).

    Args:
        y: Luma of the distorted images, N x 1 x h x w.
        reference_code: Codes of the references as uint8, same shape.

    Returns:
        N x 2 x h x w in [0, 1].
    """
    result: Tensor = _ComparePatterns.apply(y, reference_code)  # type: ignore[no-untyped-call]
    return result


def _neighbours(padded: Tensor, y: Tensor) -> list[Tensor]:
    """Views of the eight neighbours of every pixel."""
    height, width = y.shape[-2:]
    return [padded[..., top : top + height, left : left + width] for top, left in _NEIGHBOURS]


def _count_bits(code: Tensor) -> Tensor:
    """Number of bits set in each uint8, by adding them pairwise."""
    code = code - ((code >> 1) & 0x55)
    code = (code & 0x33) + ((code >> 2) & 0x33)
    return (code + (code >> 4)) & 0x0F


class _ComparePatterns(torch.autograd.Function):
    """BPDA: hard comparisons forward, the derivative of their sigmoid form backward."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, reference_code: Tensor) -> Tensor:
        ctx.save_for_backward(y, reference_code)
        code = binary_patterns(y)
        return torch.cat((code.to(y.dtype) / 255, _count_bits(code ^ reference_code).to(y.dtype) / 8), dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, reference_code = ctx.saved_tensors
        of_code, of_share = gradients[0].split(1, dim=1)
        of_code = of_code * (1 / 255 / TEMPERATURE)
        of_share = of_share * (1 / 8 / TEMPERATURE)
        padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
        shifted = y - DEAD_ZONE
        collected, centre = torch.zeros_like(padded), torch.zeros_like(y)
        soft, slope, reference_bit = torch.empty_like(y), torch.empty_like(y), torch.empty_like(y)
        pairs = zip(_neighbours(padded, y), _neighbours(collected, y), strict=True)
        for bit, (neighbour, target) in enumerate(pairs):
            place = 1 << bit
            torch.sub(neighbour, shifted, out=soft).mul_(1 / TEMPERATURE).sigmoid_()
            reference_bit.copy_(reference_code & place)
            torch.add(of_share, of_code, alpha=place, out=slope).addcmul_(reference_bit, of_share, value=-2 / place)
            flow = torch.ops.aten.sigmoid_backward(slope, soft)
            target.add_(flow)
            centre.sub_(flow)
        return centre.add_(_unpad(collected)), None


def _unpad(maps: Tensor) -> Tensor:
    """Adjoint of replicate padding by one pixel."""
    rows = maps[..., 1:-1, :].clone()
    rows[..., 0, :] += maps[..., 0, :]
    rows[..., -1, :] += maps[..., -1, :]
    columns = rows[..., 1:-1].clone()
    columns[..., 0] += rows[..., 0]
    columns[..., -1] += rows[..., -1]
    return columns
