"""Intervals for images and trainings at once: closed forms, coverage on made-up trainings, Holm's published example."""

import numpy as np
import pytest
from scipy import stats

from harness.statistics.bootstrap import resampled_mean, weightings
from harness.statistics.intervals import interval
from harness.statistics.levels import contrast, holm, two_levels

CLUSTERS, EACH, SEEDS = 12, 4, 3
CODES = np.repeat(np.arange(CLUSTERS), EACH)
WEIGHTINGS = weightings(CODES, resamples=50)


def _measured(samples: np.ndarray) -> tuple[list[float], list[np.ndarray]]:
    return [float(row.mean()) for row in samples], [resampled_mean(row, CODES, WEIGHTINGS) for row in samples]


def test_trainings_that_agree_leave_the_interval_of_the_images() -> None:
    row = np.random.default_rng(0).normal(size=CLUSTERS * EACH)
    values, spreads = _measured(np.stack([row] * SEEDS))
    alone = interval(values[0], spreads[0], CLUSTERS)
    both = two_levels(values, spreads, CLUSTERS)
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
    one = two_levels(values[:1], spreads[:1], CLUSTERS)
    assert (one.low, one.high, one.descriptive) == (alone.low, alone.high, True)


def test_images_that_agree_leave_students_interval_of_the_trainings() -> None:
    values, spreads = _measured(np.repeat([[0.1], [0.2], [0.6]], CLUSTERS * EACH, axis=1))
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found, difference = two_levels(values, spreads, CLUSTERS), contrast(values, spreads, CLUSTERS)
    assert (found.low, found.high) == pytest.approx(expected)
    assert (difference.low, difference.high) == pytest.approx(expected)
    assert difference.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_intervals_hold_the_true_value_where_both_levels_vary() -> None:
    rng, held, trials = np.random.default_rng(1), np.zeros(2), 200
    for _ in range(trials):
        of_cluster, of_seed = rng.normal(size=CLUSTERS)[CODES], rng.normal(scale=0.3, size=(SEEDS, 1))
        values, spreads = _measured(of_cluster + of_seed + rng.normal(size=(SEEDS, CLUSTERS * EACH)))
        ends = two_levels(values, spreads, CLUSTERS), contrast(values, spreads, CLUSTERS)
        held += [one.low <= 0 <= one.high for one in ends]
    # At true coverage 95 % the standard error of 200 trials is 1.5 %: two of them.
    assert (held / trials >= 0.92).all()


def test_one_training_has_an_interval_and_no_p() -> None:
    values, spreads = _measured(np.random.default_rng(2).normal(1.0, size=(1, CLUSTERS * EACH)))
    found = contrast(values, spreads, CLUSTERS)
    assert found.low < found.value < found.high
    assert np.isnan(found.p)


def test_holm_is_that_of_r() -> None:
    # R's p.adjust(c(.01, .02, .03, .04), "holm"), and a missing one beside them.
    assert holm([0.01, np.nan, 0.04, 0.03, 0.02]) == pytest.approx([0.04, np.nan, 0.06, 0.06, 0.06], nan_ok=True)


def test_one_cluster_has_no_interval_however_many_trainings():
    spreads = [np.array([np.nan, 0.3, 0.3]), np.array([np.nan, 0.5, 0.5])]
    found, difference = two_levels([0.3, 0.5], spreads, 1), contrast([0.3, 0.5], spreads, 1)
    assert np.isnan([found.low, found.high, difference.low, difference.high, difference.p]).all()
    assert difference.value == pytest.approx(0.4)
