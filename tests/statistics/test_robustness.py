import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import robustness
from harness.statistics.bootstrap import cluster_codes, cluster_multiplicities, sample_weights

CLEAN = np.array([0.0, 1.0, 2.0, 3.0])  # sigma = sqrt(1.25)
SIGMA = np.sqrt(1.25)


def test_shift_counts_along_the_attack():
    attacked = CLEAN + np.array([1.0, 1.0, -1.0, -1.0])
    assert robustness.sigma(CLEAN) == pytest.approx(SIGMA)
    assert robustness.shift_over_sigma(CLEAN, attacked) == 0
    assert robustness.shift_over_sigma(CLEAN, attacked, [1, 1, -1, -1]) == pytest.approx(1 / SIGMA)


def test_excess_by_hand():
    attacked, control = CLEAN + np.array([2, 2, -2, -2]), CLEAN + np.array([0.5, 1.5, -0.5, 0.5])
    sign = np.array([1, 1, -1, -1])
    up = robustness.excess(CLEAN, attacked, control, sign, 1)
    down = robustness.excess(CLEAN, attacked, control, sign, -1)
    np.testing.assert_array_equal(up, [1.5, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(down, [np.nan, np.nan, 1.5, 2.5])
    assert robustness.mean_over_sigma(up, CLEAN) == pytest.approx(1 / SIGMA)


def test_constant_clean_quality_has_no_unit():
    assert np.isnan(robustness.shift_over_sigma(np.ones(4), np.zeros(4)))
    m = cluster_multiplicities(np.arange(4), 5)
    assert np.isnan(robustness.resampled_mean_over_sigma(np.ones(4), np.ones(4), np.arange(4), m)).all()


@given(st.floats(0.1, 100), st.floats(-5, 5))
def test_affine_change_of_the_scale_changes_nothing(scale, offset):
    attacked = CLEAN + np.array([0.3, -0.1, 0.2, 0.7])
    expected = robustness.shift_over_sigma(CLEAN, attacked)
    got = robustness.shift_over_sigma(scale * CLEAN + offset, scale * attacked + offset)
    assert got == pytest.approx(expected, rel=1e-9)


def test_resamples_equal_the_figure_of_the_repeated_sample():
    rng = np.random.default_rng(1)
    clean, change = rng.normal(30, 1, 20), rng.normal(size=20)
    change[3] = np.nan
    codes, _ = cluster_codes(np.arange(20) % 7)
    m = cluster_multiplicities(codes, 25, seed=4)
    expected = [
        robustness.mean_over_sigma(np.repeat(change, times), np.repeat(clean, times))
        for times in sample_weights(m, codes)
    ]
    np.testing.assert_allclose(robustness.resampled_mean_over_sigma(change, clean, codes, m), expected, rtol=1e-9)
