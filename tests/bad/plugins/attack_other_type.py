from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Returns doubles."""

    def perturb(self, objective, images, budget, rng):
        return images.double()
