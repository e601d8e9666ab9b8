"""APGD: PGD with momentum whose step halves, sample by sample, where it no longer gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.ascent import Climbed, Start, check_steps, moved_off, per_image, random_start, starting_points, steepest
from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register

MOMENTUM = 0.75
"""Weight of the new step; the rest is that of the last one (alpha of algorithm 1)."""


@register("apgd")
@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD (Croce & Hein 2020, algorithm 1), on J itself.

    The first step is twice the radius. At checkpoints - after 22 % of the steps, then at distances that shrink by 3 %
    down to 6 % - a sample's step is halved and it goes back to its best iterate, if less than the share `rho` of the
    steps since the last checkpoint raised J, or if step and best J are what they were there. Returns the best iterate.
    Where the gradient at the start is 0 the run goes on from a random point, and the start counts as an iterate.

    Attributes:
        steps: Gradient steps of each restart.
        start: Where the first run starts: "zero" (the distorted image; its first step is that of FGSM, so in Linf it is
            never weaker), "random" (uniform in the ball), or "reference" (the point of the ball nearest to the
            reference: upwards, never weaker than restoring).
        restarts: Number of runs, one after the other, from the second on always from random starts; the best of their
            results per sample.
        rho: Share of steps that must raise J for the step size to stay.
    """

    cite = "croce2020reliable"
    version: ClassVar[int] = 2
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})

    steps: int = 100
    start: Start = "zero"
    restarts: int = 1
    rho: float = 0.75

    def __post_init__(self) -> None:
        check_steps(steps=self.steps, restarts=self.restarts)
        if not 0 < self.rho <= 1:
            raise ValueError(f"rho should be above 0 and at most 1, got {self.rho:g}")

    def uses_best(self) -> bool:
        """Never: the best iterate is needed at each checkpoint, so it is kept here."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend J from every start."""
        return self.ascend(objective, starting_points(self.start, objective, images, budget, rng), images, budget, rng)

    def ascend(self, climbed: Climbed, start: Tensor, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The best iterate per sample over all restarts.

        Args:
            climbed: What is to be maximised: an objective, or one of the kind.
            start: Where the first run starts, N x 3 x H x W.
            images: Distorted images, N x 3 x H x W.
            budget: Norm and radius per sample.
            rng: For random starts.
        """
        best, value = self._run(climbed, start, images, budget, rng)
        for _ in range(1, self.restarts):
            other, reached = self._run(climbed, random_start(images, budget, rng), images, budget, rng)
            better = reached > value
            best, value = torch.where(per_image(better), other, best), torch.where(better, reached, value)
        return best

    def _run(
        self,
        climbed: Climbed,
        attacked: Tensor,
        images: Tensor,
        budget: Budget,
        rng: SampleRng,
    ) -> tuple[Tensor, Tensor]:
        """(the best iterate, its J) of one run, which starts at `attacked`."""
        best, (best_value, slope) = attacked, climbed.gradient(attacked)
        attacked, value, slope = moved_off(climbed, attacked, best_value, slope, images, budget, rng)
        # Where the run was moved and the start stays the best, what goes back to it takes this slope: its own is 0.
        best, best_value, best_slope = self._better(value, attacked, slope, best_value, best, slope)
        before, size = attacked, 2 * per_image(budget.eps)
        rises, value_then, halved = torch.zeros_like(value), best_value, torch.ones_like(value, dtype=torch.bool)
        checkpoints, last_check = self.checkpoints(), 0
        for step in range(1, self.steps + 1):
            momentum, before = attacked - before, attacked
            moved = budget.project(attacked + size * steepest(slope, budget.norm), images)
            if step > 1:
                moved = budget.project(attacked + MOMENTUM * (moved - attacked) + (1 - MOMENTUM) * momentum, images)
            attacked, value_before = moved, value
            value, slope = climbed.gradient(attacked)
            rises = rises + (value > value_before)
            best, best_value, best_slope = self._better(value, attacked, slope, best_value, best, best_slope)
            if step in checkpoints:
                stuck = ~halved & (best_value <= value_then)
                halved = (rises < self.rho * (step - last_check)) | stuck
                size = torch.where(per_image(halved), size / 2, size)
                attacked = torch.where(per_image(halved), best, attacked)
                slope = torch.where(per_image(halved), best_slope, slope)
                rises, value_then, last_check = torch.zeros_like(rises), best_value, step
        return best, best_value

    @staticmethod
    def _better(
        value: Tensor, image: Tensor, slope: Tensor, best_value: Tensor, best: Tensor, best_slope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image, J and gradient of the iterate where it is better than the best so far."""
        better = value > best_value
        rows = per_image(better)
        return (
            torch.where(rows, image, best),
            torch.where(better, value, best_value),
            torch.where(rows, slope, best_slope),
        )

    def checkpoints(self) -> list[int]:
        """Steps after which the step size is looked at (section 3.1), in whole steps as in the authors' code."""
        gap, shrink, least = (max(int(share * self.steps), 1) for share in (0.22, 0.03, 0.06))
        found = [gap]
        while found[-1] < self.steps:
            gap = max(gap - shrink, least)
            found.append(found[-1] + gap)
        return found
