"""The kit on attacks: every shipped one keeps its contract, and planted faults are caught."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from harness.contracts import Attack, Metric
from harness.plugins.registry import Registry
from harness.testing import check_attack

SHORT = {
    "apgd": {"steps": 20},
    "autoattack": {"steps": 2, "queries": 6, "restarts": 1, "draws": 1},
    "cw": {"steps": 20},
    "cw_l2": {"steps": 10, "searches": 2},
    "facpa": {"width": 2, "depth": 2, "iterations": 6, "learning_rate": 1e-2},
}
"""Parameters for attacks whose defaults would take long; the contract is the same."""


def test_shipped_attacks(shipped):
    check_attack(Registry().attack(shipped).build(SHORT.get(shipped, {})), name=shipped)


@pytest.mark.parametrize("name", ["learnt", "restarts", "guess", "one_draw", "sphere", "worse_control"])
def test_toy_attacks_that_keep_the_contract(registry, name):
    check_attack(registry.attack(name).build({}))


class _Step(Attack):
    cite = ""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + budget.eps.view(-1, 1, 1, 1) * gradient.sign()


@dataclass(frozen=True)
class GlobalNoise(_Step):
    def perturb(self, objective, images, budget, rng):
        return images + budget.eps.view(-1, 1, 1, 1) * torch.randn_like(images).sign()


@dataclass(frozen=True)
class NumpyNoise(_Step):
    def perturb(self, objective, images, budget, rng):
        np.random.random(3)  # noqa: NPY002
        return super().perturb(objective, images, budget, rng)


@dataclass(frozen=True)
class ByPlace(_Step):
    def perturb(self, objective, images, budget, rng):
        index = torch.arange(len(images)).view(-1, 1, 1, 1)
        return images + (super().perturb(objective, images, budget, rng) - images) * (index + 1) / len(images)


@dataclass(frozen=True)
class BatchNormalised(_Step):
    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + budget.eps.view(-1, 1, 1, 1) * gradient / gradient.abs().max()


@dataclass(frozen=True)
class ChangesInput(_Step):
    def perturb(self, objective, images, budget, rng):
        return images.add_(0.001)


@dataclass(frozen=True)
class HalfPrecision(_Step):
    def perturb(self, objective, images, budget, rng):
        return images.double()


@dataclass(frozen=True)
class DividesByZero(_Step):
    def perturb(self, objective, images, budget, rng):
        return images + budget.eps.view(-1, 1, 1, 1) * (images - images) / (images - images).norm()


@dataclass(frozen=True)
class NeedsParameters(_Step):
    def perturb(self, objective, images, budget, rng):
        next(objective._shared.scorer.metric.parameters())
        return images


@dataclass(frozen=True)
class Peeks(_Step):
    needs_gradient = False
    queries: int = 5


@dataclass(frozen=True)
class Unlimited(_Step):
    needs_gradient = False


@dataclass(frozen=True)
class Forgetful(_Step):
    fits = True

    def fit(self, batches, rng):
        next(batches)
        return {"direction": torch.ones(3, 1, 1)}


@dataclass(frozen=True)
class Insatiable(_Step):
    fits = True

    def fit(self, batches: Iterator, rng):
        return {"count": torch.tensor(len(list(batches)))}


@dataclass(frozen=True)
class OddNorm(_Step):
    norms = frozenset({"l0"})


@dataclass(frozen=True)
class NoTinyBudget(_Step):
    def perturb(self, objective, images, budget, rng):
        if float(budget.eps.min()) < 1e-3:
            raise ValueError("too small")
        return super().perturb(objective, images, budget, rng)


@dataclass(frozen=True)
class Bytes(_Step):
    def perturb(self, objective, images, budget, rng):
        return images * 255


@dataclass(frozen=True)
class OwnRadius(_Step):
    """At most eight levels, whatever the budget; near enough to the usual one."""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + 8 / 255 * gradient.sign()


@dataclass(frozen=True)
class LargestRadius(_Step):
    """The radius of one row for all."""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + 100 * budget.eps.max() * gradient.sign()


@dataclass(frozen=True)
class PastTheBox(_Step):
    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + 1.5 * budget.eps.view(-1, 1, 1, 1) * gradient.sign()


@dataclass(frozen=True)
class UnprojectedLastStep(_Step):
    """Faultless: one step of the radius from a point on the edge of the ball."""

    def perturb(self, objective, images, budget, rng):
        edge = budget.project(super().perturb(objective, images, budget, rng), images)
        return super().perturb(objective, edge, budget, rng)


@dataclass(frozen=True)
class Descends(_Step):
    def perturb(self, objective, images, budget, rng):
        return 2 * images - super().perturb(objective, images, budget, rng)


@dataclass(frozen=True)
class SignTwice(_Step):
    """Raises quality where it should lower it: J has its sign already."""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + (budget.eps * objective.sign).view(-1, 1, 1, 1) * gradient.sign()


@dataclass(frozen=True)
class OneSign(_Step):
    """As if every row were to be moved the way of the first."""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        slope = objective.sign.view(-1, 1, 1, 1) * gradient
        return images + objective.sign[0] * budget.eps.view(-1, 1, 1, 1) * slope.sign()


@dataclass(frozen=True)
class SignOfTheBatch(_Step):
    """Knows no batch of two signs."""

    def perturb(self, objective, images, budget, rng):
        (_,) = set(objective.sign.tolist())
        return super().perturb(objective, images, budget, rng)


@dataclass(frozen=True)
class Unsaid(_Step):
    """Asks for a metric that it does not name."""

    def perturb(self, objective, images, budget, rng):
        objective.plugin("psnr")(ref=images, dist=images)
        return super().perturb(objective, images, budget, rng)


ATTACKS = [
    (GlobalNoise, "no global random"),
    (GlobalNoise, "equal seeds"),
    (NumpyNoise, "no global random"),
    (ByPlace, "order of samples"),
    (BatchNormalised, "whatever else is in the batch"),
    (ChangesInput, "inputs are left"),
    (HalfPrecision, "images like those it got"),
    (DividesByZero, "finite pixels"),
    (NeedsParameters, "perturb() works"),
    (Peeks, "perturb() works"),
    (Unlimited, "field `queries`"),
    (Forgetful, "what fit() learnt is used"),
    (Insatiable, "perturb() works"),
    (OddNorm, "norms are"),
    (NoTinyBudget, "perturb() works"),
    (Bytes, "keeps to its budget"),
    (OwnRadius, "keeps to its budget"),
    (LargestRadius, "keeps to its budget"),
    (PastTheBox, "keeps to the box"),
    (Descends, "worse than the start"),
    (SignTwice, "worse than the start"),
    (OneSign, "order of samples"),
    (SignOfTheBatch, "perturb() works"),
    (Unsaid, "names every metric"),
]


@pytest.mark.parametrize("faultless", [_Step, UnprojectedLastStep])
def test_a_faultless_attack_passes(faultless):
    check_attack(faultless())


@pytest.mark.parametrize("planted", [OwnRadius, PastTheBox, Descends, SignTwice, SignOfTheBatch, Unsaid])
def test_one_fault_is_told_as_one(rules_of, planted):
    assert len(rules_of(check_attack, planted())) == 1


def test_controls_may_lose_but_not_leave_their_budget(rules_of):
    @dataclass(frozen=True)
    class Control(Descends):
        control = True

        def perturb(self, objective, images, budget, rng):
            return images - budget.eps.view(-1, 1, 1, 1)

    @dataclass(frozen=True)
    class FarControl(Control):
        def perturb(self, objective, images, budget, rng):
            return images + 0.5

    check_attack(Control())
    assert rules_of(check_attack, FarControl()) == ["perturb() keeps to its budget"]


def test_every_direction_is_tried(registry):
    """In the direction error the rows of a batch differ in sign, and what was learnt of both signs is at hand."""
    seen = set()

    @dataclass(frozen=True)
    class Watching(type(registry.attack("learnt").build({}))):
        def perturb(self, objective, images, budget, rng):
            seen.add((tuple(sorted(set(objective.sign.tolist()))), tuple(sorted(objective.fitted))))
            return super().perturb(objective, images, budget, rng)

    check_attack(Watching())
    assert seen == {((1.0,), (1,)), ((-1.0,), (-1,)), ((-1.0, 1.0), (-1, 1))}


@pytest.mark.parametrize(("planted", "rule"), ATTACKS)
def test_planted_attack(assert_caught, planted, rule):
    assert_caught(check_attack, planted(), rule, fit_limit=50)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("overwrites", "note()"),
        ("nan_attack", "finite pixels"),
        ("cheat", "perturb() works"),
        ("far", "keeps to its budget"),
        ("worse", "worse than the start"),
    ],
)
def test_toy_attacks_that_break_the_contract(registry, assert_caught, name, rule):
    assert_caught(check_attack, registry.attack(name).build({}), rule)


def test_both_norms_of_an_attack_are_tried():
    seen = set()

    @dataclass(frozen=True)
    class Both(_Step):
        norms = frozenset({"linf", "l2"})

        def perturb(self, objective, images, budget, rng):
            seen.add((budget.norm, float(objective.sign[0])))
            return budget.project(super().perturb(objective, images, budget, rng), images)

    check_attack(Both())
    assert seen == {(norm, sign) for norm in ("linf", "l2") for sign in (1.0, -1.0)}


def test_a_black_box_attack_is_held_to_its_queries(registry):
    spent = []

    @dataclass(frozen=True)
    class Greedy(Attack):
        cite = ""
        needs_gradient = False
        queries: int = 1000

        def perturb(self, objective, images, budget, rng):
            spent.append(self.queries)
            while True:
                objective(images)

    check_attack(Greedy(), queries=8)
    assert set(spent) == {8}


class Picky(Metric):
    """Infinitely steep where an image is as its reference, and blind to images of less than 40 px."""

    cite = ""
    higher_is_better = False
    minimum_size = 40

    def score(self, reference, dist):
        assert min(dist.shape[-2:]) >= self.minimum_size
        return (dist - reference).square().flatten(1).mean(1).sqrt()


@dataclass(frozen=True)
class FromTheReference(_Step):
    """Takes its step where the gradient of some metrics is not finite."""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(objective.reference)
        return budget.project(images + gradient, images)


def test_an_attack_is_tried_on_a_metric_at_the_least_size_it_scores(rules_of):
    check_attack(_Step(), metric=Picky())
    check_attack(FromTheReference(), metric=Registry().metric("psnr").build({}))
    assert "perturb() returns finite pixels" in rules_of(check_attack, FromTheReference(), metric=Picky())
    rules = rules_of(check_attack, GlobalNoise(), metric=Picky())
    assert rules == ["no global random numbers", "equal seeds give equal bytes"]


def test_on_one_metric_every_norm_and_direction_is_tried():
    seen = []

    @dataclass(frozen=True)
    class Watching(_Step):
        norms = frozenset({"linf", "l2"})

        def perturb(self, objective, images, budget, rng):
            seen.append((budget.norm, tuple(sorted(objective.sign.tolist()))))
            return budget.project(super().perturb(objective, images, budget, rng), images)

    check_attack(Watching(), metric=Picky())
    for norm in ("linf", "l2"):
        signs = [signs for tried, signs in seen if tried == norm]
        assert signs == [(1.0, 1.0), (-1.0, -1.0), (-1.0, 1.0), (-1.0, 1.0)]
