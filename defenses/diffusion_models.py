"""Diffusion models of others: folders of diffusers and guided diffusion's checkpoint, as untrained networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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
_SCHEDULER = "scheduler_config.json"
_ENDS = {"beta_start": 1e-4, "beta_end": 0.02}
_MOST_STEPS = 100_000
_FOLLOWED: Mapping[str, Sequence[Any]] = {
    "prediction_type": ("epsilon",),
    "clip_sample": (True,),
    "clip_sample_range": (1,),
    "thresholding": (False,),
    "rescale_betas_zero_snr": (False,),
}
"""Settings of a scheduler that change its steps, and the values that purification follows; the variance beside them."""


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
    files: Sequence[Path] = ()
    """What was read of its folder."""

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
            raise ValueError(
                f"diffusion model {self.name}: diffusers cannot build it ({error}). Take another, or save it again"
            ) from error
        return network


def diffusion_model(model: str) -> DiffusionModel:
    """A diffusion model by its name or folder; builds nothing and needs no diffusers.

    Args:
        model: "guided-diffusion-256", or a folder that diffusers saved: of a ``UNet2DModel``, or of a whole pipeline
            with the model under ``unet`` and its scheduler under ``scheduler``. Without a ``scheduler_config.json`` the
            noise schedule is the linear one of 1000 steps. Nothing outside the folder is read, for it is the folder
            that counts by content.

    Raises:
        ValueError: There is no such folder, it holds another kind of model, one that does not predict the noise of
            colour images, or settings of a scheduler that purification does not follow.
    """
    if model == GUIDED:
        return DiffusionModel(GUIDED, Schedule.linear(), (SIZE, SIZE), MULTIPLE, None)
    whole = Path(model).expanduser()
    folder = whole / "unet" if (whole / "unet" / "config.json").is_file() else whole
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
    places = (folder, folder / "scheduler", whole / "scheduler")
    scheduler = next((file for place in places if (file := place / _SCHEDULER).is_file()), None)
    files = (folder / "config.json", *([scheduler] if scheduler else []))
    schedule = _schedule(scheduler, folder, model, learnt=config.get("out_channels", 3) == 6)
    return DiffusionModel(model, schedule, _size(config, model), 2**halvings, config, files)


def _size(config: Mapping[str, Any], model: str) -> tuple[int, int] | None:
    size = config.get("sample_size")
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"diffusion model {model} has sample_size = {size!r}; it should be one or two sides in pixels")
    return sides[0], sides[1]


def _schedule(file: Path | None, folder: Path, model: str, *, learnt: bool) -> Schedule:
    if file is None:
        _refuse_beside(folder, model)
        return Schedule.linear()
    config = _read(file, model)
    variances = ("learned_range",) if learnt else ("fixed_small", "fixed_small_log")
    for name, allowed in {**_FOLLOWED, "variance_type": variances}.items():
        if config.get(name, allowed[0]) not in allowed:
            raise ValueError(
                f"diffusion model {model}: {_SCHEDULER} has {name} = {json.dumps(config[name])}, and diffpure follows "
                f"{' or '.join(map(json.dumps, allowed))} alone; take another model, or a copy of it with that setting"
            )
    try:
        return _of_config(config)
    except ValueError as error:
        raise ValueError(f"diffusion model {model}: {_SCHEDULER}: {error}; take another model") from error


def _refuse_beside(folder: Path, model: str) -> None:
    """Refuse the part of a pipeline whose scheduler lies beside it, outside the folder that is named."""
    pipeline = folder.resolve().parent
    if (pipeline / "scheduler" / _SCHEDULER).is_file():
        raise ValueError(
            f"diffusion model {model} is part of a pipeline, whose noise schedule lies outside of it; give the "
            f"pipeline's folder {pipeline}"
        )


def _of_config(config: Mapping[str, Any]) -> Schedule:
    if (betas := config.get("trained_betas")) is not None:
        if not isinstance(betas, list):
            raise ValueError(f"trained_betas should be a list, got {json.dumps(betas)}")
        return Schedule(tuple(_number("trained_betas", beta) for beta in betas))
    steps = config.get("num_train_timesteps", LINEAR_STEPS)
    if type(steps) is not int or not 1 <= steps <= _MOST_STEPS:
        raise ValueError(f"num_train_timesteps should be between 1 and {_MOST_STEPS}, got {json.dumps(steps)}")
    first, last = (_number(name, config.get(name, value)) for name, value in _ENDS.items())
    match config.get("beta_schedule"):
        case "linear":
            return Schedule.linear(steps, first, last)
        case "scaled_linear":
            roots = Schedule.linear(steps, math.sqrt(first), math.sqrt(last))
            return Schedule(tuple(root**2 for root in roots.betas))
        case kind:
            raise ValueError(f"beta_schedule is {json.dumps(kind)}, and diffpure takes linear or scaled_linear")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{name} should be above 0 and below 1, got {json.dumps(value)}")
    return float(value)


def _read(file: Path, model: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"diffusion model {model}: {file} cannot be read ({error.strerror}). Give `model` a folder that diffusers "
            f"saved, or {GUIDED}"
        ) from error
    except ValueError as error:
        raise ValueError(f"diffusion model {model}: {file} is no JSON ({error}). Save the folder again") from error
    if not isinstance(found, dict):
        raise ValueError(f"diffusion model {model}: {file} holds no configuration. Save the folder again")
    return found
