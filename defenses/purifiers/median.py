"""Median filter: feature squeezing (Xu et al. 2018, https://arxiv.org/abs/1704.01155)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from harness.contracts import Purifier, Tree, register


@register("median")
@dataclass(frozen=True)
class Median(Purifier):
    """Takes the median of each channel around every pixel; an image is continued by its last pixels.

    The gradient goes to the pixel that is the median, which is exact.

    Attributes:
        kernel: Side of the window in pixels, odd.
    """

    cite = "xu2018squeezing"
    randomised: ClassVar[bool] = False

    kernel: int = 3

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(f"kernel should be odd and at least 3, got {self.kernel}")

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Filtered images, same shape; differentiable."""
        padded = functional.pad(images, (self.kernel // 2,) * 4, mode="replicate")
        windows = padded.unfold(2, self.kernel, 1).unfold(3, self.kernel, 1)
        return windows.flatten(-2).median(-1).values.clamp(0, 1)
