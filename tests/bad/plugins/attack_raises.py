from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Raises."""

    def perturb(self, objective, images, budget, rng):
        raise RuntimeError("out of luck")
