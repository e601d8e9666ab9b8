"""Figures of metrics that were trained several times: what clusters and what trainings leave open, and contrasts.

A figure that is the mean over trainings (seeds) is uncertain on two levels: other images, and other trainings. Each is
a jackknife of its own, every cluster left out of all trainings at once, and every training left out. What both share,
that some trainings suit some images, is in either, so the two together claim a little too much error and never too
little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from harness.statistics.bootstrap import Floats
from harness.statistics.intervals import DESCRIPTIVE_BELOW, LEVEL, Interval, Scale, interval, jackknife_variance

LEAST_TRAININGS = 2
"""With one, the interval is that of the clusters alone."""


@dataclass(frozen=True)
class Contrast:
    """The mean difference of two ways to train, over trainings that share what can be shared."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided; nan with one training, of which nothing is known but its images."""


def two_levels(
    values: Sequence[float],
    spreads: Sequence[Floats],
    clusters: int,
    scale: Scale = "plain",
) -> Interval:
    """The 95 % interval of a figure's mean over trainings, for other images and for other trainings.

    Of each level's interval, the squares of the distances from the mean to its ends add up (MOVER; Zou & Donner,
    Statistics in Medicine 27, 2008), so that the asymmetry of the images' one is kept. That of the trainings is
    Student's: nothing but their spread is known of them.

    Args:
        values: The figure of each of S trainings.
        spreads: Of each, its values under the rows of `weightings`, shape [C + B].
        clusters: Number of clusters C.
        scale: What the figure is.

    Returns:
        The interval; with one training that of its clusters alone, and descriptive.
    """
    mean = float(np.mean(values))
    images = interval(mean, np.mean(spreads, axis=0), clusters, scale)
    if len(values) < LEAST_TRAININGS:
        return Interval(images.low, images.high, images.bias, True)
    trainings = interval(mean, without_each(values), len(values))
    low = mean - float(np.hypot(mean - images.low, mean - trainings.low))
    high = mean + float(np.hypot(images.high - mean, trainings.high - mean))
    least, most = {"plain": (-np.inf, np.inf), "correlation": (-1.0, 1.0), "share": (0.0, 1.0)}[scale]
    low, high = (float(end) for end in np.clip([low, high], least, most))  # nan, of one cluster, stays nan
    return Interval(low, high, images.bias, clusters < DESCRIPTIVE_BELOW)


def contrast(values: Sequence[float], spreads: Sequence[Floats], clusters: int) -> Contrast:
    """The mean of paired differences over trainings, with its 95 % interval and the p-value that belongs to it.

    Both levels' variances add up, and Student's t has the degrees of freedom of their sum (Satterthwaite 1946).

    Args:
        values: Difference of the two ways in each of S trainings.
        spreads: Of each, the difference under the rows of `weightings`, shape [C + B].
        clusters: Number of clusters C; with fewer than two there is no interval.
    """
    mean, count = float(np.mean(values)), len(values)
    images = jackknife_variance(np.mean(spreads, axis=0)[:clusters])
    if clusters < 2:  # nothing is known of other images
        return Contrast(mean, np.nan, np.nan, np.nan)
    several = count >= LEAST_TRAININGS
    trainings = jackknife_variance(without_each(values)) if several else 0.0
    variance = images + trainings
    if variance == 0 or np.isnan(variance):
        return Contrast(mean, mean if variance == 0 else np.nan, mean if variance == 0 else np.nan, np.nan)
    freedom = variance**2 / (images**2 / (clusters - 1) + (trainings**2 / (count - 1) if several else 0.0))
    error = float(np.sqrt(variance))
    half = error * float(special.stdtrit(freedom, (1 + LEVEL) / 2))
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error)) if several else np.nan
    return Contrast(mean, mean - half, mean + half, p)


def without_each(values: Sequence[float]) -> Floats:
    """The mean of all values but one, for each of S of them, shape [S]."""
    given: Floats = np.asarray(values, dtype=np.float64)
    return np.asarray((given.sum() - given) / (len(given) - 1))


def holm(p: Sequence[float]) -> Floats:
    """P-values of several contrasts, adjusted so that all together err with the probability of one (Holm 1979).

    Args:
        p: One per contrast; nan where none is known, which counts as none made.
    """
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return adjusted
