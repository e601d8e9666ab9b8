import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.bootstrap import (
    cluster_codes,
    cluster_multiplicities,
    percentile_interval,
    resampled_mean,
    sample_weights,
)
from harness.statistics.correlation import weighted_srocc


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.integers(0, 5))
def test_every_resample_draws_as_many_clusters_as_there_are(clusters, seed):
    m = cluster_multiplicities(clusters, resamples=40, seed=seed)
    assert m.shape == (40, len(set(clusters)))
    assert (m.sum(axis=1) == len(set(clusters))).all()
    assert (m == cluster_multiplicities(clusters[::-1], resamples=40, seed=seed)).all()


def test_multiplicities_are_binomial():
    # Drawing C of C: mean 1, variance 1 - 1/C.
    m = cluster_multiplicities(np.arange(20), resamples=20_000, seed=1)
    assert m.mean() == 1.0
    assert m.var() == pytest.approx(1 - 1 / 20, abs=0.01)


def test_resampled_mean_is_the_mean_of_the_repeated_sample():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 6, 40)
    values = rng.normal(size=40)
    values[::7] = np.nan
    codes, count = cluster_codes(clusters)
    m = cluster_multiplicities(clusters, resamples=30, seed=2)
    weights = sample_weights(m, codes)
    assert weights.shape == (30, 40) and m.shape[1] == count
    expected = [np.nanmean(np.repeat(values, times)) for times in weights]
    np.testing.assert_allclose(resampled_mean(values, codes, m), expected, rtol=1e-12)


def test_interval_of_the_mean_matches_the_normal_theory():
    rng = np.random.default_rng(5)
    values = rng.normal(size=400)
    m = cluster_multiplicities(np.arange(400), resamples=4000, seed=0)
    interval = percentile_interval(resampled_mean(values, np.arange(400), m), 400)
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_few_clusters_are_descriptive_and_nothing_gives_nan():
    assert percentile_interval(np.zeros(10), 9).descriptive
    assert not percentile_interval(np.zeros(10), 10).descriptive
    assert np.isnan(percentile_interval([np.nan], 20).low)
    interval = percentile_interval([np.nan, *np.linspace(0, 1, 41)], 20)
    assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))


def test_spearman_interval_covers_the_true_value():
    # Gaussian copula with correlation r: true Spearman 6 / pi asin(r / 2). The protocol asks for 93 to 97 % of 1,000
    # trials; with true coverage 95 % the count's standard error is 0.7 %, so the band is almost three of them. Fixed
    # seed; 400 resamples per trial, because the percentiles' own noise averages out over trials.
    r, n, trials = 0.6, 200, 1000
    truth = 6 / np.pi * np.arcsin(r / 2)
    rng = np.random.default_rng(11)
    everyone = np.arange(n)
    covered = 0
    for trial in range(trials):
        x = rng.normal(size=n)
        y = r * x + np.sqrt(1 - r * r) * rng.normal(size=n)
        m = cluster_multiplicities(everyone, resamples=400, seed=trial)
        interval = percentile_interval(weighted_srocc(x, y, m), n)
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / trials <= 0.97


def test_clusters_widen_the_interval_of_dependent_samples():
    # 24 references x 4 identical images carry 24 samples' worth of information: sqrt(4) times the iid width.
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(size=24), 4)
    codes = np.repeat(np.arange(24), 4)
    by_reference = resampled_mean(values, codes, cluster_multiplicities(codes, 4000, 0)).std()
    by_image = resampled_mean(values, np.arange(96), cluster_multiplicities(np.arange(96), 4000, 0)).std()
    assert by_reference / by_image == pytest.approx(2, abs=0.1)
