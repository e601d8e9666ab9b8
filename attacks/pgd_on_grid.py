"""PGD that never leaves the 8-bit grid: a diagnostic of scores that answer differently off it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.ascent import check_steps, per_image, random_start, steepest
from harness.contracts import Attack, Budget, Objective, SampleRng, register

_SLACK = 1e-4
"""In grey levels: how far beyond the ball a level may lie that is its edge but for rounding in single precision."""


@register("pgd_on_grid")
@dataclass(frozen=True)
class PGDOnGrid(Attack):
    """PGD (Madry et al. 2018) whose gradients are all taken at images of whole grey levels, as 8-bit files hold them.

    A score that follows the image moves as far on the grid as off it, give or take what the coarser steps cost. One
    that recognises attacked images by their fractions of a grey level does not: a diagnostic, which verdicts use, from
    4/255 on. A value whose ball holds no whole grey level stays as it is.

    Attributes:
        steps: Gradient steps.
        step_size: Length of a step in [0, 1] image units, rounded to whole grey levels, at least one.
    """

    cite = "madry2018towards"

    steps: int = 10
    step_size: float = 2 / 255

    def __post_init__(self) -> None:
        check_steps(self.step_size, steps=self.steps)

    def uses_best(self) -> bool:
        """Never: it returns its last iterate."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend J from grid point to grid point, from a random one in the ball."""
        eps = per_image(budget.eps)
        lowest = ((images - eps).clamp(0, 1) * 255 - _SLACK).ceil()
        highest = ((images + eps).clamp(0, 1) * 255 + _SLACK).floor()
        fixed = lowest > highest
        size = max(1, round(self.step_size * 255))

        def on_grid(levels: Tensor) -> Tensor:
            whole = torch.minimum(torch.maximum(levels.round(), lowest), highest)
            return torch.where(fixed, images * 255, whole)

        levels = on_grid(random_start(images, budget, rng) * 255)
        for _ in range(self.steps):
            _, gradient = objective.gradient(levels / 255)
            levels = on_grid(levels + size * steepest(gradient, "linf"))
        return levels / 255
