"""What of a plan is left to do, stage by stage, and how it is done until the end, a Ctrl-C or a SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from harness.engine.costs import (
    PACES_PAGE,
    Cost,
    Key,
    estimate,
    keep_costs,
    merged,
    read_costs,
    read_paces,
    seconds_of_blocks,
)
from harness.engine.executors.choice import LOCAL, executor_name, make_executor
from harness.engine.executors.cluster import ClusterOptions, data_of
from harness.engine.gallery import gallery_job
from harness.engine.gallery_pool import pool_of
from harness.engine.jobs import BlockJob
from harness.engine.order import longest_first
from harness.engine.priority import NICE
from harness.engine.progress import Progress
from harness.engine.run_folder import RunFolder
from harness.engine.shards import shards_of
from harness.engine.worker import Context, Done, Job
from harness.errors import UserError
from harness.plugins.model import Plugin
from harness.plugins.registry import Registry
from harness.suite.model import Use
from harness.suite.plan import Plan
from harness.wording import counted

Stage = Literal["facts", "fits", "blocks"]
STAGES: Mapping[str, Stage] = {"probes": "facts", "calibration": "facts", "fits": "fits", "blocks": "blocks"}
"""What jobs do, as `harness.flow.pending_jobs` calls it -> the `--stage` that asks for it."""


@dataclass(frozen=True)
class Options:
    """How to run a suite.

    Attributes:
        out: The run folder; None for ``results/runs/<name>``.
        executor: "serial", "processes" or "ray"; None takes processes on a CPU, serial on a GPU.
        workers: Worker processes; None for one per core.
        device: "cpu", "cuda", ...; None takes a GPU where there is one.
        shard: (i, n): do the i-th of n shares of the blocks, which cost about the same, for job arrays on a shared
            folder; with a stage "facts" or "fits", of its jobs.
        probe: Whether metrics are probed for their contract before they are attacked.
        yes: Whether very many cells are meant (`harness.suite.planning.MOST_UNASKED`).
        memory: MiB that each worker may take: batches become smaller to stay below it. None for no limit.
        nice: Niceness of worker processes, 0 to 19; 0 leaves them as this process is.
        stage: Do only "facts" (and probes), "fits" or "blocks"; None does all, one after the other.
        ray_address: Of the cluster, with the executor "ray": see `harness.engine.executors.cluster.ClusterOptions`.
        gpus: GPUs of each worker, with the executor "ray"; None as the suite says.
        batch_memory: MiB that a batch may take that several cells are packed into; 0 packs none. None takes a share of
            what is free on a GPU, and packs none on a CPU.
    """

    out: Path | None = None
    executor: str | None = None
    workers: int | None = None
    device: str | None = None
    shard: tuple[int, int] = (0, 1)
    probe: bool = True
    yes: bool = False
    memory: int | None = None
    nice: int = NICE
    stage: Stage | None = None
    ray_address: str = LOCAL
    gpus: float | None = None
    batch_memory: int | None = None


def own_part(
    pending: dict[str, Sequence[Job]],
    ahead: Sequence[Job],
    plan: Plan,
    store: RunFolder,
    options: Options,
    device: str,
) -> dict[str, Sequence[Job]]:
    """What of the pending jobs is of the stage and the shard that were asked for.

    Args:
        pending: Stage -> its jobs that have no result yet.
        ahead: Every job that blocks need, done or not.
        plan: What they are of.
        store: The run folder.
        options: How to run.
        device: Where.

    Raises:
        UserError: The stage is that of blocks, and what they need was never tried.
    """
    index, count = options.shard
    part = {stage: jobs if options.stage in (None, STAGES[stage]) else () for stage, jobs in pending.items()}
    if options.stage == "blocks":
        tried = {failure.cell for failure in store.failures()}
        missing = [job for stage in ("calibration", "fits") for job in pending[stage] if job.id not in tried]
        if missing and pending["blocks"]:
            raise UserError(
                f"--stage blocks: what blocks need was never done ({counted(len(missing), 'job')}, such as "
                f"'{missing[0].label}'). Run the same command with --stage facts and then with --stage fits first."
            )
    elif options.stage:  # by place: each is there once, whoever does it
        place = {job.id: number for number, job in enumerate(ahead)}
        part = {stage: [job for job in jobs if place[job.id] % count == index] for stage, jobs in part.items()}
    if count > 1 and part["blocks"]:
        shard = shards_of(plan, store, count, device)
        own = [job for job in part["blocks"] if isinstance(job, BlockJob) and shard[job.block.key] == index]
        part["blocks"] = own
    return part


def gpus_of_worker(plan: Plan, options: Options) -> float:
    """GPUs that a cluster gives each worker, as far as that was said."""
    asked = options.gpus if options.gpus is not None else plan.suite.resources.gpus
    return asked if asked is not None else float((options.device or "cpu") != "cpu")


def _cluster_options(plan: Plan, options: Options) -> ClusterOptions | None:
    """What a run asks of a cluster; None where it runs on none."""
    if options.executor != "ray":
        return None
    resources = plan.suite.resources
    return ClusterOptions(
        options.ray_address,
        resources.cpus,
        gpus_of_worker(plan, options),
        round(resources.memory * 1024),
        dict(plan.suite.cluster),
        data_of(plan),
    )


class Tally:
    """Counts what ends, and passes it on."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.jobs = self.blocks = self.cells = self.failed = 0
        self.notices: dict[str, None] = {}
        self.costs: list[Cost] = []
        self.paces: list[Cost] = []

    def add(self, result: Done, stage: str) -> None:
        """A job of a stage has ended."""
        self.jobs += 1
        self.failed += result.failed
        if stage == "blocks":
            self.blocks += 1
            self.cells += result.cells
        self.notices.update(dict.fromkeys(result.notices))
        self.costs += result.costs
        self.paces += result.paces
        self.progress.done(result)

    def chose(self, result: Done) -> None:
        """Pictures are no results: without them nothing is missing but they."""
        self.failed += result.failed
        self.notices.update(dict.fromkeys(result.notices))
        self.progress.done(result)


def execute(
    pending: Mapping[str, Sequence[Job]],
    plan: Plan,
    registry: Registry,
    store: RunFolder,
    options: Options,
    device: str,
    tally: Tally,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run the stages one after the other: each needs the ones before.

    Args:
        pending: Stage -> its jobs.
        plan: What they are of.
        registry: Where its plugins come from.
        store: The run folder.
        options: How to run.
        device: Where.
        tally: Told what ends.
        meanwhile: Called when other processes have blocks to do, so that this one has nothing.

    Raises:
        StoreError: The run folder cannot be written.
    """
    files = tuple(file.resolve() for file in registry.files)
    code = {file: sha256 for plugin in plugins_used(plan, registry) for file, sha256 in plugin.files.items()}
    suite = plan.suite
    context = Context(store.path.resolve(), files, suite.seed, suite.slice_size, device, suite.save_examples, code=code)
    context = replace(context, memory=options.memory, nice=options.nice, exact=suite.exact, pool=pool_of(plan))
    context = replace(context, batch_memory=options.batch_memory)
    executor = make_executor(context, options, _cluster_options(plan, options))
    try:
        with _Interrupt() as interrupt:
            asked, progress = lambda: interrupt.asked, tally.progress
            for stage, jobs in _at_a_time(pending):
                if not jobs or interrupt.asked:
                    continue
                hands, expected, shares = executor.workers, None, dict[str, float]()
                if stage == "blocks":
                    blocks, known = [job for job in jobs if isinstance(job, BlockJob)], read_costs(store.path)
                    expected = _expected(plan, blocks, known, device, hands)
                    paces = merged([*read_paces(store.path).values(), *tally.paces])
                    each = seconds_of_blocks(plan, [job.block for job in blocks], known, device, paces)
                    shares = {job.label: one for job, one in zip(blocks, each, strict=True)}
                    if executor_name(device, options) != "serial":
                        jobs = longest_first(blocks, each)
                        meanwhile()
                progress.stage(stage, len(jobs), hands, expected, shares)
                for result in executor.run(jobs, asked, progress.began, progress.at):
                    tally.add(result, stage)
            choosing = None if interrupt.asked else gallery_job(plan, store)
            if choosing:
                progress.stage("gallery", 1, 1)
            for result in executor.run([choosing] if choosing else [], asked, progress.began, progress.at):
                tally.chose(result)
        if interrupt.asked:
            raise KeyboardInterrupt
    finally:
        executor.close()
        keep_costs(store, tally.paces, PACES_PAGE)


def _at_a_time(pending: Mapping[str, Sequence[Job]]) -> Iterator[tuple[str, Sequence[Job]]]:
    """Stages with their jobs; probes and facts need nothing of each other, so that no worker waits between them."""
    ahead = {stage: jobs for stage, jobs in pending.items() if jobs and STAGES[stage] == "facts"}
    yield "+".join(ahead), [job for jobs in ahead.values() for job in jobs]
    yield from ((stage, jobs) for stage, jobs in pending.items() if STAGES[stage] != "facts")


def _expected(
    plan: Plan, jobs: Sequence[BlockJob], known: Mapping[Key, Cost], device: str, workers: int
) -> float | None:
    """Seconds that blocks take by what runs here and beside it measured; None where most of it never was."""
    cost = estimate(plan, [job.block for job in jobs], known, device)
    timed = cost.images - cost.unknown
    return cost.seconds * cost.images / timed / min(workers, len(jobs)) if 2 * timed > cost.images else None


class _Interrupt:
    """The first Ctrl-C asks to stop after the blocks begun, the second one stops at once.

    So does SIGTERM, by which a scheduler says some time before it kills that it will.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._answer) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _answer(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        again = "Ctrl-C again" if number == signal.SIGINT else "another SIGTERM"
        print(f"stopping after the blocks begun; {again} stops at once.", file=sys.stderr)


def plugins_used(plan: Plan, registry: Registry) -> Iterator[Plugin[Any]]:
    """Every plugin whose code takes part in a plan."""
    uses = uses_of(plan)
    yield from (registry.get(use.kind, use.name) for use in uses)
    yield from (registry.metric(name) for use in uses for name in _named(use.contents.members))


def _named(members: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Names of the metrics that others are built of, and of those that these are built of."""
    for member in members:
        yield member["name"]
        yield from _named(member.get("members", ()))


def uses_of(plan: Plan) -> list[Use]:
    """Every plugin as a plan uses it."""
    suite = plan.suite
    return [*suite.datasets, *suite.attacks, *plan.metrics, *(one for use in suite.defenses for one in use.purifiers)]
