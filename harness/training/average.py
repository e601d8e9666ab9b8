"""The running mean of the weights of a training, which is validated and kept in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential mean of a module's state; its beginning is forgotten faster, by decay min(ema, (1 + t) / (10 + t)).

    Args:
        module: What is trained: a metric, or one behind its link.
        ema: The decay; None keeps no mean, and the weights stand for themselves.
    """

    def __init__(self, module: nn.Module, ema: float | None) -> None:
        self._module, self._ema = module, ema
        self.state: dict[str, Tensor] = _copied(module) if ema is not None else {}

    def take_in(self, step: int) -> None:
        """The weights after a step, counted from 0."""
        if self._ema is None:
            return
        decay = min(self._ema, (1 + step) / (10 + step))
        for key, value in _copied(self._module).items():
            mean = self.state[key]
            if mean.is_floating_point():
                mean.mul_(decay).add_(value, alpha=1 - decay)
            else:
                mean.copy_(value)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.state = dict(state)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the module has the mean for its weights, where there is one."""
        if self._ema is None:
            yield
            return
        own = _copied(self._module)
        self._module.load_state_dict(self.state)
        try:
            yield
        finally:
            self._module.load_state_dict(own)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        return {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
