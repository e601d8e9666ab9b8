"""Which of several metrics are better: differences with what they could have shown, groups, and how firm the order is.

The figures of all metrics are found under the same rows of `weightings`, so their differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_lowercase

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harness.statistics.bootstrap import Floats
from harness.statistics.intervals import LEVEL, intervals, jackknife_variance, p_values, without_each_cluster
from harness.statistics.levels import holm

ERROR_RATE = 1 - LEVEL
POWER = 0.8
"""Chance of being found that the smallest difference has which data could have shown."""
PAPER_LEAST = 0.01
"""Median difference of SROCC that the paper's rule asks for."""


APART, ALIKE, DESCRIPTIVE = "told apart", "not told apart", "descriptive"
"""What is said of a contrast; of fewer clusters than intervals need, nothing is claimed."""


@dataclass(frozen=True)
class Difference:
    """A figure of one metric less the same figure of another."""

    value: float
    low: float
    high: float
    bias: float
    error: float
    """Standard error, by the jackknife over clusters."""
    p: float
    """Two-sided, of the interval: below .05 where that leaves out 0."""
    detectable: float
    """Smallest true difference that would be found at 5 % with a chance of 80 %."""
    median: float
    """Of the bootstrap resamples; `lower` and `upper` are their 2.5 and 97.5 percentiles."""
    lower: float
    upper: float

    @property
    def by_paper(self) -> bool:
        """The paper's rule: the percentiles leave out 0, and the median is at least .01 away from it."""
        return (self.lower > 0 and self.median >= PAPER_LEAST) or (self.upper < 0 and self.median <= -PAPER_LEAST)


def difference(value: float, spread: Floats, clusters: int, present: NDArray[np.bool_] | None = None) -> Difference:
    """What is known of a difference.

    Args:
        value: The difference on the whole sample.
        spread: The difference under each row of `weightings`, shape [C + B].
        clusters: Number of clusters C.
        present: Which clusters have a part in it, shape [C]; all by default.

    Returns:
        The difference; nan for what needs more than one cluster or a figure that does not exist without one of them.
    """
    return differences_between([value], spread[None], clusters, present)[0]


def differences_between(
    values: Sequence[float], spreads: Floats, clusters: int, present: NDArray[np.bool_] | None = None
) -> list[Difference]:
    """`difference` of each of K differences, found together.

    Args:
        values: The differences on the whole sample.
        spreads: The differences under each row of `weightings`, shape [K, C + B].
        clusters: Number of clusters C.
        present: Which clusters have a part in them, shape [C]; all by default.
    """
    known = intervals(values, spreads, clusters, present=present)
    outs = without_each_cluster(spreads, clusters, present)
    several = outs.shape[1] > 1
    found = []
    for value, own, out, spread, p in zip(
        values, known, outs, spreads, p_values(values, spreads, clusters, present), strict=True
    ):
        error = float(np.sqrt(jackknife_variance(out))) if several else float("nan")
        resampled = spread[clusters:]
        resampled = resampled[~np.isnan(resampled)] if several else np.empty(0)  # of one, all are the same
        ends = np.percentile(resampled, [2.5, 50, 97.5]) if resampled.size else np.full(3, np.nan)
        lower, median, upper = (float(end) for end in ends)
        seen = detectable(error, len(out))
        found.append(Difference(value, own.low, own.high, own.bias, error, p, seen, median, lower, upper))
    return found


def detectable(error: float, clusters: int) -> float:
    """The smallest true difference that a test at 5 % finds with a chance of 80 %: (t_.975 + t_.8) standard errors."""
    if clusters < 2:
        return float("nan")
    return float(special.stdtrit(clusters - 1, [1 - ERROR_RATE / 2, POWER]).sum()) * error


def verdict(p: float, claims: bool) -> str:
    """What is said of a contrast.

    Args:
        p: Its p-value, adjusted; nan where none is known.
        claims: Whether there are clusters enough to claim anything.
    """
    return (APART if p < ERROR_RATE else ALIKE) if claims else DESCRIPTIVE


def benjamini_hochberg(p: Sequence[float]) -> Floats:
    """P-values adjusted so that of what is found 5 % is false in the mean (Benjamini & Hochberg 1995).

    Args:
        p: One per contrast; nan where none is known, which counts as none made.
    """
    from scipy.stats import false_discovery_control  # takes half a second to import, and hardly any report asks for it

    adjusted = np.asarray(p, dtype=np.float64).copy()
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = false_discovery_control(adjusted[known])
    return adjusted


ADJUSTMENTS: Mapping[str, Callable[[Sequence[float]], Floats]] = {"holm": holm, "bh": benjamini_hochberg}


def letters(count: int, apart: Collection[tuple[int, int]]) -> list[str]:
    """Compact letters: two that share one cannot be told apart, two that share none can (Piepho 2004).

    Args:
        count: Number of metrics, in the order that letters are to have.
        apart: Those that can be told apart, as pairs of their numbers.

    Returns:
        The letters of each, such as "ab".
    """
    groups = [frozenset(range(count))]
    for one, other in apart:
        split = [group - {left} for group in groups if {one, other} <= group for left in (one, other)]
        groups = [group for group in groups if not {one, other} <= group]
        for group in split:
            if not any(group <= kept for kept in groups):
                groups.append(group)
    groups.sort(key=sorted)
    return ["".join(_letter(i) for i, group in enumerate(groups) if member in group) for member in range(count)]


def _letter(number: int) -> str:
    """A to z, then a1 to z1, a2, ..."""
    turn, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn) if turn else "")


def stability(values: ArrayLike, resampled: ArrayLike, clusters: int) -> tuple[float, float]:
    """How firm the order of some metrics is.

    Args:
        values: The figure of each of M metrics.
        clusters: Number of clusters that are resampled.
        resampled: Their figures in each of B resamples, shape [M, B]; resamples with nan are left out.

    Returns:
        The share of resamples with the same whole order, and the mean over resamples of Kendall's τ between their order
        and the one observed; nan for fewer than two metrics, fewer than two clusters, or without resamples.
    """
    observed, drawn = np.asarray(values, dtype=np.float64), np.asarray(resampled, dtype=np.float64)
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    pairs = list(combinations(range(len(observed)), 2))
    if not pairs or not drawn.size or clusters < 2:
        return float("nan"), float("nan")
    first, second = np.array(pairs).T
    order = np.sign(observed[first] - observed[second])
    orders = np.sign(drawn[first] - drawn[second])
    same = (orders == order[:, None]).all(axis=0)
    return float(same.mean()), float((orders * order[:, None]).mean())
