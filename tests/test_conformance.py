"""Every shipped plugin keeps its contract, and the kit catches plugins that do not."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from harness.contracts import Attack, DataError, Dataset, Entry, Metric, Purifier, Recipe
from harness.registry import Registry
from harness.testing import (
    ConformanceError,
    check_attack,
    check_dataset,
    check_metric,
    check_purifier,
    check_recipe,
    distorted,
    natural,
)
from harness.worker import default_metric

SHIPPED = Registry()
CPU = torch.device("cpu")


def names(kind):
    """Shipped names only: what else is installed answers for itself."""
    ours = ("metrics_zoo", "attacks", "defenses", "harness")
    return [n for n in SHIPPED.names(kind) if SHIPPED.source(kind, n).origin.split(".")[0] in ours]


def test_shipped_metrics():
    broken = []
    for name in names("metrics"):
        plugin = SHIPPED.metric(name)
        trained = not plugin.cls.needs_weights or plugin.weights is not None
        metric = default_metric(name, SHIPPED, CPU) if trained else plugin.build({})
        try:
            check_metric(metric, name=name, trained=trained)
        except ConformanceError as error:
            broken.append(str(error))
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", names("attacks"))
def test_shipped_attacks(name):
    check_attack(SHIPPED.attack(name).build({}), name=name)


@pytest.mark.parametrize("name", names("purifiers"))
def test_shipped_purifiers(name):
    check_purifier(SHIPPED.purifier(name).build({}), name=name)


@pytest.mark.parametrize("name", ["mini", "mini_2afc"])
def test_shipped_datasets(name):
    check_dataset(SHIPPED.dataset(name).build({}), name=name, loads=2)


@pytest.mark.parametrize("name", names("recipes"))
def test_shipped_recipes(name):
    check_recipe(SHIPPED.recipe(name).build({}), name=name)


@pytest.mark.parametrize("name", ["learnt", "restarts", "guess", "one_draw", "worse", "far", "worse_control"])
def test_toy_attacks_that_keep_the_contract(registry, name):
    """`worse` and `far` do badly, but the engine mends both."""
    check_attack(registry.attack(name).build({}))


@pytest.mark.parametrize("name", ["jitter", "rounding"])
def test_toy_purifiers_that_keep_the_contract(registry, name):
    check_purifier(registry.purifier(name).build({}))


def test_made_images_look_as_said():
    images = torch.stack([natural(i, 33, 48) for i in range(3)])
    assert images.shape == (3, 3, 33, 48) and images.dtype == torch.float32
    assert float(images.min()) >= 0.1 and float(images.max()) <= 0.9 and float(images.std()) > 0.05
    errors = [float((distorted(images, s) - images).square().mean()) for s in (0.1, 0.5, 1.0)]
    assert errors == sorted(errors) and errors[0] > 0
    spectrum = np.abs(np.fft.fft2(images[0, 0].numpy())) ** 2
    assert spectrum[0, 1:4].mean() > 100 * spectrum[12:16, 12:24].mean()


def test_a_metric_is_left_as_it_was():
    metric = SHIPPED.metric("birqa-tiny").build({})
    metric.train()
    before = {k: v.clone() for k, v in metric.state_dict().items()}
    check_metric(metric, trained=False)
    assert metric.training and all(p.requires_grad and p.grad is None for p in metric.parameters())
    assert all(torch.equal(before[k], v) for k, v in metric.state_dict().items())


# ------------------------------------------------------------------------------------------------ planted metrics


class Mse(Metric):
    higher_is_better = False

    def score(self, reference, dist):
        return (dist - reference).square().flatten(1).mean(1)


class NoSense(Mse):
    higher_is_better = "yes"


class Column(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist)[:, None]


class BatchMean(Mse):
    def score(self, reference, dist):
        error = super().score(reference, dist)
        return error / error.mean()


class ByPosition(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist) * (1 + torch.arange(len(dist)) * 1e-3)


class NanOnFlat(Mse):
    minimum_size = 2

    def score(self, reference, dist):
        return super().score(reference, dist) / reference.flatten(1).std(1) * 0 + super().score(reference, dist)


class RootOfNothing(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist).sqrt()


class WrongSign(Mse):
    higher_is_better = True


class Detached(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist.detach())


class LeftHalf(Mse):
    minimum_size = 2

    def score(self, reference, dist):
        half = dist.shape[-1] // 2
        return super().score(reference[..., :half], dist[..., :half])


class StraightThrough(Mse):
    """A surrogate gradient that says it is exact."""

    def score(self, reference, dist):
        return super().score(reference, dist + (torch.round(dist * 8) / 8 - dist).detach())


class Scaled(Mse):
    """Its backward pass is 2 % too long."""

    def score(self, reference, dist):
        error = super().score(reference, dist)
        return error * 1.02 - (error * 0.02).detach()


class Random(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist + 1e-3 * torch.randn_like(dist))


class Counting(Mse):
    calls = 0

    def score(self, reference, dist):
        self.calls += 1
        return super().score(reference, dist) + self.calls


class InPlace(Mse):
    def score(self, reference, dist):
        with torch.no_grad():
            dist.mul_(0.5)
        return super().score(reference, dist)


class SpoilsEncoding(Mse):
    def encode(self, ref):
        return ref.clone()

    def score(self, reference, dist):
        error = super().score(reference, dist)
        reference += 0.01
        return error


class OtherForward(Mse):
    def forward(self, *, ref, dist):
        return super().forward(ref=ref, dist=dist) + 1e-6


class SmallOnly(Mse):
    def score(self, reference, dist):
        if dist.shape[-1] % 2:
            raise ValueError("odd width")
        return super().score(reference, dist)


class LooseEncoding(Mse):
    def encode(self, ref):
        return {"ref": ref, "mean": ref.mean()}

    def score(self, reference, dist):
        return super().score(reference["ref"], dist)


METRICS = [
    (NoSense, "higher_is_better is True or False"),
    (Column, "one float per image"),
    (BatchMean, "row i alone"),
    (ByPosition, "row i alone"),
    (NanOnFlat, "scores are finite"),
    (RootOfNothing, "gradient is finite"),
    (WrongSign, "sense of the score"),
    (Detached, "differentiable operations"),
    (LeftHalf, "whole image"),
    (StraightThrough, "gradient is that of the score"),
    (Scaled, "gradient is that of the score"),
    (Random, "no global random numbers"),
    (Random, "deterministic"),
    (Counting, "deterministic"),
    (InPlace, "inputs are left"),
    (SpoilsEncoding, "encoded reference can be reused"),
    (OtherForward, "keyword call"),
    (SmallOnly, "every size"),
    (LooseEncoding, "batch on axis 0"),
]


def rules_of(check, plugin, **options):
    with pytest.raises(ConformanceError) as caught:
        check(plugin, **options)
    for fault in caught.value.faults:
        for part in (fault.rule, fault.seen, fault.cure, type(plugin).__name__):
            assert part in str(caught.value)
    return [fault.rule for fault in caught.value.faults]


def assert_caught(check, plugin, rule, **options):
    rules = rules_of(check, plugin, **options)
    assert any(rule in r for r in rules), rules


def test_the_faultless_metric_passes():
    check_metric(Mse())


@pytest.mark.parametrize(("planted", "rule"), METRICS)
def test_planted_metric(planted, rule):
    assert_caught(check_metric, planted(), rule)


@pytest.mark.parametrize("planted", [NanOnFlat, RootOfNothing, WrongSign, LeftHalf, Scaled, OtherForward])
def test_one_fault_is_told_as_one(planted):
    assert len(rules_of(check_metric, planted())) == 1


def test_a_metric_may_say_that_it_is_an_exception():
    check_metric(type("Surrogate", (StraightThrough,), {"exact_gradient": False})())
    check_metric(type("NoGradient", (Detached,), {"differentiable": False})())
    check_metric(WrongSign(), trained=False)


def test_all_faults_are_told_at_once():
    class Several(OtherForward, Scaled):
        higher_is_better = True

    with pytest.raises(ConformanceError, match=r"metric 'several' \(class Several\) breaks 3 rules") as caught:
        check_metric(Several(), name="several")
    assert "  3. " in str(caught.value) and "Cure: " in str(caught.value)


# ------------------------------------------------------------------------------------------------ planted attacks


class _Step(Attack):
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
]


@pytest.mark.parametrize(("planted", "rule"), ATTACKS)
def test_planted_attack(planted, rule):
    assert_caught(check_attack, planted(), rule, fit_limit=50)


@pytest.mark.parametrize(
    ("name", "rule"), [("overwrites", "note()"), ("nan_attack", "finite pixels"), ("cheat", "perturb() works")]
)
def test_toy_attacks_that_break_the_contract(registry, name, rule):
    assert_caught(check_attack, registry.attack(name).build({}), rule)


def test_both_norms_of_an_attack_are_tried():
    seen = set()

    @dataclass(frozen=True)
    class Both(_Step):
        norms = frozenset({"linf", "l2"})

        def perturb(self, objective, images, budget, rng):
            seen.add((budget.norm, float(objective.sign[0])))
            return super().perturb(objective, images, budget, rng)

    check_attack(Both())
    assert seen == {(norm, sign) for norm in ("linf", "l2") for sign in (1.0, -1.0)}


def test_a_black_box_attack_is_held_to_its_queries(registry):
    spent = []

    @dataclass(frozen=True)
    class Greedy(Attack):
        needs_gradient = False
        queries: int = 1000

        def perturb(self, objective, images, budget, rng):
            spent.append(self.queries)
            while True:
                objective(images)

    check_attack(Greedy(), queries=8)
    assert set(spent) == {8}


# ------------------------------------------------------------------------------------------------ planted purifiers


@dataclass(frozen=True)
class Dim(Purifier):
    """Faultless: darkens each image by its own factor."""

    def draw(self, images, rng):
        return rng.uniform(1, 1, 1, low=0.5)

    def apply(self, images, draw):
        return images * draw


@dataclass(frozen=True)
class OnePerBatch(Dim):
    def draw(self, images, rng):
        return rng.uniform(1, 1, 1)[:1].expand(len(images), -1, -1, -1).contiguous()


@dataclass(frozen=True)
class PlainNumber(Dim):
    def draw(self, images, rng):
        return float(rng.uniform(1)[0])


@dataclass(frozen=True)
class DrawsInApply(Dim):
    def apply(self, images, draw):
        return images * torch.rand(1)


@dataclass(frozen=True)
class TooBright(Dim):
    def apply(self, images, draw):
        return images * draw + 0.5


@dataclass(frozen=True)
class NeverDraws(Dim):
    def draw(self, images, rng):
        return torch.ones(len(images), 1, 1, 1)


@dataclass(frozen=True)
class SaysItNeverDraws(Dim):
    randomised = False


@dataclass(frozen=True)
class BatchBrightness(Dim):
    def apply(self, images, draw):
        return (images * draw / images.mean() * 0.3).clamp(0, 1)


@dataclass(frozen=True)
class RoundsExactly(Dim):
    def apply(self, images, draw):
        return images * draw + (torch.round(images * 8) / 8 * draw - images * draw).detach()


@dataclass(frozen=True)
class DeadSurrogate(Dim):
    gradient = "surrogate"

    def surrogate(self, images, draw):
        return images.detach()


@dataclass(frozen=True)
class InPlacePurifier(Dim):
    def apply(self, images, draw):
        return images.mul_(0.9) * draw


PURIFIERS = [
    (OnePerBatch, "one draw per sample"),
    (PlainNumber, "one draw per sample"),
    (DrawsInApply, "deterministic function"),
    (DrawsInApply, "no global random"),
    (TooBright, "[0, 1]"),
    (NeverDraws, "randomised says"),
    (SaysItNeverDraws, "randomised says"),
    (BatchBrightness, "purified alike"),
    (RoundsExactly, "exact gradient"),
    (DeadSurrogate, "surrogate is differentiable"),
    (InPlacePurifier, "inputs are left"),
]


def test_the_faultless_purifier_passes():
    check_purifier(Dim())


@pytest.mark.parametrize(("planted", "rule"), PURIFIERS)
def test_planted_purifier(planted, rule):
    assert_caught(check_purifier, planted(), rule)


# ------------------------------------------------------------------------------------------------ planted data sets


class Little(Dataset):
    """Faultless: two references a split, two images each."""

    splits = ("train", "test")

    def entries(self, split):
        if split not in self.splits:
            raise DataError("no such split")
        return [
            Entry(f"{split}/{r}/{i}", f"{split}{r}", opinion=(i + r) / 2, level=i + 1)
            for r in range(2)
            for i in range(2)
        ]

    def load(self, entry):
        ref = natural(len(entry.reference_id) + int(entry.reference_id[-1]), 12, 12)
        return {"ref": ref, "dist": distorted(ref[None], 0.3)[0]}

    def fingerprint(self):
        return "little"


class SharesReferences(Little):
    def entries(self, split):
        return [dataclasses.replace(e, reference_id=e.reference_id[-1]) for e in super().entries(split)]


class SharesIds(Little):
    def entries(self, split):
        return [dataclasses.replace(e, id=e.id.partition("/")[2]) for e in super().entries(split)]


class FiveStars(Little):
    def entries(self, split):
        return [dataclasses.replace(e, opinion=5 * e.opinion) for e in super().entries(split)]


class NoJudge(Little):
    kind = "triplets"

    def load(self, entry):
        images = super().load(entry)
        return {"ref": images["ref"], "p0": images["dist"], "p1": images["dist"]}


class Unlabelled(Little):
    labels = "none"


class EmptySplit(Little):
    splits = ("train", "val", "test")

    def entries(self, split):
        return [] if split == "val" else super().entries(split)


class Bytes(Little):
    def load(self, entry):
        return {k: v * 255 for k, v in super().load(entry).items()}


class Doubles(Little):
    def load(self, entry):
        return {k: v.double() for k, v in super().load(entry).items()}


class WrongKeys(Little):
    def load(self, entry):
        return {"reference": super().load(entry)["ref"]}


class OtherReference(Little):
    def load(self, entry):
        ref = natural(int(entry.id[-1]), 12, 12)
        return {"ref": ref, "dist": ref}


class Shaky(Little):
    def load(self, entry):
        return {k: v * float(torch.rand(1)) for k, v in super().load(entry).items()}


class Dated(Little):
    def fingerprint(self):
        return str(id(self))


class Moody(Little):
    made = 0

    def __init__(self):
        type(self).made += 1
        self.mine = type(self).made

    def entries(self, split):
        return super().entries(split)[:: 1 if self.mine % 2 else -1]


class TakesAnySplit(Little):
    def entries(self, split):
        return super().entries(split if split in self.splits else "test")


DATASETS = [
    (SharesReferences, "share no reference"),
    (SharesIds, "ids are unique"),
    (FiveStars, "every opinion"),
    (NoJudge, "every judge"),
    (Unlabelled, "no opinions"),
    (EmptySplit, "every split has entries"),
    (Bytes, "[0, 1]"),
    (Doubles, "images of an item"),
    (WrongKeys, "images of an item"),
    (OtherReference, "one reference_id"),
    (Shaky, "load() is deterministic"),
    (Shaky, "no global random"),
    (Dated, "fingerprint"),
    (Moody, "second instance"),
    (TakesAnySplit, "unknown split"),
]


def test_the_faultless_dataset_passes():
    check_dataset(Little())


@pytest.mark.parametrize(("planted", "rule"), DATASETS)
def test_planted_dataset(planted, rule):
    assert_caught(check_dataset, planted(), rule)


# ------------------------------------------------------------------------------------------------ planted recipes


@dataclass(frozen=True)
class Plain(Recipe):
    """Faultless: the mean squared error on random batches."""

    batch: int = 4

    def batches(self, entries, rng):
        while True:
            yield rng.integers(len(entries), size=self.batch).tolist(), [True, False] * (self.batch // 2)

    def loss(self, metric, batch):
        loss = (metric(ref=batch["ref"], dist=batch["dist"]) - batch["target"]).square().mean()
        return loss, {"mse": float(loss.detach())}


@dataclass(frozen=True)
class OutOfRange(Plain):
    def batches(self, entries, rng):
        while True:
            yield [len(entries)] * self.batch, [False] * self.batch


@dataclass(frozen=True)
class FewFlags(Plain):
    def batches(self, entries, rng):
        while True:
            yield [0] * self.batch, [False]


@dataclass(frozen=True)
class Ends(Plain):
    def batches(self, entries, rng):
        yield [0] * self.batch, [False] * self.batch


@dataclass(frozen=True)
class OtherSize(Plain):
    def batches(self, entries, rng):
        while True:
            yield [0] * (self.batch + 1), [False] * (self.batch + 1)


@dataclass(frozen=True)
class Unseeded(Plain):
    def batches(self, entries, rng):
        return super().batches(entries, np.random.default_rng())


@dataclass(frozen=True)
class PerImage(Plain):
    def loss(self, metric, batch):
        return (metric(ref=batch["ref"], dist=batch["dist"]) - batch["target"]).square(), {}


@dataclass(frozen=True)
class NoGrad(Plain):
    def loss(self, metric, batch):
        loss, figures = super().loss(metric, batch)
        return loss.detach(), figures


@dataclass(frozen=True)
class NanLater(Plain):
    def loss(self, metric, batch):
        loss, figures = super().loss(metric, batch)
        return loss * (torch.nan if float(batch["step"]) > 10 else 1), figures


RECIPES = [
    (OutOfRange, "indices and flags"),
    (FewFlags, "indices and flags"),
    (Ends, "endless"),
    (OtherSize, "field `batch`"),
    (Unseeded, "batches() is deterministic"),
    (PerImage, "finite scalar"),
    (NoGrad, "gradient in the metric's parameters"),
    (NanLater, "finite scalar"),
]


def test_the_faultless_recipe_passes():
    check_recipe(Plain())


@pytest.mark.parametrize(("planted", "rule"), RECIPES)
def test_planted_recipe(planted, rule):
    assert_caught(check_recipe, planted(), rule)
