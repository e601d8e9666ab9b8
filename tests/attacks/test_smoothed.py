"""PGD on the noise-smoothed gradient: the optimum of a linear metric, its counts, and what it refuses."""

import pytest

from attacks.smoothed import Smoothed
from harness.testing import check_attack


def test_on_a_linear_metric_smoothing_changes_nothing(strike, linear, pairs):
    for sign in (1, -1):
        outcome = strike("smoothed", {"copies": 3}, linear, pairs, sign=sign)
        best = linear.optimum(pairs[1], "linf", 8 / 255, sign)
        assert ((outcome.gain - best).abs() <= 1e-4 * best).all()
        assert outcome.objective.ledger.backwards.tolist() == [30] * 4, "copies x steps"


def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, curved):
    same_in_any_batch("smoothed", {"steps": 3, "copies": 2}, curved)


def test_it_keeps_its_contract():
    check_attack(Smoothed(steps=3, copies=2))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"copies": 0}, {"step_size": 0.0}, {"sigma": 0.0}])
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Smoothed(**wrong)
