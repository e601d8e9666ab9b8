"""What Table 4 of the BiRQA paper puts in place of its modules; it says little more than their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HEADS = 4
"""Attention heads."""


class CrossAttention(nn.Module):
    """In place of CSRAM: every place of the coarse level asks all places of the fine one, brought to its size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The coarse level, N x C x h x w, with what it took from the fine one added."""
        memory = F.avg_pool2d(fine, 2, ceil_mode=True)
        q, k, v = (_heads(maps) for maps in (self.query(coarse), *self.key_value(memory).chunk(2, dim=1)))
        mixed = F.scaled_dot_product_attention(q, k, v)
        taken = mixed.transpose(2, 3).flatten(1, 2).unflatten(2, coarse.shape[2:])
        refined: Tensor = coarse + self.out(taken)
        return refined


def _heads(maps: Tensor) -> Tensor:
    """N x C x h x w to tokens N x heads x (h w) x (C / heads)."""
    tokens: Tensor = maps.flatten(2).unflatten(1, (_HEADS, -1)).transpose(2, 3)
    return tokens


class Multiplication(nn.Module):
    """In place of SCGB: the fine level times the coarse one, without parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The fine level, N x C x h x w, times the enlarged coarse one."""
        return fine * F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)


class PooledHead(nn.Module):
    """In place of the reliability-aware head: means of every level, and one MLP over all of them."""

    def __init__(self, levels: int, channels: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(levels * channels, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Scores of shape [N] from the levels, N x C x h x w each."""
        means = torch.cat([level.mean(dim=(2, 3)) for level in levels], dim=1)
        score: Tensor = self.mlp(means)
        return score.squeeze(1)
