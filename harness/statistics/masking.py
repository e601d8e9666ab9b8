"""Orders between attacks that hold unless gradients mislead: how far one is from holding, and whether that is noise.

Each is a claim about a mean over samples. It passes where the whole 95 % interval of its figure is allowed, fails where
the whole of it lies beyond what is allowed, and is inconclusive where the interval straddles the bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats, Ints, Multiplicities, present, resampled_mean
from harness.statistics.intervals import interval
from harness.statistics.robustness import mean_over_sigma, resampled_mean_over_sigma

TOLERANCE = 0.02
"""What may be missing of a figure in standard deviations of clean quality."""
SHARE = 0.1
"""What may be missing besides, as a share of the other's shift: honest attacks differ by a few percent."""
GRID_SHARE = 0.3
"""The same between an attack and its twin on the 8-bit grid: near a reference, which lies on the grid, coarse steps
that land on it gain, and elsewhere they lose."""
REACHED = 0.9
"""Share of samples that an attack without bounds should drive past the edge of the clean range."""
EDGES = (0.05, 0.95)
"""Quantiles of clean quality between which its range lies."""
SLOPED = 0.9
"""Share of samples that should have a gradient at half of an attack's evaluations or more."""
MISLED = 0.5
"""Disagreement of foretold and measured rise, from which on a sample's gradient misleads."""
FORETOLD = 0.75
"""Share of samples whose gradient should foretell the rise: BPDA inside a metric is off by .2 to .4 on most images."""

Outcome = Literal["pass", "inconclusive", "FAIL"]


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, and the least value that the claim allows."""

    value: float
    low: float
    high: float
    least: float
    samples: int

    @property
    def outcome(self) -> Outcome:
        """Whether all of the interval is allowed ("pass"), none of it ("FAIL"), or the interval straddles the bar."""
        if self.low >= self.least:
            return "pass"
        return "FAIL" if self.high < self.least else "inconclusive"

    @property
    def order(self) -> tuple[int, float, float]:
        """Sorts figures by how much they speak against a claim, the worst first."""
        place = ("FAIL", "inconclusive", "pass").index(self.outcome)
        slack = self.high - self.least if place == 0 else self.low - self.least
        # Without an interval nothing is known but the figure itself.
        gap = self.value - self.least
        return place, slack if slack == slack else -np.inf, gap if gap == gap else -np.inf


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


def not_weaker(
    first: ArrayLike,
    second: ArrayLike,
    clean: ArrayLike,
    codes: Ints,
    multiplicities: Multiplicities,
    missing: float = SHARE,
) -> Figure:
    """The claim that one attack moves quality at least as far as another, paired over samples.

    Its figure is the mean of first - second in standard deviations of clean quality; allowed are
    -`TOLERANCE` - `missing` x the second's mean shift.

    Args:
        first: Push of the attack that should not be the weaker, shape [N]; nan for samples that do not count.
        second: Push of the other, likewise.
        clean: Clean quality of all samples, shape [N].
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
        missing: What may be missing, as a share of the second's shift.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    both = np.where(np.isnan(difference), np.nan, second)
    spread = resampled_mean_over_sigma(difference, clean, codes, multiplicities)
    value = mean_over_sigma(difference, clean)
    found = interval(value, spread, multiplicities.shape[1], present=present(difference, codes, multiplicities))
    least = -TOLERANCE - missing * abs(mean_over_sigma(both, clean))
    count = int((~np.isnan(difference)).sum())
    return Figure(value, found.low, found.high, least, count)


def reaches(quality: ArrayLike, clean: ArrayLike, sign: int, codes: Ints, multiplicities: Multiplicities) -> Figure:
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
    past = np.where(np.isnan(values), np.nan, (sign * (values - edge) >= 0).astype(np.float64))
    return share(past, REACHED, codes, multiplicities)


def share(credits: ArrayLike, least: float, codes: Ints, multiplicities: Multiplicities) -> Figure:
    """The claim that something is true of at least a share of the samples.

    Args:
        credits: 1 where it is true, 0 where not, shape [N]; nan for samples that do not count.
        least: The share.
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
    """
    values: Floats = np.asarray(credits, dtype=np.float64)
    count = int((~np.isnan(values)).sum())
    value = float(np.nanmean(values)) if count else float("nan")
    spread = resampled_mean(values, codes, multiplicities)
    there = present(values, codes, multiplicities)
    found = interval(value, spread, multiplicities.shape[1], "share", there, count)
    return Figure(value, found.low, found.high, least, count)


def sloped(zero: ArrayLike, backwards: ArrayLike, codes: Ints, multiplicities: Multiplicities) -> Figure:
    """The claim that an attack finds a gradient: at half of its evaluations or more, for `SLOPED` of the samples.

    Args:
        zero: Gradients that were zero or not finite, shape [N].
        backwards: All gradients, likewise; samples without any do not count.
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
    """
    every = np.asarray(backwards, dtype=np.float64)
    none = np.isnan(every) | (every == 0)
    credits = np.where(none, np.nan, (2 * np.asarray(zero, dtype=np.float64) <= every).astype(np.float64))
    return share(credits, SLOPED, codes, multiplicities)


def foretold(error: ArrayLike, codes: Ints, multiplicities: Multiplicities) -> Figure:
    """The claim that gradients foretell what small steps do, on `FORETOLD` of the samples.

    Args:
        error: Disagreement of foretold and measured rise, shape [N], 0 where they agree; nan where nothing moved.
        codes: Cluster number of each sample, shape [N].
        multiplicities: `weightings`, shape [C + B, C].
    """
    values = np.asarray(error, dtype=np.float64)
    credits = np.where(np.isnan(values), np.nan, (values <= MISLED).astype(np.float64))
    return share(credits, FORETOLD, codes, multiplicities)
