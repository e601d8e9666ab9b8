"""Diffusion models of others: folders of diffusers and guided diffusion's checkpoint, as untrained networks."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from defenses.denoiser.schedule import LINEAR_STEPS, Schedule
from defenses.guided_unet import MULTIPLE, SIZE, GuidedUNet

GUIDED = "guided-diffusion-256"
"""The name of guided diffusion's unconditional model of 256 px."""
_CLASS = "UNet2DModel"
_INSTALL = "pip install 'robustiqa[diffusion]'"


@dataclass(frozen=True)
class DiffusionModel:
    """What purification has to know of a model besides its network."""

    name: str
    schedule: Schedule
    size: tuple[int, int] | None
    """Height and width of the images it was trained on; None where it does not say."""
    multiple: int
    """Sides of its images have to be multiples of this."""
    config: Mapping[str, Any] | None
    """Of diffusers; None is guided diffusion's."""

    def network(self) -> nn.Module:
        """The untrained network.

        Raises:
            ValueError: diffusers cannot be imported, or does not build a network of this configuration.
        """
        if self.config is None:
            return GuidedUNet()
        try:
            from diffusers import UNet2DModel
        except (ImportError, RuntimeError, OSError) as error:
            raise ValueError(f"diffusion model {self.name} needs diffusers ({error}); {_INSTALL}") from error
        try:
            network: nn.Module = UNet2DModel.from_config(dict(self.config))
        except (TypeError, ValueError, AssertionError, KeyError) as error:
            raise ValueError(f"diffusion model {self.name}: diffusers cannot build it: {error}") from error
        return network


@functools.lru_cache(maxsize=8)
def diffusion_model(model: str) -> DiffusionModel:
    """A diffusion model by its name or folder; builds nothing and needs no diffusers.

    Args:
        model: "guided-diffusion-256", or a folder that diffusers saved: of a ``UNet2DModel``, or of a whole pipeline
            with the model under ``unet``. Its noise schedule is read from the ``scheduler_config.json`` beside or under
            it; without one it is the linear one of 1000 steps.

    Raises:
        ValueError: There is no such folder, it holds another kind of model, or one that does not predict the noise of
            colour images.
    """
    if model == GUIDED:
        return DiffusionModel(GUIDED, Schedule.linear(), (SIZE, SIZE), MULTIPLE, None)
    folder = Path(model).expanduser()
    folder = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    config = _read(folder / "config.json", model)
    if config.get("_class_name", _CLASS) != _CLASS:
        raise ValueError(
            f"diffusion model {model} is a {config['_class_name']}; diffpure takes a {_CLASS} of diffusers"
        )
    for side in ("in_channels", "out_channels"):
        count, allowed = config.get(side, 3), (3,) if side == "in_channels" else (3, 6)
        if count not in allowed:
            raise ValueError(
                f"diffusion model {model} has {side} = {count}; purifying colour images takes "
                f"{' or '.join(map(str, allowed))}, so take a model of RGB images that is no latent one"
            )
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise ValueError(f"diffusion model {model} wants a class with each image; take an unconditional one")
    halvings = len(config.get("block_out_channels", (0, 0, 0, 0))) - 1
    return DiffusionModel(model, _schedule(folder, model), _size(config, model), 2**halvings, config)


def _size(config: Mapping[str, Any], model: str) -> tuple[int, int] | None:
    size = config.get("sample_size")
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"diffusion model {model} has sample_size = {size!r}; it should be one or two sides in pixels")
    return sides[0], sides[1]


def _schedule(folder: Path, model: str) -> Schedule:
    places = (folder, folder / "scheduler", folder.parent / "scheduler")
    file = next((f for place in places if (f := place / "scheduler_config.json").is_file()), None)
    if file is None:
        return Schedule.linear()
    config = _read(file, model)
    told = config.get("prediction_type", "epsilon")
    if told != "epsilon":
        raise ValueError(f"diffusion model {model} predicts {told!r} by {file.name}; diffpure takes one of 'epsilon'")
    if betas := config.get("trained_betas"):
        return Schedule(tuple(map(float, betas)))
    kind = config.get("beta_schedule", "linear")
    steps = int(config.get("num_train_timesteps", LINEAR_STEPS))
    first, last = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if kind == "linear":
        return Schedule.linear(steps, first, last)
    if kind == "scaled_linear":
        roots = Schedule.linear(steps, first**0.5, last**0.5)
        return Schedule(tuple(root**2 for root in roots.betas))
    raise ValueError(f"diffusion model {model} has the noise schedule {kind!r}; diffpure takes linear or scaled_linear")


def _read(file: Path, model: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"diffusion model {model}: {file} cannot be read ({error.strerror}). Give `model` a folder that diffusers "
            f"saved, or {GUIDED}"
        ) from error
    except ValueError as error:
        raise ValueError(f"diffusion model {model}: {file} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"diffusion model {model}: {file} holds no configuration")
    return found
