"""LPIPS (Zhang et al. 2018), version 0.1, on AlexNet, VGG16 and SqueezeNet 1.1.

The published weights are two files, and `lpips_state` joins them:

===============================================  ======================================
torchvision's trunk, ``features.0.weight``, ...  ``trunk.features.0.weight``, ...
LPIPS's heads, ``lin0.model.1.weight``, ...      ``heads.lin0.model.1.weight``, ...
===============================================  ======================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness.contracts import Metric, register
from metrics_zoo.backbones import VGG16, AlexNet, SqueezeNet, feature_state

__all__ = ["LPIPS", "lpips_state"]

_EPSILON = 1e-10
"""Added to the length of a feature vector before dividing by it, as published."""

_TRUNKS: Mapping[str, type[AlexNet] | type[VGG16] | type[SqueezeNet]] = {
    "alex": AlexNet,
    "vgg": VGG16,
    "squeeze": SqueezeNet,
}


def lpips_state(trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `LPIPS` from the two published ones, by renaming alone.

    Args:
        trunk: torchvision's network, whole or its ``features.*`` part; the classifier is left out.
        heads: LPIPS v0.1's linear heads of the same network, ``lin0.model.1.weight`` and on.
    """
    return {
        **{f"trunk.{name}": tensor for name, tensor in feature_state(trunk).items()},
        **{f"heads.{name}": tensor for name, tensor in heads.items()},
    }


class Head(nn.Module):
    """The weights of one feature map's channels: a published 1 x 1 convolution to one channel, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.ones_(convolution.weight)
        self.model = nn.ModuleDict({"1": convolution})

    def forward(self, maps: Tensor, reference: Tensor) -> Tensor:
        """Weighted squared distance of the normalised maps from the reference, averaged over the map, [N].

        Args:
            maps: Features of the distorted image, N x C x h x w.
            reference: Unit-normalised features of the reference, same shape.
        """
        weight = self.model.get_parameter("1.weight").flatten()
        distance: Tensor = _Distance.apply(maps, reference, weight)  # type: ignore[no-untyped-call]
        return distance


@register("lpips-alex", weights="lpips-alex", network="alex")
@register("lpips-vgg", weights="lpips-vgg", network="vgg")
@register("lpips-squeeze", weights="lpips-squeeze", network="squeeze")
class LPIPS(Metric):
    """LPIPS v0.1 (Zhang et al. 2018); lower is better, 0 is identical.

    The weighted squared distance of unit-normalised features, averaged over each map and summed over maps (Eq. 1).
    The published input scaling ([-1, 1], shift (-.030, -.088, -.188), scale (.458, .448, .450)) equals the ImageNet
    normalisation of [0, 1], which the trunk does.
    The smallest side is AlexNet's; SqueezeNet would take 17 px and VGG16 16.

    Args:
        network: The trunk.
    """

    cite = "zhang2018unreasonable"
    higher_is_better: ClassVar[bool] = False
    minimum_size: ClassVar[int] = 31
    needs_weights: ClassVar[bool] = True

    def __init__(self, *, network: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        super().__init__()
        if network not in _TRUNKS:
            raise ValueError(f"network should be one of {', '.join(_TRUNKS)}, got {network}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.trunk = _TRUNKS[network]()
        self.heads = nn.ModuleDict({f"lin{i}": Head(channels) for i, channels in enumerate(self.trunk.channels)})

    @classmethod
    def published_state(cls, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The state dict from the published files ``trunk`` and ``heads``; see `lpips_state`."""
        return lpips_state(parts["trunk"], parts["heads"])

    def encode(self, ref: Tensor) -> tuple[Tensor, ...]:
        """Unit-normalised feature maps of the reference, finest first, N x C x h x w each."""
        return tuple(_unit(maps) for maps in self.trunk(ref))

    def score(self, reference: tuple[Tensor, ...], dist: Tensor) -> Tensor:
        """LPIPS of each image, shape [N]; at least 0 with the published heads, which have no negative weight."""
        maps = self.trunk(dist)
        levels = zip(self.heads.values(), maps, reference, strict=True)
        return torch.stack([head(x, y) for head, x, y in levels]).sum(dim=0)


def _unit(maps: Tensor) -> Tensor:
    """Feature vectors of length 1, computed as `_Distance` does, so that identical images score exactly 0."""
    unit: Tensor = maps * (torch.linalg.vector_norm(maps, dim=1, keepdim=True) + _EPSILON).reciprocal_()
    return unit


class _Distance(torch.autograd.Function):
    """Mean over the map of sum_c w_c (x_c / |x| - y_c)^2; autograd's own gradient of it is five times slower.

    Where |x| = 0 its subgradient 0 is taken.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
        inverse = (length + _EPSILON).reciprocal_()
        difference = (maps * inverse).sub_(reference)
        errors: Tensor = difference.square().mean(dim=(2, 3))
        ctx.save_for_backward(maps, length, inverse, difference, errors, weight)
        return (errors * weight).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        maps, length, inverse, difference, errors, weight = ctx.saved_tensors
        _, to_reference, to_weight = ctx.needs_input_grad
        scale = (gradient[:, None] * weight) * (2 / (maps.shape[2] * maps.shape[3]))
        slope = difference * scale[:, :, None, None]
        reference_slope = -slope if to_reference else None
        slope.mul_(inverse)
        along = (slope * maps).sum(dim=1, keepdim=True) * inverse / length.clamp_min(torch.finfo(length.dtype).tiny)
        return slope.addcmul_(maps, along, value=-1), reference_slope, gradient @ errors if to_weight else None
