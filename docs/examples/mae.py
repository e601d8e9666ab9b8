"""A metric in one file: mean absolute error."""

import torch

from harness.contracts import Metric, Tree, register


@register("mae")
class MAE(Metric):
    """Mean absolute error over all pixels and channels, times a scale."""

    cite = ""  # no paper; robustiqa cite prints what is named here
    higher_is_better = False

    def __init__(self, *, scale: float = 255.0) -> None:
        super().__init__()
        self.scale = scale

    def score(self, reference: Tree, dist: torch.Tensor) -> torch.Tensor:
        """One number per image; `reference` is what `encode` returned, here the images themselves."""
        return self.scale * (dist - reference).abs().flatten(1).mean(1)
