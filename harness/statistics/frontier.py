"""The frontier of clean and robust figures: what a path of models reaches at a given clean figure.

A path goes from a base to a defended model through weights interpolated between the two. Models at different places of
their trade-off cannot be compared by one robust figure; at equal clean figures they can.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.statistics.bootstrap import Floats


def common_levels(clean: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Two clean figures that every path passes: the lowest that all reach, and half way from there to the base.

    Args:
        clean: Of each path the clean figure of its points from the base on, shape [P, W], under W weightings of the
            sample; all paths begin at the same base.

    Returns:
        The levels, each of shape [W]: they are found anew under every weighting.
    """
    lowest: Floats = np.max([path.min(axis=0) for path in clean], axis=0)
    return lowest, (lowest + clean[0][0]) / 2


def at_level(clean: Floats, robust: Floats, level: Floats) -> Floats:
    """The robust figure where a path, straight between its points, first has a clean figure.

    Args:
        clean: Clean figure of the path's points from the base on, shape [P, W].
        robust: Their robust figure, shape [P, W].
        level: The clean figure, shape [W].

    Returns:
        Shape [W]; nan where the path does not come by that level.
    """
    found = np.full(level.shape, np.nan)
    for (a, b), (low, high) in zip(pairwise(clean), pairwise(robust), strict=True):
        here = np.isnan(found) & ((level - a) * (level - b) <= 0)
        share = np.divide(level - a, b - a, out=np.zeros_like(level), where=a != b)
        found = np.where(here, low + share * (high - low), found)
    return found
