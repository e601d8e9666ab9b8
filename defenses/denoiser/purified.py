"""Diffusion purification of images in [0, 1] of any size, by the embedded denoiser or another model."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from defenses.denoiser.network import HIGHEST_STEP, Denoiser
from defenses.denoiser.reverse import Reverse, padded
from defenses.noise import seeds_of
from harness.contracts import Purifier, SampleRng, Tree


class DiffusionPurifier(Purifier):
    """What purifiers by diffusion share: one seed per sample, and a parameter that says which images are purified."""

    apply_to: Literal["both", "dist"]

    def __post_init__(self) -> None:
        if self.apply_to not in ("both", "dist"):
            raise ValueError(f"apply_to should be both or dist, got {self.apply_to!r}")

    def applies_to_reference(self) -> bool:
        """As `apply_to` says."""
        return self.apply_to == "both"

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """The seed of each sample's noise, int64 of shape [N]."""
        return seeds_of(rng)


def purified(
    images: Tensor, seeds: Tensor, network: nn.Module | None, reverse: Reverse, multiple: int = Denoiser.multiple
) -> Tensor:
    """Images after noise and reverse steps; their size is brought to multiples of a number and back.

    Args:
        images: N x 3 x H x W in [0, 1].
        seeds: One per image, int64 of shape [N].
        network: The model; see `predicted`.
        reverse: The way to noise and back.
        multiple: What the sides of the model's images have to be multiples of.

    Raises:
        ValueError: There is no network.
    """
    if network is None:
        raise ValueError("diffusion purification needs a network with its weights; call purify() with one")
    height, width = images.shape[-2:]
    back = reverse(padded(images, multiple) * 2 - 1, seeds, network)[..., :height, :width]
    return ((back + 1) / 2).clamp(0, 1)


def check_t(t: int) -> None:
    """Refuse steps of noise that the embedded denoiser has not been trained on.

    Raises:
        ValueError: t is not between 1 and 100.
    """
    if not 1 <= t <= HIGHEST_STEP:
        raise ValueError(
            f"t should be between 1 and {HIGHEST_STEP}, up to which the embedded denoiser was trained, got {t}"
        )
