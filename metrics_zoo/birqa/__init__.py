"""BiRQA, a bidirectional pyramid of analytic features scored by a small network: a reimplementation from the paper.

No code of the authors is public. What the paper leaves open is decided here:

* **Pyramid**: features are recomputed on images pooled 2 x 2, not pooled themselves. Sizes round up, so any size
  from 64 px works and no pixel is dropped.
* **Features**: nine channels. SSIM map of the BT.601 luma (11 x 11 Gaussian, borders replicated); log(1 + variance /
  1e-4) / 8 of reference and distorted luma; signed YCbCr difference; local binary patterns of reference and
  distorted luma, and the share of bits that differ. `features` adds or removes candidates of Table 5.
* **Local binary patterns** have a dead zone of 1e-3: without one, noise of 3e-8 flips 7% of the bits. Scores always use
  hard bits; backward uses the derivative of sigmoid((difference + 1e-3) / .02), so the gradient is a surrogate.
* **Stem**: patches of `stride` x `stride` pixels per (level, feature), SiLU, then a one-channel sigmoid gate.
* **Hidden widths**: a quarter of the channels in the fusion's MLP and the Squeeze-and-Excitation block, half in
  SCGB and in the head's MLPs; SiLU throughout.
* **Order**: fuse all levels, CSRAM from fine to coarse (each step uses the level just updated), SCGB from coarse to
  fine, then the head. CSRAM's mask is one channel; strength and confidence are C channels each.
* **GeM** starts at exponent 3, learned per level, held in [1, 6].
* **Ablations** (Table 4): `csram`, `scgb` and `rah` switch a module to what the paper replaced it with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from harness.contracts import Metric, Panel, register
from metrics_zoo.birqa.explain import explain
from metrics_zoo.birqa.features import FEATURES, PYRAMID_LEVELS, ReferenceLevel, feature_pyramid, reference_pyramid
from metrics_zoo.birqa.network import Network

__all__ = ["BiRQA"]

FeatureName = Literal[
    "ssim", "info", "color", "lbp", "gabor", "wavelet", "entropy", "edge", "dlm", "vif", "saliency", "raw"
]


@register("birqa")
@register("birqa-s8", stride=8)
@register("birqa-tiny", weights="birqa-tiny", channels=32, stem_channels=8, head=32)
class BiRQA(Metric):
    """BiRQA (reimplementation, stem stride {stride}); scores are in the label scale of the weights, higher is better.

    The defaults give the paper's size (5.42 M parameters); `birqa-s8` has 5.53 M, `birqa-tiny` 95,532.

    Args:
        channels: Width C of the pyramid, a multiple of 4.
        stem_channels: Width D of each preprocessed feature.
        head: Width d of the reliability-aware head, even.
        stride: Stride and side of the stem's patches, in pixels: 8 takes about two fifths of the time of 4.
        features: Feature maps in use (Table 5, and `raw`); their order does not matter.
        info: What the informational map takes for information: the local variance (Section 3.1), or the squared
            gradient (Table 5).
        csram: False: cross-attention in place of CSRAM (Table 4).
        scgb: False: element-wise multiplication in place of SCGB (Table 4).
        rah: False: pooling and an MLP in place of the reliability-aware head (Table 4).
    """

    version: ClassVar[int] = 2
    cite = "gushchin_birqa"
    higher_is_better: ClassVar[bool] = True
    exact_gradient: ClassVar[bool] = False
    minimum_size: ClassVar[int] = 64
    needs_weights: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 256,
        stem_channels: int = 64,
        head: int = 128,
        stride: int = 4,
        features: Sequence[FeatureName] = ("ssim", "info", "color", "lbp"),
        info: Literal["variance", "gradient"] = "variance",
        csram: bool = True,
        scgb: bool = True,
        rah: bool = True,
    ) -> None:
        super().__init__()
        units = (
            ("channels", channels, 4),
            ("stem_channels", stem_channels, 1),
            ("head", head, 2),
            ("stride", stride, 1),
        )
        for name, value, unit in units:
            if value < unit or value % unit:
                raise ValueError(f"{name} should be a positive multiple of {unit}, got {value}")
        self.features = _in_order(features, info)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.network = Network(
                [FEATURES[name].maps for name in self.features],
                levels=PYRAMID_LEVELS,
                channels=channels,
                stem_channels=stem_channels,
                head=head,
                stride=stride,
                csram=csram,
                scgb=scgb,
                rah=rah,
            )

    def encode(self, ref: Tensor) -> tuple[ReferenceLevel, ...]:
        """What the features take of the reference at every level of its pyramid, finest first."""
        return reference_pyramid(ref, self.features)

    def score(self, reference: tuple[ReferenceLevel, ...], dist: Tensor) -> Tensor:
        """Scores of shape [N]."""
        score: Tensor = self.network(feature_pyramid(reference, dist, self.features))
        return score

    def surrogate(self, reference: tuple[ReferenceLevel, ...], dist: Tensor) -> Tensor:
        """Scores of shape [N] with soft bits in the local binary patterns, forward as backward."""
        score: Tensor = self.network(feature_pyramid(reference, dist, self.features, soft=True))
        return score

    def explain(self, *, ref: Tensor, dist: Tensor) -> Sequence[Panel]:
        """Feature maps, gates, CSRAM's strength, confidence and mask, and what each scale contributed."""
        pyramid = feature_pyramid(self.encode(ref), dist, self.features)
        return list(explain(self.network, self.features, pyramid))


def _in_order(features: Sequence[str], info: str) -> tuple[str, ...]:
    """Names of features as `FEATURES` orders them."""
    known = get_args(FeatureName)
    if unknown := sorted(set(features) - set(known)):
        raise ValueError(f"features should be among {', '.join(known)}, got {', '.join(unknown)}")
    if not features or len(set(features)) < len(features):
        raise ValueError(f"features should name at least one feature, and each once, got {list(features)}")
    if info not in ("variance", "gradient"):
        raise ValueError(f"info should be variance or gradient, got {info}")
    chosen = {"info-gradient" if name == "info" and info == "gradient" else name for name in features}
    return tuple(name for name in FEATURES if name in chosen)
