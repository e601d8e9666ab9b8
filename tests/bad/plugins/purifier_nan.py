from dataclasses import dataclass

import torch

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Returns NaN."""

    def apply(self, images, draw):
        return images * torch.nan
