"""From a suite to records: `validate`, `plan` and `run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.app import app
from harness.cli.common import (
    AsJson,
    Limit,
    Only,
    PluginFiles,
    Seed,
    Sets,
    SuiteFile,
    check_device,
    console,
    end,
    print_json,
    registry_of,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.engine.costs import Estimate

Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core if left out.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")]
_CELLS_SHOWN = 100


class ExecutorName(StrEnum):
    """Where blocks run."""

    serial = "serial"
    processes = "processes"


@app.command()
def validate(
    suite: SuiteFile,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Check a suite and say everything that is wrong with it, before anything is loaded.

    Example: robustiqa validate suites/quickstart.yaml
    """
    from harness.suite.compose import Overrides
    from harness.suite.resolve import load_suite
    from harness.suite.strict_yaml import LocatedError

    try:
        found = load_suite(suite, registry_of(plugin), Overrides(tuple(sets or ()), only, limit, seed))
    except LocatedError as error:
        if as_json:
            print_json({"suite": str(suite), "valid": False, "errors": error.lines})
            raise typer.Exit(2) from None
        raise
    if as_json:
        print_json({"suite": str(suite), "valid": True, "errors": []})
        return
    console().print(
        f"{suite}: valid. {len(found.datasets)} data set(s), {len(found.metrics)} metric(s), "
        f"{len(found.defenses)} defense(s), {len(found.attacks)} attack(s), {len(found.budgets)} budget(s)."
    )


@app.command()
def plan(
    suite: SuiteFile,
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
    suites/quickstart.yaml --time
    """
    from harness.engine.costs import estimate, read_costs
    from harness.engine.done import cell_rows
    from harness.engine.run_folder import RunFolder
    from harness.flow import RUNS, Options, default_device, pending_jobs, worker_count
    from harness.suite.compose import Overrides
    from harness.suite.planning import make_plan
    from harness.suite.resolve import load_suite

    registry = registry_of(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    check_device(device)
    device = device or default_device()
    made = make_plan(found, registry)
    store = RunFolder(out or RUNS / found.name)
    pending = pending_jobs(made, store)
    known = read_costs(store.path)
    cost = estimate(made, pending["blocks"], known, device)
    if time_it and cost.unknown:
        from harness.engine.timing import time_conditions

        known |= time_conditions(made, registry, device, cost.unknown_keys)
        cost = estimate(made, pending["blocks"], known, device)
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


@app.command()
def run(
    suite: SuiteFile,
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> if left out.")] = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="Default: processes on a CPU, serial on a GPU.")] = None,
    workers: Workers = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Device = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do every N-th block from the I-th on (0/4 ... 3/4), for job arrays."),
    ] = None,
    probes: Annotated[
        bool, typer.Option("--probes/--no-probes", help="Probe each metric's contract first, once per run folder.")
    ] = True,
    plugin: PluginFiles = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Run a suite, resume it, or extend it; ends with the tables and writes the report.

    The same command again goes on where it stopped; a metric, an attack or a budget added to the suite runs only what
    is new. Example: robustiqa run suites/quickstart.yaml --limit 16
    """
    from harness.engine.memory import keep_freed_memory
    from harness.engine.progress import ConsoleProgress, Progress
    from harness.flow import Options, run_suite
    from harness.report.render import TERMINAL, print_tables
    from harness.suite.compose import Overrides
    from harness.suite.resolve import load_suite

    registry = registry_of(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    check_device(device)
    screen = console()
    keep_freed_memory()
    options = Options(out, executor.value if executor else None, workers, device, _shard(shard), probes)
    with Progress() if quiet else ConsoleProgress(console(stderr=True)) as progress:
        result = run_suite(found, registry, options, progress)
    if not quiet:
        if result.unchanged:
            print((result.folder.report / TERMINAL).read_text(encoding="utf-8"), end="")
        else:
            print_tables(result.tables, screen)
        blocks = "1 block" if result.blocks == 1 else f"{result.blocks} blocks"
        did = f"{blocks} run ({result.cells} slices of cells)" if result.jobs else "nothing left to run"
        screen.print(f"\n{found.name}: {did}. Report: {result.folder.report / 'index.html'}", soft_wrap=True)
    end(result.failures)


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UserError(f"--shard {text}: should be I/N with I from 0 to N - 1, such as 0/4.")
    return int(index), int(count)
