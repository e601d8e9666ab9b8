"""Neural optimal transport in one dimension: a map and a potential trained against each other (Korotin et al. 2023).

The map T minimises, and the potential f maximises, E[cost(x, T(x, z))] - E[f(T(x, z))] + E[f(y)]. With the strong cost
|x - T|^2 the map needs no noise; with the weak one, less the variance over the noise z, it is |x - E_z T|^2, and
what is used is the mean over z. Two networks of 64 units, seeded, on a CPU: a few seconds. They see the same quantiles
of both samples in every step, since the noise of batches is what a small network cannot average away. torch's global
generator is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from harness.statistics.bootstrap import Floats

_WIDTH, _HIDDEN = 64, 3
_STEPS, _MAP_STEPS = 300, 4
"""Steps of the potential, and those of the map before each."""
_RATE = 1e-3
_POINTS = 128
"""Quantiles of either sample."""
_NOISE, _NOISES, _NOISES_AFTER = 0.1, 4, 512
"""Standard deviation of z, its draws per sample in training, and those that the map is averaged over."""


def train_map(source: Floats, target: Floats, seed: int, weak: bool) -> Callable[[Floats], Floats]:
    """A map of one sample to another, of values of shape [N].

    Args:
        source: Shape [N], about in [0, 1].
        target: Shape [M], likewise.
        seed: Of weights, batches and noise.
        weak: Whether the cost is the weak one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mapper, potential = _network(2 if weak else 1), _network(1)
    draws = torch.Generator().manual_seed(seed)
    push = _Push(mapper, weak, draws)
    _train(push, potential, _quantiles(source), _quantiles(target))

    def apply(values: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(push(_column(values), _NOISES_AFTER).mean(dim=1), dtype=np.float64)

    return apply


class _Push:
    """Where the map sends values, for several draws of the noise."""

    def __init__(self, mapper: nn.Module, weak: bool, draws: torch.Generator) -> None:
        self.mapper, self.weak, self._draws = mapper, weak, draws

    def __call__(self, values: Tensor, noises: int) -> Tensor:
        """Shape [N, noises] of values [N, 1]; [N, 1] where there is no noise."""
        if not self.weak:
            sent: Tensor = self.mapper(values)
            return sent
        noise = _NOISE * torch.randn(len(values), noises, 1, generator=self._draws)
        sent = self.mapper(torch.cat([values[:, None].expand(-1, noises, -1), noise], dim=-1))
        return sent[..., 0]


def _train(push: _Push, potential: nn.Module, source: Tensor, target: Tensor) -> None:
    def optimiser(network: nn.Module, steps: int) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LRScheduler]:
        adam = torch.optim.Adam(network.parameters(), lr=_RATE, betas=(0.5, 0.9), fused=True)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)

    map_adam, map_rate = optimiser(push.mapper, _STEPS * _MAP_STEPS)
    potential_adam, potential_rate = optimiser(potential, _STEPS)
    for _ in range(_STEPS):
        potential.requires_grad_(False)
        for _ in range(_MAP_STEPS):
            sent = push(source, _NOISES)
            cost = (source - sent).square().mean() - (sent.var(dim=1).mean() if push.weak else 0.0)
            map_adam.zero_grad()
            (cost - potential(sent.reshape(-1, 1)).mean()).backward()
            map_adam.step()
            map_rate.step()
        potential.requires_grad_(True)
        with torch.no_grad():
            sent = push(source, _NOISES)
        potential_adam.zero_grad()
        (potential(sent.reshape(-1, 1)).mean() - potential(target).mean()).backward()
        potential_adam.step()
        potential_rate.step()


def _network(inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in [inputs] + [_WIDTH] * (_HIDDEN - 1):
        layers += [nn.Linear(width, _WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(_WIDTH, 1))


def _quantiles(sample: Floats) -> Tensor:
    return _column(np.quantile(sample, (np.arange(_POINTS) + 0.5) / _POINTS))


def _column(values: Floats) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]
