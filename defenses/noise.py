"""Noise of purifiers, made from one seed per image: the same on every device and in every batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.contracts import SampleRng

_SEEDS = 2**63 - 1


def seeds_of(rng: SampleRng) -> Tensor:
    """One seed per sample, int64 of shape [N]: what a purifier that adds noise draws."""
    return rng.integers(_SEEDS)


def noise_of(seeds: Tensor, images: Tensor, stream: int = 0) -> Tensor:
    """Standard normal noise, as many values as images have; a function of the seeds and the size alone.

    Args:
        seeds: Int64 of shape [N].
        images: N x C x H x W; gives size, type and device.
        stream: Number of the noise, where several are made from one seed.
    """
    shape = tuple(images.shape[1:])
    # numpy's generator and not torch's: that one looks at 32 bits of a seed alone, and differs between devices.
    rows = [np.random.default_rng((seed, stream)).standard_normal(shape, np.float32) for seed in seeds.tolist()]
    return torch.from_numpy(np.stack(rows)).to(images.device, images.dtype)
