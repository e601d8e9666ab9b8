from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Says that a key was pressed."""

    def perturb(self, objective, images, budget, rng):
        raise KeyboardInterrupt
