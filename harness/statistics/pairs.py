"""Robust pair accuracy: how often the better of two images still scores higher when an attacker works against it.

It needs no direction: the better image is lowered and the worse one raised. An equal score counts half, in the clean
version and in the robust ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats, Ints, ratio

_ROWS = 512
"""Better images compared with all others at a time."""


@dataclass(frozen=True)
class PairCounts:
    """Pairs counted by the clusters of their better image (rows) and their worse one (columns), each C x C."""

    correct: Floats
    total: Floats

    def accuracy(self) -> float:
        """Share of correct pairs; nan when there is no pair."""
        total = self.total.sum()
        return float(self.correct.sum() / total) if total else float("nan")

    def resampled(self, multiplicities: Ints) -> Floats:
        """Accuracy of each resample, m'Am / m'Tm, shape [B]; multiplicities m of shape [B, C]."""
        m = multiplicities.astype(np.float64)
        return ratio(((m @ self.correct) * m).sum(axis=1), ((m @ self.total) * m).sum(axis=1))


def credit(above: ArrayLike, below: ArrayLike) -> Floats:
    """1 where `above` > `below`, a half where they are equal, 0 elsewhere; arrays broadcast."""
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0))


def pair_counts(
    opinion: ArrayLike, better: ArrayLike, worse: ArrayLike, codes: Ints, clusters: int, margin: float = 0.0
) -> PairCounts:
    """Count the ordered pairs (i, j) with opinion_i > opinion_j + margin, and those with better_i above worse_j.

    With clean quality in both places this is clean pair accuracy. Robust: `better` is quality after the attack down and
    `worse` after the attack up; with clean quality in one place, only the other image is attacked.

    Args:
        opinion: Opinion scores, shape [N].
        better: Quality of each image in the part of the better one, shape [N].
        worse: Quality of each image in the part of the worse one, shape [N].
        codes: Cluster number of each image, shape [N].
        clusters: Number of clusters C.
        margin: Smallest difference of opinion scores that makes a pair, not included.
    """
    order = np.argsort(codes, kind="stable")
    y = np.asarray(opinion, dtype=np.float64)[order]
    high = np.asarray(better, dtype=np.float64)[order]
    low = np.asarray(worse, dtype=np.float64)[order]
    cluster = codes[order]
    present, starts = np.unique(cluster, return_index=True)
    correct, total = np.zeros((clusters, clusters)), np.zeros((clusters, clusters))
    for start in range(0, len(y), _ROWS):
        rows = slice(start, start + _ROWS)
        pairs = y[rows, None] > y[None, :] + margin
        right = np.where(pairs, credit(high[rows, None], low[None, :]), 0.0)
        where = np.ix_(cluster[rows], present)
        np.add.at(correct, where, np.add.reduceat(right, starts, axis=1))
        np.add.at(total, where, np.add.reduceat(pairs.astype(np.float64), starts, axis=1))
    return PairCounts(correct, total)
