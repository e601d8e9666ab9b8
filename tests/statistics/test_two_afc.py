import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.statistics.two_afc import hard_accuracy, hard_credits, soft_score


def test_by_hand():
    q0, q1, judge = [1.0, 0.0, 1.0, 0.5], [0.0, 1.0, 0.0, 0.5], [0.2, 0.8, 0.5, 1.0]
    # Sides with the majority twice, ties once, and one triplet has no majority.
    assert hard_accuracy(q0, q1, judge) == (pytest.approx(2.5 / 3), 1)
    assert soft_score(q0, q1, judge) == pytest.approx((0.8 + 0.8 + 0.5 + 0.5) / 4)


unit = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@given(arrays(float, 12, elements=unit), arrays(float, 12, elements=unit), arrays(float, 12, elements=unit))
def test_soft_score_is_the_formula_of_the_lpips_repository(d0, d1, judge):
    formula = (d0 < d1) * (1 - judge) + (d1 < d0) * judge + (d1 == d0) * 0.5
    assert soft_score(-d0, -d1, judge) == pytest.approx(formula.mean())


@given(arrays(float, 12, elements=unit), arrays(float, 12, elements=unit), arrays(float, 12, elements=unit))
def test_exchanging_the_patches_changes_nothing(q0, q1, judge):
    assert hard_accuracy(q0, q1, judge)[0] == pytest.approx(hard_accuracy(q1, q0, 1 - judge)[0])
    assert soft_score(q0, q1, judge) == pytest.approx(soft_score(q1, q0, 1 - judge))


def test_nothing_decided_is_nan():
    value, left_out = hard_accuracy([1.0], [0.0], [0.5])
    assert np.isnan(value) and left_out == 1
    assert np.isnan(hard_credits([1.0], [0.0], [np.nan])).all()
