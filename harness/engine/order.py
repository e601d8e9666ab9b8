"""In which order workers are given blocks, so that none is left with a long one when the others have finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.engine.costs import Cost, Key, seconds_of_blocks
from harness.engine.jobs import BlockJob
from harness.suite.plan import Plan


def longest_of_all_first(
    jobs: Sequence[BlockJob], plan: Plan, known: Mapping[Key, Cost], device: str, paces: Mapping[Key, Cost]
) -> list[BlockJob]:
    """Blocks, the longest first; of equal ones in the plan's order.

    Args:
        jobs: What is to be done.
        plan: What they are of.
        known: Costs that earlier runs measured.
        device: Where they run.
        paces: What calibrating took, in earlier runs and in this one.
    """
    seconds = seconds_of_blocks(plan, [job.block for job in jobs], known, device, paces)
    return [jobs[place] for place in sorted(range(len(jobs)), key=lambda place: -seconds[place])]
