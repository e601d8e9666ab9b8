from dataclasses import dataclass

from harness.contracts import Attack, register


@register("bad_attack")
@dataclass(frozen=True)
class Bad(Attack):
    """Notes a column that every record has."""

    def perturb(self, objective, images, budget, rng):
        objective.note(attacked=images[:, 0, 0, 0])
        return images
