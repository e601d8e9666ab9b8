"""What cells of laid-out tables are told apart by, and how values of it are compared."""

from __future__ import annotations

from typing import Any

from harness.wording import budget_text

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
"""A name that a file can have."""
DIMENSIONS = (
    "dataset",
    "metric",
    "training",
    "defense",
    "threat",
    "attack",
    "direction",
    "norm",
    "budget",
    "statistic",
    "against",
    "subset",
    "trained_on",
    "split",
)
NO_ATTACK = "none"
"""The attack of clean figures."""
FURTHEST = "furthest of all"
"""In place of an attack: per image, the furthest of what all attacks and controls reached inside that budget."""
LOWEST_SROCC = "lowest SROCC of all"
"""In place of an attack: the lowest correlation under any one of them, or under the furthest of all."""
MEAN_OVER_ATTACKS = "mean over attacks"
"""In place of an attack: the mean of a figure over all of them."""
OVER_ALL = (FURTHEST, LOWEST_SROCC, MEAN_OVER_ATTACKS)
"""What stands in place of an attack and is none."""
NO_TRAINING = "base"
"""The training of a metric with its own weights."""
NO_PURIFIER = "none"
"""The defense of a metric without a purifier."""
ALL_BUDGETS = "all"
"""The budget of figures that are made of several."""
WHOLE_SET = "all"
"""The subset of figures of all samples."""


def written(dimension: str, value: Any) -> str:
    """A value as cells have it: a budget of 0.0313725 is written 8/255, everything else as it is."""
    if dimension == "budget" and isinstance(value, int | float):
        return budget_text("linf", value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def comparable(dimension: str, value: str) -> str:
    """What two spellings of one value have in common: radii are numbers, as 51/255 in linf is 0.2 in l2."""
    if dimension != "budget":
        return value
    over, _, under = value.partition("/")
    try:
        return f"{float(over) / float(under or 1):.4g}"
    except (ValueError, ZeroDivisionError):
        return value
