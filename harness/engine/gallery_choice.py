"""Which attacked images a report shows: per metric the furthest beyond its control, the median, one where it failed.

All figures are of the image rounded to 8 bits, which is what is shown. The *excess* of a case is how far the attack
moved the score along its direction, less how far the control did: restore upwards, noise downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST, MEDIAN, FAILED, LEAST = "largest", "median", "failed", "least"
"""Of a metric's cases, what one is: the largest excess, the median one, an excess of nothing or less, or, where the
attack failed nowhere, the least."""
MIDDLE = (0.45, 0.55)
"""Between which quantiles of the excess a case passes for the median one, so that it can be of another image."""
WHOLE_LIMIT, LEAST_LIMIT, LIMIT_PER_METRIC = 5_000_000, 800_000, 266_000
"""Bytes that the pictures take in a page: at most, whatever else at least, and for each metric."""


@dataclass(frozen=True)
class Outcome:
    """What the attack that went furthest did to one image in one direction.

    Attributes:
        item: The item.
        endpoint: "up", "down" or "error".
        cell: Id of the attack's cell.
        excess: As above; what the attack did itself where no control was run.
        scores: The row of its record and of its control's.
        reference: Id of its reference image.
        group: Distortion type.
    """

    item: str
    endpoint: str
    cell: str
    excess: float
    scores: Mapping[str, Any]
    reference: str
    group: str

    @property
    def key(self) -> tuple[str, str]:
        """What is shown: cell and item."""
        return self.cell, self.item


@dataclass(frozen=True)
class Choice:
    """The cases of one metric.

    Attributes:
        cases: Case -> what is shown for it, in the order of the page.
        median: Of the excess over all images and directions.
        failed: In how many of these it is nothing or less.
        count: How many these are.
    """

    cases: Mapping[str, Outcome]
    median: float
    failed: int
    count: int


def choose(
    outcomes: Sequence[Outcome], there: Collection[tuple[str, str]], known: Collection[tuple[str, str]]
) -> Choice:
    """Choose the cases of one metric.

    References and distortion types differ between the cases where they can, then references alone. Each is the best by
    a rule that looks at one candidate at a time, so that fewer candidates lead to the same choice as long as it is
    among them: a choice that is made again finds what it found.

    Args:
        outcomes: One for each image and direction.
        there: (cell, item) of those whose picture is kept.
        known: (reference, item) that other metrics show: of several that would do as median or failed, these are
            taken, since the same picture need not be stored twice and shows two metrics side by side.
    """
    excess = np.array([one.excess for one in outcomes])
    shown: dict[str, Outcome] = {}
    candidates = [one for one in outcomes if one.key in there]
    if not candidates:
        return Choice({}, float("nan"), 0, len(outcomes))
    median = float(np.median(excess))
    low, high = np.quantile(excess, MIDDLE)
    shown[LARGEST] = min(candidates, key=lambda one: (-one.excess, one.key))
    rest = [one for one in candidates if one.key != shown[LARGEST].key]
    failed = [one for one in rest if one.excess <= 0]
    middle = [one for one in rest if low <= one.excess <= high]

    def best(among: Sequence[Outcome], far: Callable[[Outcome], float]) -> Outcome:
        return min(among, key=lambda one: (*_alike(one, shown.values()), _known(one, known), far(one), one.key))

    if failed:
        shown[FAILED] = best(failed, lambda one: one.excess)
    elif rest:
        shown[LEAST] = min(rest, key=lambda one: (one.excess, one.key))
    taken = {one.key for one in shown.values()}
    if left := [one for one in middle if one.key not in taken]:
        shown[MEDIAN] = best(left, lambda one: abs(one.excess - median))
    elif left := [one for one in rest if one.key not in taken]:
        shown[MEDIAN] = min(left, key=lambda one: (abs(one.excess - median), one.key))
    order = [case for case in (LARGEST, MEDIAN, FAILED, LEAST) if case in shown]
    return Choice({case: shown[case] for case in order}, median, int((excess <= 0).sum()), len(outcomes))


def _alike(one: Outcome, shown: Collection[Outcome]) -> tuple[bool, bool]:
    """Whether its reference is shown already, and its distortion type."""
    return one.reference in {other.reference for other in shown}, one.group in {other.group for other in shown}


def _known(one: Outcome, known: Collection[tuple[str, str]]) -> int:
    """0 for a picture that is shown elsewhere, 1 for one whose reference is, 2 for another."""
    if (one.reference, one.item) in known:
        return 0
    return 1 if any(one.reference == reference for reference, _ in known) else 2


def page_limit(metrics: int) -> int:
    """Bytes that the pictures of so many metrics may take in a page: .8 MB for up to three, at most 5 MB."""
    return min(WHOLE_LIMIT, max(LEAST_LIMIT, LIMIT_PER_METRIC * metrics))


def in_page(content: bytes) -> int:
    """Bytes that a file takes in a page, in base64."""
    return 4 * -(-len(content) // 3)


def fitting(cases: Sequence[tuple[str, str, Sequence[bytes]]], limit: int) -> list[bool]:
    """Which cases fit: a picture that several show counts once.

    Left out are, until the rest fits: the medians, from the last metric on; then from the last metric on all that is
    left of it, because the furthest alone would mislead.

    Args:
        cases: (metric, case, contents of its pictures), metric by metric.
        limit: Bytes in the page.
    """
    kept = [True] * len(cases)
    metrics = list(dict.fromkeys(metric for metric, _, _ in cases))

    def size() -> int:
        contents = {one for stays, (_, _, pictures) in zip(kept, cases, strict=True) if stays for one in pictures}
        return sum(map(in_page, contents))

    steps = [(metric, True) for metric in reversed(metrics)] + [(metric, False) for metric in reversed(metrics)]
    for metric, median_alone in steps:
        if size() <= limit:
            break
        for place, (name, case, _) in enumerate(cases):
            if name == metric and (case == MEDIAN or not median_alone):
                kept[place] = False
    return kept
