"""The whole flow: suite -> plan -> engine -> report. The same call again resumes; a finished run only reports."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.engine import stamp
from harness.engine.compaction import Compacted, compact
from harness.engine.costs import keep_costs
from harness.engine.done import done_slices, relevant_failures
from harness.engine.executors.choice import EXECUTORS as EXECUTORS
from harness.engine.executors.choice import LOCAL as LOCAL
from harness.engine.executors.choice import default_device as default_device
from harness.engine.executors.choice import executor_name as executor_name
from harness.engine.executors.choice import worker_count as worker_count
from harness.engine.forecast import read_recorded, with_machines
from harness.engine.jobs import BlockJob, FactJob, FitJob
from harness.engine.priority import NICE
from harness.engine.priority import cores as cores
from harness.engine.progress import Progress
from harness.engine.provenance import describe_invocation, versions
from harness.engine.run_folder import RunFolder, StoreError
from harness.engine.scorer import device_named
from harness.engine.shards import UNMEASURED, shared_unmeasured
from harness.engine.soundness import damage_text
from harness.engine.stages import Options as Options
from harness.engine.stages import Stage as Stage
from harness.engine.stages import Tally, execute, gpus_of_worker, own_part, plugins_used, uses_of
from harness.engine.worker import Job
from harness.errors import UserError
from harness.files import RUNS, SUITE, run_named
from harness.plugins.registry import Registry
from harness.report.planned import Planned, describe_split, planned_text, read_planned
from harness.report.reading import RunResult as RunResult
from harness.report.reading import damage_needed, planned_in, report_result, state_of_report
from harness.report.reading import open_folder as open_folder
from harness.report.reading import reopen as reopen
from harness.report.reading import report_run as report_run
from harness.report.reading import run_status as run_status
from harness.suite.cited import cited, page_of
from harness.suite.model import Suite
from harness.suite.plan import Plan
from harness.suite.planning import MOST_UNASKED, make_plan, many_cells
from harness.testing.probes import ProbeJob

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
    text = planned_text(plan, registry)  # before the suite is written, which nobody can read without the plan
    store.open(suite)
    planned = read_planned(*store.write_plan(suite, text), suite.layouts)
    _record_citations(plan, planned.digest, registry, store)
    tally = Tally(progress)
    pending = pending_jobs(plan, store, probe=options.probe)
    device = options.device or ("cuda" if on_cluster and gpus_of_worker(plan, options) else default_device())
    pending = own_part(pending, _jobs_ahead(plan), plan, store, options, device)
    if options.shard[1] > 1 and pending["blocks"] and shared_unmeasured(store, options.shard[1]):
        progress.tell(f"{store.path}: {UNMEASURED}")
    found_damaged = damage_needed(store.soundness.met | store.soundness.damaged(), plan)
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
        before = read_recorded(store.path)
        try:
            execute(pending, plan, registry, store, options, device, tally, _begin_imports)
        finally:
            store.add_provenance("notices", list(tally.notices))
            keep_costs(store, with_machines(tally.costs, before, store, None if on_cluster else device))
    unchanged = not tally.jobs and store.report_made_from() == state_of_report(planned, store)
    if options.stage not in ("facts", "fits"):
        try:
            _compact(planned, store, found_damaged, alone=options.shard[1] == 1, reported=unchanged)
        except StoreError as error:
            progress.tell(f"records are left in the files that they were written to: {error}")
    failures = relevant_failures(plan, store)
    counts = (tally.jobs, tally.blocks, tally.cells, tally.failed)
    result = RunResult(store, plan, registry, planned, *counts, failures, unchanged)
    if not unchanged and options.stage not in ("facts", "fits"):
        report_result(result)
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
        store.note_report(state_of_report(planned, store))
    return done


def compact_run(folder: Path, registry: Registry) -> Compacted:
    """Put together the records of a run that is finished or rests.

    Raises:
        UserError: It is no run folder, it holds no plan and none can be made, or it cannot be written.
    """
    if zipfile.is_zipfile(named := run_named(folder)):
        raise UserError(f"{folder}: a bundle, which is left as it is. Give a run folder.")
    if named.is_file():
        raise UserError(f"{folder}: a file, not a run folder. Give the folder that 'robustiqa run' wrote.")
    planned, store = planned_in(folder, registry)
    reported = store.report_made_from() == state_of_report(planned, store)
    done = _compact(planned, store, (), alone=True, reported=reported)
    store.soundness.keep()
    return done


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
    if store.report_made_from() != state_of_report(
        result.planned, store
    ):  # of a shard that stored its last block later
        return
    weights = [use.weights_file for use in plan.metrics if use.weights_file is not None]
    networks = [purifier.weights_file for defense in plan.suite.defenses for purifier in defense.purifiers]
    weights += [file for file in networks if file is not None]
    named = [path for use in uses_of(plan) for path in use.contents.paths]
    inputs = [*suite_files, *plan.files, *weights, *(file.parent for file in weights), *named, *registry.files, *code]
    with contextlib.suppress(OSError):  # a folder that cannot be written is looked at anew each time
        stamp.note(store.path, call, plan.suite.name, inputs, began_ns)


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
