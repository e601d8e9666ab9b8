"""Plan -> executor -> store -> report. The same call again resumes; a finished run only reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plan import Plan, make_plan
from harness.registry import Registry
from harness.report import RunData, Table, write_report
from harness.results import collect, relevant_failures, versions
from harness.store import FailureRecord, RunFolder
from harness.suite import Suite
from harness.worker import Context, Done, Job

EXECUTORS = ("serial", "processes")
RUNS = Path("results/runs")


class Progress:
    """What a run tells whoever is watching; this one tells nobody."""

    def stage(self, name: str, total: int) -> None:
        """A stage of so many jobs begins."""

    def done(self, result: Done) -> None:
        """A job has ended."""


@dataclass(frozen=True)
class Options:
    """How to run a suite.

    Attributes:
        out: The run folder; None for ``results/runs/<name>``.
        executor: "serial" or "processes"; None takes processes on a CPU, serial on a GPU.
        workers: Worker processes; None for one per core.
        device: "cpu", "cuda", ...; None takes a GPU where there is one.
    """

    out: Path | None = None
    executor: str | None = None
    workers: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes:
        folder: The run folder.
        data: Everything its tables are made from.
        tables: The tables, as written to the report.
        jobs: Jobs executed: facts, fits and blocks.
        blocks: Blocks executed.
        cells: (cell, slice) pairs executed in them.
        failed: Jobs and (cell, slice) pairs that failed in this run.
        failures: Every noted failure of the suite's cells, facts and fits.
    """

    folder: RunFolder
    data: RunData
    tables: Sequence[Table]
    jobs: int
    blocks: int
    cells: int
    failed: int
    failures: Sequence[FailureRecord]


def run_suite(
    suite: Suite, registry: Registry, options: Options | None = None, progress: Progress | None = None
) -> RunResult:
    """Run what of a suite is not done yet, and write its report.

    Raises:
        UserError: The run folder cannot be used, or a data set is missing.
    """
    options, progress = options or Options(), progress or Progress()
    plan = make_plan(suite, registry)
    store = RunFolder(options.out or RUNS / suite.name)
    store.open(suite)
    store.write_provenance("run", {"command": sys.argv, "versions": versions(), "seed": suite.seed})
    tally = _Tally(progress)
    pending = pending_jobs(plan, store)
    if any(pending):
        execute(pending, suite, registry, store, options, tally, plan)
    data = collect(plan, store, registry, list(tally.notices))
    tables = write_report(data, store.report)
    failures = relevant_failures(plan, store)
    return RunResult(store, data, tables, tally.jobs, tally.blocks, tally.cells, tally.failed, failures)


def report_run(folder: Path, registry: Registry) -> tuple[RunData, Sequence[Table]]:
    """Make the report of a run folder again from its records, running nothing.

    Raises:
        UserError: It is no run folder, or its suite cannot be read.
    """
    from harness.suite import load_suite

    if not (folder / "suite.yaml").is_file():
        raise UserError(f"{folder}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote.")
    suite = load_suite(folder / "suite.yaml", registry)
    store = RunFolder(folder)
    data = collect(make_plan(suite, registry), store, registry)
    return data, write_report(data, store.report)


def pending_jobs(plan: Plan, store: RunFolder) -> tuple[list[Job], list[Job], list[Job]]:
    """Facts, fits and blocks that have no result yet."""
    done = {cell.id: store.slices(cell.id) for cell in plan.cells}
    blocks = plan.blocks(done)
    needed = {fact for block in blocks for fact in block.facts.values()} | {fit.fact for fit in plan.fits}
    medians = {fact.id for fact in plan.facts if "self_split" in plan.suite.directions}
    facts: list[Job] = [f for f in plan.facts if f.id in needed | medians and not store.has_fact(f.id)]
    wanted = {fit for block in blocks for fit in block.fits.values()}
    fits: list[Job] = [f for f in plan.fits if f.id in wanted and not store.has_fit(f.id)]
    return facts, fits, list(blocks)


class _Tally:
    """Counts what ends, and passes it on."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.jobs = self.blocks = self.cells = self.failed = 0
        self.notices: dict[str, None] = {}

    def add(self, result: Done, stage: str) -> None:
        self.jobs += 1
        self.failed += result.failed
        if stage == "blocks":
            self.blocks += 1
            self.cells += result.cells
        self.notices.update(dict.fromkeys(result.notices))
        self.progress.done(result)


def execute(
    pending: tuple[Sequence[Job], Sequence[Job], Sequence[Job]],
    suite: Suite,
    registry: Registry,
    store: RunFolder,
    options: Options,
    tally: _Tally,
    plan: Plan,
) -> None:
    """Run facts, then fits, then blocks: each stage needs the one before.

    Raises:
        UserError: The run folder cannot be written.
    """
    device = options.device or default_device()
    context = Context(
        store.path.resolve(), tuple(f.resolve() for f in registry.files), suite.seed, suite.slice_size, device
    )
    executor = make_executor(context, options)
    try:
        for stage, jobs in zip(("calibration", "fits", "blocks"), pending, strict=True):
            if jobs:
                tally.progress.stage(stage, len(jobs))
                for result in executor.run(jobs):
                    tally.add(result, stage)
    except OSError as error:
        raise UserError(
            f"{error.filename or store.path}: cannot be written ({error.strerror or error}). What was finished is "
            "kept; make room or choose another folder, and run the same command again."
        ) from error
    finally:
        executor.close()


def make_executor(context: Context, options: Options) -> Any:
    """The executor asked for, or the default of the device."""
    name = options.executor or ("processes" if context.device == "cpu" else "serial")
    if name == "serial":
        from harness.executors.serial import SerialExecutor

        return SerialExecutor(context)
    from harness.executors.processes import ProcessExecutor

    return ProcessExecutor(context, options.workers or cores())


def cores() -> int:
    """Cores this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_device() -> str:
    """A GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
