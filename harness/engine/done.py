"""What of a plan is done in a run folder, and what of it failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engine.example_names import id_in
from harness.engine.run_folder import FailureRecord, RunFolder
from harness.engine.single_records import APPENDED, COMPACT
from harness.suite.cell_names import CLEAN
from harness.suite.plan import Cell, Fact, Fit, Plan, Probe
from harness.wording import budget_text

if TYPE_CHECKING:
    import pyarrow as pa


def done_slices(plan: Plan, store: RunFolder) -> dict[str, frozenset[int]]:
    """Cell id -> slices with nothing left to do: their records are there, and the examples that the suite asks for."""
    wanted, size = plan.suite.save_examples, plan.suite.slice_size
    found = store.slices_of({cell.id: record_misfit(plan, cell) for cell in plan.cells})
    for cell in plan.cells if wanted else ():
        if cell.attack is not None:
            last = min(wanted, len(plan.entries_of(cell)))
            asked = {i: min(size, last - i * size) for i in range(math.ceil(last / size))}
            exact = plan.suite.exact
            found[cell.id] -= {i for i, count in asked.items() if store.examples_kept(cell.id, i, exact=exact) < count}
    return found


def record_misfit(plan: Plan, cell: Cell) -> Callable[[int, pa.Table], str]:
    """What is wrong with records of a cell that carry no seal: rows that are not its own, or no numbers.

    Returns:
        Number of a slice and its records -> what is wrong, empty if nothing is seen.
    """
    attack = cell.attack.name if cell.attack else CLEAN

    def wrong(index: int, table: pa.Table) -> str:
        for name, own in (("norm", cell.norm), ("attack", attack), ("eps", cell.eps)):
            if set(table[name].to_pylist()) - {own}:
                return f"its {name} is {table[name].to_pylist()[0]}, not {own}"
        size = plan.suite.slice_size
        samples = [entry.id for entry in plan.entries[cell.split.key][index * size : (index + 1) * size]]
        rows = list(zip(table["item"].to_pylist(), table["draw"].to_pylist(), strict=True))
        if set(table["sample"].to_pylist()) != set(samples):
            return "its rows are not those of the samples of its slice"
        if len(set(rows)) != len(rows) or {(item, draw) for item, _ in rows for draw in range(cell.draws)} != set(rows):
            return f"it has not {cell.draws} draws of each item"
        for name in ("clean", "attacked", "attacked_8bit", "linf", "l2"):
            if not np.isfinite(table[name].to_numpy()).all():
                return f"not every number of '{name}' is finite"
        return ""

    return wrong


def cell_rows(plan: Plan, done: Mapping[str, frozenset[int]]) -> Iterator[dict[str, Any]]:
    """Every cell with its name, its slices and how many are done.

    ``group`` is its name without the budget.

    Args:
        plan: The plan.
        done: Cell id -> slices with nothing left to do.
    """
    for cell in plan.cells:
        slices, label = plan.slices_of(cell), cell.label
        finished = sum(index < slices for index in done[cell.id])
        group = label.removesuffix(f" eps {budget_text(cell.norm, cell.eps)}").removesuffix(" l2")
        yield {"cell": label, "group": group, "id": cell.id, "slices": slices, "done": finished}


def asked_for(plan: Plan) -> Callable[[str], bool]:
    """Whether a plan needs a file, by its path within the run folder; what is not of one cell or job always is."""
    last = {cell.id: plan.slices_of(cell) for cell in plan.cells}
    jobs: dict[str, Sequence[Fact | Fit | Probe]] = {"facts": plan.facts, "fits": plan.fits, "probes": plan.probes}
    ids = {part: {one.id for one in those} for part, those in jobs.items()}

    def asked(name: str) -> bool:
        part, *rest = Path(name).with_suffix("").parts
        if part == "records" and name.rpartition("/")[0] in (APPENDED, COMPACT):  # of many cells
            return True
        if part in ("records", "examples"):
            index = rest[1] if len(rest) > 1 and rest[1].isdecimal() else "0"
            return int(index) < last.get(id_in(rest[0]), 0)
        return part not in ids or rest[0] in ids[part]

    return asked


def relevant_failures(plan: Plan, store: RunFolder) -> list[FailureRecord]:
    """Noted failures of the plan's cells (in slices under its limit), facts and fits."""
    last = {cell.id: plan.slices_of(cell) for cell in plan.cells}
    last |= dict.fromkeys((p.id for p in plan.probes), 1) | dict.fromkeys((f.id for f in plan.facts), 1)
    last |= dict.fromkeys((f.id for f in plan.fits), 1)
    return [failure for failure in store.failures() if failure.slice < last.get(failure.cell, 0)]
