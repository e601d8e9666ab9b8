"""What running a suite would do."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from harness.errors import UserError
from harness.wording import counted, tell

if TYPE_CHECKING:
    from harness.engine.footprint import DiskNeed, MemoryNeed
    from harness.engine.forecast import Error, Forecast
    from harness.engine.machines.pages import Machine
    from harness.engine.run_folder import RunFolder
    from harness.plugins.registry import Registry
    from harness.suite.compose import Overrides
    from harness.suite.model import Suite
    from harness.suite.plan import Block, Plan
    from harness.suite.strict_yaml import Document

_CELLS_SHOWN = 100
_PRINTED_AT_ONCE = 1000
_NEEDS_SHOWN = 5


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
    machines = _machine(machine, device, workers)
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
    how: tuple[_Machines, str, bool],
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
    told = _outlook(made, blocks, store, registry, machines, device, time_it)
    pending = _pending(made, store, len(blocks))
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


@dataclass(frozen=True)
class _Machines:
    """The machine that is asked about, the one at hand, and whether the former was named."""

    asked: Machine
    here: Machine
    named: bool

    @property
    def at_once(self) -> int:
        """Workers that get on at full speed: of more than there are cores here as many as there are."""
        asked, here = self.asked, self.here
        return asked.workers if self.named or here.device != "cpu" else min(asked.workers, here.workers)

    @property
    def words(self) -> str:
        """'2 workers here', '64 workers on cores of Intel Xeon', '8 x NVIDIA H200'."""
        asked, here = self.asked, self.here
        if asked.device != "cpu":
            return f"{asked.workers} x {asked.title}"
        if asked.id != here.id or (self.named and asked.workers > here.workers):
            return f"{counted(asked.workers, 'worker')} on cores of {asked.title}"
        cores = f" on {counted(here.workers, 'core')}" if asked.workers > here.workers else ""
        return f"{counted(asked.workers, 'worker')}{cores} here"


def _machine(text: str | None, device: str, workers: int | None) -> _Machines:
    """The machine that is asked about, and the one at hand.

    Raises:
        UserError: There is no such machine.
    """
    from harness.engine.executors.choice import worker_count
    from harness.engine.machines.pages import machine_named
    from harness.engine.machines.reference import machine_here
    from harness.engine.stages import Options

    here = machine_here(device)
    if text is None:
        return _Machines(replace(here, workers=worker_count(device, Options(workers=workers))), here, False)
    return _Machines(machine_named(text, here if here.device == "cpu" else machine_here("cpu")), here, True)


def _pending(plan: Plan, store: RunFolder, blocks: int) -> dict[str, int]:
    """Stage -> how many of its jobs have no result yet."""
    return {
        "probes": sum(not store.has_probe(one.id) for one in plan.probes),
        "calibration": sum(not store.has_fact(fact.id) for fact in plan.facts),
        "fits": sum(not store.has_fit(fit.id) for fit in plan.fits),
        "blocks": blocks,
    }


@dataclass(frozen=True)
class _Outlook:
    """What is left of a plan, on a machine."""

    time: Forecast
    machines: _Machines
    error: Error | None
    memory: Sequence[MemoryNeed]
    disk: DiskNeed
    timed: bool

    def page(self) -> dict[str, Any]:
        """As `--json` has it."""
        time, at_once = self.time, self.machines.at_once
        return {
            "worker_seconds": time.seconds,
            "workers": self.machines.asked.workers,
            "seconds": time.seconds / at_once,
            "seconds_least": time.least / at_once,
            "seconds_most": time.most / at_once,
            "images": time.images,
            "not_timed": time.unknown,
            "scaled": time.scaled,
            "machine": asdict(self.machines.asked),
            "error": None if self.error is None else asdict(self.error),
            "memory": [asdict(need) for need in self.memory],
            "disk": {**asdict(self.disk), "total": self.disk.total},
        }

    def lines(self) -> Iterator[str]:
        """In words."""
        yield self._time_text()
        if self.time.unknown < self.time.images:
            yield self._error_text()
        yield from self._memory_texts()
        yield self._disk_text()

    def _time_text(self) -> str:
        from harness.engine.progress import duration

        time, at_once = self.time, self.machines.at_once
        if time.unknown == time.images and not self.timed:
            return "How long it takes is not known: no run here or beside it measured any of it. --time finds out."
        least, about, most = (duration(one / at_once) for one in (time.least, time.seconds, time.most))
        about = f"about {about}" if time.seconds >= at_once else "less than a second"
        text = f"Attacking and scoring: {about} on {self.machines.words}"
        text += f", {least} to {most} by what holds it up" if least != most else ""
        text += ". An estimate by what was measured, without facts, fits and probes."
        if time.unknown:
            why = "cannot be timed beforehand (an attack that learns first, or one that failed)"
            why = why if self.timed else "were never timed"
            text += f" Not counted: {time.unknown:,} of {time.images:,} attacks and scorings of an image, which {why}."
            text += "" if self.timed else " --time adds them."
        return text

    def _error_text(self) -> str:
        from harness.engine.forecast import LEAST_ON_GPU
        from harness.engine.machines.pages import SHARE_OF_PEAK

        texts, machine = [], self.machines.asked
        if self.error is None:
            texts.append("No run there was held against its estimate yet.")
        else:
            low, high = _off(self.error.least), _off(self.error.most)
            off = low if low == high else f"{low} to {high}"
            texts.append(f"In {counted(self.error.runs, 'run')} there the estimate was {off}.")
        if self.time.elsewhere:
            basis = "what both machines measured of a matrix product and a convolution"
            if machine.published:
                basis = f"{SHARE_OF_PEAK:.0%} of published peaks, which nobody here has measured".replace("%", " %")
                basis += f" ({machine.source})"
            floor = f", at least {1000 * LEAST_ON_GPU:.0f} ms for each evaluation of a batch"
            texts.append(f"Scaled by {basis}{floor if machine.device != 'cpu' else ''}.")
        if by_pixels := self.time.scaled - self.time.elsewhere:
            texts.append(
                f"Of {by_pixels:,} attacks and scorings of an image the time is scaled by pixels from other images."
            )
        return " ".join(texts)

    def _memory_texts(self) -> Iterator[str]:
        if not self.memory:
            yield "Memory: not known; no run here or beside it measured it."
            return
        most, room = self.memory[0], self.machines.asked.memory_of_worker
        wide, tall = most.size
        of = f", of {room:,.1f} GiB" if room is not None else ""
        who = f"{most.what} on {most.data}, {counted(most.rows, 'image')} of {wide} x {tall} at once"
        yield f"Memory: up to {most.mib / 1024:.1f} GiB a worker{of} ({who}{'' if most.measured else ', scaled'})."
        short = [need for need in self.memory if need.fits is not None and need.fits < need.rows]
        for need in short[:_NEEDS_SHOWN]:
            wide, tall = need.size
            what = f"{need.what} on {need.data}: {need.rows} images of {wide} x {tall} take {need.mib / 1024:,.1f} GiB"
            then = f"batches of {need.fits} do" if need.fits else f"one alone takes {need.one / 1024:,.1f} GiB"
            yield f"Will not fit: {what}; {then}."
        if len(short) > _NEEDS_SHOWN:
            yield f"Will not fit: {len(short) - _NEEDS_SHOWN} more; --json has all."

    def _disk_text(self) -> str:
        disk = self.disk
        parts = [f"{disk.rows:,} records" + ("" if disk.measured else ", by a stated size")]
        parts += [f"attacked images up to {_bytes(disk.examples)}"] if disk.examples else []
        parts += [f"pictures of the page up to {_bytes(disk.gallery)}"] if disk.gallery else []
        return f"Disk: about {_bytes(disk.total)} ({'; '.join(parts)})."


def _off(error: float) -> str:
    """'8 % too low', '3 % too high'."""
    share = round(100 * abs(error))
    return f"{share} % too {'low' if error < 0 else 'high'}" if share else "right"


def _bytes(count: float) -> str:
    """'850 kB', '12.3 MB', '1.2 GB'."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _outlook(
    plan: Plan,
    blocks: Sequence[Block],
    store: RunFolder,
    registry: Registry,
    machines: _Machines,
    device: str,
    timed: bool,
) -> _Outlook:
    """What the given blocks will take, of what was measured; with `timed`, what was not is measured now."""
    from harness.engine.costs import loads
    from harness.engine.footprint import disk_need, memory_needs, sizes_of
    from harness.engine.forecast import Prices, error_on, forecast, read_recorded
    from harness.engine.timing import time_conditions

    machine, here = machines.asked, machines.here
    recorded = read_recorded(store.path)
    work = loads(plan, blocks, device)
    sizes = sizes_of(plan, recorded, registry) if work else {}
    pixels = {key: float(wide * tall) for key, (wide, tall) in sizes.items()}
    pixels |= {cost.split: cost.pixels / cost.items for cost in recorded.costs if cost.pixels}
    time = forecast(work, Prices(recorded, machine, here, pixels), plan.suite.slice_size)
    if timed and time.unknown:
        new = time_conditions(plan, registry, device, time.unknown_keys)
        costs = [*recorded.costs, *(replace(cost, machine=here.id) for cost in new.values())]
        recorded = replace(recorded, costs=costs, machines={**recorded.machines, here.id: here})
        time = forecast(work, Prices(recorded, machine, here, pixels), plan.suite.slice_size)
    needs = memory_needs(plan, work, recorded, machine, sizes)
    disk = disk_need(plan, blocks, work, store.path, sizes)
    return _Outlook(time, machines, error_on(recorded, machine), needs, disk, timed)


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
