"""BiRQA, a bidirectional pyramid of analytic features scored by a small network: a reimplementation from the paper.

No code of the authors is public. What the paper leaves open is decided here:

* **Pyramid**: features are recomputed on images pooled 2 x 2, not pooled themselves. Sizes round up, so any size
  from 64 px works and no pixel is dropped.
* **Features**: nine channels. SSIM map of the BT.601 luma (11 x 11 Gaussian, borders replicated); log(1 + variance /
  1e-4) / 8 of reference and distorted luma; signed YCbCr difference; local binary patterns of reference and
  distorted luma, and the share of bits that differ.
* **Local binary patterns** have a dead zone of 1e-3: without one, noise of 3e-8 flips 7% of the bits. Scores always use
  hard bits; backward uses the derivative of sigmoid((difference + 1e-3) / .02), so the gradient is a surrogate.
* **Stem**: 4 x 4 patches with stride 4 per (level, feature), SiLU, then a one-channel sigmoid gate.
* **Hidden widths**: a quarter of the channels in the fusion's MLP and the Squeeze-and-Excitation block, half in
  SCGB and in the head's MLPs; SiLU throughout.
* **Order**: fuse all levels, CSRAM from fine to coarse (each step uses the level just updated), SCGB from coarse to
  fine, then the head. CSRAM's mask is one channel; strength and confidence are C channels each.
* **GeM** starts at exponent 3, learned per level, held in [1, 6].
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, register
from metrics_zoo.birqa.features import CHANNELS, LEVELS, ReferenceLevel, feature_pyramid, reference_pyramid
from metrics_zoo.birqa.network import Network

__all__ = ["BiRQA"]


@register("birqa")
@register("birqa-tiny", weights="birqa-tiny", channels=32, stem_channels=8, head=32)
class BiRQA(Metric):
    """BiRQA (reimplementation, stem stride 4); scores are in the label scale of the weights, higher is better.

    The defaults give the paper's size (5.42 M parameters); `birqa-tiny` has 95,532.

    Args:
        channels: Width C of the pyramid, a multiple of 4.
        stem_channels: Width D of each preprocessed feature.
        head: Width d of the reliability-aware head, even.
    """

    higher_is_better: ClassVar[bool] = True
    exact_gradient: ClassVar[bool] = False
    minimum_size: ClassVar[int] = 64
    needs_weights: ClassVar[bool] = True

    def __init__(self, *, channels: int = 256, stem_channels: int = 64, head: int = 128) -> None:
        super().__init__()
        for name, value, unit in (("channels", channels, 4), ("stem_channels", stem_channels, 1), ("head", head, 2)):
            if value < unit or value % unit:
                raise ValueError(f"{name} should be a positive multiple of {unit}, got {value}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Network(
                tuple(CHANNELS.values()), levels=LEVELS, channels=channels, stem_channels=stem_channels, head=head
            )

    def encode(self, ref: Tensor) -> tuple[ReferenceLevel, ...]:
        """Pyramid, luma statistics, informational map and binary patterns of the reference, finest level first."""
        return reference_pyramid(ref)

    def score(self, reference: tuple[ReferenceLevel, ...], dist: Tensor) -> Tensor:
        """Scores of shape [N]."""
        score: Tensor = self.network(feature_pyramid(reference, dist))
        return score
