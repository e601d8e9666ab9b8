"""Correlation of quality with opinion scores, on a sample and on many resamples of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.bootstrap import Floats, Ints

_BLOCK = 200_000
"""Elements of a resamples x samples array worked on at a time, so that large data sets stay within memory."""
_KEPT = 64_000_000
"""Elements up to which the opinions' ranks are kept, in 256 MB; above, they are made anew for each quality."""
_TOGETHER = 16
"""Qualities correlated at a time: what they need in all resamples fits into a processor's own cache."""
_CONSTANT = 1e-12
"""Share of the sample's variance up to which a resample counts as constant: rounding leaves about 1e-16."""


def plcc(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's linear correlation of two samples of shape [N].

    Returns:
        A number in [-1, 1]; nan when N < 3, when either sample is constant or when a value is not finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def srocc(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank-order correlation of two samples of shape [N], ties at average ranks.

    Returns:
        A number in [-1, 1]; nan when N < 3, when either sample is constant or when a value is nan. Infinities rank.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.size < 3 or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    return plcc(_ranks_of(a), _ranks_of(b))


def sroccs(qualities: ArrayLike, y: ArrayLike) -> list[float]:
    """`srocc` of each of Q samples [Q, N] with the same other one [N], which is ranked once."""
    b = np.asarray(y, dtype=np.float64)
    if b.size < 3 or np.isnan(b).any():
        return [float("nan")] * len(np.asarray(qualities))
    ranks = _ranks_of(b)
    known = (np.asarray(a, dtype=np.float64) for a in np.asarray(qualities))
    return [float("nan") if np.isnan(a).any() else plcc(_ranks_of(a), ranks) for a in known]


def _ranks_of(x: Floats) -> Floats:
    """Average ranks of a sample, shape [N]."""
    return np.asarray(weighted_ranks(x, np.ones((1, x.size)))[0])


def weighted_ranks(x: ArrayLike, weights: ArrayLike) -> Floats:
    """Average ranks of a sample within each of B resamples given by multiplicities.

    The sample is sorted once; in resample b a value's rank is the mean position of its copies and of those tied to it.

    Args:
        x: Sample of shape [N], no nan.
        weights: How often each sample occurs in each resample, shape [B, N], whole numbers >= 0.

    Returns:
        Ranks of shape [B, N], from 1; at multiplicity 0 the rank is a position that no sum uses.
    """
    values = _Sorted.of(np.asarray(x, dtype=np.float64))
    below, up_to = values.positions(np.asarray(weights, dtype=np.float64)[:, values.order])
    return np.asarray(((below + up_to + 1) / 2)[:, values.group], dtype=np.float64)


def weighted_srocc(x: ArrayLike, y: ArrayLike, weights: ArrayLike) -> Floats:
    """Spearman's correlation of each of B resamples, its ranks recomputed within the resample.

    Args:
        x: Sample of shape [N].
        y: Sample of shape [N].
        weights: How often each sample occurs in each resample, shape [B, N], whole numbers >= 0.

    Returns:
        Correlations of shape [B]; nan where a resample has fewer than 3 samples or a constant side.
    """
    copies = np.asarray(weights)
    return OpinionRanks(y, np.arange(copies.shape[1]), copies).srocc(x)


class OpinionRanks:
    """Opinions ranked within every resample of clusters, once for all the qualities that are correlated with them."""

    def __init__(self, opinion: ArrayLike, codes: Ints, multiplicities: ArrayLike) -> None:
        """Rank the opinions.

        Args:
            opinion: Opinion scores, shape [N].
            codes: Cluster number of each image, shape [N].
            multiplicities: How often each cluster occurs in each of B resamples, shape [B, C].
        """
        self._opinion = np.asarray(opinion, dtype=np.float64)
        self._codes = codes
        self._copies = np.asarray(multiplicities)
        self._sizes = np.bincount(codes, minlength=self._copies.shape[1]).astype(np.float64)
        self._sorted = _Sorted.of(self._opinion)
        small = self._copies.shape[0] * self._opinion.size <= _KEPT
        self._kept = list(self._ranked()) if small and self._known(self._opinion) else None

    def srocc(self, quality: ArrayLike) -> Floats:
        """Spearman's correlation of quality [N] with the opinions, in every resample; `sroccs` of one."""
        return np.asarray(self.sroccs(np.asarray(quality, dtype=np.float64)[None])[0])

    def sroccs(self, qualities: ArrayLike) -> Floats:
        """Spearman's correlation of each of Q qualities [Q, N] with the opinions, in every resample.

        Returns:
            Correlations of shape [Q, B]; nan where a resample has fewer than 3 images or a constant side, and in the
            whole row of a quality that has a nan.
        """
        x = np.asarray(qualities, dtype=np.float64)
        out = np.full((len(x), len(self._copies)), np.nan)
        known = np.flatnonzero([self._known(one) for one in x] if self._known(self._opinion) else [])
        values = [_Sorted.of(x[one]) for one in known]
        end = 0
        for part in self._kept or self._ranked() if values else ():
            start, end = end, end + len(part.size)
            for first in range(0, len(values), _TOGETHER):
                those = slice(first, first + _TOGETHER)
                out[known[those], start:end] = self._block(values[those], part)
        return out

    @staticmethod
    def _known(values: Floats) -> bool:
        return bool(values.size and not np.isnan(values).any())

    def _ranked(self) -> Iterator[_RankedBlock]:
        """The opinions' ranks, so many resamples at a time that memory is bounded."""
        together, rows = (max(1, most // max(1, self._opinion.size)) for most in (_KEPT, _BLOCK))
        for start in range(0, len(self._copies), together):
            copies = self._copies[start : start + together].astype(np.float64)
            weighted: NDArray[Any] = np.empty((self._opinion.size, len(copies)), np.float32)
            figures = []
            for first in range(0, len(copies), rows):
                ranks, *known = self._ranks(copies[first : first + rows])
                # Multiples of a half: exact in half the memory while they need no more than 24 bits.
                if weighted.dtype == np.float32 and 2 * np.abs(ranks).max() >= 2**24:
                    weighted = weighted.astype(np.float64)
                weighted[:, first : first + rows] = ranks.T
                figures.append(known)
            size, variance, own, cubes = (np.concatenate(parts) for parts in zip(*figures, strict=True))
            yield _RankedBlock(np.ascontiguousarray(copies.T), size, weighted, variance, own, cubes)

    def _ranks(self, copies: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Distances of ranks times multiplicities [b, N]; size, variance, own and cubes of some resamples, each [b]."""
        of_images = copies[:, self._codes]
        below, up_to = self._sorted.positions(of_images[:, self._sorted.order])
        size, ties = up_to[:, -1], up_to - below
        ranks = ((below + up_to - size[:, None]) / 2)[:, self._sorted.group] * of_images
        own = np.einsum("bn,bn->b", ranks, of_images)
        return ranks, size, _variance(size, _cubes(ties)), own, copies**3 @ self._sizes

    def _block(self, values: Sequence[_Sorted], part: _RankedBlock) -> Floats:
        """Correlations of some qualities in some resamples, [Q, b]."""
        # The rank of the middle of a tie is the mean of those that its images have in their order and in its reverse.
        orders: list[Ints] = []
        for one in values:
            orders += [one.order, one.reversed_ties] if one.tied else [one.order]
        last = np.cumsum([1 + one.tied for one in values]) - 1
        first = last - [int(one.tied) for one in values]
        covariances = self._covariances(np.stack(orders, axis=1), part)
        covariance = (covariances[first] + covariances[last]) / 2
        cubes = np.stack([self._cubes_of(one, part) for one in values])
        squares = _variance(part.size, cubes) * part.variance
        valid = (part.size >= 3) & (squares > 0)
        out = np.full(covariance.shape, np.nan)
        out[valid] = np.clip(covariance[valid] / np.sqrt(squares[valid]), -1.0, 1.0)
        return out

    def _covariances(self, orders: Ints, part: _RankedBlock) -> Floats:
        """Sum over images of rank times centred rank of the opinion, for each order [N, Q] of the images, [Q, b]."""
        # Resamples lie side by side and images are taken one after the other, those of all qualities at once: numbers
        # stay in the nearest cache. All of them are multiples of a half, so that no sum depends on its order.
        shape = orders.shape[1], len(part.size)
        reached, covariance, copies, product = (np.zeros(shape) for _ in range(4))
        weighted = np.empty(shape, part.weighted.dtype)
        for images, clusters in zip(orders, self._codes[orders], strict=True):
            part.copies.take(clusters, axis=0, out=copies, mode="clip")
            np.add(reached, copies, out=reached)
            part.weighted.take(images, axis=0, out=weighted, mode="clip")
            np.multiply(reached, weighted, out=product, dtype=np.float64)
            np.add(covariance, product, out=covariance)
        # A rank is the position less half the image's own copies. The opinions' ranks are centred, so those of quality
        # need not be: a constant adds nothing.
        return covariance - part.own / 2

    def _cubes_of(self, values: _Sorted, part: _RankedBlock) -> Floats:
        """Sum of the cubes of the sizes of all ties of a quality, [b]."""
        if not values.tied:
            return part.cubes
        lengths = np.diff(np.append(values.starts, len(values.order)))
        lengths, first = lengths[lengths > 1], values.starts[lengths > 1]
        starts = np.cumsum(lengths) - lengths
        clusters = self._codes[values.order[np.repeat(first - starts, lengths) + np.arange(lengths.sum())]]
        alone = np.bincount(clusters, minlength=len(part.copies)) @ part.copies**3
        ties = np.add.reduceat(part.copies[clusters], starts, axis=0)
        return np.asarray(part.cubes - alone + np.einsum("gb,gb->b", ties * ties, ties))


@dataclass(frozen=True)
class _RankedBlock:
    """The opinions' ranks in some resamples, and what else of these is the same for all qualities."""

    copies: Floats
    """Multiplicities of the clusters, shape [C, b]."""
    size: Floats
    """Images, shape [b]."""
    weighted: NDArray[Any]
    """Distance of each image's rank from the mean rank, times its multiplicity, shape [N, b]."""
    variance: Floats
    """Sum of squares of these distances, shape [b]."""
    own: Floats
    """Sum over images of the above times the multiplicity, shape [b]."""
    cubes: Floats
    """Sum over images of the cube of their multiplicity: all the ties that a quality without ties has, shape [b]."""


def _variance(size: Floats, cubes: Floats) -> Floats:
    """Sum of squared distances of ranks from their mean, given that of the cubes of sizes of ties (Kendall 1948)."""
    return np.asarray((size**3 - cubes) / 12)


def _cubes(ties: Floats) -> Floats:
    return np.asarray(np.einsum("bg,bg->b", ties * ties, ties))


@dataclass(frozen=True)
class _Sorted:
    """A sample sorted once, with its ties."""

    order: Ints
    starts: Ints
    """Where each of its G different values starts, shape [G]."""
    group: Ints
    """Number of each sample's value, shape [N]."""

    @classmethod
    def of(cls, x: Floats) -> _Sorted:
        order = np.argsort(x, kind="stable")
        values = x[order]
        new = np.ones(len(x), dtype=bool)
        new[1:] = values[1:] != values[:-1]
        group = np.empty(len(x), dtype=np.int64)
        group[order] = np.cumsum(new) - 1
        return cls(order, np.flatnonzero(new), group)

    @property
    def tied(self) -> bool:
        return len(self.starts) < len(self.order)

    @property
    def reversed_ties(self) -> Ints:
        """The order with every tie turned round."""
        ends = np.append(self.starts[1:], len(self.order))
        within = self.group[self.order]
        return np.asarray(self.order[self.starts[within] + ends[within] - 1 - np.arange(len(self.order))])

    def positions(self, copies: Floats) -> tuple[Floats, Floats]:
        """How many copies lie below each of the values, and how many up to and with it, each [b, G].

        Args:
            copies: How often each sample occurs in each resample, in sorted order, shape [b, N].
        """
        reached = np.zeros((len(copies), len(self.order) + 1))
        np.cumsum(copies, axis=1, out=reached[:, 1:])
        if not self.tied:
            return reached[:, :-1], reached[:, 1:]
        return reached[:, self.starts], reached[:, np.append(self.starts[1:], len(self.order))]


def weighted_plcc(x: ArrayLike, y: ArrayLike, weights: ArrayLike) -> Floats:
    """Pearson's correlation of each of B resamples.

    Args:
        x: Sample of shape [N].
        y: Sample of shape [N].
        weights: How often each sample occurs in each resample, shape [B, N], whole numbers >= 0.

    Returns:
        Correlations of shape [B]; nan where a resample has fewer than 3 samples or a constant side, and everywhere
        when a value is not finite.
    """
    copies = np.asarray(weights)
    return resampled_plcc(x, y, np.arange(copies.shape[1]), copies)


def resampled_plcc(x: ArrayLike, y: ArrayLike, codes: Ints, multiplicities: ArrayLike) -> Floats:
    """`weighted_plcc` for resamples of clusters, from the moments of each.

    Args:
        x: Sample of shape [N].
        y: Sample of shape [N].
        codes: Cluster number of each, shape [N].
        multiplicities: How often each cluster occurs in each resample, shape [B, C].
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    m = np.asarray(multiplicities, dtype=np.float64)
    out = np.full(len(m), np.nan)
    if not (a.size and np.isfinite(a).all() and np.isfinite(b).all()):
        return out
    a, b = _standardised(a), _standardised(b)
    moments = [
        np.bincount(codes, weights=values, minlength=m.shape[1])
        for values in (np.ones_like(a), a, b, a * a, b * b, a * b)
    ]
    size, *sums = (m @ np.stack(moments, axis=1)).T
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = np.stack(sums) / np.maximum(size, 1)
    variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
    valid = (size >= 3) & (variance_a > _CONSTANT) & (variance_b > _CONSTANT)
    product = variance_a[valid] * variance_b[valid]
    out[valid] = np.clip((mean_ab - mean_a * mean_b)[valid] / np.sqrt(product), -1.0, 1.0)
    return out


def _standardised(x: Floats) -> Floats:
    """Mean 0 and standard deviation 1, so that moments of resamples lose no digits; zeros for a constant."""
    spread = float(x.std())
    return np.asarray((x - x.mean()) / spread if np.ptp(x) > 0 else np.zeros_like(x))
