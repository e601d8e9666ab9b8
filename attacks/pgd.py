"""PGD: signed-gradient steps from a random start, projected onto the budget after each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("pgd")
@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent in Linf (Madry et al. 2018, section 2.1).

    Attributes:
        steps: Gradient steps.
        step_size: Length of a step in [0, 1] image units.
        start: "random" (uniform in the ball) or "zero" (the distorted image).
        keep: "last" returns the last iterate, "best" the best one evaluated.
    """

    steps: int = 10
    step_size: float = 2 / 255
    start: Literal["random", "zero"] = "random"
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps should be at least 1, got {self.steps}")
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size should be above 0 and at most 1, got {self.step_size:g}")

    def uses_best(self) -> bool:
        """Only where the best iterate is kept."""
        return self.keep == "best"

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend J for the given steps."""
        attacked = images
        if self.start == "random":
            noise = rng.uniform(*images.shape[1:], low=-1.0) * budget.eps.view(-1, 1, 1, 1)
            attacked = budget.project(images + noise, images)
        for _ in range(self.steps):
            _, gradient = objective.gradient(attacked)
            attacked = budget.project(attacked + self.step_size * gradient.sign(), images)
        if self.keep == "best":
            objective(attacked)
            return objective.best()
        return attacked
