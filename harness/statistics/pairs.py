"""Robust pair accuracy: how often the better of two images still scores higher when an attacker works against it.

It needs no direction: the better image is lowered and the worse one raised. An equal score counts half, in the clean
version and in the robust ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.bootstrap import Floats, Ints, Multiplicities, ratio

_ROWS = 127
"""Better images compared with all others at a time: twice their count, the credits of a column, fits into 8 bits."""


@dataclass(frozen=True)
class PairCounts:
    """Pairs counted by the clusters of their better image (rows) and their worse one (columns), each C x C."""

    correct: Floats
    total: Floats

    def accuracy(self) -> float:
        """Share of correct pairs; nan when there is no pair."""
        total = self.total.sum()
        return float(self.correct.sum() / total) if total else float("nan")

    def resampled(self, multiplicities: Multiplicities) -> Floats:
        """Accuracy of each resample, m'Am / m'Tm, shape [B]; multiplicities m of shape [B, C]."""
        return ratio(resampled_sum(self.correct, multiplicities), resampled_sum(self.total, multiplicities))


def resampled_sum(counts: Floats, multiplicities: Multiplicities) -> Floats:
    """Pairs in each resample, m'Am, shape [B]; counts A by clusters [C, C], multiplicities m of shape [B, C]."""
    m = np.asarray(multiplicities, dtype=np.float64)
    return np.asarray(((m @ counts) * m).sum(axis=1))


def credit(above: ArrayLike, below: ArrayLike) -> Floats:
    """1 where `above` > `below`, a half where they are equal, 0 elsewhere; arrays broadcast."""
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0))


def pair_counts(
    opinion: ArrayLike, better: ArrayLike, worse: ArrayLike, codes: Ints, clusters: int, margin: float = 0.0
) -> PairCounts:
    """Count the pairs of opinions that some qualities have right, once: `OpinionPairs` counts them for many."""
    return OpinionPairs(opinion, codes, clusters, margin).counts(better, worse)


@dataclass(frozen=True)
class OpinionPairs:
    """The ordered pairs (i, j) with opinion_i > opinion_j + margin, the same for all the qualities compared with them.

    Comparisons are of whole numbers, the places of values in order, so that many fit into a register.
    """

    opinion: ArrayLike
    """Opinion scores, shape [N]; nan for an image in no pair."""
    codes: Ints
    """Cluster number of each image, shape [N]."""
    clusters: int
    """Number of clusters C."""
    margin: float = 0.0
    """Smallest difference of opinion scores that makes a pair, not included."""

    def counts(self, better: ArrayLike, worse: ArrayLike) -> PairCounts:
        """Count the pairs, and those with better_i above worse_j.

        With clean quality in both places this is clean pair accuracy. Robust: `better` is quality after the attack down
        and `worse` after the attack up; with clean quality in one place, only the other image is attacked.

        Args:
            better: Quality of each image in the part of the better one, shape [N].
            worse: Quality of each image in the part of the worse one, shape [N].
        """
        high, low = (np.asarray(values, dtype=np.float64)[self._order] for values in (better, worse))
        known = _places(low)
        above, up_to = known.below(high), known.below(high, equal=True)
        correct = np.zeros((self.clusters, self.clusters))
        for cluster, rows in self._blocks():
            right = (known.place < above[rows, None]).view(np.uint8)
            # An equal score counts half: a whole credit is two comparisons, and where none is equal twice the one.
            equal = (up_to[rows] > above[rows]).any()
            right = right + (known.place < up_to[rows, None]) if equal else right + right
            right *= self._pairs(rows)
            correct[cluster, self._columns] += self._by_cluster(right)
        return PairCounts(correct / 2, self.total)

    @cached_property
    def total(self) -> Floats:
        """Number of pairs by the clusters of the better image and of the worse, shape [C, C]."""
        total = np.zeros((self.clusters, self.clusters))
        for cluster, rows in self._blocks():
            total[cluster, self._columns] += self._by_cluster(self._pairs(rows).view(np.uint8))
        return total

    @cached_property
    def _order(self) -> Ints:
        return np.argsort(self.codes, kind="stable")

    @cached_property
    def _known(self) -> tuple[_Places, NDArray[np.signedinteger]]:
        """The opinions in order, and below which place the worse one of a pair with each stands, shape [N]."""
        y = np.asarray(self.opinion, dtype=np.float64)[self._order]
        known = _places(y)
        return known, known.below(y, margin=self.margin)

    @cached_property
    def _starts(self) -> Ints:
        """Where each cluster that has images starts, in the order of clusters."""
        return np.unique(self.codes[self._order], return_index=True)[1]

    @cached_property
    def _columns(self) -> Ints:
        return np.unique(self.codes)

    def _blocks(self) -> Iterator[tuple[int, slice]]:
        """Rows of one cluster at a time, and not too many."""
        ends = np.append(self._starts[1:], len(self.codes))
        for cluster, start, end in zip(self._columns.tolist(), self._starts.tolist(), ends.tolist(), strict=True):
            for first in range(start, end, _ROWS):
                yield cluster, slice(first, min(first + _ROWS, end))

    def _pairs(self, rows: slice) -> NDArray[np.bool_]:
        known, limit = self._known
        return np.asarray(known.place < limit[rows, None])

    def _by_cluster(self, credits: NDArray[np.uint8]) -> Ints:
        """Sums over the rows and over the columns of each cluster, of those that have images."""
        columns = np.add.reduce(credits, axis=0, dtype=np.uint8)
        return np.asarray(np.add.reduceat(columns.astype(np.int64), self._starts))


def krocc(opinions: OpinionPairs, quality: ArrayLike, multiplicities: Multiplicities) -> Floats:
    """Kendall's tau-b of quality [N] with the opinions in every resample, by counts of pairs of clusters.

    Args:
        opinions: The pairs that the opinions order, without a margin.
        quality: Shape [N]; of images without an opinion it does not matter.
        multiplicities: How often each cluster occurs in each resample, shape [B, C].

    Returns:
        Shape [B]; nan where a resample has no two different opinions or qualities.
    """
    rated = np.where(np.isnan(np.asarray(opinions.opinion, dtype=np.float64)), np.nan, quality)
    counts = opinions.counts(rated, rated)
    ordered = resampled_sum(counts.total, multiplicities)
    # A pair of equal qualities counts half among the correct ones, and so neither for nor against.
    excess = 2 * resampled_sum(counts.correct, multiplicities) - ordered
    different = resampled_sum(OpinionPairs(rated, opinions.codes, opinions.clusters).total, multiplicities)
    return ratio(excess, np.sqrt(ordered * different))


@dataclass(frozen=True)
class _Places:
    """Values in order without repetition, and the place of each among them."""

    values: Floats
    place: NDArray[np.signedinteger]
    """Shape [N]; nan stands behind all others."""

    def below(self, limits: Floats, equal: bool = False, margin: float = 0.0) -> NDArray[np.signedinteger]:
        """How many values (plus a margin) lie below each limit, or at it; none below nan. Shape of the limits."""
        found = np.searchsorted(self.values + margin, limits, side="right" if equal else "left")
        return np.where(np.isnan(limits), 0, found).astype(self.place.dtype)


def _places(values: Floats) -> _Places:
    known = np.unique(values[~np.isnan(values)])
    place = np.where(np.isnan(values), len(known), np.searchsorted(known, values))
    return _Places(known, place.astype(np.int16 if len(known) < 2**15 else np.int32))
