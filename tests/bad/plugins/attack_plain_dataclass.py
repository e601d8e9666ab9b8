from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass
class Bad(Attack):
    """An attack."""

    steps: int = 1

    def perturb(self, objective, images, budget, rng):
        return images
