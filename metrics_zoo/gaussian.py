"""The 11 x 11 Gaussian window of SSIM (sigma 1.5), and BT.601 colours; shared by several metrics."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import Metric, Tree

Channel = Literal["y", "rgb"]
"""The BT.601 luma, or R, G and B each by itself."""
LumaDepth = Literal["float", "uint8"]
"""Whether what is compared keeps its precision, or is rounded to 8 bits, as MATLAB's rgb2gray does to a uint8 image."""
RGB2GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
"""MATLAB's rgb2gray: the first row of the inverse of the NTSC matrix of three digits; .299, .587, .114 to 6e-5."""
VIEWED = 256
"""ssim.m and FSIM bring the shorter side near this many pixels by averaging."""
RADIUS = 5
"""The window has 2 x RADIUS + 1 = 11 taps along each axis."""
SIGMA = 1.5
_STRIP = 2**16
"""Pixels, of all maps together, that are worked on at once by each thread, so that they stay in its cache."""
_PART = 64
"""Places along an axis that one matrix product blurs: few enough that its zeros cost little."""
C1 = 0.01**2
"""Stabiliser of SSIM's luminance term, for a data range of 1 (Wang et al. 2004)."""
C2 = 0.03**2
"""Stabiliser of SSIM's structure term, for a data range of 1 (Wang et al. 2004)."""


class LumaMoments(NamedTuple):
    """What SSIM needs of the reference, at one scale (h x w is the size of the scale)."""

    luma: Tensor
    """N x 1 x h x w in [0, 1]; N x 3 x h x w where R, G and B are compared."""
    mean: Tensor
    """Gaussian mean of the luma, N x 1 (or 3) x (h - 10) x (w - 10)."""
    variance: Tensor
    """Gaussian variance of the luma, same shape."""


class Roundable(Metric):
    """A metric that rounds what it compares to 8 bits where its ``luma`` says so."""

    def __init__(self, *, luma: LumaDepth = "float") -> None:
        super().__init__()
        self.luma: LumaDepth = luma
        self.exact_gradient = luma == "float"  # type: ignore[misc]

    def surrogate(self, reference: Tree, dist: Tensor) -> Tensor:
        """The score with nothing of the distorted image rounded, shape [N]; the reference stays as it was encoded."""
        unrounded = copy.copy(self)
        unrounded.luma = "float"
        return unrounded.score(reference, dist)


class Framed(Roundable):
    """A metric of the luma, or of R, G and B, without a border of pixels.

    Args:
        channel: Whether all of R, G and B are compared, or the BT.601 luma.
        luma: Whether what is compared keeps its precision or is rounded to 8 bits first (gradient: straight through).
        crop_border: Pixels left out along every border.
    """

    def __init__(self, *, channel: Channel, luma: LumaDepth, crop_border: int) -> None:
        super().__init__(luma=luma)
        if crop_border < 0:
            raise ValueError(f"crop_border should be a number of pixels, or 0, got {crop_border}")
        self.channel: Channel = channel
        self.crop_border = crop_border
        self.minimum_size = type(self).minimum_size + 2 * crop_border  # type: ignore[misc]

    def framed(self, images: Tensor) -> Tensor:
        """What of RGB images is compared: N x 3 x H x W to N x C x h x w in [0, 1]."""
        return channels(cropped(images, self.crop_border), self.channel, self.luma)


def _taps() -> tuple[float, ...]:
    """Normalised weights of the taps at distance 0, 1, ..., RADIUS from the centre."""
    half = [math.exp(-(k**2) / (2 * SIGMA**2)) for k in range(RADIUS + 1)]
    total = half[0] + 2 * sum(half[1:])
    return tuple(weight / total for weight in half)


TAPS = _taps()


def on_grid(maps: Tensor) -> Tensor:
    """Values in [0, 1] at the nearest of 256 levels, halves up, as MATLAB's uint8; the gradient is passed through."""
    levels = (maps * 255 + 0.5).floor() / 255
    return levels.detach() + (maps - maps.detach())


def channels(images: Tensor, channel: Channel, depth: LumaDepth) -> Tensor:
    """What of RGB images is compared: N x 3 x H x W in [0, 1] to N x C x H x W, C being 1 for the luma and 3 for RGB.

    The luma of 8 bits is MATLAB's rgb2gray of a uint8 image, whose weights have no ties to round.
    """
    if depth == "float":
        return luma(images) if channel == "y" else images
    return on_grid(_weighted(images, RGB2GRAY) if channel == "y" else images)


def cropped(images: Tensor, border: int) -> Tensor:
    """Images without this many pixels along every border: N x C x H x W to N x C x (H - 2 border) x (W - 2 border)."""
    return images[..., border:-border, border:-border] if border else images


_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114


def luma(images: Tensor) -> Tensor:
    """BT.601 luma of RGB images: N x 3 x H x W in [0, 1] to N x 1 x H x W in [0, 1]."""
    return _weighted(images, (_RED, _GREEN, _BLUE))


def _weighted(images: Tensor, weights: tuple[float, float, float]) -> Tensor:
    red, green, blue = weights
    return red * images[:, 0:1] + green * images[:, 1:2] + blue * images[:, 2:3]


def ycbcr(images: Tensor) -> Tensor:
    """BT.601 full-range YCbCr without offset: N x 3 x H x W, Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    result: Tensor = _YCbCr.apply(images)  # type: ignore[no-untyped-call]
    return result


class _YCbCr(torch.autograd.Function):
    """The conversion a strip of rows at a time; its gradient is one matrix product."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        result = torch.empty_like(images, memory_format=torch.contiguous_format)
        for rows in strips(images):
            red, green, blue = images[:, :, rows].contiguous().unbind(1)
            y, cb, cr = result[:, :, rows].unbind(1)
            part = torch.mul(green, _GREEN)
            torch.mul(red, _RED, out=y).add_(part)
            y.add_(torch.mul(blue, _BLUE, out=part))
            torch.sub(blue, y, out=cb).mul_(0.5 / (1 - _BLUE))
            torch.sub(red, y, out=cr).mul_(0.5 / (1 - _RED))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0]
        y = (_RED, _GREEN, _BLUE)
        cb = [(share - luma) * 0.5 / (1 - _BLUE) for share, luma in zip((0, 0, 1), y, strict=True)]
        cr = [(share - luma) * 0.5 / (1 - _RED) for share, luma in zip((1, 0, 0), y, strict=True)]
        matrix = torch.tensor((y, cb, cr), dtype=gradient.dtype, device=gradient.device).mT
        planes = torch.bmm(matrix.expand(len(gradient), -1, -1), gradient.flatten(2))
        return planes.view(gradient.shape)


def strips(maps: Tensor) -> Iterator[slice]:
    """Rows of maps, ... x H x W, in strips that stay in a processor's cache; all at once on other devices."""
    height = maps.shape[-2]
    pixels = maps.numel() // height if height else 1
    rows = max(1, _STRIP * torch.get_num_threads() // max(1, pixels)) if maps.device.type == "cpu" else height
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def blur_valid(maps: Tensor) -> Tensor:
    """Gaussian means over whole windows only: N x C x H x W to N x C x (H - 10) x (W - 10)."""
    return _along(_along(maps, 2), 3)


def blur(maps: Tensor) -> Tensor:
    """Gaussian means of every pixel, borders replicated: N x C x H x W to N x C x H x W."""
    result: Tensor = _Blur.apply(maps)  # type: ignore[no-untyped-call]
    return result


def _along(maps: Tensor, axis: int) -> Tensor:
    """The window along one axis as a sum of shifted views: several times faster on CPU than a one-channel conv2d."""
    size = maps.shape[axis] - 2 * RADIUS
    total = maps.narrow(axis, RADIUS, size) * TAPS[0]
    for distance in range(1, RADIUS + 1):
        pair = maps.narrow(axis, RADIUS - distance, size) + maps.narrow(axis, RADIUS + distance, size)
        total = total.add_(pair, alpha=TAPS[distance])
    return total


def _along_into(total: Tensor, pair: Tensor, maps: Tensor, axis: int) -> None:
    """`_along` without new memory: `total` receives it, `pair` is of its size and is overwritten."""
    size = maps.shape[axis] - 2 * RADIUS
    shifted = maps.unfold(axis, size, 1).unbind(axis)
    if axis == 2:
        total, pair = total.mT, pair.mT
    torch.mul(shifted[RADIUS], TAPS[0], out=total)
    for distance in range(1, RADIUS + 1):
        torch.add(shifted[RADIUS - distance], shifted[RADIUS + distance], out=pair)
        total.add_(pair, alpha=TAPS[distance])


class _Blur(torch.autograd.Function):
    """Replicate padding and the separable window, a strip of rows at a time."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        height, width = maps.shape[2:]
        result = torch.empty_like(maps, memory_format=torch.contiguous_format)
        for rows in strips(maps):
            high = maps[:, :, max(rows.start - RADIUS, 0) : rows.stop + RADIUS]
            above, below = (max(RADIUS - room, 0) for room in (rows.start, height - rows.stop))
            if above or below:
                high = F.pad(high, (0, 0, above, below), mode="replicate")
            wide = maps.new_empty((*maps.shape[:2], rows.stop - rows.start, width + 2 * RADIUS))
            inner, pair = wide[..., RADIUS : RADIUS + width], result[:, :, rows]
            _along_into(inner, pair, high, 2)
            wide[..., :RADIUS].copy_(inner[..., :1].expand_as(wide[..., :RADIUS]))
            wide[..., RADIUS + width :].copy_(inner[..., -1:].expand_as(wide[..., :RADIUS]))
            _along_into(result[:, :, rows], torch.empty_like(inner), wide, 3)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient: Tensor = _Unblur.apply(gradients[0])  # type: ignore[no-untyped-call]
        return gradient


class _Unblur(torch.autograd.Function):
    """Adjoint of the blur, as products with the transposes of the band matrices that it is."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        planes = gradient.reshape(-1, *gradient.shape[2:])
        count, height, width = planes.shape
        rows, result = torch.zeros_like(planes), torch.zeros_like(planes)
        for inner, outer, taps in _bands(width, planes):
            rows.view(-1, width)[:, outer].addmm_(planes.view(-1, width)[:, inner], taps.mT)
        for inner, outer, taps in _bands(height, planes):
            result[:, outer].baddbmm_(taps.expand(count, -1, -1), rows[:, inner])
        return result.view(gradient.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return blur(gradients[0])


def _bands(size: int, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """The window along an axis of this size, a part of the axis at a time.

    Yields:
        Which places are blurred, which they are made of, and the weights of the latter (rows) in the former (columns).
    """
    for start in range(0, size, _PART):
        end = min(start + _PART, size)
        first, last = max(start - RADIUS, 0), min(end + RADIUS, size)
        with torch.inference_mode(False):
            taps = _band(start - first, end - start, last - end, like.dtype, like.device)
        yield slice(start, end), slice(first, last), taps


@functools.lru_cache(maxsize=256)
def _band(before: int, inside: int, after: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights of a part of an axis and the places beside it (rows) in the means of the part (columns).

    Args:
        before: Places before the part; fewer than `RADIUS` where the axis begins, whose first place is replicated.
        inside: Places in the part.
        after: Places after it, like those before.
        dtype: Of the weights.
        device: Where they lie.
    """
    weights = torch.zeros(before + inside + after, inside, dtype=torch.float64)
    for column in range(inside):
        for distance in range(-RADIUS, RADIUS + 1):
            row = min(max(before + column + distance, 0), len(weights) - 1)
            weights[row, column] += TAPS[abs(distance)]
    return weights.to(device, dtype)
