"""What worker processes have of a machine: its cores, from which they stand back for whatever else it does."""

from __future__ import annotations

import os
from collections.abc import Callable

NICE = 10
"""Niceness of worker processes unless another is asked for: an idle machine loses nothing by it, and on a laptop the
person who works on it comes first."""


def stand_back(nice: int) -> None:
    """Take at least this niceness, 0 to 19; a process that is nicer already stays so. Nothing where there is none.

    Args:
        nice: 0 leaves the process as it is.
    """
    if hasattr(os, "nice"):
        os.nice(max(0, nice - os.nice(0)))


def cores() -> int:
    """Cores this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
