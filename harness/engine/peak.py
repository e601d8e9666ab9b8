"""What batches take of a device's memory at their peak: measured on the first of each kind and image size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from harness.engine.costs import Key, Peak
from harness.engine.memory import forget_peak, give_back_freed, resident_mib

_TIMES_ON_CPU = 2
"""How often a kind is measured on a CPU: pages that are handed back for it have to be cleared again."""


@dataclass
class PeakMeter:
    """Measures the peaks of batches, and keeps them until they are asked for.

    On a GPU that is what torch has allocated there, of every batch. On a CPU it is what of the process lies in memory,
    of the first two batches of a kind and size.

    Attributes:
        device: Where the batches are.
    """

    device: torch.device
    highest: dict[tuple[Key, int, int], float] = field(default_factory=dict)
    """Kind of work, width and height -> the most MiB for each image that were ever measured."""
    _times: dict[tuple[Key, int, int], int] = field(default_factory=dict)
    _found: dict[Key, list[Peak]] = field(default_factory=dict)

    @contextlib.contextmanager
    def watching(self, key: Key | None, width: int, height: int, rows: int) -> Iterator[None]:
        """Measure what is done inside, where it is of use and the system tells.

        Args:
            key: The kind of work; None is not measured.
            width: Of the images, in pixels.
            height: Likewise.
            rows: Images that are worked on at once.
        """
        before = None if key is None or not rows else self._begin(key, width, height)
        yield
        if before is None or key is None:
            return
        each, which = max(self._peak() - before, 0.0) / rows, (key, width, height)
        self._times[which] = self._times.get(which, 0) + 1
        self.highest[which] = max(each, self.highest.get(which, 0.0))
        self._found.setdefault(key, []).append(Peak(width, height, round(each, 3), round(before, 3), rows))

    def found(self, key: Key) -> list[Peak]:
        """What was measured of a kind of work since this was asked last."""
        return self._found.pop(key, [])

    def _begin(self, key: Key, width: int, height: int) -> float | None:
        """MiB there now, from where the peak is followed; None where it is not to be measured."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device) / 2**20
        if self.device.type != "cpu" or self._times.get((key, width, height), 0) >= _TIMES_ON_CPU:
            return None
        try:
            give_back_freed()
            forget_peak()
        except OSError:
            return None
        return resident_mib("VmRSS")

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resident_mib("VmHWM")
