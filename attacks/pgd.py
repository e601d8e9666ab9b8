"""PGD: steps along the gradient from a random start, projected onto the budget after each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from attacks.ascent import (
    TINY,
    Start,
    check_steps,
    may_leave,
    moved_off,
    per_image,
    random_start,
    starting_points,
    steepest,
)
from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("pgd")
@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018, section 2.1), with the momentum of Dong et al. 2018 (MI-FGSM).

    In Linf it steps along the sign of the gradient, in L2 along the gradient over its length. Restarts run one after
    the other: they take no more memory than one, and a batch that fills the device would gain nothing by being larger.
    The first restart draws what a single run draws, so more restarts are never weaker.

    Attributes:
        steps: Gradient steps of each restart.
        step_size: Length of a step in Linf, in [0, 1] image units.
        start: Where the first run starts: "random" (uniform in the ball), "zero" (the distorted image) or "reference"
            (the point of the ball nearest to the reference). Where the gradient there is 0 it starts at random, but
            for a run upwards from the reference.
        keep: "last" returns the last iterate, "best" the best one evaluated.
        restarts: Number of runs, from the second on always from random starts; the best of their results per sample.
        momentum: Share of the earlier direction kept at each step, whose gradients count by their L1 norm (eq. 6).
        l2_step: Length of a step in L2, as a share of the radius: .25 is in proportion 2/255 of 8/255.
    """

    cite = "madry2018towards"
    version: ClassVar[int] = 2
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})
    neutral: ClassVar[Mapping[str, Any]] = {"restarts": 1, "momentum": 0.0, "l2_step": 0.25}

    steps: int = 10
    step_size: float = 2 / 255
    start: Start = "random"
    keep: Literal["last", "best"] = "last"
    restarts: int = 1
    momentum: float = 0.0
    l2_step: float = 0.25

    @classmethod
    def cited(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """With momentum, MI-FGSM's paper too."""
        return ("madry2018towards", "dong2018boosting") if parameters["momentum"] else ("madry2018towards",)

    def __post_init__(self) -> None:
        check_steps(self.step_size, steps=self.steps, restarts=self.restarts)
        if not 0 <= self.momentum < float("inf"):
            raise ValueError(f"momentum should be at least 0 and finite, got {self.momentum:g}")
        if not 0 < self.l2_step <= 2:
            raise ValueError(f"l2_step should be above 0 and at most 2 radii, got {self.l2_step:g}")

    def uses_best(self) -> bool:
        """Only where the best iterate is kept."""
        return self.keep == "best"

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Ascend J for the given steps, from every start."""
        start = starting_points(self.start, objective, images, budget, rng)
        attacked = self._run(objective, start, images, budget, None if self.start == "random" else rng)
        if self.keep == "last" and self.restarts == 1:
            return attacked
        with torch.no_grad():
            value = objective(attacked)
            for _ in range(1, self.restarts):
                other = self._run(objective, random_start(images, budget, rng), images, budget, None)
                reached = objective(other)
                better = reached > value
                attacked = torch.where(per_image(better), other, attacked)
                value = torch.where(better, reached, value)
        return objective.best() if self.keep == "best" else attacked

    def _run(
        self, objective: Objective, attacked: Tensor, images: Tensor, budget: Budget, rng: SampleRng | None
    ) -> Tensor:
        """The last iterate of one run, which starts at `attacked`; with a generator, it may leave that for another."""
        size: float | Tensor = self.step_size if budget.norm == "linf" else self.l2_step * per_image(budget.eps)
        direction = torch.zeros_like(images)
        for step in range(self.steps):
            value, gradient = objective.gradient(attacked)
            if step == 0 and rng is not None:
                leaving = may_leave(self.start, objective)
                attacked, _, gradient = moved_off(objective, attacked, value, gradient, images, budget, rng, leaving)
            if self.momentum:
                mass = per_image(gradient.abs().flatten(1).sum(1)).clamp_min(TINY)
                direction = self.momentum * direction + gradient / mass
            else:
                direction = gradient
            attacked = budget.project(attacked + size * steepest(direction, budget.norm), images)
        return attacked
