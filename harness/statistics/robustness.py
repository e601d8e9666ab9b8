"""How far an attack moved quality: the shift in standard deviations of clean quality, and its excess over a control.

A push counts along the attack: sign x (attacked - clean), so that a positive number means the attack got its way
whether it raised quality (sign +1) or lowered it (sign -1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.bootstrap import Floats, Ints, Multiplicities, ratio, resampled_mean


def push(clean: ArrayLike, attacked: ArrayLike, sign: ArrayLike = 1.0) -> Floats:
    """Change of quality along the attack's direction, per sample.

    Args:
        clean: Quality before, shape [N].
        attacked: Quality after, shape [N].
        sign: Direction of each sample, +1 or -1; shape [N] or a single number.
    """
    return np.asarray(sign) * (np.asarray(attacked, dtype=np.float64) - np.asarray(clean, dtype=np.float64))


def sigma(clean: ArrayLike) -> float:
    """Standard deviation (divisor N) of clean quality, the unit shifts are measured in."""
    values = np.asarray(clean, dtype=np.float64)
    return float(values.std()) if values.size else float("nan")


def mean_over_sigma(values: ArrayLike, clean: ArrayLike) -> float:
    """Mean of per-sample changes in units of `sigma`; nan values are left out.

    Args:
        values: Changes of quality, shape [N]; nan for samples that do not count.
        clean: Clean quality of all samples, shape [N].

    Returns:
        The figure; nan when clean quality is constant or no sample counts.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers, spread = numbers[~np.isnan(numbers)], sigma(clean)
    return float(numbers.mean() / spread) if numbers.size and spread > 0 else float("nan")


def shift_over_sigma(clean: ArrayLike, attacked: ArrayLike, sign: ArrayLike = 1.0) -> float:
    """Mean push in units of `sigma` (protocol: score shift). Arrays of shape [N]."""
    return mean_over_sigma(push(clean, attacked, sign), clean)


def excess(clean: ArrayLike, attacked: ArrayLike, control: ArrayLike, sign: ArrayLike, direction: int) -> Floats:
    """Push of the attack beyond that of a control at the same budget, per sample attacked in one direction.

    Args:
        clean: Quality before, shape [N].
        attacked: Quality after the attack, shape [N].
        control: Quality after the control, shape [N].
        sign: Direction of each sample, shape [N] or a single number.
        direction: +1 or -1: samples attacked the other way are nan.
    """
    beyond = push(clean, attacked, sign) - push(clean, control, sign)
    return np.where(np.asarray(sign) == direction, beyond, np.nan)


def resampled_sigma(clean: ArrayLike, codes: Ints, multiplicities: Multiplicities) -> Floats:
    """`sigma` of each resample, shape [B]. Codes of shape [N], multiplicities [B, C]."""
    values = np.asarray(clean, dtype=np.float64)
    centred = values - values.mean()
    mean = resampled_mean(centred, codes, multiplicities)
    return np.sqrt(np.maximum(resampled_mean(centred**2, codes, multiplicities) - mean**2, 0.0))


def resampled_mean_over_sigma(
    values: ArrayLike, clean: ArrayLike, codes: Ints, multiplicities: Multiplicities
) -> Floats:
    """`mean_over_sigma` of each resample, its sigma recomputed, shape [B]."""
    return ratio(resampled_mean(values, codes, multiplicities), resampled_sigma(clean, codes, multiplicities))
