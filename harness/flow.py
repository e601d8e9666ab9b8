"""The whole flow: suite -> plan -> engine -> report. The same call again resumes; a finished run only reports."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import stamp
from harness.engine.bundle import run_folder_at
from harness.engine.compaction import Compacted, compact
from harness.engine.costs import keep_costs
from harness.engine.done import asked_for, done_slices, relevant_failures
from harness.engine.executors.choice import EXECUTORS as EXECUTORS
from harness.engine.executors.choice import LOCAL as LOCAL
from harness.engine.executors.choice import cores as cores
from harness.engine.executors.choice import default_device as default_device
from harness.engine.executors.choice import executor_name as executor_name
from harness.engine.executors.choice import worker_count as worker_count
from harness.engine.forecast import of_machine
from harness.engine.jobs import BlockJob, FactJob, FitJob
from harness.engine.one_pair import Attacked, kept_example
from harness.engine.priority import NICE
from harness.engine.progress import Progress
from harness.engine.provenance import describe_invocation, own_version, versions
from harness.engine.run_folder import FailureRecord, RunFolder, StoreError
from harness.engine.scorer import device_named
from harness.engine.shards import BlockKey, shards_kept
from harness.engine.soundness import damage_text
from harness.engine.stages import Options as Options
from harness.engine.stages import Stage as Stage
from harness.engine.stages import Tally, execute, gpus_of_worker, own_part, plugins_used, uses_of
from harness.engine.worker import Job
from harness.errors import UserError
from harness.files import PLAN, RUNS, SUITE, TERMINAL, locked, run_named
from harness.plugins.registry import Registry
from harness.report.planned import Planned, describe_split, planned_text, read_planned, registered
from harness.report.screen import Screen, read_screen
from harness.suite.cited import cited, page_of
from harness.suite.compose import read
from harness.suite.identity import identity
from harness.suite.layout_file import LayoutSpec, suite_layouts
from harness.suite.model import Suite
from harness.suite.plan import Plan
from harness.suite.planning import MOST_UNASKED, make_plan, many_cells
from harness.suite.resolve import load_suite
from harness.suite.strict_yaml import LocatedError
from harness.testing.probes import ProbeJob
from harness.wording import tell

if TYPE_CHECKING:
    from harness.report.arrays import Evaluated
    from harness.report.data import RunData
    from harness.report.headline import Headline
    from harness.report.layouts.cells import Cell
    from harness.report.render import PrintForms
    from harness.report.table import Table

_NEEDED_BY_REPORTS = (
    "harness.report.collect",
    "harness.report.figures",
    "harness.report.render",
    "harness.report.layouts.files",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "matplotlib.textpath",
    "scipy.special",
)
"""What is slow to import."""


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
        return not self.failures and not any(pending_jobs(self.plan, self.folder, probe=False).values())

    def examples(self) -> Iterator[Attacked]:
        """The attacked images that were kept, with scores in their metric's own units.

        Raises:
            UserError: A file of one is missing or damaged.
        """
        for cell in self.plan.cells:
            higher = cell.scorer.metric.label not in self.planned.facts.lower_is_better
            for folder in self.folder.example_folders(cell.id):
                yield kept_example(cell, self.folder.read_example(folder), higher_is_better=higher)

    @property
    def verdicts(self) -> Sequence[Mapping[str, Any]]:
        """The verdicts on gradient masking: a row for each data set, scorer and claim, with the figure that decided."""
        found = [table.frame for table in self.tables if table.name == "verdicts"]
        return [{str(key): value for key, value in row.items()} for frame in found for row in frame.to_dict("records")]


def run_suite(
    suite: Suite, registry: Registry, options: Options | None = None, progress: Progress | None = None
) -> RunResult:
    """Run what of a suite is not done yet, and write its report.

    Raises:
        UserError: The run folder or the device cannot be used, a data set is missing, or it is very many cells.
    """
    options, progress = options or Options(), progress or Progress()
    on_cluster = options.executor == "ray"
    if options.device is not None and not on_cluster:
        device_named(options.device)
    if not options.yes and many_cells(suite):
        raise UserError(
            f"{suite.name}: more than {MOST_UNASKED:,} cells. Say --yes (yes=True in Python) where all of them are "
            "meant; fewer metrics, attacks, budgets or values of a matrix, 'exclude' and --only leave less."
        )
    store = RunFolder(options.out or RUNS / suite.name)
    plan = make_plan(suite, registry, store.read_pixels)
    store.open(suite)
    planned = read_planned(*store.write_plan(suite, planned_text(plan, registry)), suite.layouts)
    _record_citations(plan, planned.digest, registry, store)
    tally = Tally(progress)
    pending = pending_jobs(plan, store, probe=options.probe)
    device = options.device or ("cuda" if on_cluster and gpus_of_worker(plan, options) else default_device())
    pending = own_part(pending, _jobs_ahead(plan), plan, store, options, device)
    found_damaged = _needed(store.soundness.met | store.soundness.damaged(), plan)
    if damage := damage_text(found_damaged):
        progress.tell(f"{store.path}: {damage}; what of it the suite needs is computed again.")
    _record_pixels(plan, store)
    if any(pending.values()) or store.has_pool():
        store.add_provenance("versions", [versions(device)])
        plugins = [str(file) for file in registry.files]
        workers = worker_count(device, options)
        invocation = describe_invocation(plan, device, executor_name(device, options), workers, plugins)
        store.add_provenance("invocations", [invocation])
        store.add_provenance("splits", [describe_split(plan, split) for split in plan.splits])
        try:
            execute(pending, plan, registry, store, options, device, tally, _begin_imports)
        finally:
            store.add_provenance("notices", list(tally.notices))
            keep_costs(store, tally.costs if on_cluster else of_machine(tally.costs, store, device))
    unchanged = not tally.jobs and store.report_made_from() == _state(planned, store)
    if options.stage not in ("facts", "fits"):
        try:
            _compact(planned, store, found_damaged, alone=options.shard[1] == 1, reported=unchanged)
        except StoreError as error:
            progress.tell(f"records are left in the files that they were written to: {error}")
    failures = relevant_failures(plan, store)
    counts = (tally.jobs, tally.blocks, tally.cells, tally.failed)
    result = RunResult(store, plan, registry, planned, *counts, failures, unchanged)
    if not unchanged and options.stage not in ("facts", "fits"):
        _report(result)
    store.soundness.keep()
    return result


def _begin_imports() -> None:
    """Import what reports need beside whatever else happens; who needs it before it is there waits for it."""
    threading.Thread(target=_import_reports, daemon=True).start()


def _import_reports() -> None:
    with contextlib.suppress(Exception):  # it is said where it is needed
        if sys.platform.startswith("linux"):  # where a thread has a niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        for name in _NEEDED_BY_REPORTS:
            importlib.import_module(name)


def _compact(planned: Planned, store: RunFolder, told: Collection[str], *, alone: bool, reported: bool) -> Compacted:
    """Put finished records together; among shards it is done by one that finds nothing left to do.

    Args:
        planned: Of the run.
        store: Its folder.
        told: Damaged files that were told of.
        alone: Whether no other shard may be at work.
        reported: Whether the report is of the records that are there.

    Raises:
        StoreError: The folder cannot be written.
    """
    plan = planned.plan
    if not alone and plan.blocks(done_slices(plan, store)):
        return Compacted((0, 0), (0, 0))
    done = compact(store, plan, told)
    if reported and done.before != done.after:  # the records are the same
        store.note_report(_state(planned, store))
    return done


def compact_run(folder: Path, registry: Registry) -> Compacted:
    """Put together the records of a run that is finished or rests.

    Raises:
        UserError: It is no run folder, it holds no plan and none can be made, or it cannot be written.
    """
    if run_named(folder).is_file():
        raise UserError(f"{folder}: a bundle, which is left as it is. Give a run folder.")
    planned, store = planned_in(folder, registry)
    reported = store.report_made_from() == _state(planned, store)
    done = _compact(planned, store, (), alone=True, reported=reported)
    store.soundness.keep()
    return done


def _needed(damaged: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """Of damaged files, those that a plan needs."""
    asked = asked_for(plan)
    return {name: reason for name, reason in damaged.items() if asked(name)}


def _record_citations(plan: Plan, planned: str, registry: Registry, store: RunFolder) -> None:
    """Record what is to be cited, while the plugins are there that say so."""
    if [page.get("planned") for page in store.read_provenance("cited")] == [planned]:
        return
    calls = store.read_provenance("invocations")
    weights = {*plan.suite.weights().values(), *(one for call in calls for one in call.get("weights", {}).values())}
    with contextlib.suppress(UserError):  # 'robustiqa cite' says what is wrong, and nothing else needs it
        found = cited(store.path / SUITE, registry, weights=weights, suite=plan.suite)
        store.write_provenance("cited", [page_of(found, planned)])


def _record_pixels(plan: Plan, store: RunFolder) -> None:
    """Record the image files that records are made from, before they are, and any that were found touched."""
    for split, images in plan.images.items():
        recorded = images.record(plan.samples_read(split))
        if recorded and {**images.ledger, **recorded} != images.ledger:
            store.record_pixels(images, recorded)


def _state(planned: Planned, store: RunFolder) -> str:
    """What a report is made from, as a hash: the plan, layouts, the stored results, and the version that reads them."""
    layouts = [dict(spec.source) for spec in planned.plan.suite.layouts]
    parts = {"planned": planned.digest, "layouts": layouts, "version": own_version(), "stored": store.stamps()}
    return identity("report", parts)


def _report(result: RunResult, forms: PrintForms | None = None) -> None:
    """One process at a time reads the records and reports them, or a shard's older report could replace a newer one."""
    from harness.report.render import write_report

    store = result.folder
    store.require()
    try:
        with locked(store.report):
            state = _state(result.planned, store)
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
    _report(result, forms)
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


def note_finished(result: RunResult, call: Mapping[str, Any], suite_files: Sequence[Path], began_ns: int) -> None:
    """Where nothing is left to do, note from what: the same call again need not look further (`harness.engine.stamp`).

    Args:
        result: What the run did.
        call: What was asked for.
        suite_files: The suite's file, and those that it builds on.
        began_ns: When the call began, before any file was read.
    """
    plan, registry, store = result.plan, result.registry, result.folder
    code = stamp.imported_by([*registry.files, *(file for one in plugins_used(plan, registry) for file in one.files)])
    if plan.files is None or code is None or registry.refused or not result.finished:
        return
    if store.report_made_from() != _state(result.planned, store):  # of a shard that stored its last block later
        return
    weights = [use.weights_file for use in plan.metrics if use.weights_file is not None]
    networks = [purifier.weights_file for defense in plan.suite.defenses for purifier in defense.purifiers]
    weights += [file for file in networks if file is not None]
    named = [path for use in uses_of(plan) for path in use.contents.paths]
    inputs = [*suite_files, *plan.files, *weights, *(file.parent for file in weights), *named, *registry.files, *code]
    with contextlib.suppress(OSError):  # a folder that cannot be written is looked at anew each time
        stamp.note(store.path, call, plan.suite.name, inputs, began_ns)


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
        name = f"{block.split.label} / {block.source.label}"
        row = sources.setdefault(name, {"source": name, "blocks": 0, "done": 0})
        row["blocks"] += 1
        row["done"] += block.key not in pending
    return {
        "name": plan.suite.name,
        "blocks": sum(row["blocks"] for row in sources.values()),
        "done": sum(row["done"] for row in sources.values()),
        "failures": len(relevant_failures(plan, store)),
        "damaged": _needed(store.soundness.damaged(), plan),
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


def pending_jobs(plan: Plan, store: RunFolder, *, probe: bool = True) -> dict[str, Sequence[Job]]:
    """Stage -> its jobs that have no result yet. Each stage may need the ones before it."""
    return {
        "probes": [ProbeJob(one) for one in plan.probes if probe and not store.has_probe(one.id)],
        "calibration": [FactJob(fact) for fact in plan.facts if not store.has_fact(fact.id)],
        "fits": [FitJob(fit) for fit in plan.fits if not store.has_fit(fit.id)],
        "blocks": [BlockJob(block) for block in plan.blocks(done_slices(plan, store))],
    }


def _jobs_ahead(plan: Plan) -> list[Job]:
    """Every job that blocks need, done or not."""
    probes: list[Job] = [ProbeJob(one) for one in plan.probes]
    return [*probes, *map(FactJob, plan.facts), *map(FitJob, plan.fits)]
