import numpy as np
import pytest

from harness.statistics.bootstrap import weightings
from harness.statistics.masking import REACHED, SHARE, TOLERANCE, Figure, foretold, not_weaker, reaches, sloped, suited

CODES = np.arange(60) % 20
DRAWN = weightings(CODES, 200, 0)
CLEAN = np.linspace(-1, 1, 60)


def test_a_constant_difference_is_its_own_interval_in_standard_deviations():
    second = np.full(60, 0.3)
    figure = not_weaker(second - 0.1, second, CLEAN, CODES, DRAWN)
    assert figure.value == pytest.approx(-0.1 / CLEAN.std())
    assert figure.least == pytest.approx(-TOLERANCE - SHARE * 0.3 / CLEAN.std())
    assert figure.low <= figure.value <= figure.high < figure.least and figure.outcome == "FAIL"
    assert not_weaker(second, second, CLEAN, CODES, DRAWN).outcome == "pass"


def test_what_lies_within_the_tolerance_passes():
    second = np.full(60, 0.3)
    allowed = TOLERANCE * CLEAN.std() + SHARE * 0.3
    assert not_weaker(second - 0.8 * allowed, second, CLEAN, CODES, DRAWN).outcome == "pass"
    assert not_weaker(second - 1.3 * allowed, second, CLEAN, CODES, DRAWN).outcome == "FAIL"


def test_noise_is_rarely_a_failure_and_a_clear_order_always_is():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (300, 60))
    found = [not_weaker(one, np.zeros(60), CLEAN, CODES, DRAWN).outcome for one in noise]
    assert found.count("FAIL") < 0.06 * 300, "2.5 % in the limit of many references"
    assert found.count("inconclusive") > 0.8 * 300, "the noise is far larger than what is allowed"
    for shift, outcome in ((-1.5, "FAIL"), (1.5, "pass")):
        found = [not_weaker(one + shift, np.zeros(60), CLEAN, CODES, DRAWN).outcome for one in noise]
        assert found.count(outcome) > 0.99 * 300


def test_samples_without_a_value_do_not_count():
    first, second = np.where(CODES % 2, 0.1, np.nan), np.full(60, 0.3)
    figure = not_weaker(first, second, CLEAN, CODES, DRAWN)
    assert figure.samples == 30 and figure.value == pytest.approx(-0.2 / CLEAN.std())


def test_the_share_that_reaches_the_edge_of_the_clean_range():
    up, down = np.quantile(CLEAN, 0.95), np.quantile(CLEAN, 0.05)
    assert reaches(np.full(60, up), CLEAN, 1, CODES, DRAWN).value == 1
    assert reaches(np.full(60, down), CLEAN, -1, CODES, DRAWN).outcome == "pass"
    figure = reaches(np.where(CODES < 10, up + 1, 0.0), CLEAN, 1, CODES, DRAWN)
    assert figure.value == 0.5 and figure.least == REACHED and figure.outcome == "FAIL"
    figure = reaches(np.where(CODES < 17, up + 1, 0.0), CLEAN, 1, CODES, DRAWN)
    assert figure.value == 0.85 and figure.outcome == "inconclusive", "0.9 is within its noise"


def test_gradients_are_there_where_half_of_them_point_somewhere():
    backwards = np.full(60, 10.0)
    assert sloped(np.where(CODES < 1, 6, 5), backwards, CODES, DRAWN).value == 0.95
    assert sloped(np.full(60, 6), backwards, CODES, DRAWN).outcome == "FAIL"
    assert sloped(np.zeros(60), np.where(CODES < 5, 10, 0), CODES, DRAWN).samples == 15, "others took no gradient"


def test_gradients_foretell_where_the_disagreement_is_at_most_a_half():
    figure = foretold(np.where(CODES < 10, 0.5, np.nan), CODES, DRAWN)
    assert (figure.value, figure.samples, figure.outcome) == (1.0, 30, "pass")
    assert foretold(np.where(CODES < 5, 0.5, 0.51), CODES, DRAWN).outcome == "FAIL"


def test_what_speaks_most_against_a_claim_comes_first():
    passed, open_, failed = Figure(0.1, 0, 0.2, -0.1, 9), Figure(0, -0.3, 0.2, -0.1, 9), Figure(-1, -2, -0.2, -0.1, 9)
    worse, unknown = Figure(-3, -4, -2, -0.1, 9), Figure(0.1, np.nan, np.nan, -0.1, 9)
    assert sorted([passed, open_, failed, worse, unknown], key=lambda one: one.order) == [
        worse,
        failed,
        unknown,
        open_,
        passed,
    ]


def test_an_attack_is_suited_where_its_steps_cross_the_ball_and_are_finer_than_one():
    pgd = {"steps": 10, "step_size": 2 / 255}
    assert [suited(pgd, k / 255) for k in (2, 4, 8, 10, 11)] == [False, True, True, True, False]
    assert [suited(pgd | {"start": "zero"}, k / 255) for k in (2, 4, 20, 21)] == [False, True, True, False]
    assert suited({}, 1.0)
    assert suited(pgd | {"l2_step": 0.25}, 3.5, "l2") and not suited(pgd | {"l2_step": 0.05}, 3.5, "l2")


def test_a_constant_metric_has_no_figure():
    figure = not_weaker(np.ones(60), np.zeros(60), np.full(60, 0.5), CODES, DRAWN)
    assert np.isnan(figure.value) and np.isnan(figure.high)
