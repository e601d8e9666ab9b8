"""IR-Score: how little an attack moves scores, integrated over its budgets (Chistyakova et al. 2024; two readings).

The source's formula is not public. *Mean R* integrates the R-score of Zhang et al. (2022), the logarithm of how far a
score could have moved over how far it did; *relative area* compares the area under the mean movement with that of the
undefended metric, which makes undefended metrics 0. Scores are scaled so that clean ones fill [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from harness.statistics.bootstrap import Floats

Rule = Literal["trapezoid", "mean"]

UNMOVED = 1e-4
"""Scores that move less than this share of the range have an R of 4 and more, where .5 is usual."""
_STABILISER = 1e-6


def r_scores(clean: Floats, attacked: Floats) -> Floats:
    """R of each image: log10(max(1 - s, s) / (|s - s'| + 1e-6)); 6 and less, higher is more robust.

    Args:
        clean: Scaled clean scores s, of any shape.
        attacked: Attacked scores s' on the same scale, likewise.
    """
    room = np.maximum(1.0 - clean, clean)
    return np.asarray(np.log10(room / (np.abs(clean - attacked) + _STABILISER)))


def budget_weights(budgets: Sequence[float], rule: Rule) -> Floats:
    """What each budget weighs in the integral divided by its width, shape [E]; they add up to 1.

    >>> budget_weights([2, 4, 8, 10], "trapezoid").tolist()
    [0.125, 0.375, 0.375, 0.125]

    Args:
        budgets: Radii in increasing order, two or more for the trapezoid.
        rule: "trapezoid", or "mean" for all alike.

    Raises:
        ValueError: One budget has no width to integrate over.
    """
    if rule == "mean":
        return np.full(len(budgets), 1.0 / len(budgets))
    if len(budgets) < 2:
        raise ValueError("one budget has no width to integrate over")
    gaps = np.diff(np.asarray(budgets, dtype=np.float64))
    weights = np.zeros(len(budgets))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return np.asarray(weights / gaps.sum())
