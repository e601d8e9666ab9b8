"""AutoAttack for a scalar score: APGD from several starts, APGD on the smoothed score, and Square; the worst case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.apgd import APGD
from attacks.ascent import per_image, starting_points
from attacks.square import Square
from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register


@register("autoattack")
@dataclass(frozen=True)
class AutoAttack(Attack):
    """Scalar port of AutoAttack (Croce & Hein 2020): five attacks, and per sample the strongest result.

    Of the original's members two have no meaning for a score: any monotone loss gives APGD the same steps, so there is
    no second loss, and without classes FAB has no boundary to look for. In their place stand random restarts, and APGD
    on the score averaged over noise, which sees through a gradient that is masked by roughness. For samples that are
    raised one more APGD starts at the point of the ball nearest to the reference, which classes do not have and an
    attacker on quality knows. No member is spared for samples that another has moved already. The column `member`
    records whose image it is: "apgd", "restarts", "smoothed", "square" or "reference".

    Attributes:
        steps: Gradient steps of each APGD run.
        restarts: Random restarts of the second member.
        sigma: Standard deviation of the noise of the third, as a share of eps in Linf; in L2 the expected length of the
            noise as a share of the radius.
        draws: Noise images averaged at each of its steps; the same ones at all, so that it compares like with like.
        queries: Evaluations by Square for each sample.
        p_init: Share of an image's pixels that Square's first squares cover.
    """

    cite = ("croce2020reliable", "andriushchenko2020square")
    version: ClassVar[int] = 2
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})

    steps: int = 100
    restarts: int = 2
    sigma: float = 0.25
    draws: int = 4
    queries: int = 5000
    p_init: float = 0.8

    def __post_init__(self) -> None:
        APGD(steps=self.steps, restarts=self.restarts)
        Square(queries=self.queries, p_init=self.p_init)
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma should be above 0 and at most 1, got {self.sigma:g}")
        if self.draws < 1:
            raise ValueError(f"draws should be at least 1, got {self.draws}")

    def uses_best(self) -> bool:
        """Never: each member keeps its own best image."""
        return False

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Run every member and keep, per sample, the image of highest J; the first member's among equals."""
        direct = APGD(steps=self.steps, start="zero")
        anywhere = APGD(steps=self.steps, start="random", restarts=self.restarts)
        smoothed = _Smoothed(objective, images, budget, rng, self.sigma, self.draws)
        found = {
            "apgd": direct.perturb(objective, images, budget, rng),
            "restarts": anywhere.perturb(objective, images, budget, rng),
            "smoothed": direct.ascend(smoothed, images, images, budget, rng),
            "square": Square(queries=self.queries, p_init=self.p_init).perturb(objective, images, budget, rng),
        }
        raised = (objective.sign > 0).nonzero().flatten()
        if len(raised):
            near = starting_points("reference", objective, images, budget, rng)[raised]
            some = objective.select(raised), near, images[raised], budget.select(raised), rng.select(raised)
            found["reference"] = found["apgd"].index_copy(0, raised, direct.ascend(*some))
        # Judged afresh: the best of many noisy values of a randomised scorer flatters who has looked most often.
        with torch.no_grad():
            reached = torch.stack([objective(attacked) for attacked in found.values()])
        if "reference" in found:
            reached[-1] = torch.where(objective.sign > 0, reached[-1], -torch.inf)
        winner = reached.nan_to_num(nan=-torch.inf).argmax(0)
        names = list(found)
        objective.note(member=[names[which] for which in winner.tolist()])
        attacked = found["apgd"]
        for which, name in enumerate(names):
            attacked = torch.where(per_image(winner == which), found[name], attacked)
        return attacked


class _Smoothed:
    """J averaged over images with noise, clipped to the box.

    Args:
        objective: J.
        images: Distorted images, N x 3 x H x W.
        budget: Norm and radius per sample.
        rng: Where the noise is drawn from.
        sigma: As in `AutoAttack`.
        draws: Noise images per sample.
    """

    def __init__(
        self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng, sigma: float, draws: int
    ) -> None:
        self._objective = objective
        spread = sigma * per_image(budget.eps) / (1.0 if budget.norm == "linf" else images[0].numel() ** 0.5)
        self._noise = [spread * rng.normal(*images.shape[1:]) for _ in range(draws)]

    def select(self, index: Tensor) -> _Smoothed:
        """The same of the given rows."""
        view = object.__new__(_Smoothed)
        view._objective = self._objective.select(index)
        view._noise = [noise[index] for noise in self._noise]
        return view

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(mean J, its gradient), one draw at a time; clipping is passed over, as a pixel that leaves may come back."""
        value, slope = self._objective.gradient((images + self._noise[0]).clamp(0, 1))
        for noise in self._noise[1:]:
            other, rise = self._objective.gradient((images + noise).clamp(0, 1))
            value, slope = value + other, slope + rise
        return value / len(self._noise), slope / len(self._noise)
