"""What running a suite would do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import (
    AsJson,
    Device,
    Limit,
    Only,
    PluginFiles,
    Seed,
    Sets,
    SuitePath,
    Workers,
    check_device,
    checked_suite,
    console,
    print_json_rows,
    registry_of,
)

if TYPE_CHECKING:
    from harness.engine.costs import Estimate
    from harness.suite.plan import Plan

_CELLS_SHOWN = 100
_PRINTED_AT_ONCE = 1000


@verb("Run", 3)
def _plan(
    suite: SuitePath,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    workers: Workers = None,
    device: Device = None,
    time_it: Annotated[
        bool, typer.Option("--time", help="Time what no earlier run has measured, on two images of each condition.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="A line for every cell, however many there are.")] = False,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say what running a suite would do: cells, what is done already, and how long the rest may take.

    The time comes from what runs in the same folder and in those beside it measured. Example: robustiqa plan
    quickstart --time
    """
    from harness.engine.costs import estimate, read_costs
    from harness.engine.done import cell_rows, done_slices
    from harness.engine.executors.choice import default_device, worker_count
    from harness.engine.run_folder import RunFolder
    from harness.engine.stages import Options
    from harness.files import RUNS
    from harness.suite.compose import Overrides
    from harness.suite.planning import MOST_UNASKED, make_plan, many_cells

    registry = registry_of(plugin)
    found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    check_device(device)
    device = device or default_device()
    store = RunFolder(out or RUNS / found.name)
    made = make_plan(found, registry, store.read_pixels)
    done = done_slices(made, store)
    blocks = made.blocks(done)
    pending = {
        "probes": sum(not store.has_probe(one.id) for one in made.probes),
        "calibration": sum(not store.has_fact(fact.id) for fact in made.facts),
        "fits": sum(not store.has_fit(fit.id) for fit in made.fits),
        "blocks": len(blocks),
    }
    known = read_costs(store.path)
    cost = estimate(made, blocks, known, device)
    if time_it and cost.unknown:
        from harness.engine.timing import time_conditions

        known |= time_conditions(made, registry, device, cost.unknown_keys)
        cost = estimate(made, blocks, known, device)
    hands = worker_count(device, Options(workers=workers))
    rows = cell_rows(made, done)
    if as_json:
        about = {"worker_seconds": cost.seconds, "workers": hands, "images": cost.images, "not_timed": cost.unknown}
        told = {"suite": found.name, "folder": str(store.path), "pending": pending, "cost": about}
        print_json_rows(told, "cells", rows)
        return
    screen = console()
    _print_cells(screen, found.name, made, rows, every)
    one = {"probes": "probe", "fits": "fit", "blocks": "block"}
    counted = [f"{count} {one.get(name, name) if count == 1 else name}" for name, count in pending.items() if count]
    screen.print(f"To run: {', '.join(counted) or 'nothing'} into {store.path}.", soft_wrap=True)
    if many_cells(found):
        screen.print(f"More than {MOST_UNASKED:,} cells: 'robustiqa run' asks for --yes.", soft_wrap=True)
    if pending["blocks"]:
        screen.print(_cost_text(cost, hands, time_it), soft_wrap=True)


def _print_cells(screen: Any, name: str, plan: Plan, rows: Iterable[Mapping[str, Any]], every: bool) -> None:
    """How much of each cell is done; of many cells by what is attacked with what, or by what is attacked alone."""
    from rich.table import Table

    title = f"{name}: {len(plan.cells):,} cells"
    if every or len(plan.cells) <= _CELLS_SHOWN:
        lines = (f"{row['cell']}: {row['done']} of {row['slices']} slices" for row in rows)
        if len(plan.cells) > _CELLS_SHOWN:
            screen.print(title)
            while some := list(itertools.islice(lines, _PRINTED_AT_ONCE)):
                screen.print("\n".join(some), soft_wrap=True, highlight=False)
            return
        table = Table("cell", "slices done", title=title, title_justify="left")
        for row in rows:
            table.add_row(row["cell"], f"{row['done']} of {row['slices']}")
        screen.print(table)
        return
    by_attack: dict[str, list[int]] = {}
    by_scorer: dict[str, list[int]] = {}
    for cell, row in zip(plan.cells, rows, strict=True):
        for sums, group in ((by_attack, row["group"]), (by_scorer, cell.scored)):
            part = sums.setdefault(group, [0, 0, 0])
            part[:] = [part[0] + 1, part[1] + row["done"], part[2] + row["slices"]]
    groups = by_attack if len(by_attack) <= _CELLS_SHOWN else by_scorer
    table = Table("attacked", "cells", "slices done", title=title, title_justify="left")
    for group, (cells, done, slices) in list(groups.items())[:_CELLS_SHOWN]:
        table.add_row(group, f"{cells:,}", f"{done:,} of {slices:,}")
    screen.print(table)
    left = len(groups) - _CELLS_SHOWN
    screen.print(f"{f'{left:,} more lines are left out; ' if left > 0 else ''}--all lists every cell.")


def _cost_text(cost: Estimate, workers: int, timed: bool) -> str:
    """'Attacking and scoring: about 3 min 20 s on 2 workers, by what was measured.'."""
    from harness.engine.progress import duration

    if cost.unknown == cost.images and not timed:
        return "How long it takes is not known: no run here or beside it measured any of it. --time finds out."
    about = f"{duration(cost.seconds / workers)} on {workers} worker{'s' if workers > 1 else ''}"
    text = f"Attacking and scoring: about {about}, by what was measured."
    if not cost.unknown:
        return text
    why = (
        "cannot be timed beforehand (an attack that learns first, or one that failed)" if timed else "were never timed"
    )
    left = f" Not counted: {cost.unknown} of {cost.images} attacks and scorings of an image, which {why}."
    return text + left + ("" if timed else " --time adds them.")
