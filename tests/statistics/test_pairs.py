import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from harness.statistics.bootstrap import cluster_multiplicities, sample_weights
from harness.statistics.pairs import OpinionPairs, krocc, pair_counts


def brute_force(opinion, better, worse, margin=0.0):
    credits = [
        1.0 if better[i] > worse[j] else 0.5 if better[i] == worse[j] else 0.0
        for i, j in itertools.permutations(range(len(opinion)), 2)
        if opinion[i] > opinion[j] + margin
    ]
    return np.mean(credits) if credits else np.nan


def sample(seed, n=30, references=6):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, references, n)
    return rng.integers(0, 8, n) / 8, rng.integers(0, 9, n) / 4, rng.integers(0, 9, n) / 4, codes


@given(st.integers(0, 200), st.sampled_from([0.0, 0.2, 2.0]))
def test_accuracy_equals_a_loop_over_pairs(seed, margin):
    opinion, better, worse, codes = sample(seed)
    counts = pair_counts(opinion, better, worse, codes, 6, margin)
    assert counts.accuracy() == pytest.approx(brute_force(opinion, better, worse, margin), nan_ok=True)


def test_resamples_equal_a_loop_over_the_repeated_sample():
    opinion, better, worse, codes = sample(3)
    m = cluster_multiplicities(np.arange(6), 20, seed=1)
    got = pair_counts(opinion, better, worse, codes, 6).resampled(m)
    for value, times in zip(got, sample_weights(m, codes), strict=True):
        parts = [np.repeat(one, times) for one in (opinion, better, worse)]
        assert value == pytest.approx(brute_force(*parts))


def test_clean_accuracy_by_hand_and_ties_count_half():
    codes = np.array([0, 0, 1])
    quality = [1.0, 2.0, 2.0]
    counts = pair_counts([0.0, 0.5, 1.0], quality, quality, codes, 2)
    assert counts.accuracy() == pytest.approx((1 + 1 + 0.5) / 3)
    np.testing.assert_array_equal(counts.total, [[1, 0], [2, 0]])


@given(st.floats(-3, 3))
def test_a_lift_common_to_all_images_changes_nothing(lift):
    opinion, quality, _, codes = sample(5)
    lifted = np.round(quality + lift, 6)
    assert pair_counts(opinion, lifted, lifted, codes, 6).accuracy() == pytest.approx(
        pair_counts(opinion, np.round(quality, 6), np.round(quality, 6), codes, 6).accuracy()
    )


def test_counting_again_in_any_order_changes_no_count():
    opinion, better, worse, codes = sample(8)
    pairs = OpinionPairs(opinion, codes, 6)
    for lower in (worse, opinion, better, worse, better):
        alone = pair_counts(opinion, better, lower, codes, 6)
        np.testing.assert_array_equal(pairs.counts(better, lower).correct, alone.correct)


def test_krocc_is_scipys_tau_b_of_the_repeated_sample():
    opinion, quality, _, codes = sample(4)
    m = cluster_multiplicities(np.arange(6), 20, seed=2)
    unrated = np.append(opinion, np.nan), np.append(quality, 0.3), np.append(codes, 0)
    for y, q, where in ((opinion, quality, codes), unrated):
        got = krocc(OpinionPairs(y, where, 6), q, m)
        for value, times in zip(got, sample_weights(m, codes), strict=True):
            assert value == pytest.approx(kendalltau(np.repeat(quality, times), np.repeat(opinion, times)).statistic)
    assert np.isnan(krocc(OpinionPairs(opinion, codes, 6), np.ones(30), m)).all()
