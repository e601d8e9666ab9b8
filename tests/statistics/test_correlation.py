import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, spearmanr

from harness.statistics.bootstrap import sample_weights, weightings
from harness.statistics.correlation import (
    OpinionRanks,
    plcc,
    resampled_plcc,
    srocc,
    weighted_plcc,
    weighted_ranks,
    weighted_srocc,
)


def test_srocc_and_plcc_equal_scipy_with_ties():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=300), 1), np.round(rng.normal(size=300), 1)
    y = y + x
    assert srocc(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-14)
    assert plcc(x, y) == pytest.approx(pearsonr(x, y).statistic, abs=1e-14)


def test_closed_forms():
    # rho = 1 - 6 sum d^2 / (n (n^2 - 1)) with d = (0, 1, -1, 0)
    assert srocc([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert srocc([1, 2, 3], [1, 8, 27]) == 1.0
    assert plcc([0, 1, 2], [5, 3, 1]) == -1.0


@pytest.mark.parametrize("x", [[1.0, 2.0], [3.0, 3.0, 3.0], [1.0, np.nan, 2.0]])
def test_undefined_is_nan(x):
    y = list(range(len(x)))
    assert np.isnan(srocc(x, y))
    assert np.isnan(plcc(x, y))
    for correlate in (weighted_srocc, weighted_plcc):
        assert np.isnan(correlate(x, y, np.ones((2, len(x)), dtype=int))).all()


def test_infinite_scores_still_rank():
    assert srocc([1.0, 2.0, np.inf], [1, 2, 3]) == 1.0


def test_ranks_of_a_resample_by_hand():
    # The sample 5, 7, 7, 9 taken 2, 1, 1, 0 times is 5 5 7 7: ranks 1.5 and 3.5.
    ranks = weighted_ranks([5, 7, 7, 9], [[2, 1, 1, 0]])
    np.testing.assert_allclose(ranks[0, :3], [1.5, 3.5, 3.5])


values = st.integers(-4, 4).map(float)
repeated = st.integers(3, 12).flatmap(
    lambda n: st.tuples(
        arrays(float, n, elements=values),
        arrays(float, n, elements=values),
        arrays(int, n, elements=st.integers(0, 3)),
    )
)


@given(repeated)
def test_weighted_srocc_is_spearman_of_the_repeated_sample(case):
    x, y, times = case
    got = weighted_srocc(x, y, times[None, :])[0]
    long_x, long_y = np.repeat(x, times), np.repeat(y, times)
    if len(long_x) < 3 or np.ptp(long_x) == 0 or np.ptp(long_y) == 0:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(spearmanr(long_x, long_y).statistic, abs=1e-12)


def test_neither_blocks_nor_what_is_kept_change_the_result(monkeypatch):
    rng = np.random.default_rng(3)
    x, y, times = rng.normal(size=20), rng.normal(size=20), rng.integers(0, 3, (50, 20))
    whole = weighted_srocc(x, y, times)
    monkeypatch.setattr("harness.statistics.correlation._BLOCK", 60)
    np.testing.assert_array_equal(weighted_srocc(x, y, times), whole)
    monkeypatch.setattr("harness.statistics.correlation._KEPT", 0)
    np.testing.assert_array_equal(weighted_srocc(x, y, times), whole)


@given(repeated, st.sampled_from([0.0, 1.0, 1e4]))
def test_weighted_plcc_is_pearson_of_the_repeated_sample(case, offset):
    x, y, times = case
    got = weighted_plcc(x + offset, 0.01 * y, times[None, :])[0]
    long_x, long_y = np.repeat(x + offset, times), np.repeat(0.01 * y, times)
    if len(long_x) < 3 or np.ptp(long_x) == 0 or np.ptp(long_y) == 0:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(pearsonr(long_x, long_y).statistic, abs=1e-9)


def test_weighted_plcc_without_finite_values_is_nan():
    assert np.isnan(weighted_plcc([1.0, 2.0, np.inf], [1, 2, 3], np.ones((2, 3), dtype=int))).all()
    assert np.isnan(weighted_plcc([], [], np.ones((2, 0), dtype=int))).all()


def test_resamples_of_clusters_are_resamples_of_their_samples():
    rng = np.random.default_rng(6)
    codes = rng.integers(0, 5, 40)
    x, y = np.round(rng.normal(size=(2, 40)), 1)
    m = weightings(codes, 30)
    ranks = OpinionRanks(y, codes, m)
    for name, quality in (("ties", x), ("no ties", x + 1e-6 * rng.normal(size=40))):
        for found, times in zip(ranks.srocc(quality), sample_weights(m, codes), strict=True):
            expected = spearmanr(np.repeat(quality, times), np.repeat(y, times)).statistic
            assert found == pytest.approx(expected, abs=1e-14), name
    for found, times in zip(resampled_plcc(x, y, codes, m), sample_weights(m, codes), strict=True):
        assert found == pytest.approx(pearsonr(np.repeat(x, times), np.repeat(y, times)).statistic, abs=1e-13)
