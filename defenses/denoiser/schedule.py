"""The noise schedule of denoising diffusion (Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LINEAR_STEPS = 1000
_LINEAR = (1e-4, 0.02)
"""First and last variance of the linear schedule."""


@dataclass(frozen=True)
class Schedule:
    """Variances beta_0 .. beta_{T-1} of the steps by which an image in [-1, 1] becomes noise.

    Step i makes x_{i+1} = sqrt(1 - beta_i) x_i + sqrt(beta_i) noise. After t steps the image is sqrt(kept(t - 1)) x_0
    + sqrt(1 - kept(t - 1)) noise, where kept(i) is the product of 1 - beta_j over j <= i (Eq. 4).

    Raises:
        ValueError: There is no variance, one is not between 0 and 1, or together they leave nothing of an image.
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        wrong = next((beta for beta in self.betas if not 0 < beta < 1), None)
        if wrong is not None or not len(self.betas):
            got = "none" if wrong is None else f"{wrong:g}"
            raise ValueError(f"every variance of a noise schedule should be above 0 and below 1, got {got}")
        if not (self.kept[0] < 1 and (self.kept.diff() < 0).all() and self.kept[-1] > 0):
            raise ValueError("a noise schedule should leave less of the image after every step, and never nothing")

    @classmethod
    def linear(cls, steps: int = LINEAR_STEPS, first: float = _LINEAR[0], last: float = _LINEAR[1]) -> Schedule:
        """Variances in equal steps; by default the 1000 of the paper, from .0001 to .02."""
        return cls(tuple(torch.linspace(first, last, steps, dtype=torch.float64).tolist()))

    @cached_property
    def kept(self) -> Tensor:
        """The product of 1 - beta up to and with each step, float64 of shape [T]; falls from nearly 1 to nearly 0."""
        return torch.cumprod(1 - torch.tensor(self.betas, dtype=torch.float64), 0)

    def noised(self, images: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """Images after step `index` (Eq. 4).

        Args:
            images: N x C x H x W in [-1, 1].
            noise: Standard normal, of the same shape.
            index: The last step taken, int64 of shape [N] in [0, T).
        """
        kept = self.kept.to(images.device)[index].view(-1, 1, 1, 1)
        return images * kept.sqrt().to(images.dtype) + noise * (1 - kept).sqrt().to(images.dtype)
