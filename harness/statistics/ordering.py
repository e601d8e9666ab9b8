"""Two tests that need no opinion scores: L (stronger distortions score lower) and D (distortion is noticed at all).

An equal score counts half in both, clean and attacked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats, Ints
from harness.statistics.pairs import credit


def level_pairs(reference: ArrayLike, group: ArrayLike, level: ArrayLike) -> tuple[Ints, Ints]:
    """Pairs of images of one reference and one distortion group at different levels.

    Args:
        reference: Reference of each image, shape [N].
        group: Distortion group of each image, shape [N].
        level: Strength of the distortion, 1 = weakest, shape [N]; nan takes part in no pair.

    Returns:
        Positions of the weaker and of the stronger image of each pair, two arrays of shape [P].
    """
    levels = np.asarray(level, dtype=np.float64)
    _, first = np.unique(np.asarray(reference), return_inverse=True)
    groups, second = np.unique(np.asarray(group), return_inverse=True)
    key = first * max(len(groups), 1) + second
    order = np.argsort(key, kind="stable")
    weaker: list[Ints] = [np.empty(0, dtype=np.int64)]
    stronger: list[Ints] = [np.empty(0, dtype=np.int64)]
    for members in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        low, high = np.nonzero(levels[members][:, None] < levels[members][None, :])
        weaker.append(members[low].astype(np.int64))
        stronger.append(members[high].astype(np.int64))
    return np.concatenate(weaker), np.concatenate(stronger)


def level_credits(weaker: ArrayLike, stronger: ArrayLike) -> Floats:
    """L-test of each pair: 1 where the weaker distortion scores higher, a half where both score the same.

    The L-test's figure is the mean. Clean: both qualities clean. Robust: the weaker distortion attacked down and the
    stronger attacked up. Arrays of shape [P].
    """
    return credit(weaker, stronger)


def pristine_credits(pristine: ArrayLike, distorted: ArrayLike) -> Floats:
    """D-test of each image: 1 where it scores below its pristine reference, a half where both score the same.

    The D-test's figure is the mean. Arrays of shape [N]: quality of the reference against itself, and of the distorted
    image, clean or attacked up.
    """
    return credit(pristine, distorted)
