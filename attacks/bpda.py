"""BPDA: PGD along the gradient of what a metric names as its stand-in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.ascent import check_steps, random_start, steepest
from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("bpda")
@dataclass(frozen=True)
class BPDA(Attack):
    """Backward pass differentiable approximation (Athalye et al. 2018, section 4.1): PGD on `Metric.surrogate`'s slope.

    On a metric that declares no surrogate it is PGD. Being stronger than `pgd` with the same steps says that the
    metric's own backward pass misleads, which verdicts look for.

    Attributes:
        steps: Gradient steps, from a random start in the ball.
        step_size: Length of a step in [0, 1] image units.
    """

    cite = ("athalye2018obfuscated", "madry2018towards")

    steps: int = 10
    step_size: float = 2 / 255

    def __post_init__(self) -> None:
        check_steps(self.step_size, steps=self.steps)

    def uses_best(self) -> bool:
        """Never: it returns its last iterate."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend the surrogate of J."""
        attacked = random_start(images, budget, rng)
        for _ in range(self.steps):
            slope = objective.surrogate_gradient(attacked)
            attacked = budget.project(attacked + self.step_size * steepest(slope, "linf"), images)
        return attacked
