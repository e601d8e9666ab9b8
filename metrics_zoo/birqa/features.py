"""The analytic feature maps of BiRQA (paper, Section 3.1 and Table 5), on every level of the image pyramid.

The paper describes its eleven candidates in a sentence each. What a feature is here stands beside it, with its source;
`ssim`, `info`, `color` and `lbp` are the paper's choice. Everything runs in fp32 at least, whatever precision the
network runs in: local binary patterns are comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics_zoo.birqa import maps
from metrics_zoo.birqa.lbp import binary_patterns, compare_patterns, soft_patterns
from metrics_zoo.gaussian import C1, C2, blur, ycbcr

PYRAMID_LEVELS = 4
"""Pyramid levels, each half the size of the one before (Section 3.1)."""

ReferenceLevel = dict[str, Tensor]
"""What one pyramid level needs of the reference, by name; every tensor has N rows and the size of the level."""


class ComparedMoments(NamedTuple):
    """Gaussian moments of the distorted luma, N x 1 x h x w each."""

    squared_mean: Tensor
    product_of_means: Tensor
    """Its mean times the reference's."""
    variance: Tensor
    covariance: Tensor


class Compared:
    """One pyramid level of the distorted image beside its reference; what several features need is computed once."""

    def __init__(self, reference: ReferenceLevel, image: Tensor, soft: bool = False) -> None:
        self.reference = reference
        self.soft = soft
        """Whether comparisons are soft, as no score has them."""
        self.image = image
        """N x 3 x h x w; Y in [0, 1], Cb and Cr in [-.5, .5]."""

    @property
    def y(self) -> Tensor:
        """Luma of the distorted image, N x 1 x h x w."""
        return self.image[:, 0:1]

    @cached_property
    def moments(self) -> ComparedMoments:
        """Those of the luma, and of the luma and the reference's."""
        y, ref = self.y, self.reference
        mean, square, product = blur(torch.cat((y, y * y, y * ref["ycbcr"][:, 0:1]), dim=1)).split(1, dim=1)
        squared, crossed = mean * mean, ref["mean"] * mean
        return ComparedMoments(squared, crossed, square - squared, product - crossed)


class Feature(NamedTuple):
    """One named feature."""

    maps: int
    """Channels it has."""
    of_reference: Callable[[ReferenceLevel], Mapping[str, Tensor]]
    """What it wants kept of the reference, from what is kept already ("ycbcr" always is)."""
    compare: Callable[[Compared], tuple[Tensor, ...]]
    """Its maps, N x .. x h x w each, `maps` in all."""
    source: str


def _moments(kept: ReferenceLevel) -> dict[str, Tensor]:
    """Gaussian mean and variance of the reference's luma."""
    if "mean" in kept:
        return {}
    y = kept["ycbcr"][:, 0:1]
    mean, square = blur(torch.cat((y, y * y), dim=1)).split(1, dim=1)
    return {"mean": mean, "variance": square - mean * mean}


def _ssim(level: Compared) -> tuple[Tensor]:
    moments, ref = level.moments, level.reference
    alike = (moments.product_of_means * 2).add_(C1) * (moments.covariance * 2).add_(C2)
    means = (ref["mean"] * ref["mean"]).add_(C1) + moments.squared_mean
    return (alike / (means * (ref["variance"] + C2).add_(moments.variance)),)


def _info_reference(kept: ReferenceLevel) -> dict[str, Tensor]:
    moments = _moments(kept)
    return {**moments, "info": maps.information({**kept, **moments}["variance"])}


def _info(level: Compared) -> tuple[Tensor, Tensor]:
    return level.reference["info"], maps.information(level.moments.variance)


def _color(level: Compared) -> tuple[Tensor]:
    return (level.image - level.reference["ycbcr"],)


def _lbp(level: Compared) -> tuple[Tensor, Tensor]:
    code = level.reference["lbp"]
    compared = soft_patterns(level.y, code) if level.soft else compare_patterns(level.y, code)
    return code.to(level.image.dtype).div_(255), compared


def _vif(level: Compared) -> tuple[Tensor]:
    return (maps.fidelity(level.reference["variance"], level.moments.variance, level.moments.covariance),)


def _raw(level: Compared) -> tuple[Tensor, Tensor]:
    return level.reference["ycbcr"], level.image


def _both(name: str, function: Callable[[Tensor], Tensor], channels: int, source: str) -> Feature:
    """A feature that shows a function of the luma of the reference beside that of the distorted image."""
    return Feature(
        2 * channels,
        lambda kept: {name: function(kept["ycbcr"][:, 0:1])},
        lambda level: (level.reference[name], function(level.y)),
        source,
    )


def _difference(name: str, function: Callable[[Tensor], Tensor], channels: int, source: str) -> Feature:
    """A feature that is the change of a function of the luma: distorted - reference."""
    return Feature(
        channels,
        lambda kept: {name: function(kept["ycbcr"][:, 0:1])},
        lambda level: (function(level.y) - level.reference[name],),
        source,
    )


FEATURES: Mapping[str, Feature] = {
    "ssim": Feature(1, _moments, _ssim, "SSIM map of the luma (Wang et al. 2004)"),
    "info": Feature(
        2, _info_reference, _info, "information of a region from its variance, as in IW-SSIM (Wang, Li 2011)"
    ),
    "info-gradient": _both(
        "info-gradient", maps.gradient_information, 1, "the same of its squared Sobel gradient, by Table 5's wording"
    ),
    "color": Feature(3, lambda kept: {}, _color, "signed YCbCr difference (ITU-R BT.601)"),
    "lbp": Feature(
        3,
        lambda kept: {"lbp": binary_patterns(kept["ycbcr"][:, 0:1].detach())},
        _lbp,
        "local binary patterns (Ojala et al. 2002)",
    ),
    "gabor": _difference("gabor", maps.gabor, len(maps.ORIENTATIONS), "amplitude of a Gabor bank (Daugman 1985)"),
    "wavelet": _difference("wavelet", maps.haar, 3, "undecimated Haar details (Mallat 1989)"),
    "entropy": _both("entropy", maps.entropy, 1, "local Shannon entropy (Shannon 1948)"),
    "edge": _both("edge", maps.edges, 1, "Sobel edge strength (Sobel, Feldman 1968)"),
    "dlm": Feature(
        1,
        lambda kept: {"dlm": maps.daubechies(kept["ycbcr"][:, 0:1])},
        lambda level: (maps.details_kept(level.reference["dlm"], maps.daubechies(level.y)),),
        "detail loss measure (Li et al. 2011)",
    ),
    "vif": Feature(1, _moments, _vif, "visual information fidelity in the pixel domain (Sheikh, Bovik 2006)"),
    "saliency": _both("saliency", maps.saliency, 1, "spectral-residual saliency (Hou, Zhang 2007), not a network"),
    "raw": Feature(6, lambda kept: {}, _raw, "both images as they are, in YCbCr"),
}
"""Every feature by its name, in the order the network takes them; "info-gradient" stands for `info: gradient`."""
PAPER = ("ssim", "info", "color", "lbp")
"""The paper's four."""


_SIDES = ("reference", "distorted")
CHANNEL_NAMES: Mapping[str, Sequence[str]] = {
    "ssim": ("ssim",),
    "info": [f"info, {side}" for side in _SIDES],
    "info-gradient": [f"info (gradient), {side}" for side in _SIDES],
    "color": ("Y change", "Cb change", "Cr change"),
    "lbp": ("lbp, reference", "lbp, distorted", "lbp bits changed"),
    "gabor": [f"gabor {round(math.degrees(angle))}°, change" for angle in maps.ORIENTATIONS],
    "wavelet": [f"haar {name}, change" for name in ("horizontal", "vertical", "diagonal")],
    "entropy": [f"entropy, {side}" for side in _SIDES],
    "edge": [f"edge, {side}" for side in _SIDES],
    "dlm": ("dlm, details kept",),
    "vif": ("vif",),
    "saliency": [f"saliency, {side}" for side in _SIDES],
    "raw": [f"{plane}, {side}" for side in _SIDES for plane in ("Y", "Cb", "Cr")],
}
"""What each map of a feature shows."""


def reference_pyramid(ref: Tensor, names: Sequence[str] = PAPER) -> tuple[ReferenceLevel, ...]:
    """Everything the features take from the reference alone, finest level first.

    Args:
        ref: Reference images, N x 3 x H x W in [0, 1].
        names: Features in use.
    """
    with torch.autocast(ref.device.type, enabled=False):
        return tuple(_reference_level(image, names) for image in _pyramid(ref))


def feature_pyramid(
    reference: tuple[ReferenceLevel, ...], dist: Tensor, names: Sequence[str] = PAPER, *, soft: bool = False
) -> list[Tensor]:
    """The feature maps of every level, N x F x h x w each, finest first; features in the order of `names`.

    Args:
        reference: What `reference_pyramid` returned for the same features.
        dist: Distorted images, N x 3 x H x W in [0, 1].
        names: Features in use.
        soft: Whether local binary patterns have soft bits, for the surrogate.
    """
    with torch.autocast(dist.device.type, enabled=False):
        levels = [Compared(level, image, soft) for level, image in zip(reference, _pyramid(dist), strict=True)]
        parts = ([part for name in names for part in FEATURES[name].compare(level)] for level in levels)
        return [torch.cat(level, dim=1) for level in parts]


def _pyramid(images: Tensor) -> list[Tensor]:
    """YCbCr images, each level the 2 x 2 means of the one before (odd sizes: means of what the border window holds)."""
    levels = [ycbcr(images.to(torch.promote_types(images.dtype, torch.float32)))]
    while len(levels) < PYRAMID_LEVELS:
        levels.append(_half(levels[-1]))
    return levels


def _half(image: Tensor) -> Tensor:
    if image.shape[2] % 2 or image.shape[3] % 2:
        return F.avg_pool2d(image, 2, ceil_mode=True)
    half: Tensor = _Halved.apply(image)  # type: ignore[no-untyped-call]
    return half


class _Halved(torch.autograd.Function):
    """Means of 2 x 2 pixels, even sizes: torch's pooling takes three times as long on CPU."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        half = image[:, :, ::2, ::2] + image[:, :, ::2, 1::2]
        return half.add_(image[:, :, 1::2, ::2]).add_(image[:, :, 1::2, 1::2]).mul_(1 / 4)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        count, channels, height, width = gradients[0].shape
        quarters = (gradients[0] / 4)[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return quarters.reshape(count, channels, 2 * height, 2 * width)


def _reference_level(image: Tensor, names: Sequence[str]) -> ReferenceLevel:
    kept = {"ycbcr": image}
    for name in names:
        kept.update(FEATURES[name].of_reference(kept))
    return kept
