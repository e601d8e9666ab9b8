"""The BiRQA network (paper, Section 3.2): feature maps of four pyramid levels in, one score out.

No normalisation layer and no dropout: training and evaluation compute the same function, under attack too.
The level-0 maps of a 1080p image fill 130 MB, so passes over them cost as much as arithmetic: what can be one pass is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics_zoo.birqa.ablations import CrossAttention, Multiplication, PooledHead
from metrics_zoo.birqa.winograd import are_learned, convolve, convolve_scaled, from_weights, pays

REDUCTION = 4
"""How much narrower the hidden layers of the channel attentions are (fusion and Squeeze-and-Excitation)."""
_SMALLEST, _LARGEST = 1e-6, 1e6
"""Activations that generalised-mean pooling takes as they are: their sixth powers fit into fp32."""


class Network(nn.Module):
    """Stem, adaptive fusion, bottom-up residual attention, top-down gating and the reliability-aware head.

    Args:
        features: Number of maps of each feature.
        levels: Number of pyramid levels.
        channels: Width C of the pyramid.
        stem_channels: Width D of each preprocessed feature.
        head: Width d of the head.
        stride: Stride (and kernel size) of the stem.
        csram: False puts cross-attention in place of CSRAM.
        scgb: False puts element-wise multiplication in place of SCGB.
        rah: False puts pooling and an MLP in place of the reliability-aware head.
    """

    def __init__(
        self,
        features: Sequence[int],
        *,
        levels: int,
        channels: int,
        stem_channels: int,
        head: int,
        stride: int,
        csram: bool = True,
        scgb: bool = True,
        rah: bool = True,
    ) -> None:
        super().__init__()
        joint = stem_channels * len(features)
        lift = CrossScaleResidualAttention if csram else CrossAttention
        gate = SpatialCrossGating if scgb else Multiplication
        self.stems = nn.ModuleList(Stem(features, stem_channels, stride) for _ in range(levels))
        self.fusions = nn.ModuleList(AdaptiveFusion(joint, channels) for _ in range(levels))
        self.lifts = nn.ModuleList(lift(channels) for _ in range(levels - 1))
        self.gates = nn.ModuleList(gate(channels) for _ in range(levels - 1))
        self.head = (ReliabilityAwareHead if rah else PooledHead)(levels, channels, head)

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

    def __init__(self, features: Sequence[int], width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.embeddings = nn.ModuleList(nn.Conv2d(maps, width, stride, stride) for maps in features)
        self.gates = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in features)

    def forward(self, maps: Tensor) -> Tensor:
        """N x F x h x w to N x (features D) x ceil(h/s) x ceil(w/s); borders are replicated up to whole patches."""
        maps = self._whole_patches(maps)
        if torch.is_grad_enabled():
            embedded, gates = self._parts(maps, *self._weights())
            gated: Tensor = embedded.unflatten(1, (gates.shape[1], -1)) * gates.unsqueeze(2)
            return gated.flatten(1, 2)
        return self._alone(maps)

    def _alone(self, maps: Tensor) -> Tensor:
        """The same by one convolution for each feature, without gradient, which would take longer."""
        gated: Tensor | None = None
        first = 0
        for place, (embedding, gate) in enumerate(zip(self.embeddings, self.gates, strict=True)):
            assert isinstance(embedding, nn.Conv2d)
            assert isinstance(gate, nn.Conv2d)
            feature = maps[:, first : first + embedding.in_channels]
            first += embedding.in_channels
            patches = feature.contiguous(memory_format=torch.channels_last)
            embedded = F.silu(F.conv2d(patches, _laid_out(embedding.weight), embedding.bias, self.stride), inplace=True)
            count, width, *size = embedded.shape
            if gated is None:
                gated = embedded.new_empty((count, *size, len(self.gates) * width)).permute(0, 3, 1, 2)
            target = gated[:, place * width : (place + 1) * width]
            torch.mul(embedded, _pointwise(embedded, gate.weight.flatten(1), gate.bias).sigmoid_(), out=target)
        assert gated is not None
        return gated

    def parts(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The embedded features, and the gate of each in (0, 1), N x features x ceil(h/s) x ceil(w/s)."""
        return self._parts(self._whole_patches(maps), *self._weights())

    def _whole_patches(self, maps: Tensor) -> Tensor:
        bottom, right = -maps.shape[2] % self.stride, -maps.shape[3] % self.stride
        return F.pad(maps, (0, right, 0, bottom), mode="replicate") if bottom or right else maps

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases of the embeddings and of the gates, each as one convolution's."""
        weight, bias = _joined(self.embeddings)
        patches = weight.unflatten(1, (-1, self.stride, self.stride))
        return patches.contiguous(memory_format=torch.channels_last), bias, *_joined(self.gates)

    def _parts(self, maps: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        maps = maps.contiguous(memory_format=torch.channels_last)  # the convolutions' backward is three times faster
        embedded = F.silu(F.conv2d(maps, weight, bias, self.stride))
        return embedded, _pointwise(embedded, gate, shift).sigmoid()


def _joined(convolutions: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """Weights of several convolutions as one block-diagonal matrix (outputs x flattened inputs), and their biases."""
    parameters = [dict(convolution.named_parameters()) for convolution in convolutions]
    weight: Tensor = torch.block_diag(*(p["weight"].flatten(1) for p in parameters))
    return weight, torch.cat([p["bias"] for p in parameters])


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """The product; x is overwritten where no gradient is asked for, so it must be nobody else's."""
    if torch.is_grad_enabled() and (x.requires_grad or factor.requires_grad):
        return x * factor
    return x.mul_(factor)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1 x 1 convolution as the one matrix product that it is with channels last; torch on CPU makes more of it.

    Args:
        x: N x inputs x h x w.
        weight: Outputs x inputs.
        bias: Of each output.
    """
    pixels = x.permute(0, 2, 3, 1)
    made = pixels.reshape(-1, x.shape[1]) @ weight.mT
    if bias is not None:
        made = made.add_(bias)
    return made.view(*pixels.shape[:3], len(weight)).permute(0, 3, 1, 2)


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w to N x outputs x h x w, channels last."""
        return _pointwise(x, self.weight.flatten(1), self.bias)


class ChannelAttention(nn.Module):
    """Sigmoid gates of the channels from their global means: x times sigma(MLP(GAP(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Reweighted maps, same shape as x, which may be overwritten."""
        return _times(x, self.gates(x)[:, :, None, None])

    def gates(self, x: Tensor) -> Tensor:
        """The gate of each channel, N x C in (0, 1)."""
        gates: Tensor = self.mlp(x.mean(dim=(2, 3)))
        return gates


class AdaptiveFusion(nn.Module):
    """Gates the concatenated features, fuses them by a 3 x 3 convolution, then Squeeze-and-Excitation."""

    def __init__(self, joint: int, channels: int) -> None:
        super().__init__()
        self.attention = ChannelAttention(joint)
        self.fuse = nn.Conv2d(joint, channels, 3, padding=1)
        self.excitation = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x joint x h x w, which may be overwritten, to N x C x h x w."""
        if torch.is_grad_enabled() or not pays(x, self.fuse):
            fused: Tensor = self.excitation(convolve(self.attention(x), self.fuse))
            return fused
        # What the convolution's mean is, and so the excitation's gates, is known before it: no pass over its result.
        met = _met_by_taps(x)
        gates = self.attention.mlp(met[:, :, 1, 1])
        met, weight = (met * gates[:, :, None, None]), self.fuse.weight
        if not weight.is_contiguous():
            met, weight = met.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        means = F.linear(met.flatten(1), weight.flatten(1), self.fuse.bias)
        return convolve_scaled(x, self.fuse, gates, self.excitation.mlp(means))


def _met_by_taps(x: Tensor) -> Tensor:
    """The mean of what each tap of a 3 x 3 convolution meets of N x C x h x w with zeros around, N x C x 3 x 3."""
    none = torch.zeros_like(x[:, :, 0])
    rows = torch.stack((x[:, :, -1], none, x[:, :, 0]), dim=2)  # which each row of taps does not meet
    none = torch.zeros_like(x[..., 0])
    columns = torch.stack((x[..., -1], none, x[..., 0]), dim=3)
    corners = torch.stack((rows[..., -1], torch.zeros_like(rows[..., 0]), rows[..., 0]), dim=3)
    missed = rows.sum(dim=3).unsqueeze(3) + columns.sum(dim=2).unsqueeze(2) - corners
    return x.mean(dim=(2, 3))[:, :, None, None] - missed / (x.shape[2] * x.shape[3])


class CrossScaleResidualAttention(nn.Module):
    """CSRAM: lifts a fine level to the next one as a residual with learned strength and confidence (Figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.strength_confidence = nn.Conv2d(channels + 1, 2 * channels, 1)
        self.residual = Pointwise(channels, channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The coarse level, N x C x h x w, refined by the fine one, N x C x 2h x 2w (odd sizes: one less)."""
        strength, confidence, _, residual = self.parts(fine, coarse)
        return torch.addcmul(coarse, _times(confidence, strength), residual)

    def parts(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Strength above 0 and confidence in (0, 1), N x C x h x w; mask N x 1 x h x w; residual in (-1, 1)."""
        message = self._message(fine)
        mask = (message.mean(dim=1, keepdim=True) + message.amax(dim=1, keepdim=True)).sigmoid()
        # The mask is the last input channel; added apart, 256 channels stay 256 and nothing is copied.
        weight = self.strength_confidence.weight
        both = _pointwise(coarse, weight[:, :-1, 0, 0], self.strength_confidence.bias)
        strength, confidence = both.addcmul_(mask, weight[None, :, -1]).chunk(2, dim=1)
        residual = self.residual(_times(message, mask))
        if torch.is_grad_enabled():
            return F.softplus(strength), confidence.sigmoid(), mask, residual.tanh()
        return F.softplus(strength), confidence.sigmoid_(), mask, residual.tanh_()

    def _message(self, fine: Tensor) -> Tensor:
        """The fine level at half its size: a convolution, plus its 2 x 2 means."""
        odd = fine.shape[2] % 2 or fine.shape[3] % 2
        make = _laid_out if odd else _with_means
        weight = make(self.down.weight) if are_learned(self.down) else from_weights(self.down, make)
        message = F.conv2d(fine, weight, self.down.bias, stride=2, padding=1)
        return message.add_(F.avg_pool2d(fine, 2, ceil_mode=True)) if odd else message


def _laid_out(weight: Tensor) -> Tensor:
    """Weights channels last: with weights laid out otherwise torch on CPU copies the maps."""
    return weight.contiguous(memory_format=torch.channels_last)


def _with_means(weight: Tensor) -> Tensor:
    """Weights of a 3 x 3 convolution of stride 2 that adds the 2 x 2 means, of even sizes."""
    means = torch.zeros_like(weight)
    means[..., 1:, 1:] = torch.eye(len(weight), dtype=means.dtype, device=means.device)[..., None, None] / 4
    return _laid_out(weight + means)


class SpatialCrossGating(nn.Module):
    """SCGB: gates a fine level by the context of the next coarser one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            Pointwise(channels, channels // 2), nn.SiLU(), Pointwise(channels // 2, channels), nn.Sigmoid()
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The fine level, N x C x h x w, which may be overwritten, refined."""
        gate = F.interpolate(self.mlp(coarse), size=fine.shape[2:], mode="bilinear", align_corners=False)
        if torch.is_grad_enabled():
            return torch.addcmul(fine, fine, gate)
        return fine.addcmul_(fine, gate)


class ReliabilityAwareHead(nn.Module):
    """RAH: a contribution and a reliability per level; the score is the contributions' softmax-weighted mean."""

    def __init__(self, levels: int, channels: int, width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(Pointwise(channels, width) for _ in range(levels))
        self.pools = nn.ModuleList(GeneralisedMean() for _ in range(levels))
        self.contributions = nn.ModuleList(_perceptron(width) for _ in range(levels))
        self.reliabilities = nn.ModuleList(_perceptron(width) for _ in range(levels))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Scores of shape [N] from the levels, N x C x h x w each."""
        contributions, weights = self.parts(levels)
        return (weights * contributions).sum(dim=1)

    def parts(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Contribution of each level and its weight (they add up to 1), N x levels each."""
        pooled = [
            pool(F.softplus(project(x))) for project, pool, x in zip(self.projections, self.pools, levels, strict=True)
        ]
        contributions = torch.cat([mlp(z) for mlp, z in zip(self.contributions, pooled, strict=True)], dim=1)
        reliabilities = torch.cat([mlp(z) for mlp, z in zip(self.reliabilities, pooled, strict=True)], dim=1)
        return contributions, reliabilities.softmax(dim=1)


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 1))


class GeneralisedMean(nn.Module):
    """Generalised-mean pooling (GeM) with a learned exponent in [1, 6], in fp32 at least."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        """N x d x h x w, positive, to N x d."""
        exponent = self.exponent.clamp(1, 6)
        positive = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(_SMALLEST, _LARGEST)
        # Powers by logarithms take a third of the time of pow, and so does their gradient.
        if torch.is_grad_enabled():
            return (positive.log() * exponent).exp().mean(dim=(2, 3)).pow(1 / exponent)
        return positive.log_().mul_(exponent).exp_().mean(dim=(2, 3)).pow(1 / exponent)
