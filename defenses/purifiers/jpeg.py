"""JPEG compression as a purification defense (Dziugaite et al. 2016, https://arxiv.org/abs/1608.00853)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.contracts import Purifier, Tree, register


@register("jpeg")
@dataclass(frozen=True)
class Jpeg(Purifier):
    """Compresses and decompresses reference and distorted image with Pillow: 8 bits, colours at half the resolution.

    An adaptive attack differentiates kornia's codec in its place, in which rounding is replaced by a polynomial (Shin
    and Song 2017) and the rest is JPEG as it is.

    Attributes:
        quality: Of the file, 1 to 95; 75 is what Guo et al. (2018) took as a defense.
    """

    cite = "dziugaite2016jpg"
    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "surrogate"
    randomised: ClassVar[bool] = False

    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality should be between 1 and 95, got {self.quality}")

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """What Pillow reads of what it wrote, same shape, in steps of 1/255."""
        pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        read = np.stack([self._read_back(one) for one in pixels])
        return torch.from_numpy(read).permute(0, 3, 1, 2).to(images.device, images.dtype) / 255

    def surrogate(self, images: Tensor, draw: Tree) -> Tensor:
        """The differentiable codec, same shape."""
        from kornia.enhance import jpeg_codec_differentiable  # slow to import

        quality = torch.full((len(images),), float(self.quality), device=images.device, dtype=images.dtype)
        coded: Tensor = jpeg_codec_differentiable(images, quality)
        return coded.clamp(0, 1)

    def _read_back(self, pixels: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=self.quality)
        buffer.seek(0)
        with Image.open(buffer) as image:
            return np.asarray(image)
