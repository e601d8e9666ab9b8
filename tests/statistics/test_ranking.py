"""Differences, groups and orders of metrics, against scipy, R and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.bootstrap import resampled_mean, weightings
from harness.statistics.intervals import p_value
from harness.statistics.ranking import benjamini_hochberg, detectable, difference, letters, stability


def test_p_of_few_clusters_is_students():
    values = np.random.default_rng(0).normal(0.4, size=7)
    everyone = np.arange(7)
    spread = resampled_mean(values, everyone, weightings(everyone, 0))
    assert p_value(float(values.mean()), spread, 7) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@given(st.integers(8, 40), st.integers(0, 10_000))
def test_p_is_below_a_twentieth_where_the_interval_leaves_out_zero(count, seed):
    values = np.random.default_rng(seed).exponential(size=count) - 0.6
    everyone = np.arange(count)
    spread = resampled_mean(values, everyone, weightings(everyone, 50))
    for sign in (1, -1):
        found = difference(sign * float(values.mean()), sign * spread, count)
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05) or abs(found.p - 0.05) < 0.002


def test_what_has_no_error_or_no_interval():
    assert (difference(0.0, np.zeros(30), 10).p, difference(0.1, np.full(30, 0.1), 10).p) == (1.0, 0.0)
    assert np.isnan(difference(0.1, np.array([np.nan, *np.full(9, 0.1)]), 5).p)
    one = difference(0.1, np.array([np.nan, 0.1]), 1)
    assert np.isnan([one.p, one.low, one.error, one.detectable]).all()


def test_the_smallest_difference_is_found_four_times_in_five():
    # The power of a two-sided t-test at that difference, by the noncentral t; the other tail adds nothing.
    for clusters in (8, 25, 200):
        power = stats.nct.sf(stats.t.ppf(0.975, clusters - 1), clusters - 1, detectable(1.0, clusters))
        assert power == pytest.approx(0.8, abs=0.015)


def test_the_papers_rule_wants_a_hundredth():
    rng = np.random.default_rng(3)
    for shift, expected in ((0.005, False), (0.02, True), (-0.02, True)):
        values = rng.normal(shift, 0.002, 50)
        spread = resampled_mean(values, np.arange(50), weightings(np.arange(50), 400))
        found = difference(float(values.mean()), spread, 50)
        assert found.p < 0.05 and found.by_paper is expected


def test_benjamini_hochberg_is_that_of_r():
    # R's p.adjust(c(.01, .02, .03, .5), "BH"), and a missing one beside them.
    assert benjamini_hochberg([0.01, np.nan, 0.5, 0.03, 0.02]) == pytest.approx(
        [0.04, np.nan, 0.5, 0.04, 0.04], nan_ok=True
    )
    assert np.isnan(benjamini_hochberg([np.nan])).all()


@given(st.integers(1, 7), st.randoms(use_true_random=False))
def test_letters_are_shared_by_those_that_cannot_be_told_apart_alone(count, random):
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    apart = {pair for pair in pairs if random.random() < 0.5}
    found = letters(count, apart)
    for i, j in pairs:
        assert bool(set(found[i]) & set(found[j])) == ((i, j) not in apart)


def test_letters_of_a_known_display():
    # Ordered means of which only the ends differ: the middle one belongs to both groups.
    assert letters(3, {(0, 2)}) == ["a", "ab", "b"]
    assert letters(2, set()) == ["a", "a"]


def test_stability_is_kendalls_tau():
    rng = np.random.default_rng(5)
    values = np.array([0.9, 0.8, 0.7, 0.4])
    drawn = values[:, None] + rng.normal(0, 0.1, (4, 200))
    drawn[0, :3] = np.nan
    share, tau = stability(values, drawn, 8)
    known = drawn[:, 3:].T
    assert tau == pytest.approx(np.mean([stats.kendalltau(values, one).statistic for one in known]))
    assert share == pytest.approx(np.mean([(np.diff(one) < 0).all() for one in known]))
    assert np.isnan(stability([1.0], drawn[:1], 8)).all()
    assert np.isnan(stability(values, values[:, None].repeat(9, 1), 1)).all(), "resamples of one cluster are itself"


def test_one_cluster_tells_nothing_of_a_difference():
    # Without the only cluster there is no figure, and every resample is the sample again.
    spread = np.array([np.nan, *[0.27] * 50])
    for known in (difference(0.27, spread, 1), difference(0.27, np.r_[0.27, spread], 2, np.array([False, True]))):
        assert known.value == 0.27 and not known.by_paper
        assert np.isnan([known.low, known.high, known.error, known.p, known.lower, known.median, known.upper]).all()
