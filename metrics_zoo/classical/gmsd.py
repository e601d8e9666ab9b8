"""Gradient magnitude similarity deviation (Xue, Zhang, Mou & Bovik 2014) on luma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from harness.contracts import register
from metrics_zoo.classical.maps import SQUARE, gradient_magnitude, halve, root, similarity
from metrics_zoo.gaussian import Roundable, channels

_C = 170 / SQUARE
"""Stabiliser of the similarity: 170 for pixels in [0, 255] (the authors' value)."""


@register("gmsd")
class GMSD(Roundable):
    """GMSD of the BT.601 luma, data range 1: the standard deviation of gradient similarity; 0 is best, below 1.

    The image is halved (2 x 2 means), Prewitt gradient magnitudes (Xue et al. 2014, eq. 1 to 3) are compared by
    (2ab + c) / (a² + b² + c) (eq. 4), and the score is the population standard deviation of that map (eq. 6). Outside
    the image lie zeros. A constant map, so any identical pair, scores 0 and has a gradient of 0.

    The authors' GMSD.m takes a grey image. MATLAB's rgb2gray has 8 bits (``luma: uint8``), which counts where two
    images hardly differ but in colour.

    Args:
        luma: Whether the luma keeps its precision or is rounded to 8 bits first (gradient: straight through).
    """

    cite = "xue2014gmsd"
    higher_is_better: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, Any]] = {"luma": "float"}
    minimum_size: ClassVar[int] = 6
    """6 px leave the halved image one whole Prewitt window."""

    def encode(self, ref: Tensor) -> Tensor:
        """Gradient magnitudes of the halved reference, N x 1 x ceil(H / 2) x ceil(W / 2)."""
        return self._gradient(ref)

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """GMSD of each image, shape [N]."""
        alike = similarity(reference, self._gradient(dist), _C).flatten(1)
        return root((alike - alike.mean(dim=1, keepdim=True)).square().mean(dim=1))

    def _gradient(self, images: Tensor) -> Tensor:
        return gradient_magnitude(halve(channels(images, "y", self.luma)), 1 / 3, 1 / 3)
