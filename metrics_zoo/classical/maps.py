"""What the classical metrics share: colours, halving, gradients, windows, and arithmetic that is safe at zero."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics_zoo.gaussian import luma

SQUARE = 255.0**2
"""The papers state constants for pixels in [0, 255]; one that is compared with squares is divided by this."""


def yiq(images: Tensor) -> Tensor:
    """NTSC colours: N x 3 x H x W in [0, 1] to Y in [0, 1], I in [-.6, .6] and Q in [-.53, .53], same shape.

    To the three digits that FeatureSIM.m and HaarPSI.m have.
    """
    r, g, b = images.split(1, dim=1)
    i = 0.596 * r - 0.274 * g - 0.322 * b
    q = 0.211 * r - 0.523 * g + 0.312 * b
    return torch.cat((luma(images), i, q), dim=1)


def halve(maps: Tensor) -> Tensor:
    """Means of 2 x 2 blocks: N x C x H x W to N x C x ceil(H / 2) x ceil(W / 2).

    Beyond an odd side lie zeros, as in the authors' MATLAB code of GMSD and HaarPSI.
    """
    return F.avg_pool2d(maps, 2, ceil_mode=True, divisor_override=4)


def similarity(first: Tensor, second: Tensor, constant: float) -> Tensor:
    """(2ab + c) / (a² + b² + c) of every value: 1 where the maps agree, and smooth at zero because c > 0."""
    return (2 * first * second + constant) / (first * first + second * second + constant)


def root(values: Tensor) -> Tensor:
    """Square root of values that are at least 0, with slope 0 at 0."""
    zero = values <= 0
    return values.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def gradient_magnitude(maps: Tensor, side: float, centre: float) -> Tensor:
    """Length of the gradient by two 3 x 3 operators: N x 1 x H x W to the same shape.

    An operator is the central difference smoothed across by the weights (side, centre, side); Prewitt's are
    (1/3, 1/3, 1/3), Scharr's (3/16, 10/16, 3/16). Outside the image lie zeros.
    """
    padded = F.pad(maps, (1, 1, 1, 1))
    right = padded[..., 2:] - padded[..., :-2]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    right = side * (right[..., :-2, :] + right[..., 2:, :]) + centre * right[..., 1:-1, :]
    down = side * (down[..., :-2] + down[..., 2:]) + centre * down[..., 1:-1]
    return root(right * right + down * down)


def window(maps: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weighted means over whole windows only: N x C x H x W to N x C x (H - 2r) x (W - 2r).

    Args:
        maps: Maps with sides above 2r.
        taps: Weights at distance 0, 1, ..., r along each axis; the window is separable and symmetric.
    """
    result: Tensor = _Window.apply(maps, taps)  # type: ignore[no-untyped-call]
    return result


class _Window(torch.autograd.Function):
    """A symmetric window is its own adjoint but for zero padding; autograd would add up a full map for each tap."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, taps: tuple[float, ...]) -> Tensor:
        ctx.taps = taps
        return _along(_along(maps, taps, 2), taps, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        taps: tuple[float, ...] = ctx.taps
        wide = 2 * (len(taps) - 1)
        columns = _along(F.pad(gradients[0], (wide, wide, 0, 0)), taps, 3)
        return _along(F.pad(columns, (0, 0, wide, wide)), taps, 2), None


def _along(maps: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """The window along one axis as a sum of shifted views: several times faster on CPU than a one-channel conv2d."""
    radius = len(taps) - 1
    size = maps.shape[axis] - 2 * radius
    total = maps.narrow(axis, radius, size) * taps[0]
    for distance in range(1, radius + 1):
        pair = maps.narrow(axis, radius - distance, size) + maps.narrow(axis, radius + distance, size)
        total = total.add_(pair, alpha=taps[distance])
    return total
