import numpy as np
import pytest

from harness.statistics.bootstrap import weightings
from harness.statistics.masking import REACHED, SHARE, TOLERANCE, not_weaker, reaches, suited

CODES = np.arange(60) % 20
DRAWN = weightings(CODES, 200, 0)
CLEAN = np.linspace(-1, 1, 60)


def test_a_constant_difference_is_its_own_interval_in_standard_deviations():
    second = np.full(60, 0.3)
    figure = not_weaker(second - 0.1, second, CLEAN, CODES, DRAWN)
    assert figure.value == pytest.approx(-0.1 / CLEAN.std())
    assert figure.least == pytest.approx(-TOLERANCE - SHARE * 0.3 / CLEAN.std())
    assert figure.low <= figure.value <= figure.high < figure.least and not figure.holds
    assert not_weaker(second, second, CLEAN, CODES, DRAWN).holds


def test_what_lies_within_the_tolerance_holds():
    second = np.full(60, 0.3)
    allowed = TOLERANCE * CLEAN.std() + SHARE * 0.3
    assert not_weaker(second - 0.9 * allowed, second, CLEAN, CODES, DRAWN).holds
    assert not not_weaker(second - 1.3 * allowed, second, CLEAN, CODES, DRAWN).holds


def test_noise_is_rarely_a_failure_and_a_clear_order_always_is():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (300, 60))
    failed = [not not_weaker(one, np.zeros(60), CLEAN, CODES, DRAWN).holds for one in noise]
    assert np.mean(failed) < 0.06, "2.5 % in the limit of many references"
    failed = [not not_weaker(one - 1.5, np.zeros(60), CLEAN, CODES, DRAWN).holds for one in noise]
    assert np.mean(failed) > 0.99


def test_samples_without_a_value_do_not_count():
    first, second = np.where(CODES % 2, 0.1, np.nan), np.full(60, 0.3)
    figure = not_weaker(first, second, CLEAN, CODES, DRAWN)
    assert figure.samples == 30 and figure.value == pytest.approx(-0.2 / CLEAN.std())


def test_the_share_that_reaches_the_edge_of_the_clean_range():
    up, down = np.quantile(CLEAN, 0.95), np.quantile(CLEAN, 0.05)
    assert reaches(np.full(60, up), CLEAN, 1, CODES, DRAWN).value == 1
    assert reaches(np.full(60, down), CLEAN, -1, CODES, DRAWN).holds
    figure = reaches(np.where(CODES < 10, up + 1, 0.0), CLEAN, 1, CODES, DRAWN)
    assert figure.value == 0.5 and figure.least == REACHED and not figure.holds
    assert reaches(np.where(CODES < 17, up + 1, 0.0), CLEAN, 1, CODES, DRAWN).holds, "0.85, and 0.9 is within its noise"


def test_an_attack_is_suited_where_its_steps_cross_the_ball_and_are_finer_than_one():
    pgd = {"steps": 10, "step_size": 2 / 255}
    assert [suited(pgd, k / 255) for k in (2, 4, 8, 10, 11)] == [False, True, True, True, False]
    assert [suited(pgd | {"start": "zero"}, k / 255) for k in (2, 4, 20, 21)] == [False, True, True, False]
    assert suited({}, 1.0)
    assert suited(pgd | {"l2_step": 0.25}, 3.5, "l2") and not suited(pgd | {"l2_step": 0.05}, 3.5, "l2")


def test_a_constant_metric_has_no_figure():
    figure = not_weaker(np.ones(60), np.zeros(60), np.full(60, 0.5), CODES, DRAWN)
    assert np.isnan(figure.value) and np.isnan(figure.high)
