import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.bootstrap import (
    cluster_codes,
    cluster_multiplicities,
    resampled_mean,
    sample_weights,
    weightings,
)


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


def test_weightings_leave_each_cluster_out_and_resample_after():
    values = np.arange(6.0)
    codes, count = cluster_codes(["b", "a", "b", "c", "c", "c"])
    m = weightings(codes, resamples=7, seed=3)
    assert m.shape == (count + 7, count)
    assert (m[count:] == cluster_multiplicities(codes, resamples=7, seed=3)).all()
    without = [values[codes != cluster].mean() for cluster in range(count)]
    np.testing.assert_allclose(resampled_mean(values, codes, m)[:count], without)


def test_clusters_widen_the_interval_of_dependent_samples():
    # 24 references x 4 identical images carry 24 samples' worth of information: sqrt(4) times the iid width.
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(size=24), 4)
    codes = np.repeat(np.arange(24), 4)
    by_reference = resampled_mean(values, codes, cluster_multiplicities(codes, 4000, 0)).std()
    by_image = resampled_mean(values, np.arange(96), cluster_multiplicities(np.arange(96), 4000, 0)).std()
    assert by_reference / by_image == pytest.approx(2, abs=0.1)
