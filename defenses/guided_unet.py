"""The U-Net of guided diffusion (Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233), 256 px, unconditional.

Written from the published architecture (appendix and model card); tensors have the names of the published checkpoint
``256x256_diffusion_uncond.pt``, so its state dict fits once it is a safetensors file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 256
"""Side of the images it was trained on."""
MULTIPLE = 32
"""Sides of an image have to be multiples of this: five halvings."""

_WIDTH = 256
_WIDER = (1, 1, 2, 2, 4, 4)
"""Channels of each resolution over the first one's."""
_ATTENTION = (8, 16, 32)
"""Halvings of the side, as factors, at which there is attention."""
_HEAD = 64
"""Channels of one head."""
_BLOCKS = 2
"""Residual blocks of each resolution."""
_GROUPS = 32


class GuidedUNet(nn.Module):
    """Noise of an image and where its variance lies: 552.8 million weights.

    Args:
        width: Channels of the first resolution.
        wider: Channels of each resolution over the first one's.
        attention: Factors by which the side is smaller where there is attention.
        head: Channels of one head of attention.
    """

    def __init__(
        self,
        *,
        width: int = _WIDTH,
        wider: Sequence[int] = _WIDER,
        attention: Sequence[int] = _ATTENTION,
        head: int = _HEAD,
    ) -> None:
        super().__init__()
        self._width, told = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.input_blocks = nn.ModuleList([_Stage([nn.Conv2d(3, width, 3, padding=1)])])
        channels, factor, kept = width, 1, [width]
        for level, times in enumerate(wider):
            for _ in range(_BLOCKS):
                blocks: list[nn.Module] = [_Residual(channels, width * times, told)]
                channels = width * times
                if factor in attention:
                    blocks.append(_Attention(channels, head))
                self.input_blocks.append(_Stage(blocks))
                kept.append(channels)
            if level < len(wider) - 1:
                self.input_blocks.append(_Stage([_Residual(channels, channels, told, "down")]))
                kept.append(channels)
                factor *= 2
        self.middle_block = _Stage(
            [_Residual(channels, channels, told), _Attention(channels, head), _Residual(channels, channels, told)]
        )
        self.output_blocks = nn.ModuleList()
        for level, times in reversed(list(enumerate(wider))):
            for i in range(_BLOCKS + 1):
                blocks = [_Residual(channels + kept.pop(), width * times, told)]
                channels = width * times
                if factor in attention:
                    blocks.append(_Attention(channels, head))
                if level and i == _BLOCKS:
                    blocks.append(_Residual(channels, channels, told, "up"))
                    factor //= 2
                self.output_blocks.append(_Stage(blocks))
        self.out = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    def forward(self, images: Tensor, index: Tensor) -> Tensor:
        """The noise in each image, and for each value where the variance of the step lies between its bounds.

        Args:
            images: N x 3 x H x W in [-1, 1] after step `index`, H and W multiples of 32.
            index: Step of the linear schedule of 1000, int64 of shape [N].

        Returns:
            N x 6 x H x W.
        """
        step = self.time_embed(_frequencies(index, self._width).to(images.dtype))
        x, kept = images, []
        for stage in self.input_blocks:
            x = stage(x, step)
            kept.append(x)
        x = self.middle_block(x, step)
        for stage in self.output_blocks:
            x = stage(torch.cat((x, kept.pop()), 1), step)
        found: Tensor = self.out(x)
        return found


class _Stage(nn.ModuleList):
    """Blocks one after the other; residual ones are told the step."""

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        for block in self:
            x = block(x, step) if isinstance(block, _Residual) else block(x)
        return x


class _Residual(nn.Module):
    """Two convolutions beside a skip; the step scales and shifts between them. It may halve or double the side."""

    def __init__(self, entering: int, leaving: int, told: int, way: str = "") -> None:
        super().__init__()
        self._way = way
        self.in_layers = nn.Sequential(_norm(entering), nn.SiLU(), nn.Conv2d(entering, leaving, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(told, 2 * leaving))
        self.out_layers = nn.Sequential(
            _norm(leaving), nn.SiLU(), nn.Identity(), nn.Conv2d(leaving, leaving, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        inner = self.in_layers[2](self._sized(self.in_layers[:2](x)))
        scale, shift = self.emb_layers(step)[:, :, None, None].chunk(2, 1)
        inner = self.out_layers[1:](self.out_layers[0](inner) * (1 + scale) + shift)
        found: Tensor = self.skip_connection(self._sized(x)) + inner
        return found

    def _sized(self, x: Tensor) -> Tensor:
        if self._way == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2.0, mode="nearest") if self._way == "up" else x


class _Attention(nn.Module):
    """Self-attention between all pixels, in heads, each with its query, key and value side by side."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self._head = head
        self.norm = _norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        flat = x.flatten(2)
        heads = self.qkv(self.norm(flat)).view(count, -1, 3 * self._head, height * width).transpose(2, 3)
        attended = functional.scaled_dot_product_attention(*heads.split(self._head, -1))
        found: Tensor = flat + self.proj_out(attended.transpose(2, 3).reshape(count, channels, -1))
        return found.view(x.shape)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels)


def _frequencies(index: Tensor, width: int) -> Tensor:
    """Cosines and sines of the step, [N, width] (Ho et al. 2020, appendix B)."""
    half = width // 2
    exponents = torch.arange(half, device=index.device) / half
    angles = index[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat((angles.cos(), angles.sin()), 1)
