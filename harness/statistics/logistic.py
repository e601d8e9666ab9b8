"""The logistic maps from a metric's scale to that of the opinions which PLCC and RMSE are usually quoted after.

Fitted by least squares to standardised quality, from starting values of the data's own size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import least_squares

from harness.statistics.bootstrap import Floats

_MOST_EVALUATIONS = 1000
_TOLERANCE = 1e-6
"""Relative change of the error at which a fit ends: on nearly straight data the five parameters share a long valley."""


@dataclass(frozen=True)
class LogisticMap:
    """A fitted map, or why there is none."""

    parameters: tuple[float, ...]
    """As in the form's formula, of standardised quality; empty where the fit failed."""
    failed: str
    """Why, in words; empty where it did not."""
    mean: float
    spread: float
    curve: Callable[[Floats, Floats], Floats]

    def __call__(self, quality: ArrayLike) -> Floats:
        """The opinions that a quality of any shape stands for; nan where the fit failed."""
        given = np.asarray(quality, dtype=np.float64)
        if self.failed:
            return np.full(given.shape, np.nan)
        return self.curve((given - self.mean) / self.spread, np.array(self.parameters))


def four(z: Floats, b: Floats) -> Floats:
    """b2 + (b1 - b2) / (1 + exp(-(z - b3) / |b4|)): the S of VQEG's reports (2000), which levels off."""
    return np.asarray(b[1] + (b[0] - b[1]) * special.expit((z - b[2]) / max(abs(float(b[3])), 1e-12)))


def five(z: Floats, b: Floats) -> Floats:
    """b1 (1/2 - 1 / (1 + exp(b2 (z - b3)))) + b4 z + b5: an S on a line (Sheikh, Sabir & Bovik 2006, eq. 3)."""
    return np.asarray(b[0] * (special.expit(b[1] * (z - b[2])) - 0.5) + b[3] * z + b[4])


CURVES: Mapping[int, Callable[[Floats, Floats], Floats]] = {4: four, 5: five}


def fit_logistic(quality: ArrayLike, opinion: ArrayLike, count: int) -> LogisticMap:
    """Fit a map from quality to opinions.

    Args:
        quality: Shape [N].
        opinion: Opinion scores, shape [N].
        count: Number of parameters, 4 or 5.

    Returns:
        The map; it says itself why where there is none. No error is raised and no warning given.
    """
    x, y = np.asarray(quality, dtype=np.float64), np.asarray(opinion, dtype=np.float64)
    curve = CURVES[count]
    why = ""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        why = "a value is not finite"
    elif len(np.unique(x)) <= count:
        why = f"{count} parameters need more than {count} different scores"
    elif np.ptp(y) == 0:
        why = "all opinions are equal"
    if why:
        return LogisticMap((), why, 0.0, 1.0, curve)
    mean, spread = float(x.mean()), float(x.std())
    z = (x - mean) / spread
    start = [y.max(), y.min(), 0.0, 0.5] if count == 4 else [np.ptp(y), 1.0, 0.0, 0.0, y.mean()]

    def errors(b: Floats) -> Floats:
        return np.asarray(curve(z, b) - y)

    with np.errstate(all="ignore"):
        found = least_squares(errors, start, method="lm", ftol=_TOLERANCE, xtol=_TOLERANCE, max_nfev=_MOST_EVALUATIONS)
    if not found.success:
        why = f"no minimum in {_MOST_EVALUATIONS} evaluations"
    elif np.ptp(curve(z, found.x)) < 1e-6 * np.ptp(y):
        why = "the best map is a constant"
    return LogisticMap(() if why else tuple(found.x.tolist()), why, mean, spread, curve)
