import numpy as np
import pytest

from harness.statistics.ordering import level_credits, level_pairs, pristine_credits

REFERENCE = ["a", "a", "a", "a", "b", "b"]
GROUP = ["blur", "blur", "blur", "jpeg", "blur", "blur"]
LEVEL = [1, 3, 2, 1, 2, np.nan]


def test_level_pairs_stay_within_reference_and_group():
    weaker, stronger = level_pairs(REFERENCE, GROUP, LEVEL)
    assert sorted(zip(weaker.tolist(), stronger.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 1)]


def test_equal_levels_and_no_levels_make_no_pair():
    assert level_pairs(["a", "a"], ["x", "x"], [2, 2])[0].size == 0
    assert level_pairs(["a", "a"], ["x", "x"], [np.nan, np.nan])[0].size == 0


def test_l_test_clean_and_robust_by_hand():
    weaker, stronger = level_pairs(REFERENCE, GROUP, LEVEL)
    clean = np.array([0.9, 0.5, 0.5, 0.1, 0.2, 0.3])
    # 0 above 1, 0 above 2, and a tie of 2 with 1.
    assert level_credits(clean[weaker], clean[stronger]).mean() == pytest.approx(2.5 / 3)
    up, down = clean + 0.2, clean - 0.2
    # 0 down is 0.7, tied with 1 up and 2 up; 2 down is below 1 up.
    assert level_credits(np.round(down, 6)[weaker], np.round(up, 6)[stronger]).mean() == pytest.approx(1 / 3)


def test_d_test_by_hand():
    np.testing.assert_array_equal(pristine_credits([1.0, 1.0, 1.0], [0.4, 1.0, 1.2]), [1.0, 0.5, 0.0])
    assert pristine_credits([np.inf], [40.0]).tolist() == [1.0]
