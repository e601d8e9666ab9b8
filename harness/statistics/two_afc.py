"""Two-alternative forced choice: does the metric prefer the patch that people prefer?

`judge` is the share of people who preferred p1 (BAPPS). Two figures go by the name of 2AFC accuracy; both are here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats
from harness.statistics.pairs import credit


def hard_credits(q0: ArrayLike, q1: ArrayLike, judge: ArrayLike) -> Floats:
    """1 where the metric sides with the majority, 0 where not, a half where both patches score the same.

    Args:
        q0: Quality of p0, shape [N].
        q1: Quality of p1, shape [N].
        judge: Share of people who preferred p1, shape [N].

    Returns:
        Shape [N]; nan where people were split evenly (judge = 0.5), which the hard accuracy leaves out.
    """
    share = np.asarray(judge, dtype=np.float64)
    prefers_p1 = credit(q1, q0)
    decided = np.where(share > 0.5, prefers_p1, 1.0 - prefers_p1)
    return np.where((share == 0.5) | np.isnan(share), np.nan, decided)


def soft_credits(q0: ArrayLike, q1: ArrayLike, judge: ArrayLike) -> Floats:
    """Share of people who agree with the metric, a half where both patches score the same (LPIPS' 2AFC score).

    Arrays of shape [N], as in `hard_credits`.
    """
    share = np.asarray(judge, dtype=np.float64)
    prefers_p1 = credit(q1, q0)
    return prefers_p1 * share + (1.0 - prefers_p1) * (1.0 - share)


def hard_accuracy(q0: ArrayLike, q1: ArrayLike, judge: ArrayLike) -> tuple[float, int]:
    """Hard accuracy and how many triplets it left out because people were split evenly. Arrays of shape [N]."""
    credits = hard_credits(q0, q1, judge)
    left_out = int(np.isnan(credits).sum())
    return (float(np.nanmean(credits)) if left_out < credits.size else float("nan")), left_out


def soft_score(q0: ArrayLike, q1: ArrayLike, judge: ArrayLike) -> float:
    """Mean of `soft_credits`; nan for no triplets. Arrays of shape [N]."""
    credits = soft_credits(q0, q1, judge)
    return float(credits.mean()) if credits.size else float("nan")
