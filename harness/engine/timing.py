"""Timing conditions that no run has measured, on two images each, in a folder that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.engine.costs import Cost, Key, attack_key, merged, score_key
from harness.engine.jobs import BlockJob, FactJob
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Worker
from harness.plugins.registry import Registry
from harness.suite.plan import Block, Cell, Plan, SplitSpec
from harness.wording import for_one_line

_IMAGES = 2
_WARM_S = 5.0


def time_conditions(
    plan: Plan, registry: Registry, device: str, keys: frozenset[Key], say: Callable[[str], None]
) -> dict[Key, Cost]:
    """Time the conditions of the given keys.

    Attacks that learn first are left out: how long that takes is for them to say.

    Args:
        plan: The suite's plan.
        registry: Where its plugins come from.
        device: Where to run.
        keys: What is to be timed.
        say: Is told of each condition before it is timed, and of scorers that are calibrated for them.
    """
    pairs = {(attack_key(cell, device), score_key(cell, device)): cell for cell in plan.cells if not cell.fits}
    chosen = {both: cell for both, cell in pairs.items() if keys.intersection(both)}
    facts = {cell.fact for cell in chosen.values()}
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(file.resolve() for file in registry.files)
        RunFolder(Path(folder)).open(plan.suite)
        worker = Worker(Context(Path(folder), files, plan.suite.seed, _IMAGES, device))
        needed = [fact for fact in plan.facts if fact.id in facts]
        several = len({cell.split.key for cell in chosen.values()}) > 1
        for number, fact in enumerate(needed, 1):
            say(for_one_line(f"calibrating {number} of {len(needed)}: {fact.scorer.label}{_on(fact.split, several)}"))
            worker.execute(FactJob(fact))
        for number, cell in enumerate(chosen.values(), 1):
            say(for_one_line(f"timing {number} of {len(chosen)}: {_title(cell)}{_on(cell.split, several)}"))
            job = BlockJob(Block(cell.split, cell.source, 0, (cell,)))
            took = worker.execute(job).costs
            if sum(cost.seconds for cost in took) < _WARM_S:  # loading models and warming up was much of it
                took = worker.execute(job).costs
            costs += took
    return {key: cost for key, cost in merged(costs).items() if key in keys}


def _on(split: SplitSpec, several: bool) -> str:
    return f" on {split.label}" if several else ""


def _title(cell: Cell) -> str:
    """'lpips-alex / cw', 'lpips-alex' of clean images; the scorer after it where another one is attacked."""
    attacked = " / ".join([cell.source.label, *([cell.attack.label] if cell.attack else [])])
    return attacked if cell.scorer.key == cell.source.key else f"{attacked}, scored by {cell.scorer.label}"
