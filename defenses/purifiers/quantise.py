"""Fewer bits a channel: feature squeezing (Xu et al. 2018, https://arxiv.org/abs/1704.01155)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import Purifier, Tree, register


@register("quantise")
@dataclass(frozen=True)
class Quantise(Purifier):
    """Rounds every value of reference and distorted image to few levels.

    Rounding has no gradient; an adaptive attack takes the identity's in its place (straight through).

    Attributes:
        bits: Of each channel, 1 to 8.
    """

    cite = "xu2018squeezing"
    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "surrogate"
    randomised: ClassVar[bool] = False

    bits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits should be between 1 and 8, got {self.bits}")

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Images of 2^bits levels, same shape."""
        steps = 2**self.bits - 1
        rounded: Tensor = (images * steps).round() / steps
        return rounded.clamp(0, 1)
