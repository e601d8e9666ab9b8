"""Training of the denoiser of `diffpure-mini`: ``python -m defenses.denoiser.train --out FILE.safetensors``.

It sees the train references of the data set `mini` and nothing else: 32 procedural images, of which it learns what
natural images share at the least noise, namely that they are smooth in parts. About nine minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from defenses.denoiser.network import HIGHEST_STEP, Denoiser
from defenses.denoiser.schedule import Schedule
from harness.datasets.mini import Mini
from harness.training.output import list_weights, write_weights

SHOWN_STEPS = (5, 10, 20, 50)
"""Steps of noise at which the error of one evaluation is told."""


@dataclass(frozen=True)
class Settings:
    """How it is trained."""

    steps: int = 1100
    batch: int = 16
    crop: int = 64
    learning_rate: float = 2e-3
    warm_up: int = 50
    averaging: float = 0.998
    """Of the exponential moving average of the weights, which is what is kept."""
    step_power: float = 1.5
    """Steps are drawn as 100 u^1.5 with u uniform: more often the first ones, which purification ends with."""
    gradient_clip: float = 1.0
    seed: int = 0


def references(split: str) -> Tensor:
    """Every reference of a split of `mini`, R x 3 x 128 x 128 in [0, 1]."""
    mini = Mini()
    first = {entry.reference_id: entry for entry in reversed(mini.entries(split))}
    return torch.stack([mini.load(first[name])["ref"] for name in sorted(first)])


def crops(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """A batch of random crops in [-1, 1]: turned, mirrored, channels permuted, contrast lowered, some inverted."""

    def below(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    batch = []
    for _ in range(settings.batch):
        image = images[below(len(images))]
        top, left = (below(side - settings.crop + 1) for side in image.shape[-2:])
        crop = image[:, top : top + settings.crop, left : left + settings.crop].rot90(below(4), (1, 2))
        if below(2):
            crop = crop.flip(2)
        crop = crop[torch.randperm(3, generator=generator)] * 2 - 1
        contrast = 0.4 + 0.6 * float(torch.rand(1, generator=generator))
        offset = (1 - contrast) * (2 * float(torch.rand(1, generator=generator)) - 1)
        batch.append((crop * contrast + offset) * (1 if below(2) else -1))
    return torch.stack(batch)


def loss_of(network: Denoiser, images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Mean squared error of the predicted noise (Ho et al. 2020, Eq. 14), at random steps."""
    unit = torch.rand(len(images), generator=generator)
    index = (HIGHEST_STEP * unit**settings.step_power).long().clamp(max=HIGHEST_STEP - 1)
    noise = torch.randn(images.shape, generator=generator)
    return functional.mse_loss(network(Schedule.linear().noised(images, noise, index), index), noise)


def train_denoiser(images: Tensor, settings: Settings, tell: Callable[[str], None]) -> Denoiser:
    """The denoiser trained on images in [0, 1], with averaged weights; the same for the same settings.

    Args:
        images: R x 3 x H x W, not smaller than the crop.
        settings: See there.
        tell: Gets a line of progress now and then.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    network, averaged = Denoiser(), Denoiser()
    averaged.load_state_dict(network.state_dict())
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    recent = 0.0
    for step in range(settings.steps):
        warm = min(1.0, (step + 1) / settings.warm_up)
        rate = settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        optimiser.param_groups[0]["lr"] = rate
        loss = loss_of(network, crops(images, settings, generator), settings, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
        with torch.no_grad():
            weight = 1 - min(settings.averaging, (step + 1) / (step + 10))  # the start is not averaged in for long
            for kept, new in zip(averaged.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, weight)
        recent += float(loss.detach())
        if (step + 1) % 50 == 0:
            tell(f"step {step + 1} of {settings.steps}: loss {recent / 50:.4f}")
            recent = 0.0
    return averaged.eval()


def decibels(network: Denoiser, images: Tensor, steps: int) -> tuple[float, float]:
    """PSNR in dB of images noised by some steps, and of what one evaluation makes of them; the mean over images."""
    generator = torch.Generator().manual_seed(steps)
    schedule = Schedule.linear()
    index = torch.full((len(images),), steps - 1)
    original = images * 2 - 1
    noised = schedule.noised(original, torch.randn(images.shape, generator=generator), index)
    kept = schedule.kept[steps - 1]
    with torch.no_grad():
        noise = torch.cat([network(a, b) for a, b in zip(noised.split(4), index.split(4), strict=True)])
    scale, spread = float(kept.sqrt()), float((1 - kept).sqrt())
    return _psnr(noised / scale, original), _psnr(((noised - spread * noise) / scale).clamp(-1, 1), original)


def _psnr(found: Tensor, original: Tensor) -> float:
    error = (found - original).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / error)).mean())


def gains(network: Denoiser, split: str) -> Mapping[str, list[float]]:
    """Steps of noise -> [dB before, dB after] on the references of a split of `mini`."""
    images = references(split)
    return {str(steps): [round(x, 2) for x in decibels(network, images, steps)] for steps in SHOWN_STEPS}


def entry(settings: Settings, network: Denoiser, minutes: float) -> dict[str, Any]:
    """What the weights manifest says of it."""
    return {
        "purifier": "diffpure-mini",
        "licence": "Apache-2.0",
        "recipe": {"name": "denoiser_mini", "module": "defenses.denoiser.train", **asdict(settings)},
        "trained_on": {
            "dataset": "mini",
            "split": "train",
            "references": len(references("train")),
            "labels": "none",
            "fingerprint": Mini().fingerprint(),
        },
        "psnr": {split: gains(network, split) for split in ("val", "test")},
        "minutes": minutes,
        "versions": {"torch": torch.__version__},
    }


def _main() -> None:
    """Train it, tell its errors on val and test references, and write weights and manifest entry."""
    parser = argparse.ArgumentParser(prog="python -m defenses.denoiser.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file; its manifest is beside it")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    given = parser.parse_args()
    if given.out.suffix != ".safetensors" or given.steps < 1:
        parser.error("--out should end with .safetensors, and --steps be at least 1")
    torch.set_num_threads(1)
    settings, begun = Settings(steps=given.steps, seed=given.seed), time.process_time()
    network = train_denoiser(references("train"), settings, lambda line: print(line, flush=True))
    listed = entry(settings, network, round((time.process_time() - begun) / 60, 1))
    for split, steps in listed["psnr"].items():
        for count, (before, after) in steps.items():
            print(f"{split} references after {count} steps of noise: {before:.2f} dB -> {after:.2f} dB")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(given.out, network.state_dict())
    list_weights(given.out, listed)


if __name__ == "__main__":
    _main()
