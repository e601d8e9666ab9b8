"""Worker processes stand back for whatever else a machine does."""

from __future__ import annotations

import os

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
