"""Diffusion purification on the embedded denoiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from defenses.denoiser import Denoiser, Schedule
from defenses.denoiser.purified import DiffusionPurifier, check_t, purified
from defenses.denoiser.reverse import Reverse
from harness.contracts import Tree, register


@register("diffpure-mini", weights="diffpure-mini")
@dataclass(frozen=True)
class DiffPureMini(DiffusionPurifier):
    """DiffPure's procedure with a denoiser of 0.78 million weights that was trained on 32 procedural images.

    It is never the DiffPure of a paper's table: that one's model was trained on 1.3 million photographs and has 700
    times the weights; see `diffpure`. It needs no extra. Noise of t steps, then reverse steps (Nie et al. 2022,
    https://arxiv.org/abs/2205.07460). The gradient is exact, with checkpointing, and the identity's as a surrogate;
    adaptive attacks try both. Any size: images are continued to multiples of 8 pixels and cut again.

    Attributes:
        t: Steps of noise, of 1000, 1 to 100.
        steps: Reverse steps, 1 to t; by default all t.
        sampler: "ddpm", or "sde", the reverse-time equation by Euler-Maruyama.
        apply_to: "both", reference and distorted image alike, or "dist", the distorted image alone.
    """

    cite = "nie2022diffpure"
    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "both"

    t: int = 5
    steps: int | None = None
    sampler: Literal["ddpm", "sde"] = "ddpm"
    apply_to: Literal["both", "dist"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_t(self.t)
        self._reverse()

    def network(self) -> nn.Module:
        """The denoiser, untrained."""
        return Denoiser()

    def purify(self, images: Tensor, draw: Tree, network: nn.Module | None) -> Tensor:
        """Purified images, same shape; differentiable."""
        return purified(images, draw, network, self._reverse())

    def _reverse(self) -> Reverse:
        return Reverse(Schedule.linear(), self.t, self.steps, self.sampler)
