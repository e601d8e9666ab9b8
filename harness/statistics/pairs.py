"""Robust pair accuracy: how often the better of two images still scores higher when an attacker works against it.

It needs no direction: the better image is lowered and the worse one raised. An equal score counts half, in the clean
version and in the robust ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.bootstrap import Floats, Ints, Multiplicities, ratio

_WORDS: Sequence[type[np.unsignedinteger]] = (np.uint8, np.uint16, np.uint32)
"""Of how many bits a word may be: as many as a cluster has images, in the mean, so that few are left empty."""


@dataclass(frozen=True)
class PairCounts:
    """Pairs counted by the clusters of their better image (rows) and their worse one (columns), each C x C."""

    correct: Floats
    total: Floats

    def accuracy(self) -> float:
        """Share of correct pairs; nan when there is no pair."""
        total = self.total.sum()
        return float(self.correct.sum() / total) if total else float("nan")

    def resampled(self, multiplicities: Multiplicities, pairs: Floats | None = None) -> Floats:
        """Accuracy of each resample, m'Am / m'Tm, shape [B].

        Args:
            multiplicities: How often each cluster occurs in each resample m, shape [B, C].
            pairs: m'Tm, where it is known.
        """
        every = resampled_sum(self.total, multiplicities) if pairs is None else pairs
        return ratio(resampled_sum(self.correct, multiplicities), every)


def resampled_sum(counts: Floats, multiplicities: Multiplicities) -> Floats:
    """Pairs in each resample, m'Am, shape [B]; counts A by clusters [C, C], multiplicities m of shape [B, C]."""
    m = np.asarray(multiplicities, dtype=np.float64)
    return np.asarray(np.einsum("bc,bc->b", m @ counts, m))


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

    Which images lie below a value is a set of bits, in whose words each cluster has its own; the pairs that are right
    are the bits that two such sets share.
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
        known = self._sets_of_worse(low)
        below = known.place(high)
        # An equal score counts half: a whole credit is two bits, and where none is equal twice the one.
        counts = self._by_cluster(known.rows[below] & self._pairs)
        equal = known.reached(below, high)
        up_to = known.place(high, equal=True) if equal else below
        twice = counts + (self._by_cluster(known.rows[up_to] & self._pairs) if equal else counts)
        return PairCounts(self._placed(twice) / 2, self.total)

    @cached_property
    def total(self) -> Floats:
        """Number of pairs by the clusters of the better image and of the worse, shape [C, C]."""
        return self._placed(self._by_cluster(self._pairs))

    @cached_property
    def _order(self) -> Ints:
        return np.argsort(self.codes, kind="stable")

    @cached_property
    def _there(self) -> Ints:
        """The clusters that have images."""
        return np.unique(self.codes)

    @cached_property
    def _starts(self) -> Ints:
        """Where each of them starts, in the order of clusters."""
        return np.unique(self.codes[self._order], return_index=True)[1]

    @cached_property
    def _sizes(self) -> Ints:
        return np.diff(np.append(self._starts, len(self.codes)))

    @cached_property
    def _word(self) -> type[np.unsignedinteger]:
        mean = len(self.codes) / max(1, len(self._there))
        return next((one for one in _WORDS if mean <= np.iinfo(one).bits), _WORDS[-1])

    @cached_property
    def _first_words(self) -> Ints:
        """Number of the first word of each cluster, and that of all words."""
        return np.concatenate([[0], np.cumsum(-(-self._sizes // np.iinfo(self._word).bits))])

    @cached_property
    def _pairs(self) -> NDArray[np.unsignedinteger]:
        """The images that make a pair with each better one, [N, words]."""
        y = np.asarray(self.opinion, dtype=np.float64)[self._order]
        known = self._sets(y)
        return known.rows[known.place(y, margin=self.margin)]

    @cached_property
    def _recent(self) -> dict[bytes, _Sets]:
        return {}

    def _sets_of_worse(self, values: Floats) -> _Sets:
        """`_sets`, kept of the last two: of one attack, several figures have the same worse images, or clean ones."""
        key = values.tobytes()
        found = self._recent.pop(key, None) or self._sets(values)
        if len(self._recent) > 1:
            del self._recent[next(iter(self._recent))]
        self._recent[key] = found
        return found

    def _sets(self, values: Floats) -> _Sets:
        """The sets of images below each value; values [N] by clusters."""
        bits = np.iinfo(self._word).bits
        within = np.arange(len(values)) - np.repeat(self._starts, self._sizes)
        words = np.repeat(self._first_words[:-1], self._sizes) + within // bits
        known = np.flatnonzero(~np.isnan(values))
        order = known[np.argsort(values[known], kind="stable")]
        rows = np.zeros((len(order) + 1, self._first_words[-1]), self._word)
        rows[np.arange(1, len(rows)), words[order]] = np.left_shift(1, within[order] % bits).astype(self._word)
        return _Sets(values[order], np.bitwise_or.accumulate(rows, axis=0, out=rows))

    def _by_cluster(self, sets: NDArray[np.unsignedinteger]) -> Ints:
        """Bits of sets [N, words] by the cluster of the row and that of the word, of those that have images."""
        if not len(sets):
            return np.zeros((0, 0), np.int64)
        counts = np.add.reduceat(_ones(sets), self._starts, axis=0, dtype=np.int64)
        return np.asarray(np.add.reduceat(counts, self._first_words[:-1], axis=1))

    def _placed(self, counts: Ints) -> Floats:
        placed = np.zeros((self.clusters, self.clusters))
        placed[np.ix_(self._there, self._there)] = counts
        return placed


def _ones(words: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Bits that are set in each word."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words))
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
    return np.asarray(table[words.view(np.uint8)].reshape(*words.shape, -1).sum(axis=-1, dtype=np.uint8))


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
class _Sets:
    """Values in order, and for each place among them the images that stand before it."""

    values: Floats
    """Without nan, shape [K]."""
    rows: NDArray[np.unsignedinteger]
    """Sets of bits, shape [K + 1, words]."""

    def reached(self, below: Ints, limits: Floats) -> bool:
        """Whether any value equals its limit, of which `below` says how many values are lower."""
        if not len(self.values):
            return False
        return bool((self.values[np.minimum(below, len(self.values) - 1)] == limits).any())

    def place(self, limits: Floats, equal: bool = False, margin: float = 0.0) -> Ints:
        """How many values (plus a margin) lie below each limit, or at it; none below nan. Shape of the limits."""
        found = np.searchsorted(self.values + margin, limits, side="right" if equal else "left")
        return np.where(np.isnan(limits), 0, found)
