"""Benign control: what changes that no viewer would mind do to a score."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("benign")
@register("benign-shift2", transform="shift2")
@register("benign-jpeg95", transform="jpeg95")
@register("benign-resize", transform="resize")
@register("benign-round8", transform="round8")
@dataclass(frozen=True)
class Benign(Attack):
    """An everyday change of the distorted image, whatever the budget; its size is in the records' linf and l2.

    Attributes:
        transform: "shift1" and "shift2": by 1 or 2 px in one of four directions drawn per sample, edges repeated;
            "jpeg95": JPEG of quality 95 with 4:2:0 chroma; "resize": to twice the size and back, bicubic; "round8":
            8-bit rounding, which changes nothing in an image read from an 8-bit file.
    """

    control = True
    bounded = False
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})
    transform: Literal["shift1", "shift2", "jpeg95", "resize", "round8"] = "shift1"

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The changed images."""
        if self.transform == "jpeg95":
            return torch.stack([_jpeg(image, 95) for image in images])
        if self.transform == "resize":
            return _resized(images)
        if self.transform == "round8":
            return torch.round(images * 255) / 255
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
