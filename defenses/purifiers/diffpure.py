"""DiffPure: diffusion purification with a model of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from defenses.denoiser.purified import check_apply_to, purified
from defenses.denoiser.reverse import Reverse, resized
from defenses.diffusion_models import GUIDED, diffusion_model
from defenses.noise import seeds_of
from harness.contracts import Purifier, SampleRng, Tree, register


@register("diffpure")
@dataclass(frozen=True)
class DiffPure(Purifier):
    """Adds noise of t diffusion steps and takes it back with a diffusion model (Nie et al. 2022).

    https://arxiv.org/abs/2205.07460. No model comes with it, so `weights` has to name a safetensors file: of the model
    that the paper took for ImageNet, guided diffusion's unconditional one of 256 px (its state dict saved with
    safetensors), or of any ``UNet2DModel`` of diffusers, whose folder is then `model`; that needs the extra
    ``diffusion``. Where the model has learnt the variance of its steps it is used.

    The gradient is exact, with checkpointing, and the identity's as a surrogate; adaptive attacks try both.

    Attributes:
        t: Steps of noise, of the model's schedule (usually 1000). 5 is the usual choice for quality metrics; the paper
            has 150 for classifiers of ImageNet.
        steps: Reverse steps, 1 to t; by default all t.
        sampler: "ddpm", or "sde", the reverse-time equation by Euler-Maruyama.
        resize: "model" brings images to the size that the model was trained on and back, as the published code does;
            "pad" leaves their size, continued to the multiple of pixels that the model takes.
        model: "guided-diffusion-256", or the folder of a model of diffusers.
        apply_to: "both", reference and distorted image alike, or "dist", the distorted image alone.
    """

    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "both"

    t: int = 5
    steps: int | None = None
    sampler: Literal["ddpm", "sde"] = "ddpm"
    resize: Literal["model", "pad"] = "model"
    model: str = GUIDED
    apply_to: Literal["both", "dist"] = "both"

    def __post_init__(self) -> None:
        check_apply_to(self.apply_to)
        if self.resize not in ("model", "pad"):
            raise ValueError(f"resize should be model or pad, got {self.resize!r}")
        self._reverse()
        found = diffusion_model(self.model)
        if self.resize == "model" and found.size is None:
            raise ValueError(f"diffusion model {self.model} names no sample_size to resize to; take `resize: pad`")
        if self.resize == "model" and found.size and any(side % found.multiple for side in found.size):
            raise ValueError(
                f"diffusion model {self.model} has sample_size = {list(found.size)}, and its sides have to be "
                f"multiples of {found.multiple}; take `resize: pad`"
            )

    def network(self) -> nn.Module:
        """The model's network, untrained.

        Raises:
            ValueError: diffusers is needed and not there.
        """
        return diffusion_model(self.model).network()

    def applies_to_reference(self) -> bool:
        """As `apply_to` says."""
        return self.apply_to == "both"

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """The seed of each sample's noise, int64 of shape [N]."""
        return seeds_of(rng)

    def purify(self, images: Tensor, draw: Tree, network: nn.Module | None) -> Tensor:
        """Purified images, same shape; differentiable."""
        found, (height, width) = diffusion_model(self.model), images.shape[-2:]
        if self.resize == "model" and found.size is not None:
            images = resized(images, *found.size)
        back = purified(images, draw, network, self._reverse(), found.multiple)
        return resized(back, height, width).clamp(0, 1)

    def _reverse(self) -> Reverse:
        return Reverse(diffusion_model(self.model).schedule, self.t, self.steps, self.sampler)
