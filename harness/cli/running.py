"""From a suite to records: `validate`, `plan` and `run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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
    console,
    end,
    print_json,
    registry_of,
)
from harness.errors import UserError


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
    from harness.compose import Overrides
    from harness.located import LocatedError
    from harness.resolve import load_suite

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
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say what running a suite would do: cells, and what is done already.

    Example: robustiqa plan suites/quickstart.yaml
    """
    from harness.compose import Overrides
    from harness.plan import make_plan
    from harness.resolve import load_suite
    from harness.results import label_of
    from harness.run import RUNS, pending_jobs
    from harness.store import RunFolder

    registry = registry_of(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    made = make_plan(found, registry)
    store = RunFolder(out or RUNS / found.name)
    facts, fits, blocks = pending_jobs(made, store)
    rows = [
        {
            "cell": label_of(c),
            "id": c.id,
            "slices": made.slices[c.split.key],
            "done": len([i for i in store.slices(c.id) if i < made.slices[c.split.key]]),
        }
        for c in made.cells
    ]
    if as_json:
        pending = {"calibrations": len(facts), "fits": len(fits), "blocks": len(blocks)}
        print_json({"suite": found.name, "folder": str(store.path), "pending": pending, "cells": rows})
        return
    from rich.table import Table

    table = Table("cell", "slices done", title=f"{found.name}: {len(rows)} cells", title_justify="left")
    for row in rows:
        table.add_row(str(row["cell"]), f"{row['done']} of {row['slices']}")
    console().print(table)
    console().print(f"To run: {len(facts)} calibrations, {len(fits)} fits, {len(blocks)} blocks into {store.path}.")


@app.command()
def run(
    suite: SuiteFile,
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> if left out.")] = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="Default: processes on a CPU, serial on a GPU.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core if left out.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do every N-th block from the I-th on (0/4 ... 3/4), for job arrays."),
    ] = None,
    plugin: PluginFiles = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Run a suite, resume it, or extend it; ends with the tables and writes the report.

    The same command again goes on where it stopped; a metric, an attack or a budget added to the suite runs only what
    is new. Example: robustiqa run suites/quickstart.yaml --limit 16
    """
    from harness.compose import Overrides
    from harness.progress import ConsoleProgress, SilentProgress
    from harness.report import print_tables
    from harness.resolve import load_suite
    from harness.run import Options, run_suite

    registry = registry_of(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    _check_device(device)
    screen = console()
    options = Options(out, executor.value if executor else None, workers, device, _shard(shard))
    with SilentProgress() if quiet else ConsoleProgress(console(stderr=True)) as progress:
        result = run_suite(found, registry, options, progress)
    if not quiet:
        print_tables(result.tables, screen)
        did = f"{result.blocks} blocks run ({result.cells} slices of cells)" if result.jobs else "nothing left to run"
        screen.print(f"\n{found.name}: {did}. Report: {result.folder.report / 'index.html'}", soft_wrap=True)
    end(result.failures)


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard {text}: should be I/N with I from 0 to N - 1, such as 0/4.")
    return int(index), int(count)


def _check_device(device: str | None) -> None:
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {device}: not to be had ({str(error).splitlines()[0]}). Leave it out, or take cpu."
        ) from None
