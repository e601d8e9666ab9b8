import numpy as np
import pytest
from scipy import stats

from harness.statistics import intervals
from harness.statistics.bootstrap import cluster_multiplicities, resampled_mean, weightings
from harness.statistics.correlation import OpinionRanks, srocc
from harness.statistics.intervals import DESCRIPTIVE_BELOW, interval


def mean_of(values, resamples=0, **options):
    """The interval of a mean of independent values."""
    everyone = np.arange(len(values))
    spread = resampled_mean(values, everyone, weightings(everyone, resamples))
    return interval(float(values.mean()), spread, len(values), **options)


@pytest.mark.parametrize("count", [2, 5])
def test_of_few_clusters_it_is_students(count):
    values = np.random.default_rng(count).normal(size=count)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_of(values)
    assert (found.low, found.high) == pytest.approx(tuple(theirs), rel=1e-9)


def test_of_many_clusters_it_is_the_normal_theorys():
    values = np.random.default_rng(5).normal(size=400)
    half = 1.96 * values.std() / 20
    found = mean_of(values)
    assert found.low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_it_is_never_narrower_than_students_and_reaches_where_the_long_tail_is():
    values = np.random.default_rng(3).exponential(size=12)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_of(values)
    assert found.low <= theirs.low + 1e-12 and found.high > theirs.high + 0.1
    mirrored = mean_of(-values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), rel=1e-9)


def test_resamples_that_drew_equal_clusters_alone_tell_nothing():
    """Three of twelve differ from the rest, which 3 % of resamples miss: the others are counted, one by one."""
    values = np.array([1, 0.5, 0.3, *[0.0] * 9])
    copies = cluster_multiplicities(np.arange(12), intervals._STUDENTISED, seed=0)
    drawn = [np.repeat(values - values.mean(), counts) for counts in copies.astype(int)]
    told = [one.mean() / (one.std() / np.sqrt(11)) for one in drawn if np.ptp(one) > 0]
    assert 0.02 < 1 - len(told) / len(drawn) < 0.05
    error, student = values.std(ddof=1) / np.sqrt(12), stats.t.ppf(0.975, 11)
    low, high = (
        np.clip(one, student, intervals._MOST * student) for one in np.quantile(told, [0.975, 0.025]) * [1, -1]
    )
    found = mean_of(values)
    assert (found.low, found.high) == pytest.approx((values.mean() - low * error, values.mean() + high * error))


def test_spearman_intervals_and_those_of_differences_cover_the_true_values():
    # Gaussian copula with correlation r: true Spearman 6 / pi asin(r / 2). The protocol asks for 93 to 97 %; with true
    # coverage 95 % the standard error of 500 trials is 1 %, so the band is two of them. benchmarks/coverage.py does more.
    n, trials, r = 200, 500, np.array([0.6, 0.4])
    truth = 6 / np.pi * np.arcsin(r / 2)
    rng = np.random.default_rng(11)
    m = weightings(np.arange(n), resamples=0)
    covered = np.zeros(2)
    for _ in range(trials):
        y = rng.normal(size=n)
        ranks = OpinionRanks(y, np.arange(n), m)
        (one, spread), (other, other_spread) = (
            (srocc(x, y), ranks.srocc(x))
            for x in np.outer(r, y) + np.sqrt(1 - r * r)[:, None] * rng.normal(size=(2, n))
        )
        alone = interval(one, spread, n, "correlation")
        apart = interval(one - other, spread - other_spread, n)
        covered += alone.low <= truth[0] <= alone.high, apart.low <= truth[0] - truth[1] <= apart.high
    assert ((covered / trials >= 0.93) & (covered / trials <= 0.97)).all()


def test_it_covers_with_eight_skewed_clusters_where_percentiles_do_not():
    # Exponential cluster means, true mean 1; the standard error of a count of 600 trials is about 1 %.
    rng = np.random.default_rng(4)
    m, trials = cluster_multiplicities(np.arange(8), 1000, 0), 600
    covered = np.zeros(2)
    for _ in range(trials):
        values = rng.exponential(size=8)
        found = mean_of(values)
        low, high = np.percentile(m @ values / 8, [2.5, 97.5])
        covered += found.low <= 1 <= found.high, low <= 1 <= high
    assert covered[0] / trials >= 0.93 and covered[1] / trials < 0.88


@pytest.mark.parametrize(("share", "clusters"), [(1.0, 8), (0.0, 8), (0.5, 8)])
def test_a_share_that_all_clusters_agree_on_has_a_width(share, clusters):
    found = mean_of(np.full(clusters, share), scale="share")
    t = stats.t.ppf(0.975, clusters - 1)
    assert found.low <= share <= found.high and found.low >= 0 and found.high <= 1
    if share == 1:  # Wilson's limit where all of n draws are right: n / (n + t^2)
        assert (found.low, found.high) == pytest.approx((clusters / (clusters + t * t), 1.0))
    assert found.high - found.low > 0.3


def test_no_perfect_share_of_samples_has_a_wider_interval_than_the_next():
    codes = np.repeat(np.arange(8), 12)
    m = weightings(codes, 50, 0)
    lows = []
    for failures in (0, 1, 2):
        credits = (np.arange(96) >= failures).astype(float)
        found = interval(credits.mean(), resampled_mean(credits, codes, m), 8, "share", samples=96)
        mirrored = interval(1 - credits.mean(), resampled_mean(1 - credits, codes, m), 8, "share", samples=96)
        assert mirrored.high == pytest.approx(1 - found.low)
        lows.append(found.low)
    assert lows[0] >= lows[1] > lows[2] and lows[0] > 0.9


def test_at_the_very_end_of_its_scale_a_share_still_has_an_interval():
    out = 1 - 1e-8 * np.arange(1, 59)
    for values in (out, 1 - out):
        found = interval(float(values[0]), values, 8, "share")
        assert 0 <= found.low <= found.high <= 1


def test_shares_stay_in_their_range_and_are_mirrored():
    right = np.array([1, 1, 1, 1, 1, 1, 1, 0.9, 1, 1])
    found, wrong = mean_of(right, scale="share"), mean_of(1 - right, scale="share")
    assert 0.9 < found.low < 0.99 < found.high < 1
    assert (wrong.low, wrong.high) == pytest.approx((1 - found.high, 1 - found.low), rel=1e-6)


def test_what_is_not_known_has_no_interval():
    nan = float("nan")
    one = interval(0.9, np.array([nan, 0.9, 0.9]), 1, "correlation")
    assert np.isnan([one.low, one.high]).all()
    needed = interval(0.5, np.array([nan, *np.linspace(0.4, 0.6, 9)]), 10)
    assert np.isnan([needed.low, needed.high]).all()
    undefined = interval(nan, np.full(30, nan), 10, "correlation")
    assert np.isnan([undefined.low, undefined.high, undefined.bias]).all()
    perfect = interval(1.0, np.ones(30), 10, "correlation")
    assert np.isnan([perfect.low, perfect.high]).all()


def test_a_change_that_no_cluster_makes_is_none():
    # Two attacks with the same results differ by nothing, and claims about them need that interval.
    found = interval(0.0, np.zeros(20), 10)
    assert (found.low, found.high) == (0, 0)


def test_few_clusters_are_descriptive():
    assert mean_of(np.arange(DESCRIPTIVE_BELOW - 1.0)).descriptive
    assert not mean_of(np.arange(DESCRIPTIVE_BELOW * 1.0)).descriptive


def test_clusters_without_a_part_count_for_nothing():
    values = np.random.default_rng(8).normal(size=9)
    some = np.concatenate([values, np.full(6, np.nan)])
    codes = np.arange(15)
    spread = resampled_mean(some, codes, weightings(codes, 0))
    found = interval(float(values.mean()), spread, 15, present=~np.isnan(some))
    assert (found.low, found.high) == pytest.approx((mean_of(values).low, mean_of(values).high))


def test_bias_is_the_bootstraps():
    # The variance (divisor n) of a resample is (n - 1) / n of the sample's in expectation.
    values = np.random.default_rng(1).normal(size=12)
    m = weightings(np.arange(12), resamples=20_000, seed=2)
    sizes = m.sum(axis=1)
    variances = m @ values**2 / sizes - (m @ values / sizes) ** 2
    assert interval(float(values.var()), variances, 12).bias == pytest.approx(-values.var() / 12, rel=0.08)
