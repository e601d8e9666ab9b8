"""PGD on the gradient of the noise-smoothed score: a diagnostic of gradients that mislead."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.ascent import check_steps
from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("smoothed")
@dataclass(frozen=True)
class Smoothed(Attack):
    """PGD whose every step follows the mean gradient over noisy copies of the iterate.

    The mean estimates the gradient of J convolved with a Gaussian. A score whose own gradient points the way gains
    nothing by it, so being stronger than `pgd` with the same steps is a sign of gradient masking: a diagnostic, which
    verdicts use.

    Attributes:
        steps: Gradient steps.
        step_size: Length of a step in [0, 1] image units.
        copies: Noisy copies whose gradients are averaged in a step.
        sigma: Standard deviation of the noise as a share of the budget's radius.
    """

    cite = "madry2018towards"

    steps: int = 10
    step_size: float = 2 / 255
    copies: int = 8
    sigma: float = 0.25

    def __post_init__(self) -> None:
        check_steps(self.step_size, steps=self.steps, copies=self.copies)
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma should be above 0 and at most 1, got {self.sigma:g}")

    def uses_best(self) -> bool:
        """Never: copies lie beside the iterates."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend the smoothed J from a random start in the ball."""
        shape, eps = images.shape[1:], budget.eps.view(-1, 1, 1, 1)
        attacked = budget.project(images + rng.uniform(*shape, low=-1.0) * eps, images)
        for _ in range(self.steps):
            _, slope = objective.gradient((attacked + self.sigma * eps * rng.normal(*shape)).clamp(0, 1))
            for _ in range(self.copies - 1):
                slope = slope + objective.gradient((attacked + self.sigma * eps * rng.normal(*shape)).clamp(0, 1))[1]
            attacked = budget.project(attacked + self.step_size * slope.sign(), images)
        return attacked
