"""Local binary patterns with a dead zone, and how many of their bits differ (Ojala et al. 2002, adapted).

Everything compared here is in fp32 at least. Scores always use hard bits; backward is a surrogate (BPDA).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DEAD_ZONE = 1e-3
"""A neighbour counts as "not darker" down to this much below the centre, so rounding errors flip no bit."""
TEMPERATURE = 0.02
"""Width of the sigmoid whose derivative stands in for that of a comparison (BPDA)."""

# Row and column of neighbour i in a 3 x 3 window: it sets bit i of the code.
_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))

_SHARES = torch.tensor([code.bit_count() / 8 for code in range(256)])
"""Number of bits set in each uint8, / 8."""


def binary_patterns(y: Tensor) -> Tensor:
    """Local binary patterns of 8 neighbours at radius 1: bit i = [neighbour i - centre >= -DEAD_ZONE].

    Args:
        y: Luma, N x 1 x h x w; borders are replicated.

    Returns:
        Codes as uint8, same shape; neighbours run clockwise from the top left, bit 0 first.
    """
    height, width = y.shape[-2:]
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate").contiguous()
    flat, step = padded.view(-1), padded.shape[-1]
    code = torch.zeros_like(y, memory_format=torch.contiguous_format)
    # Bits as numbers of the type that is compared: written as bool they take twice as long.
    differences, bits = torch.empty_like(padded), torch.empty_like(code)
    here = differences[..., 1 : 1 + height, 1 : 1 + width]
    for bit in (0, 1, 2, 7):
        top, left = _NEIGHBOURS[bit]
        before = (1 - top) * step + 1 - left
        torch.sub(flat[:-before], flat[before:], out=differences.view(-1)[before:])
        torch.ge(here, -DEAD_ZONE, out=bits)
        code.add_(bits, alpha=1 << bit)
        # The neighbour across differs by what its own neighbour here differs from it, with the other sign.
        across = differences[..., 2 - top : 2 - top + height, 2 - left : 2 - left + width]
        torch.le(across, DEAD_ZONE, out=bits)
        code.add_(bits, alpha=1 << (bit + 4) % 8)
    return code.to(torch.uint8)


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


def soft_patterns(y: Tensor, reference_code: Tensor) -> Tensor:
    """`compare_patterns` with each bit b = sigmoid((difference + DEAD_ZONE) / TEMPERATURE) forward, too.

    Args:
        y: Luma of the distorted images, N x 1 x h x w.
        reference_code: Codes of the references as uint8, same shape.

    Returns:
        N x 2 x h x w in [0, 1].
    """
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
    code, share = torch.zeros_like(y), torch.zeros_like(y)
    for place, neighbour in enumerate(_neighbours(padded, y)):
        bit = ((neighbour - y + DEAD_ZONE) / TEMPERATURE).sigmoid()
        reference_bit = ((reference_code >> place) & 1).to(y.dtype)
        code = code + (1 << place) / 255 * bit
        share = share + (bit + reference_bit - 2 * bit * reference_bit) / 8
    return torch.cat((code, share), dim=1)


def _neighbours(padded: Tensor, y: Tensor) -> list[Tensor]:
    """Views of the eight neighbours of every pixel."""
    height, width = y.shape[-2:]
    return [padded[..., top : top + height, left : left + width] for top, left in _NEIGHBOURS]


class _ComparePatterns(torch.autograd.Function):
    """BPDA: hard comparisons forward, the derivative of their sigmoid form backward."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, reference_code: Tensor) -> Tensor:
        ctx.save_for_backward(y, reference_code)
        code = binary_patterns(y)
        result = y.new_empty((len(y), 2, *y.shape[2:]))
        result[:, 0:1].copy_(code).div_(255)
        shares = _SHARES.to(y.device).index_select(0, (code ^ reference_code).flatten().int())
        result[:, 1:2].copy_(shares.view(y.shape))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, reference_code = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted, which the work in place below has none of
            (slope,) = torch.autograd.grad(soft_patterns(y, reference_code), y, gradients[0], create_graph=True)
            return slope, None
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
