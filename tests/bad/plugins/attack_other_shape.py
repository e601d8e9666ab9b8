from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Returns smaller images."""

    def perturb(self, objective, images, budget, rng):
        return images[..., :4]
