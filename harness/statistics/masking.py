"""Orders between attacks that hold unless gradients mislead: how far one is from holding, and whether that is noise.

Each is a claim about a mean over samples. It fails where the whole 95 % interval of its figure lies beyond what is
allowed, so that noise is no failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats, Ints, present, resampled_mean
from harness.statistics.intervals import interval
from harness.statistics.robustness import mean_over_sigma, resampled_mean_over_sigma

TOLERANCE = 0.02
"""What may be missing of a figure in standard deviations of clean quality."""
SHARE = 0.1
"""What may be missing besides, as a share of the other's shift: honest attacks differ by a few percent."""
REACHED = 0.9
"""Share of samples that an attack without bounds should drive past the edge of the clean range."""
EDGES = (0.05, 0.95)
"""Quantiles of clean quality between which its range lies."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, and the least value that the claim allows."""

    value: float
    low: float
    high: float
    least: float
    samples: int

    @property
    def holds(self) -> bool:
        """Whether some of the interval is allowed."""
        return self.high >= self.least

    @property
    def slack(self) -> float:
        """How far the interval reaches beyond the least value; negative where the claim fails."""
        return self.high - self.least


def suited(parameters: Mapping[str, Any], eps: float, norm: str = "linf") -> bool:
    """Whether an iterative attack can be held against others: its steps cross the ball, and are finer than one step.

    Args:
        parameters: Of the attack; without ``steps`` and ``step_size`` it is taken to find its own.
        eps: Radius of the ball.
        norm: In l2 a step is the share ``l2_step`` of the radius, for an attack that has one.
    """
    if not {"steps", "step_size"} <= parameters.keys():
        return True
    steps, size = float(parameters["steps"]), float(parameters["step_size"])
    if norm == "l2" and "l2_step" in parameters:
        size = float(parameters["l2_step"]) * eps
    across = eps if parameters.get("start") == "zero" else 2 * eps  # from a random start to the far side
    return steps * size >= across * (1 - 1e-6) and size <= eps / 2 * (1 + 1e-6)


def not_weaker(first: ArrayLike, second: ArrayLike, clean: ArrayLike, codes: Ints, multiplicities: Ints) -> Figure:
    """The claim that one attack moves quality at least as far as another, paired over samples.

    Its figure is the mean of first - second in standard deviations of clean quality; allowed are
    -`TOLERANCE` - `SHARE` x the second's mean shift.

    Args:
        first: Push of the attack that should not be the weaker, shape [N]; nan for samples that do not count.
        second: Push of the other, likewise.
        clean: Clean quality of all samples, shape [N].
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    both = np.where(np.isnan(difference), np.nan, second)
    spread = resampled_mean_over_sigma(difference, clean, codes, multiplicities)
    value = mean_over_sigma(difference, clean)
    found = interval(value, spread, multiplicities.shape[1], present=present(difference, codes, multiplicities))
    least = -TOLERANCE - SHARE * abs(mean_over_sigma(both, clean))
    count = int((~np.isnan(difference)).sum())
    return Figure(value, found.low, found.high, least, count)


def reaches(quality: ArrayLike, clean: ArrayLike, sign: int, codes: Ints, multiplicities: Ints) -> Figure:
    """The claim that an attack drives quality past the edge of the clean range, for at least `REACHED` of the samples.

    Args:
        quality: Quality after the attack, shape [N]; nan for samples that do not count.
        clean: Clean quality that has the range, of any samples.
        sign: +1 where it was raised, -1 where lowered.
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
    """
    values = np.asarray(quality, dtype=np.float64)
    edge = float(np.quantile(np.asarray(clean, dtype=np.float64), EDGES[1] if sign > 0 else EDGES[0]))
    past: Floats = np.where(np.isnan(values), np.nan, (sign * (values - edge) >= 0).astype(np.float64))
    count = int((~np.isnan(past)).sum())
    share = float(np.nanmean(past)) if count else float("nan")
    spread = resampled_mean(past, codes, multiplicities)
    found = interval(share, spread, multiplicities.shape[1], "share", present(past, codes, multiplicities))
    return Figure(share, found.low, found.high, REACHED, count)
