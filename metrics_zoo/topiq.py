"""TOPIQ-FR, the full-reference coarse-to-fine attention network (CFANet).

Chen et al. 2024, "TOPIQ: A Top-down Approach from Semantics to Distortions for Image Quality Assessment", arXiv
2308.03060.

The parameters carry the names of the published checkpoint (its entry ``params``), which loads as it is.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contracts import Metric, register
from metrics_zoo.backbones import ResNet50

__all__ = ["TOPIQ"]

WIDTH = 256
"""Channels of every token."""
_HEADS = 4
"""Attention heads."""
_HIDDEN = 1024
"""Hidden channels of the feed-forward layers."""
GRID = 32
"""Side of the learnt position embedding, resized to the tokens' grid."""
_SMALLEST = 1e-12
"""Added under the root of the squared feature difference, so that its gradient is finite at 0."""


class Attention(nn.Module):
    """Multi-head scaled dot-product attention under the parameter names of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * WIDTH, WIDTH)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, query: Tensor, memory: Tensor | None = None) -> Tensor:
        """Tokens N x Q x 256 attending to the memory, N x M x 256, or to themselves; N x Q x 256."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if memory is None:
            q, k, v = F.linear(query, weight, bias).chunk(3, dim=2)
        else:
            q = F.linear(query, weight[:WIDTH], bias[:WIDTH])
            k, v = F.linear(memory, weight[WIDTH:], bias[WIDTH:]).chunk(2, dim=2)
        q, k, v = (t.unflatten(2, (_HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(mixed)
        return out


class EncoderLayer(nn.Module):
    """Pre-norm transformer encoder layer: self-attention, then a feed-forward layer with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.linear1, self.linear2 = nn.Linear(WIDTH, _HIDDEN), nn.Linear(_HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """N x T x 256 to the same shape."""
        tokens = tokens + self.self_attn(self.norm1(tokens))
        out: Tensor = tokens + self.linear2(F.gelu(self.linear1(self.norm2(tokens))))
        return out


class DecoderLayer(nn.Module):
    """Cross-scale attention: coarse tokens ask the next finer level. `self_attn` is in the checkpoint and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = Attention(), Attention()
        self.linear1, self.linear2 = nn.Linear(WIDTH, _HIDDEN), nn.Linear(_HIDDEN, WIDTH)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Queries N x Q x 256 and the finer tokens N x T x 256 to N x Q x 256."""
        query = query + self.multihead_attn(self.norm1(query), self.norm2(tokens))
        out: Tensor = query + self.linear2(F.gelu(self.linear1(self.norm3(query))))
        return out


class Layers(nn.Module):
    """The one-layer stacks of the checkpoint, ``layers.0``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList((layer,))

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the layer returns."""
        out: Tensor = self.layers[0](*inputs)
        return out


@register("topiq", weights="topiq")
class TOPIQ(Metric):
    """TOPIQ-FR (Chen et al. 2024), CFANet on ResNet50; higher is better.

    Gated differences of five feature levels are attended from coarse to fine.
    Scores are in the label scale of the weights, with the KADID-10k checkpoint about 0 to 1, and are not bounded.
    Images are not resized. Below 32 px, the stride of the deepest level, a score would be of padding mostly.
    """

    cite = "chen2024topiq"
    higher_is_better: ClassVar[bool] = True
    minimum_size: ClassVar[int] = 32
    needs_weights: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.h_emb = nn.Parameter(0.02 * torch.randn(1, WIDTH // 2, GRID, 1))
            self.w_emb = nn.Parameter(0.02 * torch.randn(1, WIDTH // 2, 1, GRID))
            self.semantic_model = ResNet50()
            channels = ResNet50.channels
            self.sa_attn_blks = nn.ModuleList(Layers(EncoderLayer()) for _ in channels)
            self.dim_reduce = nn.ModuleList(nn.Sequential(nn.Conv2d(3 * c, WIDTH, 1), nn.GELU()) for c in channels)
            self.weight_pool = nn.ModuleList(_gate(c) for c in channels)
            self.attn_blks = nn.ModuleList(Layers(DecoderLayer()) for _ in channels[1:])
            self.attn_pool = EncoderLayer()
            self.score_linear = nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(),
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1),
            )  # fmt: skip

    def encode(self, ref: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the reference at the five levels, finest first, N x C x h x w each."""
        maps: tuple[Tensor, ...] = self.semantic_model(ref)
        return maps

    def score(self, reference: tuple[Tensor, ...], dist: Tensor) -> Tensor:
        """TOPIQ-FR of each image, shape [N]."""
        maps = self.semantic_model(dist)
        height, width = maps[-1].shape[-2:]
        tokens = [self._tokens(i, x, y, (height, width)) for i, (x, y) in enumerate(zip(maps, reference, strict=True))]
        # The stacks are numbered in the order they run: the first one asks level 3, the last one level 0.
        query = tokens[-1]
        for attend, finer in zip(self.attn_blks, reversed(tokens[:-1]), strict=True):
            query = attend(query, finer)
        score: Tensor = self.score_linear(self.attn_pool(query).mean(dim=1))
        return score.squeeze(1)

    def _tokens(self, level: int, dist: Tensor, ref: Tensor, deepest: tuple[int, int]) -> Tensor:
        """Gated features of one level as tokens with their positions, N x T x 256 (gated local pooling)."""
        difference = (dist - ref).square().add_(_SMALLEST).sqrt_()
        gate = self.weight_pool[level](difference)
        gated = [maps * gate for maps in (dist, ref, difference)]
        if dist.shape[2] > deepest[0] and dist.shape[3] > deepest[1]:
            gated = [F.adaptive_avg_pool2d(maps, deepest) for maps in gated]
        reduced = self.dim_reduce[level](torch.cat(gated, dim=1))
        tokens: Tensor = self.sa_attn_blks[level]((reduced + self._positions(reduced.shape[-2:])).flatten(2).mT)
        return tokens

    def _positions(self, size: torch.Size) -> Tensor:
        """The position embedding on a grid of this size, 1 x 256 x h x w."""
        rows, columns = self.h_emb.expand(-1, -1, -1, GRID), self.w_emb.expand(-1, -1, GRID, -1)
        grid = torch.cat((rows, columns), dim=1)
        return F.interpolate(grid, size=size, mode="bicubic", align_corners=False)


def _gate(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 64, 1), nn.GELU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.GELU(),
        nn.Conv2d(64, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
