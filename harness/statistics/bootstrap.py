"""Cluster bootstrap: whole clusters are left out and resampled, because images of one are not independent.

One matrix of multiplicities serves every row of a table, so differences between rows are paired.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Multiplicities = Ints | Floats
"""Whole numbers; as floats they need not be converted for every figure."""

RESAMPLES = 1000


def cluster_codes(clusters: ArrayLike) -> tuple[Ints, int]:
    """Number the clusters 0 .. C-1 in sorted order.

    Args:
        clusters: Cluster of each sample (names or numbers), shape [N].

    Returns:
        The number of each sample's cluster, shape [N], and C.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    return codes.astype(np.int64), len(names)


def cluster_multiplicities(clusters: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Ints:
    """How often each cluster is drawn in each resample of C clusters with replacement.

    Args:
        clusters: Cluster of each sample, shape [N].
        resamples: Number of resamples B.
        seed: Seed; the order of samples does not matter.

    Returns:
        Whole numbers of shape [B, C]; every row adds up to C. Columns follow `cluster_codes`.
    """
    count = cluster_codes(clusters)[1]
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count)) if count else np.empty((resamples, 0))
    offsets = np.arange(resamples)[:, None] * count
    counts = np.bincount((drawn + offsets).ravel().astype(np.int64), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(np.int64)


def weightings(clusters: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Ints:
    """The multiplicities under which a figure is computed to know its interval and its bias.

    Args:
        clusters: Cluster of each sample, shape [N].
        resamples: Number of resamples B.
        seed: Seed of the resamples.

    Returns:
        Whole numbers of shape [C + B, C]: first every cluster but one, in the order of `cluster_codes`, then
        `cluster_multiplicities`.
    """
    drawn = cluster_multiplicities(clusters, resamples, seed)
    return np.vstack([1 - np.eye(drawn.shape[1], dtype=np.int64), drawn])


def sample_weights(multiplicities: Ints, codes: Ints) -> Ints:
    """Multiplicity of each sample in each resample, shape [B, N], from those of its cluster [B, C]."""
    # Indexing the transpose keeps one sample's multiplicities contiguous, which the rank sums run along.
    return np.ascontiguousarray(multiplicities.T)[codes].T


def resampled_mean(values: ArrayLike, codes: Ints, multiplicities: Multiplicities) -> Floats:
    """Mean over the samples of each resample; nan values are left out.

    Args:
        values: One value per sample, shape [N].
        codes: Cluster number of each sample, shape [N].
        multiplicities: Shape [B, C].

    Returns:
        Means of shape [B]; nan where a resample has no sample with a value.
    """
    numbers = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(numbers)
    m = np.asarray(multiplicities, dtype=np.float64)
    sums = np.bincount(codes[there], weights=numbers[there], minlength=m.shape[1])
    counts = np.bincount(codes[there], minlength=m.shape[1]).astype(np.float64)
    return ratio(m @ sums, m @ counts)


def present(values: ArrayLike, codes: Ints, multiplicities: Multiplicities) -> NDArray[np.bool_]:
    """Which clusters have a sample with a value (not nan), shape [C]; arguments as of `resampled_mean`."""
    there = ~np.isnan(np.asarray(values, dtype=np.float64))
    return np.bincount(codes[there], minlength=multiplicities.shape[1]) > 0


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient of shape [B]; nan where the denominator is 0."""
    out = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
