"""In which order workers are given blocks, so that none is left with a long one when the others have finished."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engine.jobs import BlockJob


def longest_first(jobs: Sequence[BlockJob], lengths: Sequence[float]) -> list[BlockJob]:
    """Blocks, the longest first; of equal ones in the order given.

    Args:
        jobs: The blocks.
        lengths: What each costs, as `harness.engine.costs.seconds_of_blocks` compares them.
    """
    return [jobs[place] for place in sorted(range(len(jobs)), key=lambda place: -lengths[place])]
