"""Convolutional trunks of the learned metrics, under torchvision's parameter names: its weight files load as they are.

Every trunk takes images in [0, 1], normalises them by the ImageNet statistics and returns the feature maps a metric
compares, finest first. The classifiers are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VGG16", "AlexNet", "ResNet50", "SqueezeNet", "feature_state"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each RGB channel over ImageNet, for images in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each RGB channel over ImageNet, for images in [0, 1]."""


def feature_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutional part (``features.*``) of a torchvision AlexNet, VGG16 or SqueezeNet file, names unchanged."""
    return {name: tensor for name, tensor in state.items() if name.startswith("features.")}


class Normalise(nn.Module):
    """(images - ImageNet mean) / ImageNet standard deviation.

    What leaves it is laid out channels-last, and so are all maps after it: convolutions and their gradients are up to
    twice as fast on CPU.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", (1 / std).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] to the same shape, about zero mean and unit variance."""
        return torch.addcmul(self.shift, images, self.scale).contiguous(memory_format=torch.channels_last)


def _max_pool(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 2, 2)


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky 2014), the feature maps after its five activations. Needs 31 px."""

    channels: ClassVar[tuple[int, ...]] = (64, 192, 384, 256, 256)
    """Channels of each feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 11, stride=4, padding=2),
                "3": nn.Conv2d(64, 192, 5, padding=2),
                "6": nn.Conv2d(192, 384, 3, padding=1),
                "8": nn.Conv2d(384, 256, 3, padding=1),
                "10": nn.Conv2d(256, 256, 3, padding=1),
            }
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five maps of strides 4, 8, 16, 16 and 16; images N x 3 x H x W in [0, 1]."""
        maps: list[Tensor] = []
        x = self.normalise(images)
        for index, convolution in self.features.items():
            if index in ("3", "6"):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu_(convolution(x))
            maps.append(x)
        return tuple(maps)


class VGG16(nn.Module):
    """VGG16 (Simonyan & Zisserman 2015), the ends of its five stages (relu1_2 to relu5_3). Max pooling needs 16 px.

    Args:
        pool: What halves the resolution between the stages.
    """

    channels: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 512)
    """Channels of each feature map."""
    _STAGES: ClassVar[tuple[tuple[int, ...], ...]] = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))

    def __init__(self, pool: Callable[[Tensor], Tensor] = _max_pool) -> None:
        super().__init__()
        self.normalise = Normalise()
        self._pool = pool
        self.features = nn.ModuleDict()
        width = 3
        for stage, channels in zip(self._STAGES, self.channels, strict=True):
            for index in stage:
                self.features[str(index)] = nn.Conv2d(width, channels, 3, padding=1)
                width = channels

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five maps of strides 1, 2, 4, 8 and 16; images N x 3 x H x W in [0, 1]."""
        maps: list[Tensor] = []
        x = self.normalise(images)
        for stage in self._STAGES:
            if maps:
                x = self._pool(x)
            for index in stage:
                x = F.relu_(self.features[str(index)](x))
            maps.append(x)
        return tuple(maps)


class Fire(nn.Module):
    """Fire module of SqueezeNet: a 1 x 1 squeeze, then 1 x 1 and 3 x 3 expansions side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w to N x (2 expand) x h x w."""
        x = F.relu_(self.squeeze(x))
        return F.relu_(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016), the seven maps LPIPS compares. Needs 17 px."""

    channels: ClassVar[tuple[int, ...]] = (64, 128, 256, 384, 384, 512, 512)
    """Channels of each feature map."""
    _FIRES: ClassVar[Mapping[str, tuple[int, int, int]]] = {
        "3": (64, 16, 64), "4": (128, 16, 64), "6": (128, 32, 128), "7": (256, 32, 128),
        "9": (256, 48, 192), "10": (384, 48, 192), "11": (384, 64, 256), "12": (512, 64, 256),
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = nn.ModuleDict({"0": nn.Conv2d(3, 64, 3, stride=2)})
        for index, (inputs, squeeze, expand) in self._FIRES.items():
            self.features[index] = Fire(inputs, squeeze, expand)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Seven maps of strides 2, 4, 8, 16, 16, 16 and 16; images N x 3 x H x W in [0, 1]."""
        maps: list[Tensor] = []
        x = F.relu_(self.features["0"](self.normalise(images)))
        maps.append(x)
        for index in self._FIRES:
            if index in ("3", "6", "9"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self.features[index](x)
            if index not in ("3", "6"):
                maps.append(x)
        return tuple(maps)


class FrozenNorm(nn.Module):
    """Batch normalisation that always uses its running statistics, in training mode too."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    EPSILON: ClassVar[float] = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def after(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """The normalised convolution of x.

        Scaling the weights costs less than a pass over the maps, and no map is kept for backward.
        """
        scale = self.weight * torch.rsqrt(self.running_var + self.EPSILON)
        weight = convolution.weight * scale.view(-1, 1, 1, 1)
        bias = torch.addcmul(self.bias, self.running_mean, scale, value=-1)
        return F.conv2d(x, weight, bias, convolution.stride, convolution.padding)


class Bottleneck(nn.Module):
    """Bottleneck block of ResNet50: 1 x 1, 3 x 3 (with the stride), 1 x 1, and the shortcut."""

    EXPANSION: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), FrozenNorm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), FrozenNorm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), FrozenNorm(outputs)
        self.downsample: nn.ModuleList | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.ModuleList((nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenNorm(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x h x w to N x (4 width) x ceil(h / stride) x ceil(w / stride)."""
        out = F.relu_(self.bn1.after(self.conv1, x))
        out = F.relu_(self.bn2.after(self.conv2, out))
        out = self.bn3.after(self.conv3, out)
        return F.relu_(out.add_(x if self.downsample is None else _normalised(self.downsample, x)))


def _normalised(pair: Iterable[nn.Module], x: Tensor) -> Tensor:
    convolution, norm = pair
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenNorm)
    return norm.after(convolution, x)


class ResNet50(nn.Module):
    """ResNet50 (He et al. 2016), batch normalisation frozen, the first activation and the ends of its four stages."""

    channels: ClassVar[tuple[int, ...]] = (64, 256, 512, 1024, 2048)
    """Channels of each feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), FrozenNorm(64)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five maps of strides 2, 4, 8, 16 and 32; images N x 3 x H x W in [0, 1], of any size."""
        first = F.relu_(self.bn1.after(self.conv1, self.normalise(images)))
        maps = [first]
        x = F.max_pool2d(first, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return tuple(maps)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    outputs = width * Bottleneck.EXPANSION
    rest = (Bottleneck(outputs, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(inputs, width, stride), *rest)
