"""What running a suite would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    print_json,
    registry_of,
)

if TYPE_CHECKING:
    from harness.engine.costs import Estimate

_CELLS_SHOWN = 100


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
    from harness.engine.run_folder import RunFolder
    from harness.files import RUNS
    from harness.flow import Options, default_device, pending_jobs, worker_count
    from harness.suite.compose import Overrides
    from harness.suite.planning import MOST_UNASKED, make_plan, many_cells

    registry = registry_of(plugin)
    found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    check_device(device)
    device = device or default_device()
    store = RunFolder(out or RUNS / found.name)
    made = make_plan(found, registry, store.read_pixels)
    pending, blocks = pending_jobs(made, store), made.blocks(done_slices(made, store))
    known = read_costs(store.path)
    cost = estimate(made, blocks, known, device)
    if time_it and cost.unknown:
        from harness.engine.timing import time_conditions

        known |= time_conditions(made, registry, device, cost.unknown_keys)
        cost = estimate(made, blocks, known, device)
    hands = worker_count(device, Options(workers=workers))
    rows = cell_rows(made, store)
    if as_json:
        counts = {name: len(jobs) for name, jobs in pending.items()}
        about = {"worker_seconds": cost.seconds, "workers": hands, "images": cost.images, "not_timed": cost.unknown}
        print_json({"suite": found.name, "folder": str(store.path), "pending": counts, "cost": about, "cells": rows})
        return
    from rich.table import Table

    title = f"{found.name}: {len(rows)} cells"
    if len(rows) > _CELLS_SHOWN and not every:
        table = Table("attacked", "cells", "slices done", title=title, title_justify="left")
        sums: dict[str, list[int]] = {}
        for row in rows:
            part = sums.setdefault(row["group"], [0, 0, 0])
            sums[row["group"]] = [part[0] + 1, part[1] + row["done"], part[2] + row["slices"]]
        for group, (cells, done, slices) in sums.items():
            table.add_row(group, str(cells), f"{done} of {slices}")
    else:
        table = Table("cell", "slices done", title=title, title_justify="left")
        for row in rows:
            table.add_row(row["cell"], f"{row['done']} of {row['slices']}")
    screen = console()
    screen.print(table)
    if "cells" in [column.header for column in table.columns]:
        screen.print("--all lists every cell.")
    one = {"probes": "probe", "fits": "fit", "blocks": "block"}
    counted = [
        f"{len(jobs)} {one.get(name, name) if len(jobs) == 1 else name}" for name, jobs in pending.items() if jobs
    ]
    screen.print(f"To run: {', '.join(counted) or 'nothing'} into {store.path}.", soft_wrap=True)
    if many_cells(found):
        screen.print(f"More than {MOST_UNASKED:,} cells: 'robustiqa run' asks for --yes.", soft_wrap=True)
    if pending["blocks"]:
        screen.print(_cost_text(cost, hands, time_it), soft_wrap=True)


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
