"""Benign control: what changes that no viewer would mind do to a score."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register

_OF: Mapping[str, str] = {
    "gamma": "gamma",
    "contrast": "contrast",
    "sigma": "unsharp",
    "amount": "unsharp",
    "window": "denoise",
}
"""Parameter -> the transform that it belongs to."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    transform: tuple(name for name, of in _OF.items() if of == transform) for transform in dict.fromkeys(_OF.values())
}
"""Transform -> its parameters, which have to be given: at their neutral values it changes nothing."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "gamma": (0.1, 10.0),
    "contrast": (0.0, 10.0),
    "sigma": (0.1, 50.0),
    "amount": (0.0, 10.0),
    "window": (3, 31),
}
"""Lowest and highest value: beyond, nothing of a picture is left, or memory is not enough."""
_EXAMPLES: Mapping[str, Any] = {"gamma": 0.9, "contrast": 1.1, "sigma": 1.0, "amount": 0.5, "window": 3}
_VALUES_AT_ONCE = 1 << 24
_REACH = 3.0
"""Where the Gaussian of unsharp masking ends, in standard deviations."""


@register("benign")
@register("benign-shift2", transform="shift2")
@register("benign-jpeg95", transform="jpeg95")
@register("benign-resize", transform="resize")
@register("benign-round8", transform="round8")
@register("benign-gamma", transform="gamma", gamma=0.9)
@register("benign-contrast", transform="contrast", contrast=1.1)
@register("benign-unsharp", transform="unsharp", sigma=1.0, amount=0.5)
@register("benign-denoise", transform="denoise", window=3)
@dataclass(frozen=True)
class Benign(Attack):
    """An everyday change of the distorted image, whatever the budget; its size is in the records' linf and l2.

    The last four are enhancements that people make in practice, some of which raise metrics without any attack.

    Attributes:
        transform: "shift1" and "shift2": by 1 or 2 px in one of four directions drawn per sample, edges repeated;
            "jpeg95": JPEG of quality 95 with 4:2:0 chroma; "resize": to twice the size and back, bicubic; "round8":
            8-bit rounding, which changes nothing in an image read from an 8-bit file; "gamma": x to the power `gamma`;
            "contrast": distances from the image's mean times `contrast`; "unsharp": `amount` times what a Gaussian of
            `sigma` takes away is added (unsharp masking); "denoise": median of each channel. All are clipped to [0, 1].
        gamma: Exponent, 0.1 to 10 and not 1; below 1 brightens.
        contrast: Factor about the mean over all pixels and channels, 0 to 10 and not 1; above 1 is more contrast.
        sigma: Standard deviation of the Gaussian in pixels, 0.1 to 50; the edge is repeated.
        amount: How much of the detail is added, above 0 and up to 10.
        window: Side of the median's square in pixels, odd, 3 to 31; the edge is repeated.
    """

    cite = "robustiqa"

    control = True
    bounded = False
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})
    neutral: ClassVar[Mapping[str, Any]] = {"gamma": 1.0, "contrast": 1.0, "sigma": 0.0, "amount": 0.0, "window": 1}
    transform: Literal["shift1", "shift2", "jpeg95", "resize", "round8", "gamma", "contrast", "unsharp", "denoise"] = (
        "shift1"
    )
    gamma: float = 1.0
    contrast: float = 1.0
    sigma: float = 0.0
    amount: float = 0.0
    window: int = 1

    def __post_init__(self) -> None:
        for name, transform in _OF.items():
            value = getattr(self, name)
            if transform != self.transform and value != self.neutral[name]:
                raise ValueError(
                    f"{name} belongs to the transform {transform}, and this is {self.transform}. Write "
                    f"'transform: {transform}', or take {name} out"
                )
        for name in _NEEDED.get(self.transform, ()):
            value, (low, high), example = getattr(self, name), _RANGES[name], f"Write '{name}: {_EXAMPLES[name]}', say"
            if value == self.neutral[name]:
                raise ValueError(f"{name} {value} changes nothing. {example}")
            if not low <= value <= high:
                raise ValueError(f"{name} should be from {low:g} to {high:g}, got {value}. {example}")
        if self.window % 2 == 0:
            raise ValueError(f"window should be odd, got {self.window}. Write 'window: {max(3, self.window - 1)}', say")

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The changed images."""
        match self.transform:
            case "jpeg95":
                return torch.stack([_jpeg(image, 95) for image in images])
            case "resize":
                return _resized(images)
            case "round8":
                return torch.round(images * 255) / 255
            case "gamma":
                return images.clamp(0, 1) ** self.gamma
            case "contrast":
                mean = images.mean((1, 2, 3), keepdim=True)
                return (mean + self.contrast * (images - mean)).clamp(0, 1)
            case "unsharp":
                return (images + self.amount * (images - _blurred(images, self.sigma))).clamp(0, 1)
            case "denoise":
                return _medians(images, self.window)
        return _shifted(images, int(self.transform.removeprefix("shift")), rng.integers(4).tolist())


def _shifted(images: Tensor, pixels: int, directions: list[int]) -> Tensor:
    """Each image moved by some pixels: 0 down, 1 up, 2 right, 3 left."""
    height, width = images.shape[2:]
    wide = F.pad(images, (pixels,) * 4, mode="replicate")
    corners = ((0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels))
    parts = []
    for image, direction in zip(wide, directions, strict=True):
        top, left = corners[direction]
        parts.append(image[:, top : top + height, left : left + width])
    return torch.stack(parts)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """An image through a JPEG file, which holds 8-bit values."""
    pixels = (image.detach().permute(1, 2, 0) * 255).round().to("cpu", torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    decoded = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(decoded).permute(2, 0, 1).to(image)


def _resized(images: Tensor) -> Tensor:
    """Images at twice their size and back."""
    large = F.interpolate(images, scale_factor=2, mode="bicubic", antialias=True)
    back = F.interpolate(large, size=images.shape[2:], mode="bicubic", antialias=True)
    return back.clamp(0, 1)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Images under a Gaussian, edges repeated."""
    radius = max(1, round(_REACH * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (weights / weights.sum()).to(images).view(1, 1, 1, -1)
    channels = F.pad(images.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(channels, kernel), kernel.transpose(2, 3)).view_as(images)


def _medians(images: Tensor, window: int) -> Tensor:
    """The median of the square around each pixel, channel by channel; edges repeated."""
    wide = F.pad(images, (window // 2,) * 4, mode="replicate")
    squares = wide.unfold(2, window, 1).unfold(3, window, 1)
    # Row by row as far as that is needed: every square at once would be a copy of the images for each of its pixels.
    rows = max(1, _VALUES_AT_ONCE // (images[:, :, 0].numel() * window**2))
    return torch.cat([part.flatten(4).median(-1).values for part in squares.split(rows, 2)], 2)
