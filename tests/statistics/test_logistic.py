"""The logistic maps against scipy's curve_fit and maps that are known."""

import warnings

import numpy as np
import pytest
from scipy.optimize import curve_fit

from harness.statistics.logistic import fit_logistic


def as_published(count):
    """The formulas as papers write them, of quality as it is."""
    if count == 4:
        return lambda x, a, b, c, d: b + (a - b) / (1 + np.exp(-(x - c) / abs(d)))
    return lambda x, a, b, c, d, e: a * (0.5 - 1 / (1 + np.exp(b * (x - c)))) + d * x + e


TRUE = {4: (0.9, 0.1, 31.0, 2.5), 5: (0.6, 0.4, 30.0, 0.01, 0.2)}


@pytest.mark.parametrize("count", [4, 5])
def test_a_map_that_is_known_is_found_and_noise_leaves_what_scipy_finds(count):
    rng = np.random.default_rng(count)
    x = rng.uniform(20, 42, 300)
    formula = as_published(count)
    exact = formula(x, *TRUE[count])
    assert fit_logistic(x, exact, count)(x) == pytest.approx(exact, abs=1e-6)
    noisy = exact + rng.normal(0, 0.08, 300)
    theirs, _ = curve_fit(formula, x, noisy, p0=TRUE[count], maxfev=20_000)
    grid = np.linspace(15, 50, 36)  # the attacked scores lie outside of the clean ones
    assert fit_logistic(x, noisy, count)(grid) == pytest.approx(formula(grid, *theirs), abs=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        (np.full(20, 0.5), np.linspace(0, 1, 20), "different scores"),
        (np.arange(4.0), np.arange(4.0), "different scores"),
        (np.arange(20.0), np.full(20, 0.5), "all opinions are equal"),
        (np.array([np.inf, *np.arange(19.0)]), np.linspace(0, 1, 20), "not finite"),
        (np.arange(20.0), np.tile([0.0, 1.0], 10) * np.nan, "not finite"),
    ],
)
def test_where_it_fails_it_says_why_and_is_silent(x, y, why):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in (4, 5):
            found = fit_logistic(x, y, count)
            assert why in found.failed and np.isnan(found(x)).all()


def test_scores_without_relation_raise_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            rng = np.random.default_rng(seed)
            for count in (4, 5):
                found = fit_logistic(rng.normal(size=12), rng.uniform(size=12), count)
                assert found.failed or np.isfinite(found(np.array([-1e6, 0.0, 1e6]))).all()
