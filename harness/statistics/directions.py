"""Which way each sample is attacked: +1 raises quality, -1 lowers it.

`up` and `down` are what attacks run; every other direction picks, sample by sample, between those two finished attacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Signs = NDArray[np.int64]


def up(count: int) -> Signs:
    """Raise the quality of every sample."""
    return np.ones(count, dtype=np.int64)


def down(count: int) -> Signs:
    """Lower the quality of every sample."""
    return -np.ones(count, dtype=np.int64)


def mos_split(opinion: ArrayLike, mean: float) -> Signs:
    """Raise what people rate at or below the mean, lower what they rate above it.

    Args:
        opinion: Opinion scores, shape [N].
        mean: Mean opinion score of the whole evaluated split, before any limit.
    """
    return np.where(np.asarray(opinion) <= mean, 1, -1)


def self_split(clean: ArrayLike, median: float) -> Signs:
    """Raise what the metric itself scores at or below its median, lower what it scores above; needs no opinions.

    Args:
        clean: Clean quality, shape [N].
        median: Median of the same metric's clean quality.
    """
    return np.where(np.asarray(clean) <= median, 1, -1)


def random_sign(samples: Sequence[str], seed: int) -> Signs:
    """A fair coin per sample, from a hash of the seed and the sample's name: the same whatever runs beside it."""
    digests = (hashlib.blake2b(f"{seed}\x00{name}\x00random_sign".encode(), digest_size=1).digest() for name in samples)
    return np.array([1 if digest[0] % 2 else -1 for digest in digests], dtype=np.int64)


TRIPLETS = {"both": "pair", "preferred_down": "preferred_down", "rejected_up": "rejected_up", "p0": "p0"}
"""Which of a triplet's patches are attacked -> the direction's name."""


def pair(judge: ArrayLike, direction: str = "pair") -> tuple[Signs, Signs]:
    """Triplets: raise the patch people rejected, lower the one they preferred.

    Args:
        judge: Share of people who preferred p1, shape [N]; p1 is preferred when it exceeds 0.5.
        direction: One of the values of `TRIPLETS`.

    Returns:
        Signs of p0 and of p1, each of shape [N]; 0 for a patch that is left alone.
    """
    p0 = np.where(np.asarray(judge) > 0.5, 1, -1)
    keep = {"preferred_down": (p0 < 0, p0 > 0), "rejected_up": (p0 > 0, p0 < 0), "p0": (p0 != 0, p0 == 0)}
    first, second = keep.get(direction, (p0 != 0, p0 != 0))
    return p0 * first, -p0 * second
