"""FACPA: a generator learns once to perturb any image, and then attacks in one forward pass of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contracts import Attack, Budget, Objective, SampleRng, register

DEEPEST = 8
"""Halvings of the published generator: 256 px down to one."""


@register("facpa")
@dataclass(frozen=True)
class FACPA(Attack):
    """Fast adversarial CNN-based perturbation attack (Shumitskaya et al. 2023): delta = eps tanh(U-Net(distorted)).

    One generator per source and sign is fitted on the train split, to raise J / range of clean quality by Adam; it
    sees the distorted image alone, so an attack costs no evaluation of the metric. The defaults are the paper's network
    of 54.4 million parameters with 1,000 batches, which a GPU fits. On a CPU ``width: 16, depth: 5, iterations: 200``
    fits small images.

    Attributes:
        width: Channels of the first block; they double with each block, up to eightfold.
        depth: Blocks that halve the image, and as many that double it; None: as often as the smallest side of the first
            images allows, at most 8.
        iterations: Steps of training, one batch of the engine's each.
        learning_rate: Adam's.
        train_eps: Linf radius in training, in [0, 1] image units; an attack rescales to its own budget.
        crop: Side in pixels of the random window perturbed per image in training; images that are smaller, as a whole.
    """

    cite = "shumitskaya2023facpa"
    fits: ClassVar[bool] = True

    width: int = 64
    depth: int | None = None
    iterations: int = 1000
    learning_rate: float = 1e-3
    train_eps: float = 8 / 255
    crop: int = 256

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("iterations", 1), ("crop", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} should be at least {least}, got {getattr(self, name)}")
        if self.depth is not None and not 1 <= self.depth <= DEEPEST:
            raise ValueError(f"depth should be from 1 to {DEEPEST}, or left out, got {self.depth}")
        for name in ("learning_rate", "train_eps"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} should be above 0 and at most 1, got {getattr(self, name):g}")

    def uses_best(self) -> bool:
        """Never: nothing is evaluated."""
        return False

    def fit_batches(self) -> int:
        """One batch per step."""
        return self.iterations

    def fit(self, batches: Iterator[tuple[Objective, Tensor]], rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Train the generator against the objective of each batch; its state dict."""
        objective, images = next(batches)
        device = images.device
        side = min(self.crop, *images.shape[-2:])
        depth = self.depth or max(1, min(DEEPEST, side.bit_length() - 1))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**63)))
            generator = Generator(self.width, depth).to(device).train()
            optimiser = torch.optim.Adam(generator.parameters(), lr=self.learning_rate)
            for step in range(self.iterations):
                if step:
                    objective, images = next(batches)
                attacked = self._perturbed(generator, images, rng)
                _, gradient = objective.gradient(attacked.detach())
                optimiser.zero_grad()
                # The gradient of the loss, the mean of -J / scale, enters the graph where the metric's part ends.
                attacked.backward(-gradient / ((objective.scale or 1.0) * len(images)))
                optimiser.step()
        return {name: value.detach().clone() for name, value in generator.state_dict().items()}

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """The image plus eps times what the generator of its sign says."""
        signs = [int(sign) for sign in objective.sign.tolist()]
        generators = {sign: Generator.of(objective.fitted[sign]) for sign in set(signs)}
        with torch.no_grad():  # one by one: the rounding of a convolution depends on the size of its batch
            delta = torch.cat([generators[sign](images[i : i + 1]) for i, sign in enumerate(signs)])
        return budget.project(images + budget.eps.view(-1, 1, 1, 1) * delta, images)

    def _perturbed(self, generator: Generator, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Images in the box whose windows, one at random per image, are perturbed by train_eps."""
        height, width = images.shape[-2:]
        h, w = min(self.crop, height), min(self.crop, width)
        tops, lefts = (rng.integers(room + 1, size=len(images)) for room in (height - h, width - w))
        corners = list(zip(tops.tolist(), lefts.tolist(), strict=True))
        windows = torch.stack([image[:, y : y + h, x : x + w] for image, (y, x) in zip(images, corners, strict=True)])
        delta = self.train_eps * generator(windows)
        placed = [F.pad(d, (x, width - w - x, y, height - h - y)) for d, (y, x) in zip(delta, corners, strict=True)]
        return (images + torch.stack(placed)).clamp(0, 1)


class Generator(nn.Module):
    """U-Net of stride-2 4 x 4 convolutions and as many transposed ones: image in, values in (-1, 1) of its shape out.

    Instance norm without parameters, leaky ReLU down and ReLU up, dropout 0.5 in the first three blocks up. The first
    and the innermost block have no norm: the innermost may be one pixel, which has no variance.

    Args:
        width: Channels of the first block.
        depth: Blocks down, and up.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        channels = [width * min(2**i, 8) for i in range(depth)]
        plain = (0, depth - 1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1, bias=i in plain)
            for i, (a, b) in enumerate(pairwise([3, *channels]))
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=i == depth - 1)
            for i, (a, b) in enumerate(
                zip([channels[-1], *(2 * c for c in channels[-2::-1])], [*channels[-2::-1], 3], strict=True)
            )
        )

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Generator:
        """The trained generator of a state dict, which tells its width and depth."""
        depth = sum(name.startswith("down.") and name.endswith(".weight") for name in state)
        with torch.device("meta"):
            generator = cls(state["down.0.weight"].shape[0], depth)
        generator.load_state_dict(dict(state), assign=True)
        return generator.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Values in (-1, 1), N x 3 x H x W.

        Args:
            images: N x 3 x H x W in [0, 1], of any size: mirrored at the lower right up to a multiple of 2^depth.
        """
        height, width = images.shape[-2:]
        multiple = 2 ** len(self.down)
        rows, columns = (_mirrored(size, -(-size // multiple) * multiple, images.device) for size in (height, width))
        x = 2 * images[:, :, rows][..., columns] - 1
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x)
            if 0 < i < len(self.down) - 1:
                x = F.instance_norm(x)
            x = F.leaky_relu(x, 0.2)
            skips.append(x)
        for i, block in enumerate(self.up):
            x = block(x if i == 0 else torch.cat([x, skips[-1 - i]], dim=1))
            if i < len(self.up) - 1:
                x = F.relu(F.dropout(F.instance_norm(x), 0.5, self.training and i < 3))
        return torch.tanh(x)[..., :height, :width]


def _mirrored(size: int, padded: int, device: torch.device) -> Tensor:
    """Positions 0 .. size - 1, then back and forth until there are `padded`, as often as it takes."""
    period = max(1, 2 * (size - 1))
    place = torch.arange(padded, device=device) % period
    return torch.minimum(place, period - place).clamp(max=size - 1)
