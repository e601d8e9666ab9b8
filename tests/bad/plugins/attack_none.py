from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Forgot to return."""

    def perturb(self, objective, images, budget, rng):
        images.clamp(0, 1)
