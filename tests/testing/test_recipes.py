"""The kit on recipes: every shipped one keeps its contract, and planted faults are caught."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from harness.contracts import Recipe
from harness.plugins.registry import Registry
from harness.testing import check_recipe


def test_shipped_recipes(shipped):
    check_recipe(Registry().recipe(shipped).build({}), name=shipped)


@dataclass(frozen=True)
class Plain(Recipe):
    """Faultless: the mean squared error on random batches."""

    cite = ""
    attacks = True
    batch: int = 4

    def batches(self, entries, rng):
        while True:
            yield rng.integers(len(entries), size=self.batch).tolist(), [True, False] * (self.batch // 2)

    def loss(self, metric, batch):
        loss = (metric(ref=batch["ref"], dist=batch["dist"]) - batch["target"]).square().mean()
        return loss, {"mse": loss.detach()}


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


@dataclass(frozen=True)
class SaysNothing(Plain):
    attacks = False


RECIPES = [
    (SaysNothing, "attacks says whether rows are attacked"),
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
def test_planted_recipe(assert_caught, planted, rule):
    assert_caught(check_recipe, planted(), rule)
