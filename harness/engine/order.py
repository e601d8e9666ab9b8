"""In which order workers are given blocks, so that none is left with a long one when the others have finished."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from harness.engine.costs import Cost, Key, seconds_of_blocks
from harness.engine.jobs import BlockJob, FactJob
from harness.engine.worker import Done, Job
from harness.suite.plan import Plan


class Paces:
    """How long each scorer took for its calibration samples: all that is known of its speed before it has a block."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[FactJob, float]] = {}
        self._seconds: dict[str, dict[str, float]] = {}

    def began(self, job: Job) -> None:
        """A worker begins a job."""
        if isinstance(job, FactJob):
            self._began[job.label] = job, time.monotonic()

    def ended(self, result: Done) -> None:
        """A job has ended."""
        if result.label in self._began and not result.failed:
            job, began = self._began.pop(result.label)
            self._seconds.setdefault(job.fact.scorer.key, {})[job.fact.split.key] = time.monotonic() - began

    def of(self, scorers: Sequence[str]) -> dict[str, float]:
        """Scorer -> seconds for the same samples; empty where they are not known of each."""
        found = [self._seconds.get(scorer, {}) for scorer in scorers]
        common = set.intersection(*map(set, found)) if found else set()
        if not common:
            return {}
        return {scorer: sum(own[split] for split in common) for scorer, own in zip(scorers, found, strict=True)}


def block_lengths(
    jobs: Sequence[BlockJob], plan: Plan, known: Mapping[Key, Cost], device: str, paces: Paces
) -> list[float]:
    """How long each block takes compared with the others.

    Where an attacked scorer has not been measured in any block, all are compared by their evaluations and by how long
    each scorer took to be calibrated.

    Args:
        jobs: What is to be done.
        plan: What they are of.
        known: Costs that earlier runs measured.
        device: Where they run.
        paces: What calibrating told in this run.
    """
    blocks = [job.block for job in jobs]
    sources = list(dict.fromkeys(block.source.key for block in blocks))
    measured = {key.scorer for key in known if key.device == device.partition(":")[0]}
    pace = {} if measured.issuperset(sources) else paces.of(sources)
    seconds = seconds_of_blocks(plan, blocks, {} if pace else known, device)
    return [pace.get(block.source.key, 1.0) * one for block, one in zip(blocks, seconds, strict=True)]


def longest_first(jobs: Sequence[BlockJob], lengths: Sequence[float]) -> list[BlockJob]:
    """Blocks, the longest first; of equal ones in the order given."""
    return [jobs[place] for place in sorted(range(len(jobs)), key=lambda place: -lengths[place])]
