"""What is known of an item of a data set before a pixel is read; plugins have it from `harness.contracts`.

Apart from these, because whoever reads a run folder needs entries and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Entry:
    """One item of a data set, known without decoding a pixel."""

    id: str
    reference_id: str
    opinion: float | None = None
    """Opinion score, higher is better, in [0, 1]: by the range of the train split, or the nominal scale without one."""
    raw: float | None = None
    """Opinion score as published."""
    judge: float | None = None
    """Triplets: share of people who preferred p1."""
    group: str = ""
    """Distortion type, or subset."""
    level: int | None = None
    """Strength of the distortion within its reference and group, 1 = weakest."""
    cluster: str = ""
    """Independent unit that the reference belongs to, such as the photograph that several references are cut from.

    Intervals leave out and resample whole units. Empty: the reference is one itself."""
