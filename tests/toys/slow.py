"""What takes its time if the environment says so: every write to disk, and an attack. Results are the same either way."""

import os
import time
from dataclasses import dataclass

from harness.contracts import Attack, register

_SECONDS = float(os.environ.get("SLOW_SECONDS", "0"))

if _SECONDS:  # the real disk is so fast that hardly any kill would fall into a write
    _fsync = os.fsync

    def _slow_fsync(handle):
        time.sleep(_SECONDS)
        _fsync(handle)

    os.fsync = _slow_fsync


@register("leisurely")
@dataclass(frozen=True)
class Leisurely(Attack):
    """Signed steps from a random start, with a rest before each."""

    steps: int = 3

    def perturb(self, objective, images, budget, rng):
        eps = budget.eps.view(-1, 1, 1, 1)
        points = budget.project(images + eps * rng.uniform(*images.shape[1:], low=-1), images)
        for _ in range(self.steps):
            time.sleep(_SECONDS)
            _, gradient = objective.gradient(points)
            points = budget.project(points + 0.5 * eps * gradient.sign(), images)
        return objective.best()
