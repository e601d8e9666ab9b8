"""95 % intervals that keep their word with few clusters: a studentised bootstrap of the delete-one jackknife.

Of C clusters the figure is computed once more without each. On a scale that steadies its variance, the jackknife's
pseudo-values behave like C independent draws whose mean is the figure (Tukey 1958; Efron & Tibshirani 1993, chapter
11), so their spread gives its standard error, with C - 1 degrees of freedom (MacKinnon, Nielsen & Webb 2023, for
clusters). How many standard errors make 95 % is read, for either side, from resamples of the pseudo-values, each
divided by its own standard error (Efron & Tibshirani 1993, section 12.5), and is Student's t to 1.5 times that: with
few clusters the error of a skewed figure is itself uncertain, and the two go together. Shares have Wilson's limits at
the number of independent draws that would have their error, because they end at 0 and 1. `benchmarks/coverage.py`
says how often such intervals hold the true value, and docs/protocols.md has its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.statistics.bootstrap import Floats, cluster_multiplicities

Scale = Literal["plain", "correlation", "share"]
"""What a figure is: a mean or a difference, a correlation in [-1, 1], or a share in [0, 1]."""

LEVEL = 0.95
DESCRIPTIVE_BELOW = 8
"""With fewer clusters an interval describes the sample and claims no coverage: at 5 it was as low as 88 %."""
_LEAST_RESAMPLED = 8
"""With fewer clusters resamples repeat each other, and the quantiles are Student's."""
_MOST = 1.5
"""How many times Student's t a quantile may be: where one cluster outweighs the rest, resamples without it tell
nothing of the error, and their quantiles grow without bound. The study loses at most half a percent by it."""
_STUDENTISED = 2000
"""Resamples of pseudo-values that quantiles are read from."""
_TOGETHER = 16
"""Figures whose resamples are drawn at a time."""
_EDGE = 1e-6
"""Distance that correlations and shares keep from where their scale ends."""
_ROUNDING = 1e-24
"""Variance, as a share of the figure's square, up to which values without each cluster count as equal."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; nan where the figure has none."""

    low: float
    high: float
    bias: float
    """Mean over the bootstrap resamples minus the figure; it is not taken off."""
    descriptive: bool
    """True when there were fewer than `DESCRIPTIVE_BELOW` clusters."""


def interval(
    value: float,
    spread: Floats,
    clusters: int,
    scale: Scale = "plain",
    present: NDArray[np.bool_] | None = None,
    samples: int | None = None,
) -> Interval:
    """The 95 % interval of a figure.

    Args:
        value: The figure on the whole sample.
        spread: The figure under each row of `weightings`, shape [C + B]: first without each cluster, then of each
            bootstrap resample, of which those where it is nan are left out.
        clusters: Number of clusters C.
        scale: What the figure is.
        present: Which clusters have a part in it, shape [C]; all by default.
        samples: Of a share that counts single samples, how many they are.

    Returns:
        Ends that are nan where there are fewer than two clusters, or where the figure needs one of them to exist. A
        share of 1 or 0 says nothing of how alike samples of a cluster are: with `samples` it has the outer end of the
        share that is one sample short, so that no perfect share has a wider interval than the next; without, and for
        any other share that is the same whichever cluster is left out, the interval of one draw per cluster, the most
        that clustering can take away.
    """
    return intervals([value], spread[None], clusters, scale, present, samples)[0]


def intervals(
    values: Sequence[float],
    spreads: Floats,
    clusters: int,
    scale: Scale = "plain",
    present: NDArray[np.bool_] | None = None,
    samples: int | None = None,
) -> list[Interval]:
    """`interval` of each of K figures of one scale, found together in a fraction of the time.

    Args:
        values: The figures on the whole sample.
        spreads: The figures under each row of `weightings`, shape [K, C + B].
        clusters: Number of clusters C.
        scale: What the figures are.
        present: Which clusters have a part in them, shape [C]; all by default.
        samples: Of shares that count single samples, how many they are.
    """
    found: list[Interval] = []
    for start in range(0, len(values), _TOGETHER):
        those = slice(start, start + _TOGETHER)
        found += _intervals(np.asarray(values[those], np.float64), spreads[those], clusters, scale, present, samples)
    return found


def _intervals(
    values: Floats,
    spreads: Floats,
    clusters: int,
    scale: Scale,
    present: NDArray[np.bool_] | None,
    samples: int | None,
) -> list[Interval]:
    out, resampled = without_each_cluster(spreads, clusters, present), spreads[:, clusters:]
    count = out.shape[1]
    unknown = np.isnan(resampled)
    means = resampled.mean(axis=1) if resampled.shape[1] else np.full(len(values), np.nan)
    for row in np.flatnonzero(unknown.any(axis=1)):
        known = resampled[row][~unknown[row]]
        means[row] = known.mean() if known.size else np.nan
    ends = np.full((len(values), 2), np.nan)
    if count > 1:
        told = np.flatnonzero(~(np.isnan(values) | np.isnan(out).any(axis=1)))
        ends[told] = _ends(values[told], out[told], scale)
        if scale == "share" and samples is not None and samples > count:
            for row in (row for row in told if values[row] in (0.0, 1.0) and np.ptp(out[row]) == 0):
                short = _one_short(count, samples)
                ends[row] = (short, 1.0) if values[row] == 1 else (0.0, 1 - short)
    return [
        Interval(float(low), float(high), float(mean - value), count < DESCRIPTIVE_BELOW)
        for value, mean, (low, high) in zip(values, means, ends, strict=True)
    ]


def _ends(values: Floats, out: Floats, scale: Scale) -> Floats:
    """Both ends of the intervals of K figures [K, 2], from their values without each cluster [K, C]."""
    count = out.shape[1]
    variance = (count - 1) * np.var(out, axis=1)
    constant = variance <= _ROUNDING * np.maximum(values**2, np.max(out**2, axis=1, initial=0.0))
    ends = np.empty((len(values), 2))
    ends[constant] = np.reshape([_without_variance(float(one), count, scale) for one in values[constant]], (-1, 2))
    values, out, variance = values[~constant], out[~constant], variance[~constant]
    pseudo = count * _stretched(values, scale)[:, None] - (count - 1) * _stretched(out, scale)
    down, up = _quantiles(pseudo - pseudo.mean(axis=1, keepdims=True)).T
    if scale == "share":
        draws = values * (1 - values) / variance
        wilsons = [
            (_wilson(*map(float, (value, drawn, far)))[0], _wilson(*map(float, (value, drawn, near)))[1])
            for value, drawn, far, near in zip(values, draws, down, up, strict=True)
        ]
        ends[~constant] = np.reshape(wilsons, (-1, 2))
        return ends
    error = np.sqrt(np.var(pseudo, axis=1, ddof=1) / count)
    centre = _stretched(values, scale)
    own = np.stack([centre - down * error, centre + up * error], axis=1)
    ends[~constant] = np.tanh(own) if scale == "correlation" else own
    return ends


def _one_short(count: int, samples: int) -> float:
    """The lower end of a share of 1 in so many equal clusters, had one of all samples failed."""
    each = samples / count
    out = np.full(count, 1 - 1 / (samples - each))
    out[0] = 1.0
    return float(_ends(np.array([1 - 1 / samples]), out[None], "share")[0, 0])


def _without_variance(value: float, count: int, scale: Scale) -> tuple[float, float]:
    """Where leaving out a cluster changes nothing: all agree on a change, and nothing is known of a correlation."""
    if scale == "share":
        student = _student(count)
        return _wilson(value, count, student)[0], _wilson(value, count, student)[1]
    return (value, value) if scale == "plain" else (float("nan"), float("nan"))


def without_each_cluster(spread: Floats, clusters: int, present: NDArray[np.bool_] | None = None) -> Floats:
    """The figure without each cluster that has a part in it, of those under each row of `weightings`.

    Of several figures [K, C + B] likewise.
    """
    out = spread[..., :clusters]
    return out if present is None or present.all() else out[..., present]


def jackknife_variance(out: Floats) -> float:
    """The jackknife's variance of a figure from its values without each cluster (Efron & Tibshirani 1993, eq. 11.5)."""
    count = len(out)
    return float((count - 1) * np.var(out))


def _stretched(values: Floats, scale: Scale) -> Floats:
    """Fisher's z of correlations, the logit of shares: scales on which the error hardly depends on the figure."""
    if scale == "correlation":
        return np.asarray(np.arctanh(np.clip(values, -1 + _EDGE, 1 - _EDGE)))
    if scale == "share":
        from scipy import special  # not above: it is slow to import, and masking's thresholds need nothing of it

        return np.asarray(special.logit(np.clip(values, _EDGE, 1 - _EDGE)))
    return values


def p_value(value: float, spread: Floats, clusters: int, present: NDArray[np.bool_] | None = None) -> float:
    """The two-sided p-value of a difference: the level at which its `interval` would end at 0.

    Args:
        value: The difference on the whole sample.
        spread: The difference under each row of `weightings`, shape [C + B].
        clusters: Number of clusters C.
        present: Which clusters have a part in it, shape [C]; all by default.

    Returns:
        A number in [0, 1]; nan where the difference has no interval. Below .05 where that leaves out 0, up to what
        rounding a quantile of the resamples may do.
    """
    return p_values([value], spread[None], clusters, present)[0]


def p_values(
    values: Sequence[float], spreads: Floats, clusters: int, present: NDArray[np.bool_] | None = None
) -> list[float]:
    """`p_value` of each of K differences, found together; arguments as of `intervals`."""
    found: list[float] = []
    for start in range(0, len(values), _TOGETHER):
        those = slice(start, start + _TOGETHER)
        outs = without_each_cluster(spreads[those], clusters, present)
        # The pseudo-values of a figure as it is have the mean of the values without each cluster, turned round.
        drawn, told = _studentised((outs.shape[1] - 1) * (outs.mean(axis=1, keepdims=True) - outs))
        parts = zip(values[those], outs, drawn, told, strict=True)
        found += [_p_value(value, out, one[known]) for value, out, one, known in parts]
    return found


def _p_value(value: float, out: Floats, drawn: Floats) -> float:
    """`p_value`, given the figure without each cluster, and its studentised resamples."""
    from scipy import special

    count = len(out)
    if count < 2 or np.isnan(value) or np.isnan(out).any():
        return float("nan")
    variance = jackknife_variance(out)
    if variance <= _ROUNDING * max(value**2, float(np.max(out**2))):
        return 0.0 if value else 1.0
    away = abs(value) / float(np.sqrt(variance))
    least, most = (2 * float(special.stdtr(count - 1, -away / factor)) for factor in (1, _MOST))
    studentised = np.sign(value) * drawn
    beyond = 2 * float(np.mean(studentised >= away)) if studentised.size else least
    return min(most, max(least, beyond))


def _quantiles(deviations: Floats) -> Floats:
    """Standard errors to go down and up [K, 2]; deviations of pseudo-values from their mean, shape [K, C]."""
    student = _student(deviations.shape[1])
    drawn, told = _studentised(deviations)
    found = np.full((len(deviations), 2), student)
    shares = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if drawn.shape[1]:
        every = told.all(axis=1)
        if every.any():
            low, high = np.quantile(drawn[every], shares, axis=1)
            found[every] = np.stack([high, -low], axis=1)
        for row in np.flatnonzero(~every & told.any(axis=1)):
            low, high = np.quantile(drawn[row][told[row]], shares)
            found[row] = high, -low
    return np.asarray(np.clip(found, student, _MOST * student))


def _studentised(deviations: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Means of resampled pseudo-values, each over its own standard error, [K, S], and which tell something; S may be 0.

    Args:
        deviations: Of the pseudo-values of K figures from their mean, shape [K, C].
    """
    count = deviations.shape[1]
    if count < _LEAST_RESAMPLED:
        return np.empty((len(deviations), 0)), np.empty((len(deviations), 0), dtype=bool)
    mean, square = np.split(np.concatenate([deviations, deviations**2]) @ _copies(count).T / count, 2)
    variance = (square - mean**2) / (count - 1)
    told = variance > 1e-9 * np.einsum("kc,kc->k", deviations, deviations)[:, None] / count
    # The others drew equal clusters alone. None is told on the edge of a scale, where all that is left out looks alike.
    return np.divide(mean, np.sqrt(variance, where=told, out=np.ones_like(mean)), where=told, out=mean), told


def _student(count: int) -> float:
    from scipy import special

    return float(special.stdtrit(count - 1, (1 + LEVEL) / 2))


@lru_cache(maxsize=32)
def _copies(count: int) -> Floats:
    # One fixed seed: an interval depends on the figures alone, whatever the seed of the run.
    return cluster_multiplicities(np.arange(count), _STUDENTISED, seed=0).astype(np.float64)


def _wilson(share: float, draws: float, errors: float) -> tuple[float, float]:
    """Wilson's (1927) interval of a share among so many independent draws, `errors` standard errors to either side."""
    weight = errors * errors / draws
    middle = (share + weight / 2) / (1 + weight)
    half = np.sqrt(weight * share * (1 - share) + weight * weight / 4) / (1 + weight)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
