"""What running a suite would do."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
    uncollected,
)
from harness.cli.outlook import Machines, machines_asked, outlook_on
from harness.errors import UserError
from harness.wording import counted, tell

if TYPE_CHECKING:
    from harness.engine.run_folder import RunFolder
    from harness.plugins.registry import Registry
    from harness.suite.compose import Overrides
    from harness.suite.model import Suite
    from harness.suite.plan import Plan
    from harness.suite.strict_yaml import Document

_CELLS_SHOWN = 100
_PRINTED_AT_ONCE = 1000


@verb("Run", 3)
def _plan(
    suite: SuitePath,
    rest: Annotated[
        list[str] | None, typer.Argument(metavar="x N", help="Of --machine, where it stands without quotes.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    workers: Workers = None,
    device: Device = None,
    machine: Annotated[
        str | None,
        typer.Option(
            metavar="'NAME x N'",
            help="Say it for N GPUs or cores of another machine, such as 'h200 x 8' or h200x8: one whose peaks are "
            "published (h200, a100, ...), cpu, or a page of doctor --measure.",
        ),
    ] = None,
    time_it: Annotated[
        bool, typer.Option("--time", help="Time what no earlier run has measured, on two images of each condition.")
    ] = False,
    stand_ins: Annotated[
        bool,
        typer.Option(
            "--stand-ins", help="Noise and random weights for data and weights that are not here; time is alike."
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="A line for every cell, however many there are.")] = False,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say what running a suite would do: cells, what is done, and time, memory and disk that the rest may take.

    All of that is estimated by what runs in the same folder and in those beside it measured. Examples: robustiqa plan
    quickstart --time

    robustiqa plan quickstart --machine "h200 x 8"
    """
    from harness.engine.executors.choice import default_device
    from harness.suite.compose import Overrides

    if rest:
        machine = _unquoted(machine, rest)
    registry = registry_of(plugin)
    if machine is not None and workers is not None:
        raise UserError(f"--workers {workers}: --machine says how many there are. Leave one out.")
    check_device(device)
    device = device or default_device()
    machines = machines_asked(machine, device, workers)
    overrides = Overrides(tuple(sets or ()), only, limit, seed)
    with contextlib.ExitStack() as kept:
        found = _suite(suite, registry, overrides, kept if stand_ins else None)
        _say(found, registry, out, (machines, device, time_it), every, as_json)


def _unquoted(machine: str | None, rest: Sequence[str]) -> str:
    """A machine and its count, as the shell gives them where they stand without quotes.

    Raises:
        BadParameter: What is left over is something else.
    """
    if machine is None or not rest[0].startswith(("x", "X", "*", "×")):
        cure = "" if machine is None else f" A machine with its count is one word: --machine '{machine} x 8'."
        raise typer.BadParameter(f"Got unexpected extra argument(s) ({' '.join(rest)}).{cure}")
    return f"{machine} {' '.join(rest)}"


def _suite(path: Path, registry: Registry, overrides: Overrides, kept: contextlib.ExitStack | None) -> Suite:
    """The suite; with a stack, what it needs and is not here has stand-ins until that is closed.

    Raises:
        LocatedError: Everything wrong with it; where stand-ins would do, that is said.
    """
    from harness.suite.strict_yaml import LocatedError

    read: list[Document] = []

    def remember(document: Document) -> Document:
        read.append(document)
        return document

    try:
        return checked_suite(path, registry, overrides, remember)
    except LocatedError as error:
        if not read or not (wanted := _wanted(read[0], registry)):
            raise
        if kept is None:
            cure = "--stand-ins plans it with noise and random weights in their place"
            raise LocatedError([*error.lines, f"{path}: {cure}: {'; '.join(wanted)}."]) from None
    from harness.engine.stand_ins import StandIns

    stand = StandIns(registry, Path(kept.enter_context(tempfile.TemporaryDirectory())))
    suite = checked_suite(path, registry, overrides, stand.put)
    labels = [metric.label for metric in suite.metrics]
    for one in stand.told:
        if words := one.of(labels):
            tell(f"note: a stand-in for {words}")
    return suite


def _wanted(document: Document, registry: Registry) -> list[str]:
    """The stand-ins that a suite with something wrong could have, in words; none where even that cannot be found."""
    from harness.engine.stand_ins import StandIns

    stand = StandIns(registry)
    try:
        stand.put(document)
    except Exception:  # what is wrong with the suite is told
        return []
    return [one.of(one.metrics) for one in stand.told]


def _say(
    found: Suite,
    registry: Registry,
    out: Path | None,
    how: tuple[Machines, str, bool],
    every: bool,
    as_json: bool,
) -> None:
    """Plan a suite and print it."""
    from harness.engine.done import cell_rows, done_slices
    from harness.engine.run_folder import RunFolder
    from harness.files import RUNS
    from harness.suite.planning import MOST_UNASKED, make_plan, many_cells

    machines, device, time_it = how
    store = RunFolder(out or RUNS / found.name)
    with uncollected():
        made = make_plan(found, registry, store.read_pixels)
        done = done_slices(made, store)
        blocks = made.blocks(done)
    pending = _pending(made, store, len(blocks))
    told = replace(outlook_on(made, blocks, store, registry, machines, device, time_it), fits=pending["fits"])
    rows = cell_rows(made, done)
    if as_json:
        about = {"suite": found.name, "folder": str(store.path), "pending": pending, "cost": told.page()}
        print_json_rows(about, "cells", rows)
        return
    screen = console()
    _print_cells(screen, found.name, made, rows, every)
    left = [counted(count, name.removesuffix("s")) for name, count in pending.items() if count]
    screen.print(f"To run: {', '.join(left) or 'nothing'} into {store.path}.", soft_wrap=True)
    if many_cells(found):
        screen.print(f"More than {MOST_UNASKED:,} cells: 'robustiqa run' asks for --yes.", soft_wrap=True)
    for line in told.lines() if blocks else ():
        screen.print(line, soft_wrap=True)


def _pending(plan: Plan, store: RunFolder, blocks: int) -> dict[str, int]:
    """Stage -> how many of its jobs have no result yet."""
    return {
        "probes": sum(not store.has_probe(one.id) for one in plan.probes),
        "calibration": sum(not store.has_fact(fact.id) for fact in plan.facts),
        "fits": sum(not store.has_fit(fit.id) for fit in plan.fits),
        "blocks": blocks,
    }


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
