"""PGD that measures on its way whether its gradients foretell what the score does: a diagnostic of backward passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.ascent import check_steps, per_image, random_start, steepest
from harness.contracts import Attack, Budget, Objective, SampleRng, register

_REACH = 0.1
"""Half the distance of the two images that a difference is taken between, as a share of a step: far enough for single
precision, and near enough that honest scores are straight between them."""
_FLOOR = 1e-5
"""Share of the clean range below which a change is rounding."""


@register("pgd_traced")
@dataclass(frozen=True)
class PGDTraced(Attack):
    """PGD (Madry et al. 2018, section 2.1) that holds its gradients against central differences of the score.

    At some of its iterates x, g being the gradient there, it takes J(x + hd) - J(x - hd), and what g says of it,
    <g, 2hd>, along its own next step and towards the reference. The second direction is there for a backward pass that
    is right along its own steps alone. It notes for each image and direction the mean disagreement |measured -
    foretold| over the mean of the larger of the two: 0 where they agree, 1 where one of them is zero, up to 2 where the
    sign is wrong; nothing where neither moves.

    Attributes:
        steps: Gradient steps, from a random start in the ball.
        step_size: Length of a step in [0, 1] image units.
        looks: Iterates that are looked at, evenly spread; each costs four evaluations.
    """

    cite = "madry2018towards"

    steps: int = 10
    step_size: float = 2 / 255
    looks: int = 5

    def __post_init__(self) -> None:
        check_steps(self.step_size, steps=self.steps, looks=self.looks)

    def uses_best(self) -> bool:
        """Never: images beside the iterates are evaluated."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend J, and note `gradient_error_step` and `gradient_error_reference`, each of shape [N]."""
        ahead, home = _Disagreement(), _Disagreement()
        attacked = random_start(images, budget, rng)
        looked_at = {round(i * (self.steps - 1) / max(self.looks - 1, 1)) for i in range(self.looks)}
        for step in range(self.steps):
            _, gradient = objective.gradient(attacked)
            following = budget.project(attacked + self.step_size * steepest(gradient, "linf"), images)
            if step in looked_at:
                ahead.add(objective, attacked, gradient, following - attacked)
                way = objective.reference - attacked
                longest = per_image(way.abs().flatten(1).amax(1)).clamp_min(torch.finfo(way.dtype).tiny)
                home.add(objective, attacked, gradient, self.step_size * way / longest)
            attacked = following
        least = _FLOOR * objective.scale
        objective.note(gradient_error_step=ahead.share(least), gradient_error_reference=home.share(least))
        return attacked


@dataclass
class _Disagreement:
    """Of foretold and measured changes of J along one kind of direction; one [N] per iterate, in double precision."""

    _apart: list[Tensor] = field(default_factory=list)
    _larger: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def add(self, objective: Objective, images: Tensor, gradient: Tensor, direction: Tensor) -> None:
        """Take one central difference, inside the box."""
        ahead, behind = (images + _REACH * direction).clamp(0, 1), (images - _REACH * direction).clamp(0, 1)
        measured = objective(ahead).double() - objective(behind).double()
        foretold = (gradient.double() * (ahead - behind).double()).flatten(1).sum(1)
        self._apart.append((measured - foretold).abs())
        self._larger.append(torch.maximum(measured.abs(), foretold.abs()))

    def share(self, least: float) -> Tensor:
        """Disagreement of each sample, [N]; nan where no change was larger than `least`."""
        apart, larger = torch.stack(self._apart), torch.stack(self._larger)
        moved = larger.amax(0) > least
        return torch.where(moved, apart.mean(0) / larger.mean(0), torch.nan)
