"""The affine link between a metric's own units and the label scale: Q = a + b x score, or a - b x distance."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.contracts import Metric, Tree

_SMALLEST = 1e-6
_SHYEST = 0.05
"""Shares of judges are held this far from 0 and 1, where their logit is infinite."""


class Linked(Metric):
    """A metric as quality in the label scale, a + b x (the score, negated where lower is better), b > 0.

    Ranks are the metric's own. a and log b are trained beside its parameters and are no part of its weights.

    Args:
        metric: The metric being trained.
    """

    higher_is_better: ClassVar[bool] = True

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self._sign = 1.0 if metric.higher_is_better else -1.0
        self.a = nn.Parameter(torch.zeros(()))
        self.log_b = nn.Parameter(torch.zeros(()))

    def encode(self, ref: Tensor) -> Tree:
        """The metric's own encoding."""
        return self.metric.encode(ref)

    def score(self, reference: Tree, dist: Tensor) -> Tensor:
        """Quality in the label scale, [N]."""
        return self.linked(self._sign * self.metric.score(reference, dist))

    def linked(self, quality: Tensor) -> Tensor:
        """The metric's quality (its score, negated where lower is better) in the label scale, same shape."""
        return self.a + self.log_b.exp() * quality

    @torch.no_grad()
    def start(self, batch: dict[str, Tensor]) -> None:
        """Begin at the least-squares line of one training batch; of triplets, at the slope of the judges' logit."""
        reference = self.metric.encode(batch["ref"])
        if "judge" in batch:
            q0, q1 = (self._sign * self.metric.score(reference, batch[part]) for part in ("p0", "p1"))
            slope = _slope(q1 - q0, batch["judge"].clamp(_SHYEST, 1 - _SHYEST).logit())
            self.log_b.copy_(slope.log())
            return
        quality = self._sign * self.metric.score(reference, batch["clean"])
        slope = _slope(quality - quality.mean(), batch["target"] - batch["target"].mean())
        self.log_b.copy_(slope.log())
        self.a.copy_(batch["target"].mean() - slope * quality.mean())


def _slope(x: Tensor, y: Tensor) -> Tensor:
    """Least squares through the origin; the ratio of root mean squares where that is not positive. Always positive."""
    slope = (x * y).sum() / x.square().sum().clamp_min(_SMALLEST**2)
    if float(slope) <= _SMALLEST:
        slope = y.square().mean().sqrt() / x.square().mean().sqrt().clamp_min(_SMALLEST)
    return slope.clamp_min(_SMALLEST)
