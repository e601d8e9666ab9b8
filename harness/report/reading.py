"""What a run folder holds, read back without torch: how far the run is, and its report made again.

Nothing is run here, and no data set, weight file or plugin of the run is needed, but where a folder holds no plan.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.bundle import run_folder_at
from harness.engine.done import asked_for, done_slices, relevant_failures
from harness.engine.provenance import own_version
from harness.engine.run_folder import FailureRecord, RunFolder
from harness.engine.shards import BlockKey, shards_kept
from harness.errors import UserError
from harness.files import PLAN, SUITE, TERMINAL, locked
from harness.plugins.registry import Registry
from harness.report.planned import Planned, planned_text, read_planned, registered
from harness.report.screen import Screen, read_screen
from harness.suite.compose import read
from harness.suite.identity import identity
from harness.suite.layout_file import LayoutSpec, suite_layouts
from harness.suite.plan import Plan
from harness.suite.strict_yaml import LocatedError
from harness.wording import tell

if TYPE_CHECKING:
    from harness.engine.one_pair import Attacked
    from harness.report.arrays import Evaluated
    from harness.report.data import RunData
    from harness.report.headline import Headline
    from harness.report.layouts.cells import Cell
    from harness.report.render import PrintForms
    from harness.report.table import Table


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes:
        folder: The run folder.
        plan: What the suite needs; of a folder that was opened, as it was stored.
        registry: Where its plugins come from.
        planned: What reports read of the plan, as it is stored.
        jobs: Jobs executed: probes, facts, fits and blocks.
        blocks: Blocks executed.
        cells: (cell, slice) pairs executed in them.
        failed: Jobs and (cell, slice) pairs that failed in this run.
        failures: Every noted failure of the suite's cells, facts, fits and probes.
        unchanged: Nothing was left to run, and the report that stands is of these very records.
    """

    folder: RunFolder
    plan: Plan
    registry: Registry
    planned: Planned
    jobs: int
    blocks: int
    cells: int
    failed: int
    failures: Sequence[FailureRecord]
    unchanged: bool

    @functools.cached_property
    def data(self) -> RunData:
        """Everything the tables are made from."""
        from harness.report.collect import collect

        return collect(self.planned, self.folder)

    @functools.cached_property
    def evaluated(self) -> Sequence[Evaluated]:
        """The data sets, laid out as arrays; tables and headlines share their figures."""
        from harness.report.arrays import lay_out

        return lay_out(self.data)

    @functools.cached_property
    def tables(self) -> Sequence[Table]:
        """The tables."""
        from harness.report.build import build_tables

        return build_tables(self.data, self.evaluated)

    @functools.cached_property
    def headlines(self) -> Sequence[Headline]:
        """What each data set's report begins with."""
        from harness.report.headline import headlines

        return headlines(self.data, self.evaluated)

    @property
    def screen(self) -> Screen:
        """What is printed of it: as it is stored beside its report, or made now where it is not."""
        try:
            return read_screen(self.folder.report / TERMINAL)
        except (OSError, ValueError):
            from harness.report.first_screen import first_screen

            return first_screen(self.data, self.tables, self.headlines)

    @property
    def finished(self) -> bool:
        """Whether all that the suite asks for has been done, by whatever shard; probes may have been left out."""
        return not self.failures and not _unfinished(self.plan, self.folder)

    def examples(self) -> Iterator[Attacked]:
        """The attacked images that were kept, with scores in their metric's own units.

        Raises:
            UserError: A file of one is missing or damaged.
        """
        from harness.engine.one_pair import kept_example

        for cell in self.plan.cells:
            higher = cell.scorer.metric.label not in self.planned.facts.lower_is_better
            for folder in self.folder.example_folders(cell.id):
                yield kept_example(cell, self.folder.read_example(folder), higher_is_better=higher)

    @property
    def verdicts(self) -> Sequence[Mapping[str, Any]]:
        """The verdicts on gradient masking: a row for each data set, scorer and claim, with the figure that decided."""
        found = [table.frame for table in self.tables if table.name == "verdicts"]
        return [{str(key): value for key, value in row.items()} for frame in found for row in frame.to_dict("records")]


def report_run(folder: Path, registry: Registry, forms: PrintForms | None = None) -> RunResult:
    """Make the report of a run folder again from what it holds, running nothing.

    Args:
        folder: The run folder.
        registry: Where its plugins come from, if it does not hold its plan.
        forms: What is written for print besides.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.
    """
    result = open_folder(folder, registry)
    report_result(result, forms)
    return result


def open_folder(folder: Path, registry: Registry) -> RunResult:
    """What a run folder holds, running and writing nothing; data, weights and plugins of the run need not be there.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.
    """
    planned, store = planned_in(folder, registry)
    failures = relevant_failures(planned.plan, store)
    return RunResult(store, planned.plan, registry, planned, 0, 0, 0, 0, failures, True)


def names_known(registry: Registry, results: Sequence[RunResult]) -> dict[str, Collection[str]]:
    """Dimension of laid-out tables -> the names that are registered for it, here or where the runs were made."""
    tables = [registered(registry), *(result.planned.facts.registered for result in results)]
    return {
        dimension: list(dict.fromkeys(name for one in tables for name in one[dimension])) for dimension in tables[0]
    }


def cells_of_folder(folder: Path, registry: Registry, statistics: Sequence[str] | None = None) -> list[Cell]:
    """The figures of a run folder as cells, running and writing nothing.

    Args:
        folder: The run folder.
        registry: Where its plugins come from, if it does not hold its plan.
        statistics: Those wanted; None for all.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.
    """
    from harness.report.layouts.cells import cells_of

    return cells_of(open_folder(folder, registry).data, str(folder), statistics)


def run_status(folder: Path, registry: Registry) -> dict[str, Any]:
    """How far a run is: blocks and blocks done, in all and for each attacked scorer, failures noted, files damaged.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.
    """
    planned, store = planned_in(folder, registry)
    plan = planned.plan
    pending = {block.key for block in plan.blocks(done_slices(plan, store))}
    sources: dict[str, dict[str, Any]] = {}
    for block in plan.blocks({}):
        maps = ", clean, for maps" if all(cell.for_maps for cell in block.cells) else ""
        name = f"{block.split.label} / {block.source.label}{maps}"
        row = sources.setdefault(name, {"source": name, "blocks": 0, "done": 0})
        row["blocks"] += 1
        row["done"] += block.key not in pending
    return {
        "name": plan.suite.name,
        "blocks": sum(row["blocks"] for row in sources.values()),
        "done": sum(row["done"] for row in sources.values()),
        "failures": len(relevant_failures(plan, store)),
        "damaged": damage_needed(store.soundness.damaged(), plan),
        "unchecked": len(store.soundness.unsealed()),
        "sources": list(sources.values()),
        "shards": _by_shard(plan, store, pending),
    }


def _by_shard(plan: Plan, store: RunFolder, pending: Collection[BlockKey]) -> list[dict[str, Any]]:
    """Blocks and blocks done of each shard of a job array; several arrays of different lengths may have been there."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for count, shard in shards_kept(plan, store).items():
        for key, index in sorted(shard.items(), key=lambda one: one[1]):
            row = rows.setdefault((count, index), {"shard": f"{index}/{count}", "blocks": 0, "done": 0})
            row["blocks"] += 1
            row["done"] += key not in pending
    return list(rows.values())


def reopen(folder: Path, registry: Registry) -> tuple[Plan, RunFolder]:
    """The plan and the store of a run folder, made anew from its own suite: what scores again needs what the run had.

    Raises:
        UserError: It is no run folder, its suite cannot be read, or all of its records are of an older protocol.
    """
    from harness.suite.planning import make_plan  # these import torch
    from harness.suite.resolve import load_suite

    store = _opened(folder)
    saved = store.path / SUITE
    try:
        suite = load_suite(saved, registry)
    except LocatedError as error:
        pages = store.read_provenance("invocations")
        files = list(dict.fromkeys(str(file) for page in pages for file in page.get("plugins", ())))
        if files and not registry.files:
            hint = f"The run was made with {' '.join(f'--plugin {file}' for file in files)}; give them again."
        else:
            hint = "A run wrote this file: put it back, or run the suite into another folder with --out."
        raise UserError(f"{error} {hint}") from error
    return make_plan(suite, registry, store.read_pixels), store


def _opened(folder: Path) -> RunFolder:
    """The store of a run folder, or of the folder that a bundle is unpacked to.

    Raises:
        UserError: It is none, or all of its records are of an older protocol.
    """
    store = RunFolder(run_folder_at(folder))
    if not (store.path / SUITE).is_file():
        raise UserError(f"{store.path}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote.")
    if older := store.older_protocol():
        raise UserError(
            f"{store.path}: its records are of robustiqa {older}, whose numbers were made otherwise, so they are not "
            "read. 'robustiqa run' with its suite computes them again; until then the report that is there stays."
        )
    store.refuse_damaged_suite()
    return store


def planned_in(folder: Path, registry: Registry) -> tuple[Planned, RunFolder]:
    """What the last run into a folder planned: as it is stored, or made anew where that is not there.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.
    """
    store = _opened(folder)
    try:
        stored = store.read_plan()
        if stored is not None:
            return read_planned(*stored, _layouts_in(store)), store
        wrong = store.soundness.met.get(PLAN, "")
    except ValueError as error:
        wrong = str(error)
    if wrong:
        tell(
            f"note: {store.path / PLAN}: damaged ({wrong}). The plan is made anew from "
            "the suite; run the suite again to write the file."
        )
    try:
        plan, _ = reopen(folder, registry)
    except UserError as error:
        if store.has_plan():
            raise
        raise UserError(
            f"{error} The folder holds no plan.json, as those of older versions do not, so it is read with the data, "
            "the weights and the plugins of the run alone. With these, 'robustiqa run' of its suite writes the file, "
            "and nothing else is needed any more."
        ) from error
    text = planned_text(plan, registry)
    return read_planned(text, identity("planned", {"text": text}), plan.suite.layouts), store


def _layouts_in(store: RunFolder) -> Sequence[LayoutSpec]:
    """The layouts that the suite of a run folder has."""
    document = read(store.path / SUITE)
    return suite_layouts(document, document.problems) if "layouts" in document.value else ()


def state_of_report(planned: Planned, store: RunFolder) -> str:
    """What a report is made from, as a hash: the plan, layouts, the stored results, and the version that reads them."""
    layouts = [dict(spec.source) for spec in planned.plan.suite.layouts]
    parts = {"planned": planned.digest, "layouts": layouts, "version": own_version(), "stored": store.stamps()}
    return identity("report", parts)


def report_result(result: RunResult, forms: PrintForms | None = None) -> None:
    """One process at a time reads the records and reports them, or a shard's older report could replace a newer one."""
    from harness.report.render import write_report

    store = result.folder
    store.require()
    try:
        with locked(store.report):
            state = state_of_report(result.planned, store)
            write_report(result.data, result.tables, store.report, forms, result.evaluated)
            _lay_out(result)
            store.note_report(state)
    except OSError as error:
        raise UserError(
            f"{error.filename or store.report}: the report cannot be written ({error.strerror or error}). The records "
            f"are kept; make the folder writable and run 'robustiqa report {store.path}'."
        ) from error


def _lay_out(result: RunResult) -> None:
    """Write the suite's layouts; those that lack what is still to be run wait for the end.

    Raises:
        UserError: Of a finished run, the layouts that cannot be filled; the others are written.
    """
    from harness.report.layouts import files as layouts

    folder, specs = result.folder.report / layouts.SUITE_FOLDER, result.plan.suite.layouts
    known = result.planned.facts.registered
    grids, errors = layouts.lay_out_run(specs, result.data, str(result.folder.path), known)
    layouts.clear_others(layouts.write_grids(grids, folder), folder)
    if errors and result.finished:
        raise UserError("\n".join(str(error) for error in errors))


def damage_needed(damaged: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """Of damaged files, those that a plan needs."""
    asked = asked_for(plan)
    return {name: reason for name, reason in damaged.items() if asked(name)}


def _unfinished(plan: Plan, store: RunFolder) -> bool:
    """Whether a fact, a fit or a block of a plan is still to be made."""
    facts, fits = plan.facts, plan.fits
    made = all(store.has_fact(one.id) for one in facts) and all(store.has_fit(one.id) for one in fits)
    return not made or bool(plan.blocks(done_slices(plan, store)))
