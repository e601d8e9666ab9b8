from dataclasses import dataclass

import torch

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Returns 8-bit pixels."""

    def perturb(self, objective, images, budget, rng):
        return (images * 255).to(torch.uint8)
