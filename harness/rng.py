"""What belongs to a sample, its entry and its random generator; plugins have both from `harness.contracts`.

They stand here, because whoever reads a run folder needs entries and no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Norm = Literal["linf", "l2"]

HIGHEST_SEED = 2**64 - 1
"""The largest seed that the generators of torch and numpy both take; the least one is 0."""


@dataclass(frozen=True)
class Entry:
    """One item of a data set, known without decoding a pixel."""

    id: str
    reference_id: str
    opinion: float | None = None
    """Opinion score, higher is better, in [0, 1]: by the range of the train split, or the nominal scale without one."""
    raw: float | None = None
    """Opinion score as published."""
    judge: float | None = None
    """Triplets: share of people who preferred p1."""
    group: str = ""
    """Distortion type, or subset."""
    level: int | None = None
    """Strength of the distortion within its reference and group, 1 = weakest."""
    cluster: str = ""
    """Independent unit that the reference belongs to, such as the photograph that several references are cut from.

    Intervals leave out and resample whole units. Empty: the reference is one itself."""


class SampleRng:
    """One random generator per sample, seeded by hash(root seed, sample id, purpose).

    No metric, budget, batch, slice or worker enters the seed, so a sample sees the same draws whatever runs beside it.
    """

    def __init__(self, generators: Sequence[np.random.Generator], device: torch.device | str = "cpu") -> None:
        import torch  # not above: whoever reads a run folder needs the largest seed and no torch

        self._generators = list(generators)
        self._device = torch.device(device)

    @classmethod
    def for_samples(cls, seed: int, ids: Sequence[str], purpose: str, device: torch.device | str = "cpu") -> SampleRng:
        """Generators for the samples `ids` and one purpose (an attack's name, "keep", "score", ...)."""
        return cls([np.random.Generator(np.random.PCG64DXSM(_entropy(seed, i, purpose))) for i in ids], device)

    def __len__(self) -> int:
        return len(self._generators)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform float32 numbers in [low, high), shape [N, *shape]."""
        unit = self._stack([g.random(shape, dtype=np.float32) for g in self._generators], shape, np.float32)
        return unit * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32 numbers, shape [N, *shape]."""
        return self._stack([g.standard_normal(shape, dtype=np.float32) for g in self._generators], shape, np.float32)

    def signs(self, *shape: int) -> Tensor:
        """Fair -1 or +1 as float32, shape [N, *shape]."""
        return self.integers(2, *shape).float() * 2 - 1

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high), shape [N, *shape]."""
        return self._stack([g.integers(high, size=shape) for g in self._generators], shape, np.int64)

    def select(self, index: Tensor) -> SampleRng:
        """Generators of the given rows. The first mention of a row shares its stream; repeats get streams of their own.

        So restarts of one sample draw different numbers, and still the same ones in any batch.
        """
        seen: set[int] = set()
        chosen = []
        for row in index.tolist():
            generator = self._generators[row]
            chosen.append(generator.spawn(1)[0] if row in seen else generator)
            seen.add(row)
        return SampleRng(chosen, self._device)

    def _stack(self, draws: Sequence[Any], shape: tuple[int, ...], dtype: type) -> Tensor:
        import torch

        if not draws:
            return torch.from_numpy(np.empty((0, *shape), dtype=dtype)).to(self._device)
        return torch.from_numpy(np.stack([np.asarray(d, dtype=dtype) for d in draws])).to(self._device)


def _entropy(seed: int, sample: str, purpose: str) -> int:
    digest = hashlib.blake2b(f"{seed}\x00{sample}\x00{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big")
