"""Down and up again as a purification defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from harness.contracts import Purifier, Tree, register


@register("resize")
@dataclass(frozen=True)
class Resize(Purifier):
    """Makes reference and distorted image smaller, without aliasing, and brings them back to their size.

    Attributes:
        factor: Size of the small image over that of the whole one; a side has at least one pixel.
        interpolation: "bilinear" or "bicubic", of both ways.
    """

    cite = ""
    randomised: ClassVar[bool] = False

    factor: float = 0.5
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ValueError(f"factor should be above 0 and below 1, got {self.factor:g}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation should be bilinear or bicubic, got {self.interpolation!r}")

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Images of the same shape that lack what the small one cannot hold; differentiable."""
        height, width = images.shape[-2:]
        small = self._to(images, max(1, round(height * self.factor)), max(1, round(width * self.factor)))
        return self._to(small, height, width).clamp(0, 1)

    def _to(self, images: Tensor, height: int, width: int) -> Tensor:
        return functional.interpolate(
            images, (height, width), mode=self.interpolation, align_corners=False, antialias=True
        )
