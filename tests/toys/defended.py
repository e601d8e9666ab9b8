"""A metric with weights and purifiers with networks, whose best attacks have closed forms."""

from dataclasses import dataclass

import torch
from torch import nn

from harness.contracts import Metric, Purifier, register


@register("weighed")
class Weighed(Metric):
    """Mean of w_c x (dist - ref) with one weight a channel: the optimum in Linf is eps sign(w), and gains eps mean|w|."""

    higher_is_better = True
    needs_weights = True

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def score(self, reference, dist):
        return (self.w.view(3, 1, 1) * (dist - reference)).flatten(1).mean(1)


class Gains(nn.Module):
    """A factor for each channel, random until it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(3))

    def forward(self, images):
        return images * self.gain.view(3, 1, 1)


@register("gains")
@register("gains_of_both", reference=True)
@dataclass(frozen=True)
class GainsOf(Purifier):
    """Multiplies each channel by a learnt factor, by default only in the distorted image."""

    randomised = False
    reference: bool = False

    def network(self):
        return Gains()

    def applies_to_reference(self):
        return self.reference

    def purify(self, images, draw, network):
        assert not network.training and not network.gain.requires_grad and not network.gain.is_inference()
        return network(images)


@register("half_masked")
@dataclass(frozen=True)
class HalfMasked(Purifier):
    """Leaves images as they are; its own gradient is right for bright first pixels, its surrogate's for dark ones."""

    gradient = "both"
    randomised = False

    def apply(self, images, draw):
        return _leaning(images, images[:, :1, :1, :1] > 0.5)

    def surrogate(self, images, draw):
        return _leaning(images, images[:, :1, :1, :1] <= 0.5)


def _leaning(images, right):
    """The images, with their gradient where it is right and the opposite one elsewhere."""
    turned = 2 * images.detach() - images
    return torch.where(right, images, turned)


@register("darken")
@dataclass(frozen=True)
class Darken(Purifier):
    """Half as bright; randomised on paper, so that defaults of randomised ones can be seen."""

    def draw(self, images, rng):
        return rng.signs(1)

    def apply(self, images, draw):
        return images * 0.5
