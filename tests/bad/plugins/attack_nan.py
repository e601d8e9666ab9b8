from dataclasses import dataclass

import torch

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Returns NaN."""

    def perturb(self, objective, images, budget, rng):
        return images * torch.nan
