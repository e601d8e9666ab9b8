"""Timing conditions that no run has measured, on two images each, in a folder that is thrown away."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.engine.costs import Cost, Key, attack_key, merged, score_key
from harness.engine.jobs import BlockJob, FactJob
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Worker
from harness.plugins.registry import Registry
from harness.suite.plan import Block, Plan

_IMAGES = 2
_WARM_S = 5.0


def time_conditions(plan: Plan, registry: Registry, device: str, keys: frozenset[Key]) -> dict[Key, Cost]:
    """Time the conditions of the given keys.

    Attacks that learn first are left out: how long that takes is for them to say.

    Args:
        plan: The suite's plan.
        registry: Where its plugins come from.
        device: Where to run.
        keys: What is to be timed.
    """
    pairs = {(attack_key(cell, device), score_key(cell, device)): cell for cell in plan.cells if not cell.fits}
    chosen = {both: cell for both, cell in pairs.items() if keys.intersection(both)}
    facts = {cell.fact for cell in chosen.values()}
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(file.resolve() for file in registry.files)
        RunFolder(Path(folder)).open(plan.suite)
        worker = Worker(Context(Path(folder), files, plan.suite.seed, _IMAGES, device))
        for fact in (fact for fact in plan.facts if fact.id in facts):
            worker.execute(FactJob(fact))
        for cell in chosen.values():
            job = BlockJob(Block(cell.split, cell.source, 0, (cell,)))
            took = worker.execute(job).costs
            if sum(cost.seconds for cost in took) < _WARM_S:  # loading models and warming up was much of it
                took = worker.execute(job).costs
            costs += took
    return {key: cost for key, cost in merged(costs).items() if key in keys}
