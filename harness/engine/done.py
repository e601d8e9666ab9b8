"""What of a plan is done in a run folder, and what of it failed."""

from __future__ import annotations

import math
from typing import Any

from harness.engine.run_folder import FailureRecord, RunFolder
from harness.suite.plan import Plan
from harness.wording import budget_text


def done_slices(plan: Plan, store: RunFolder) -> dict[str, frozenset[int]]:
    """Cell id -> slices with nothing left to do: their records are there, and the examples that the suite asks for."""
    wanted, size = plan.suite.save_examples, plan.suite.slice_size
    found = {}
    for cell in plan.cells:
        done = store.slices(cell.id)
        if wanted and cell.attack is not None:
            last = min(wanted, len(plan.entries_of(cell)))
            asked = {i: min(size, last - i * size) for i in range(math.ceil(last / size))}
            done -= {i for i, count in asked.items() if store.examples_kept(cell.id, i) < count}
        found[cell.id] = done
    return found


def cell_rows(plan: Plan, store: RunFolder) -> list[dict[str, Any]]:
    """Every cell with its name, its slices and how many are done; ``group`` is its name without the budget."""
    done = done_slices(plan, store)
    rows = []
    for cell in plan.cells:
        slices, label = plan.slices_of(cell), cell.label
        finished = sum(index < slices for index in done[cell.id])
        group = label.removesuffix(f" eps {budget_text(cell.norm, cell.eps)}").removesuffix(" l2")
        rows.append({"cell": label, "group": group, "id": cell.id, "slices": slices, "done": finished})
    return rows


def relevant_failures(plan: Plan, store: RunFolder) -> list[FailureRecord]:
    """Noted failures of the plan's cells (in slices under its limit), facts and fits."""
    last = {cell.id: plan.slices_of(cell) for cell in plan.cells}
    last |= dict.fromkeys((p.id for p in plan.probes), 1) | dict.fromkeys((f.id for f in plan.facts), 1)
    last |= dict.fromkeys((f.id for f in plan.fits), 1)
    return [failure for failure in store.failures() if failure.slice < last.get(failure.cell, 0)]
