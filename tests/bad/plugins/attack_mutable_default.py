from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """An attack."""

    steps: list = []

    def perturb(self, objective, images, budget, rng):
        return images
