"""The BiRQA network (paper, Section 3.2): feature maps of four pyramid levels in, one score out.

No normalisation layer and no dropout: training and evaluation compute the same function, under attack too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Stride (and kernel size) of the stem: the paper leaves it open, its speed needs it."""
REDUCTION = 4
"""How much narrower the hidden layers of the channel attentions are (fusion and Squeeze-and-Excitation)."""
SMALLEST = 1e-6
"""Smallest activation that generalised-mean pooling takes the logarithm of."""


class Network(nn.Module):
    """Stem, adaptive fusion, bottom-up residual attention, top-down gating and the reliability-aware head.

    Args:
        features: Number of maps of each feature.
        levels: Number of pyramid levels.
        channels: Width C of the pyramid.
        stem_channels: Width D of each preprocessed feature.
        head: Width d of the head.
    """

    def __init__(self, features: Sequence[int], *, levels: int, channels: int, stem_channels: int, head: int) -> None:
        super().__init__()
        joint = stem_channels * len(features)
        self.stems = nn.ModuleList(Stem(features, stem_channels) for _ in range(levels))
        self.fusions = nn.ModuleList(AdaptiveFusion(joint, channels) for _ in range(levels))
        self.lifts = nn.ModuleList(CrossScaleResidualAttention(channels) for _ in range(levels - 1))
        self.gates = nn.ModuleList(SpatialCrossGating(channels) for _ in range(levels - 1))
        self.head = ReliabilityAwareHead(levels, channels, head)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Score of each image, shape [N].

        Args:
            pyramid: Feature maps of each level, finest first, N x F x h x w.
        """
        levels = [fuse(stem(maps)) for stem, fuse, maps in zip(self.stems, self.fusions, pyramid, strict=True)]
        for i, lift in enumerate(self.lifts):
            levels[i + 1] = lift(levels[i], levels[i + 1])
        for i in reversed(range(len(self.gates))):
            levels[i] = self.gates[i](levels[i], levels[i + 1])
        score: Tensor = self.head(levels)
        return score


class Stem(nn.Module):
    """Preprocesses each feature alone: patch embedding to D channels, SiLU, a one-channel sigmoid gate.

    Each feature has its own convolutions; they run as one block-diagonal convolution: many small ones cost more.
    """

    def __init__(self, features: Sequence[int], width: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Conv2d(maps, width, STRIDE, STRIDE) for maps in features)
        self.gates = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in features)

    def forward(self, maps: Tensor) -> Tensor:
        """N x F x h x w to N x (features D) x ceil(h/4) x ceil(w/4); borders are replicated up to whole patches."""
        bottom, right = -maps.shape[2] % STRIDE, -maps.shape[3] % STRIDE
        if bottom or right:
            maps = F.pad(maps, (0, right, 0, bottom), mode="replicate")
        maps = maps.contiguous(memory_format=torch.channels_last)  # the convolutions' backward is three times faster
        weight, bias = _joined(self.embeddings)
        embedded = F.silu(F.conv2d(maps, weight.view(-1, maps.shape[1], STRIDE, STRIDE), bias, STRIDE))
        weight, bias = _joined(self.gates)
        gates = F.conv2d(embedded, weight[:, :, None, None], bias).sigmoid()
        count = len(self.gates)
        gated: Tensor = embedded.unflatten(1, (count, -1)) * gates.unsqueeze(2)
        return gated.flatten(1, 2)


def _joined(convolutions: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """Weights of several convolutions as one block-diagonal matrix (outputs x flattened inputs), and their biases."""
    parameters = [dict(convolution.named_parameters()) for convolution in convolutions]
    weight: Tensor = torch.block_diag(*(p["weight"].flatten(1) for p in parameters))
    return weight, torch.cat([p["bias"] for p in parameters])


class ChannelAttention(nn.Module):
    """Sigmoid gates of the channels from their global means: x times sigma(MLP(GAP(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Reweighted maps, same shape as x."""
        gates: Tensor = self.mlp(x.mean(dim=(2, 3)))
        return x * gates[:, :, None, None]


class AdaptiveFusion(nn.Module):
    """Gates the concatenated features, fuses them by a 3 x 3 convolution, then Squeeze-and-Excitation."""

    def __init__(self, joint: int, channels: int) -> None:
        super().__init__()
        self.attention = ChannelAttention(joint)
        self.fuse = nn.Conv2d(joint, channels, 3, padding=1)
        self.excitation = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x joint x h x w to N x C x h x w."""
        fused: Tensor = self.excitation(self.fuse(self.attention(x)))
        return fused


class CrossScaleResidualAttention(nn.Module):
    """CSRAM: lifts a fine level to the next one as a residual with learned strength and confidence (Figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.strength_confidence = nn.Conv2d(channels + 1, 2 * channels, 1)
        self.residual = nn.Conv2d(channels, channels, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The coarse level, N x C x h x w, refined by the fine one, N x C x 2h x 2w (odd sizes: one less)."""
        message = self.down(fine) + F.avg_pool2d(fine, 2, ceil_mode=True)
        mask = (message.mean(dim=1, keepdim=True) + message.amax(dim=1, keepdim=True)).sigmoid()
        strength, confidence = self.strength_confidence(torch.cat((coarse, mask), dim=1)).chunk(2, dim=1)
        residual = self.residual(message * mask).tanh()
        refined: Tensor = coarse + confidence.sigmoid() * F.softplus(strength) * residual
        return refined


class SpatialCrossGating(nn.Module):
    """SCGB: gates a fine level by the context of the next coarser one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1), nn.SiLU(), nn.Conv2d(channels // 2, channels, 1), nn.Sigmoid()
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The fine level, N x C x h x w, refined."""
        gate = F.interpolate(self.mlp(coarse), size=fine.shape[2:], mode="bilinear", align_corners=False)
        return fine + fine * gate


class ReliabilityAwareHead(nn.Module):
    """RAH: a contribution and a reliability per level; the score is the contributions' softmax-weighted mean."""

    def __init__(self, levels: int, channels: int, width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(levels))
        self.pools = nn.ModuleList(GeneralisedMean() for _ in range(levels))
        self.contributions = nn.ModuleList(_perceptron(width) for _ in range(levels))
        self.reliabilities = nn.ModuleList(_perceptron(width) for _ in range(levels))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Scores of shape [N] from the levels, N x C x h x w each."""
        pooled = [
            pool(F.softplus(project(x))) for project, pool, x in zip(self.projections, self.pools, levels, strict=True)
        ]
        contributions = torch.cat([mlp(z) for mlp, z in zip(self.contributions, pooled, strict=True)], dim=1)
        reliabilities = torch.cat([mlp(z) for mlp, z in zip(self.reliabilities, pooled, strict=True)], dim=1)
        return (reliabilities.softmax(dim=1) * contributions).sum(dim=1)


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 1))


class GeneralisedMean(nn.Module):
    """Generalised-mean pooling (GeM) with a learned exponent in [1, 6], computed on logarithms in fp32 at least."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        """N x d x h x w, positive, to N x d."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        exponent = self.exponent.clamp(1, 6)
        logarithms = exact.clamp_min(SMALLEST).log().flatten(2)
        count = torch.tensor(float(logarithms.shape[2]), dtype=exact.dtype, device=exact.device)
        return ((torch.logsumexp(exponent * logarithms, dim=2) - count.log()) / exponent).exp()
