"""What a recipe's loss asks of the metric, listened to: predictions of training batches, and how widely they vary."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, Tree
from harness.training.measures import COLLAPSE

NO_WINDOW = torch.zeros(0, 6, dtype=torch.float64)
"""The state of `Spread` before the first batch."""
_WINDOW = 20
"""Batches whose predictions are compared with their labels: narrow bands of labels each, together all of them."""


class Overheard(Metric):
    """The metric being trained, as a recipe sees it; remembers what it answered.

    Args:
        metric: The metric as quality in the label scale.
    """

    higher_is_better: ClassVar[bool] = True

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self.minimum_size = metric.minimum_size  # type: ignore[misc]
        self.begin()

    def begin(self) -> None:
        """Forget what was said before a step."""
        self.answers: list[Tensor] = []
        self.scored = 0
        """Images scored since."""
        self.differentiated = 0
        """Images whose score was differentiated since, once for every pass."""

    def encode(self, ref: Tensor) -> Tree:
        """The metric's own encoding."""
        return self.metric.encode(ref)

    def score(self, reference: Tree, dist: Tensor) -> Tensor:
        """The metric's score, [N]."""
        answer = self.metric.score(reference, dist)
        self.answers.append(answer.detach())
        self.scored += len(answer)
        if answer.requires_grad:
            answer.register_hook(self._differentiated)
        return answer

    def _differentiated(self, slope: Tensor) -> None:
        self.differentiated += len(slope)


class Spread:
    """std(prediction) / std(label) over the last training batches, and whether it has fallen to almost nothing.

    SROCC does not see a metric shrink to a constant, and it can be over before the first validation.

    Args:
        armed: Whether the alarm is on. What an untrained metric says varies by chance before it has learnt anything,
            and shrinks on the way: there the first validation at which it varies enough switches the alarm on.
    """

    def __init__(self, armed: bool = True) -> None:
        self.sums: deque[Tensor] = deque(maxlen=_WINDOW)
        """Of each batch: count, sum and sum of squares of predictions, the same of labels; float64 [6]."""
        self.armed = armed
        self.alarm: int | None = None
        """The first step at which it fell below the bar."""

    def hear(self, answers: Sequence[Tensor], target: Tensor) -> Tensor:
        """Take in a batch; the ratio over the window as a tensor without axes, nan until the window is full.

        Args:
            answers: What the metric said, each [any number].
            target: Labels, [N].
        """
        said = torch.cat([answer.flatten() for answer in answers]).double() if answers else target.new_zeros(0).double()
        labels = target.double()
        self.sums.append(torch.stack([part for values in (said, labels) for part in _moments(values)]))
        if len(self.sums) < _WINDOW:
            return torch.full((), torch.nan, device=target.device)
        total = torch.stack(list(self.sums)).sum(0)
        return _deviation(total[:3]) / _deviation(total[3:]).clamp_min(torch.finfo(torch.float64).tiny)

    def judge(self, ratio: float, step: int) -> bool:
        """Whether the alarm goes off at this very step."""
        if self.armed and self.alarm is None and ratio < COLLAPSE:
            self.alarm = step
            return True
        return False

    def state(self) -> Tensor:
        """The window as one tensor, [batches, 6]."""
        return torch.stack([sums.cpu() for sums in self.sums]) if self.sums else NO_WINDOW

    def restore(self, state: Tensor, armed: bool, alarm: int | None, device: torch.device) -> None:
        """Go on from a checkpoint."""
        self.sums = deque(state.to(device).unbind(0), maxlen=_WINDOW)
        self.armed, self.alarm = armed, alarm


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.tensor(float(values.numel()), dtype=torch.float64, device=values.device)
    return count, values.sum(), values.square().sum()


def _deviation(moments: Tensor) -> Tensor:
    """Standard deviation of (count, sum, sum of squares)."""
    count, total, squares = moments.unbind(0)
    return (squares / count - (total / count).square()).clamp_min(0).sqrt()
