"""The kit on purifiers: every shipped one keeps its contract, and planted faults are caught."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from harness.contracts import Purifier
from harness.plugins.registry import Registry
from harness.testing import check_purifier

WITH_NETWORKS = ("denoise", "diffpure", "diffpure-mini")
"""Checked with their weights, or small ones, in tests/defenses/test_diffusion.py."""


def test_shipped_purifiers(shipped):
    if shipped in WITH_NETWORKS:
        pytest.skip("it has a network")
    check_purifier(Registry().purifier(shipped).build({}), name=shipped)


@pytest.mark.parametrize("name", ["jitter", "rounding"])
def test_toy_purifiers_that_keep_the_contract(registry, name):
    check_purifier(registry.purifier(name).build({}))


@dataclass(frozen=True)
class Dim(Purifier):
    """Faultless: darkens each image by its own factor."""

    cite = ""

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


@dataclass(frozen=True)
class Blends(Dim):
    """Faultless: a network of one convolution, whose gradient is exact and whose stand-in is the image."""

    gradient = "both"

    def network(self):
        return nn.Conv2d(3, 3, 3, padding=1)

    def applies_to_reference(self):
        return False

    def purify(self, images, draw, network):
        return torch.sigmoid(network(images)) * draw


@dataclass(frozen=True)
class TextNetwork(Blends):
    def network(self):
        return "unet"


@dataclass(frozen=True)
class HalvesOnlyTheImage(Blends):
    def purify(self, images, draw, network):
        return super().purify(images, draw, network)[..., ::2, ::2]

    def surrogate(self, images, draw):
        return images[..., ::2, ::2]


@dataclass(frozen=True)
class InexactOfBoth(Blends):
    def purify(self, images, draw, network):
        purified = super().purify(images, draw, network)
        return purified.detach() + 0.5 * (purified - purified.detach())


@dataclass(frozen=True)
class DeadSurrogateOfBoth(Blends):
    def surrogate(self, images, draw):
        return images.detach()


PURIFIERS = [
    (TextNetwork, "network() gives"),
    (HalvesOnlyTheImage, "keep their size"),
    (InexactOfBoth, "exact gradient"),
    (DeadSurrogateOfBoth, "surrogate is differentiable"),
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


def test_the_faultless_purifiers_pass():
    check_purifier(Dim())
    check_purifier(Blends())
    check_purifier(Blends(), network=nn.Conv2d(3, 3, 3, padding=1))


@pytest.mark.parametrize(("planted", "rule"), PURIFIERS)
def test_planted_purifier(assert_caught, planted, rule):
    assert_caught(check_purifier, planted(), rule)
