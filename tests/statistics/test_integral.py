"""R-scores, their integral, and MSU's scores, against worked examples and scipy."""

import numpy as np
import pytest
from scipy import integrate, stats

from harness.statistics import gains
from harness.statistics.integral import budget_weights, r_scores


def test_r_of_the_worked_example():
    r = r_scores(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.6, 0.9]))
    assert r == pytest.approx([1.0, np.log10(5), 1.0], abs=1e-5)
    assert r.mean() == pytest.approx(0.8997, abs=5e-5)
    assert r_scores(np.array([0.5]), np.array([0.5])) == pytest.approx([np.log10(0.5) + 6]), "no movement at all"


@pytest.mark.parametrize("budgets", [[2, 4, 8, 10], [1, 16], [1, 2, 3.5]])
def test_the_integral_is_the_trapezoid_rule_over_its_width(budgets):
    values = np.random.default_rng(0).random(len(budgets))
    wanted = integrate.trapezoid(values, budgets) / (budgets[-1] - budgets[0])
    assert budget_weights(budgets, "trapezoid") @ values == pytest.approx(wanted, abs=1e-15)
    assert budget_weights(budgets, "mean") @ values == pytest.approx(values.mean())


def test_one_budget_has_a_mean_and_no_integral():
    assert budget_weights([8], "mean").tolist() == [1.0]
    with pytest.raises(ValueError, match="no width"):
        budget_weights([8], "trapezoid")


def test_gains_are_those_of_their_formulas():
    rng = np.random.default_rng(1)
    distance, attacked = rng.random(50) + 0.1, rng.random(50) + 0.1  # a metric whose score is the lower the better
    low, width = distance.min(), np.ptp(distance)
    s, changed = (distance - low) / width, (attacked - low) / width
    quality = [1 - s, 1 - changed]
    assert gains.absolute_gain(*quality) == pytest.approx(-(changed - s))
    assert gains.relative_gain(*quality, lower_is_better=True) == pytest.approx(-(changed - s) / (s + 1))
    assert gains.relative_gain(s, changed) == pytest.approx((changed - s) / (s + 1))
    raw = [-distance, -attacked]
    wanted = -(attacked - distance) / (distance + 1e-6)
    assert gains.classic_relative_gain(*raw, lower_is_better=True) == pytest.approx(wanted)


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_distances_have_the_sign_of_the_shift(shift):
    clean = np.random.default_rng(2).random(200)
    assert gains.wasserstein_score(clean, clean + shift) == pytest.approx(shift), "W1 of a shift is its length"
    energy = np.sign(shift) * stats.energy_distance(clean, clean + shift)
    assert gains.energy_score(clean, clean + shift) == pytest.approx(energy)
