"""A metric under its purifiers: the thing that is attacked and the thing that scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.contracts import DataError, Metric, Purifier, SampleRng, Tree


class MetricError(Exception):
    """A metric broke its contract; the message says how."""


class Scorer:
    """A metric (base or trained weights) under zero or more purifiers. All randomness enters through `encode`.

    Args:
        metric: In evaluation mode, on its device.
        purifiers: Applied in order to reference and distorted image alike, with one draw per sample.
    """

    def __init__(self, metric: Metric, purifiers: Sequence[Purifier] = ()) -> None:
        self.metric = metric
        self.purifiers = tuple(purifiers)
        self.randomised = any(p.randomised for p in self.purifiers)

    def encode(self, ref: Tensor, rng: SampleRng) -> Tree:
        """Everything that depends on the reference and the draws; never inference mode, or gradients would break.

        Args:
            ref: Reference images, N x 3 x H x W in [0, 1].
            rng: One generator per sample, from which the purifiers draw.

        Raises:
            DataError: The images are smaller than the metric can score.
        """
        height, width = ref.shape[-2:]
        if min(height, width) < self.metric.minimum_size:
            raise DataError(
                f"{type(self.metric).__name__} needs images of at least {self.metric.minimum_size} px a side, and "
                f"these have {width} x {height}. Leave the metric out, or take larger images."
            )
        draws = []
        with torch.no_grad():
            for purifier in self.purifiers:
                draw = purifier.draw(ref, rng)
                ref = purifier.apply(ref, draw)
                draws.append(draw)
            return self.metric.encode(ref), tuple(draws)

    def quality(self, reference: Tree, dist: Tensor) -> Tensor:
        """Quality of each distorted image, shape [N], higher is better; deterministic given `reference`.

        Raises:
            MetricError: The metric returned something other than one number per image.
        """
        encoded, draws = reference
        for purifier, draw in zip(self.purifiers, draws, strict=True):
            dist = _purify(purifier, dist, draw)
        score = self.metric.score(encoded, dist)
        if not isinstance(score, Tensor) or score.shape != dist.shape[:1]:
            got = f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
            raise MetricError(f"score() returned {got}; it must return a tensor of shape [{dist.shape[0]}]")
        return score if self.metric.higher_is_better else -score


def _purify(purifier: Purifier, images: Tensor, draw: Any) -> Tensor:
    if purifier.gradient == "exact" or not (torch.is_grad_enabled() and images.requires_grad):
        return purifier.apply(images, draw)
    with torch.no_grad():
        purified = purifier.apply(images, draw)
    stand_in = purifier.surrogate(images, draw)
    return purified + (stand_in - stand_in.detach())
