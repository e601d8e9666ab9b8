"""Correlation of quality with opinion scores, on a sample and on many resamples of it at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats

_BLOCK = 4_000_000
"""Elements of a resamples x samples array worked on at a time, so that large data sets stay within memory."""
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
    once = np.ones((1, a.size))
    return plcc(weighted_ranks(a, once)[0], weighted_ranks(b, once)[0])


def weighted_ranks(x: ArrayLike, weights: ArrayLike) -> Floats:
    """Average ranks of a sample within each of B resamples given by multiplicities.

    The sample is sorted once; in resample b a value's rank is the mean position of its copies and of those tied to it.

    Args:
        x: Sample of shape [N], no nan.
        weights: How often each sample occurs in each resample, shape [B, N], whole numbers >= 0.

    Returns:
        Ranks of shape [B, N], from 1; at multiplicity 0 the rank is a position that no sum uses.
    """
    copies = np.asarray(weights, dtype=np.float64).T
    values, inverse = np.unique(np.asarray(x, dtype=np.float64), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    sorted_copies = copies[order]
    if len(values) < len(inverse):
        starts = np.searchsorted(inverse[order], np.arange(len(values)))
        sorted_copies = np.add.reduceat(sorted_copies, starts, axis=0)
    middle = np.cumsum(sorted_copies, axis=0)
    middle -= (sorted_copies - 1) / 2
    return np.asarray(middle[inverse].T, dtype=np.float64)


def weighted_srocc(x: ArrayLike, y: ArrayLike, weights: ArrayLike) -> Floats:
    """Spearman's correlation of each of B resamples, its ranks recomputed within the resample.

    Args:
        x: Sample of shape [N].
        y: Sample of shape [N].
        weights: How often each sample occurs in each resample, shape [B, N], whole numbers >= 0.

    Returns:
        Correlations of shape [B]; nan where a resample has fewer than 3 samples or a constant side.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.isnan(a).any() or np.isnan(b).any():
        return np.full(len(np.asarray(weights)), np.nan)
    return _in_blocks(_block_srocc, a, b, weights)


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
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.full(len(np.asarray(weights)), np.nan)
    return _in_blocks(_block_plcc, a, b, weights)


def _in_blocks(
    correlate: Callable[[Floats, Floats, Floats], Floats], x: Floats, y: Floats, weights: ArrayLike
) -> Floats:
    """A correlation of every resample [B], so many resamples at a time that memory is bounded."""
    copies = np.asarray(weights)
    if x.size == 0:
        return np.full(len(copies), np.nan)
    rows = max(1, _BLOCK // x.size)
    parts = [correlate(x, y, copies[i : i + rows].astype(np.float64).T) for i in range(0, len(copies), rows)]
    return np.concatenate(parts) if parts else np.empty(0)


def _block_srocc(x: Floats, y: Floats, copies: Floats) -> Floats:
    size = copies.sum(axis=0)
    middle = (size + 1) / 2
    rank_x = weighted_ranks(x, copies.T).T - middle
    rank_y = weighted_ranks(y, copies.T).T - middle
    weighted_x = copies * rank_x
    covariance = np.einsum("nb,nb->b", weighted_x, rank_y)
    variance_x = np.einsum("nb,nb->b", weighted_x, rank_x)
    variance_y = np.einsum("nb,nb,nb->b", copies, rank_y, rank_y)
    product = variance_x * variance_y
    valid = (size >= 3) & (product > 0)
    out = np.full(copies.shape[1], np.nan)
    out[valid] = np.clip(covariance[valid] / np.sqrt(product[valid]), -1.0, 1.0)
    return out


def _block_plcc(x: Floats, y: Floats, copies: Floats) -> Floats:
    size = copies.sum(axis=0)
    a, b = _standardised(x), _standardised(y)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = np.stack([a, b, a * a, b * b, a * b]) @ copies / np.maximum(size, 1)
    variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
    valid = (size >= 3) & (variance_a > _CONSTANT) & (variance_b > _CONSTANT)
    out = np.full(copies.shape[1], np.nan)
    product = variance_a[valid] * variance_b[valid]
    out[valid] = np.clip((mean_ab - mean_a * mean_b)[valid] / np.sqrt(product), -1.0, 1.0)
    return out


def _standardised(x: Floats) -> Floats:
    """Mean 0 and standard deviation 1, so that moments of resamples lose no digits; zeros for a constant."""
    spread = float(x.std())
    return np.asarray((x - x.mean()) / spread if np.ptp(x) > 0 else np.zeros_like(x))
