"""How many images may be attacked at once, by what those of the first batches took."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch

from harness.engine.costs import Key, attack_key
from harness.engine.memory import resident_mib
from harness.engine.memory_cap import MemoryCap
from harness.engine.peak import PeakMeter
from harness.suite.plan import Block

_SHARE = 0.8
"""Of what is free on a GPU, that a batch may take where nothing was said."""
_SPARE = 1.2
"""Times what an image of the first batches took."""
_COPIES = 4
"""Images of its own size that an attack takes for each at least, whatever was measured."""
_MOST_SLICES = 16
"""That are in flight at once."""


@dataclass
class Packing:
    """How many images may be attacked at once.

    Attributes:
        meter: Has measured what they take.
        mib: MiB that a batch may take; None for `_SHARE` of what is free on the GPU.
        cap: What the worker may take of the machine's memory; None where it is not limited.
    """

    meter: PeakMeter
    mib: int | None = None
    cap: MemoryCap | None = None
    _most: dict[tuple[Key, int, int], int] = field(default_factory=dict)

    def rows(self, key: Key, width: int, height: int) -> int | None:
        """Images of this size that may be attacked at once, at least one; None where nothing was measured.

        Args:
            key: The attack on its source.
            width: Of the images, in pixels.
            height: Likewise.
        """
        which = key, width, height
        if which not in self.meter.highest:
            return None
        image = 3 * 4 * width * height / 2**20
        fitting = int(self._allowed() / (_SPARE * max(self.meter.highest[which], _COPIES * image)))
        return max(min(fitting, self._most.get(which, fitting)), 1)

    def fewer(self, key: Key, width: int, height: int, rows: int) -> None:
        """So many were too many after all."""
        self._most[key, width, height] = max(rows // 2, 1)

    def slices(self, block: Block, images: int) -> int:
        """Blocks of this kind that may be attacked at once, at least one.

        Args:
            block: One of them.
            images: Of a block.
        """
        groups = {cell.attack_key: cell for cell in block.cells if cell.attack is not None}
        rows: dict[Key, int] = defaultdict(int)
        for cell in groups.values():
            if (key := attack_key(cell, self.meter.device.type)) is not None:
                rows[key] += images * len(cell.together or (cell.eps,))
        found = [1]
        for key, count in rows.items():
            fitting = [self.rows(*which) for which in self.meter.highest if which[0] == key]
            found.append(min((most or 0) // count for most in fitting) if fitting else 1)
        return min(max(found), _MOST_SLICES)

    def _allowed(self) -> float:
        if self.mib is not None:
            on_host = self.cap is not None and self.meter.device.type == "cpu"
            return min(self.mib, self.cap.mib - resident_mib("VmRSS")) if on_host and self.cap else float(self.mib)
        free, _ = torch.cuda.mem_get_info(self.meter.device)
        kept = torch.cuda.memory_reserved(self.meter.device) - torch.cuda.memory_allocated(self.meter.device)
        return _SHARE * (free + kept) / 2**20
