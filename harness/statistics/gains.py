"""The scores of MSU's benchmark of attacks on metrics (Antsiferova et al., AAAI 2024), on qualities.

Scores are scaled so that clean ones fill [0, 1], which attacked ones may leave. Of a metric whose score is the lower
the better, relative gains divide by that score, and count a fall as gain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from harness.statistics.bootstrap import Floats

_STABILISER = 1e-6


def absolute_gain(clean: Floats, attacked: Floats) -> Floats:
    """S' - s of each image, scaled qualities of any shape."""
    return np.asarray(attacked - clean)


def relative_gain(clean: Floats, attacked: Floats, lower_is_better: bool = False) -> Floats:
    """(s' - s) / (s + 1) of each image.

    Args:
        clean: Scaled qualities, of any shape.
        attacked: Likewise.
        lower_is_better: Whether s is 1 less the quality, and the gain its fall.
    """
    if lower_is_better:
        return -relative_gain(1 - clean, 1 - attacked)
    return np.asarray((attacked - clean) / (clean + 1))


def classic_relative_gain(clean: Floats, attacked: Floats, lower_is_better: bool = False) -> Floats:
    """(p' - p) / (p + 1e-6) of each image, p its score as the metric gives it; without meaning where scores cross 0.

    Args:
        clean: Qualities as they are, of any shape.
        attacked: Likewise.
        lower_is_better: Whether the score is the negative of the quality, and the gain its fall.
    """
    if lower_is_better:
        return -classic_relative_gain(-clean, -attacked)
    return np.asarray((attacked - clean) / (clean + _STABILISER))


def wasserstein_score(clean: Floats, attacked: Floats) -> float:
    """Distance W1 of the two distributions of scaled qualities, shape [N], with the sign of the shift of their mean."""
    return _signed(stats.wasserstein_distance, clean, attacked)


def energy_score(clean: Floats, attacked: Floats) -> float:
    """Energy distance, likewise."""
    return _signed(stats.energy_distance, clean, attacked)


def _signed(distance: Callable[[Floats, Floats], float], clean: Floats, attacked: Floats) -> float:
    return float(np.sign(attacked.mean() - clean.mean()) * distance(clean, attacked))
