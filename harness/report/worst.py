"""Worst of the draws of a randomised defense: an attacker who is refused may ask again.

Of each image the draw most in the attacker's favour counts: a mean shift or a share of pairs is then worse than in any
one draw. A correlation need not be, since picking draws also takes noise out of the order: there the lowest counts, of
the draws and of that pick.
"""

from __future__ import annotations

import numpy as np

from harness.statistics.bootstrap import Floats


def asked_again(clean: Floats) -> bool:
    """Whether there are two draws or more to choose from; clean quality of shape [draws, N]."""
    return len(clean) > 1


def favoured_draw(sign: Floats, attacked: Floats, clean: Floats) -> tuple[Floats, Floats]:
    """Of each image the draw in which the attacker got furthest.

    Args:
        sign: +1 where quality is pushed up, -1 where down, shape [draws, N].
        attacked: Quality of the attacked images, shape [draws, N]; nan for images that do not count.
        clean: Quality of the unattacked ones, likewise. How far is from their mean over draws, or an attacker would
            gain by a draw in which the unattacked image fares badly.

    Returns:
        Attacked quality in that draw, and its distance from mean clean quality along the sign; each of shape [1, N].
    """
    gained = sign * (attacked - clean.mean(axis=0))
    pick = np.where(np.isnan(gained), -np.inf, gained).argmax(axis=0)[None]
    return np.take_along_axis(attacked, pick, axis=0), np.take_along_axis(gained, pick, axis=0)
