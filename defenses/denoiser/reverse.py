"""Diffusion purification: noise is added to an image and taken back step by step (Nie et al. 2022).

DiffPure, https://arxiv.org/abs/2205.07460: the forward process drowns an attack in noise, the reverse process of a
diffusion model restores the picture. All randomness follows from one seed per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from defenses.denoiser.schedule import Schedule
from defenses.noise import noise_of

Sampler = Literal["ddpm", "sde"]


@dataclass(frozen=True)
class Reverse:
    """The way to noise and back.

    Attributes:
        schedule: Of the model.
        t: Steps of noise, of the schedule's.
        steps: Evaluations of the model on the way back, spread evenly over the t steps; None takes all t.
        sampler: "ddpm", ancestral sampling (Ho et al. 2020, algorithm 2, with the posterior's variance or the one the
            model has learnt); or "sde", Euler-Maruyama steps of the reverse-time equation (Song et al. 2021, Eq. 6).
    """

    schedule: Schedule
    t: int
    steps: int | None = None
    sampler: Sampler = "ddpm"

    def __post_init__(self) -> None:
        most = len(self.schedule.betas)
        if not 1 <= self.t <= most:
            raise ValueError(f"t should be between 1 and {most}, the steps of the model's schedule, got {self.t}")
        if self.steps is not None and not 1 <= self.steps <= self.t:
            raise ValueError(f"steps should be between 1 and t = {self.t}, got {self.steps}")
        if self.sampler not in ("ddpm", "sde"):
            raise ValueError(f"sampler should be ddpm or sde, got {self.sampler!r}")

    def __call__(self, images: Tensor, seeds: Tensor, network: nn.Module) -> Tensor:
        """Images after noise and denoising.

        Where a gradient is asked for it is exact, and every step but an only one is run again for it (checkpointing),
        so that memory does not grow with the number of steps.

        Args:
            images: N x C x H x W in [-1, 1], of a size that the network takes.
            seeds: One per image, int64 of shape [N].
            network: See `predicted`.

        Returns:
            Images in [-1, 1], but for the noise that "sde" ends with.
        """
        indices = self.indices()
        start = torch.full((len(images),), indices[-1], device=images.device)
        x = self.schedule.noised(images, noise_of(seeds, images, 0), start)
        for place in reversed(range(len(indices))):
            x = _repeatable(self._step(indices, place, seeds, network), x, whole=len(indices) == 1)
        return x

    def indices(self) -> list[int]:
        """Steps of the schedule at which the model is asked, rising; the last one is t - 1."""
        count = self.steps or self.t
        return [math.ceil(self.t * (k + 1) / count) - 1 for k in range(count)]

    def _step(self, indices: list[int], place: int, seeds: Tensor, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """From step indices[place] to the one before it."""
        kept = self.schedule.kept
        now, before = float(kept[indices[place]]), float(kept[indices[place - 1]]) if place else 1.0
        beta = 1 - now / before
        index = torch.full((len(seeds),), indices[place], device=seeds.device)

        def step(x: Tensor) -> Tensor:
            noise, spread = predicted(network, x, index)
            if self.sampler == "sde":
                moved = x * (1 + beta / 2) - noise * (beta / math.sqrt(1 - now))
                return moved + math.sqrt(beta) * noise_of(seeds, x, place + 1)
            clean = ((x - math.sqrt(1 - now) * noise) / math.sqrt(now)).clamp(-1, 1)
            mean = clean * (math.sqrt(before) * beta / (1 - now)) + x * (
                math.sqrt(now / before) * (1 - before) / (1 - now)
            )
            if place == 0:
                return mean
            least = beta * (1 - before) / (1 - now)
            deviation = math.sqrt(least) if spread is None else _learnt(spread, least, beta)
            return mean + deviation * noise_of(seeds, x, place + 1)

        return step


def predicted(network: nn.Module, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a diffusion model says of noised images: the noise, and where the variance lies between its two bounds.

    Args:
        network: Called with the images and the step; returns N x C x H x W, or N x 2C x H x W where it has learnt the
            variance as well (Nichol and Dhariwal 2021, Eq. 15), by itself or as the field ``sample``.
        images: N x C x H x W.
        index: Step of the schedule, int64 of shape [N].

    Returns:
        The noise, and for a learnt variance a number for each value, -1 at the posterior's variance and 1 at beta.
    """
    found = network(images, index)
    tensor: Tensor = getattr(found, "sample", found)
    noise, *spread = tensor.to(images.dtype).split(images.shape[1], 1)
    return noise, spread[0] if spread else None


def _learnt(spread: Tensor, least: float, most: float) -> Tensor:
    share = (spread + 1) / 2
    return torch.exp(0.5 * (share * math.log(most) + (1 - share) * math.log(least)))


def _repeatable(step: Callable[[Tensor], Tensor], x: Tensor, whole: bool) -> Tensor:
    """A step whose insides are not remembered for the gradient; `whole` is the case where that would save nothing."""
    if whole or not (torch.is_grad_enabled() and x.requires_grad):
        return step(x)
    # The noise follows from seeds, so torch's own random state need not be put back.
    repeated: Tensor = checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)
    return repeated


def padded(images: Tensor, multiple: int) -> Tensor:
    """Images continued at the right and at the bottom by their last pixels, so that sides are multiples of a number."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images of another size: bilinear and, as in DiffPure's code, without a filter against aliasing."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    return functional.interpolate(images, (height, width), mode="bilinear", align_corners=False)
