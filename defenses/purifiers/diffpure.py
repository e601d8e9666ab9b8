"""DiffPure: diffusion purification with a model of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from defenses.denoiser.purified import DiffusionPurifier, purified
from defenses.denoiser.reverse import Reverse, resized
from defenses.diffusion_models import GUIDED, DiffusionModel, diffusion_model
from harness.contracts import Tree, register
from harness.plugins.contents import paths_in


@register("diffpure")
@dataclass(frozen=True)
class DiffPure(DiffusionPurifier):
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
        resize: "model" brings images to the size that the model was trained on and back, as the published code does
            (bilinear, no filter against aliasing); "pad" leaves their size, continued to the multiple of pixels that
            the model takes.
        model: "guided-diffusion-256", or the folder of a model of diffusers, or of a whole pipeline, written with a
            slash (./ddpm) so that it counts by content.
        apply_to: "both", reference and distorted image alike, or "dist", the distorted image alone.
    """

    cite = "nie2022diffpure"
    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "both"

    t: int = 5
    steps: int | None = None
    sampler: Literal["ddpm", "sde"] = "ddpm"
    resize: Literal["model", "pad"] = "model"
    model: str = GUIDED
    apply_to: Literal["both", "dist"] = "both"

    @classmethod
    def cited(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """With guided diffusion's model, its paper too; another model is the user's to cite."""
        own = ("nie2022diffpure",)
        return (*own, "dhariwal2021diffusion") if parameters["model"] == GUIDED else own

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize not in ("model", "pad"):
            raise ValueError(f"resize should be model or pad, got {self.resize!r}")
        found = self._found
        if not {*found.files} <= {*paths_in(self.model, folders=True)}:
            folder = Path(self.model).expanduser().resolve()
            path = f"./{self.model}" if folder.name == self.model else folder
            raise ValueError(
                f"model {self.model!r} would not count by content: write {path}, with no link to a folder in it"
            )
        Reverse(found.schedule, self.t, self.steps, self.sampler)
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
        return self._found.network()

    def purify(self, images: Tensor, draw: Tree, network: nn.Module | None) -> Tensor:
        """Purified images, same shape; differentiable."""
        found, (height, width) = self._found, images.shape[-2:]
        if self.resize == "model" and found.size is not None:
            images = resized(images, *found.size)
        reverse = Reverse(found.schedule, self.t, self.steps, self.sampler)
        back = purified(images, draw, network, reverse, found.multiple)
        return resized(back, height, width).clamp(0, 1)

    @cached_property
    def _found(self) -> DiffusionModel:
        """The model as its folder was when this was built."""
        return diffusion_model(self.model)
