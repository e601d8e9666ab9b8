"""From a suite to records and tables."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import (
    Device,
    Full,
    Limit,
    MaxPixels,
    Only,
    PluginFiles,
    Seed,
    Sets,
    SuitePath,
    Workers,
    check_device,
    checked_suite,
    console,
    end,
    interruptions_held,
    print_report,
    registry_of,
    uncollected,
)
from harness.engine.priority import NICE
from harness.errors import UserError
from harness.wording import counted

if TYPE_CHECKING:
    from harness.flow import Stage

_SHARD = re.compile(r"\d{1,18}/\d{1,18}")


class ExecutorName(StrEnum):
    """Where blocks run."""

    serial = "serial"
    processes = "processes"
    ray = "ray"


class StageName(StrEnum):
    """What is done of a run."""

    facts = "facts"
    fits = "fits"
    blocks = "blocks"


@verb("Run", 1)
def _run(
    suite: SuitePath,
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> if left out.")] = None,
    executor: Annotated[
        ExecutorName | None, typer.Option(help="Default: processes on a CPU, serial on a GPU; ray: on a cluster.")
    ] = None,
    workers: Workers = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Device = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do the I-th of N shares of the blocks (0/4 ... 3/4), for job arrays."),
    ] = None,
    stage: Annotated[
        StageName | None, typer.Option(help="Do only this; so that N shards need not calibrate N times.")
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT|ray://HOST:PORT|local", help="Of the cluster; implies --executor ray."),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option("--num-gpus-per-worker", min=0, help="GPUs of each worker on a cluster; 0.5 lets two share one."),
    ] = None,
    probes: Annotated[
        bool, typer.Option("--probes/--no-probes", help="Probe each metric's contract first, once per run folder.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Run a suite of more than 100,000 cells.")] = False,
    memory: Annotated[
        str | None,
        typer.Option(metavar="4GiB", help="What each worker may take: batches become smaller to stay below it."),
    ] = None,
    max_batch_memory: Annotated[
        str | None,
        typer.Option(
            metavar="8GiB",
            envvar="ROBUSTIQA_MAX_BATCH_MEMORY",
            help="Attack several radii, directions and slices as one batch that takes no more than this; 0: none. "
            "Default: most of what is free on a GPU, 0 on a CPU.",
        ),
    ] = None,
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="How far workers stand back for what else runs; 0: not at all.")
    ] = NICE,
    max_pixels: MaxPixels = None,
    plugin: PluginFiles = None,
    full: Full = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Run a suite, resume it, or extend it; ends with the answer on one screen and writes the report.

    The same command again goes on where it stopped; a metric, an attack or a budget added to the suite runs only what
    is new. Example: robustiqa run quickstart --limit 16
    """
    began_ns = time.time_ns()
    call = {
        **{"suite": suite, "out": out, "sets": sets, "only": only, "limit": limit, "seed": seed, "device": device},
        **{"shard": shard, "stage": stage, "probes": probes, "plugins": plugin},
    }
    if _told_again(suite, out, call, quiet, full):
        return
    from harness.engine.executors.choice import LOCAL
    from harness.engine.executors.ray_connection import connected_ahead
    from harness.engine.nursery import workers_ahead

    executor = ExecutorName.ray if executor is None and ray_address is not None else executor
    address = LOCAL if ray_address is None else ray_address
    cluster = connected_ahead(address) if executor is ExecutorName.ray else nullcontext()
    with nullcontext() if executor is ExecutorName.serial else workers_ahead(device), cluster:
        with uncollected(), interruptions_held():
            from harness.engine.memory import keep_freed_memory
            from harness.engine.memory_cap import batch_memory, size_in_mib
            from harness.engine.progress import ConsoleProgress, Progress
            from harness.flow import Options, note_finished, run_suite
            from harness.suite.compose import Overrides, files_of

        registry = registry_of(plugin)
        found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
        on_cluster = _is_on_cluster(executor, ray_address, gpus)
        if not on_cluster:
            check_device(device)
        keep_freed_memory()
        allowed = None if memory is None else size_in_mib(memory, "--memory")
        packed = None if max_batch_memory is None else batch_memory(max_batch_memory, "--max-batch-memory")
        place = (out, executor.value if executor else None, workers, device, shard_named(shard))
        options = Options(*place, probes, yes, allowed, nice, _stage_named(stage), address, gpus, packed)
        with Progress() if quiet else ConsoleProgress(console(stderr=True)) as progress:
            result = run_suite(found, registry, options, progress)
        if stage in (StageName.facts, StageName.fits):
            if not quiet:
                jobs = f"{counted(result.jobs, 'job')} run" if result.jobs else "nothing left to run"
                console().print(f"{found.name}: {stage.value}: {jobs} into {result.folder.path}.", soft_wrap=True)
            end(result.failures)
            return
        if not quiet:
            blocks = "1 block" if result.blocks == 1 else f"{result.blocks} blocks"
            did = f"{blocks} run ({result.cells} slices of cells)" if result.jobs else "nothing left to run"
            print_report(result.screen, result.folder.path, full, f"{found.name}: {did}. ")
        if suite.is_file():
            note_finished(result, call, files_of(suite), began_ns)
        end(result.failures)


def _stage_named(stage: StageName | None) -> Stage | None:
    return None if stage is None else stage.value


def _is_on_cluster(executor: ExecutorName | None, ray_address: str | None, gpus: float | None) -> bool:
    """Whether it runs on a cluster.

    Raises:
        UserError: It does not, and an option asks for one.
    """
    if executor is ExecutorName.ray:
        return True
    for option, value in (("--ray-address", ray_address), ("--num-gpus-per-worker", gpus)):
        if value is not None:
            raise UserError(f"{option} {value}: goes with --executor ray only. Add it, or leave {option} out.")
    return False


def _told_again(suite: Path, out: Path | None, call: Mapping[str, Any], quiet: bool, full: bool) -> bool:
    """Whether this call has nothing left to do and nothing has changed since; then its report is printed as it is.

    Nothing heavy is imported for this. Wherever it is not certain, the answer is no and everything is looked at.
    """
    from harness.engine.stamp import recall
    from harness.files import RUNS, TERMINAL, expanded
    from harness.report.screen import read_screen

    if not suite.is_file():  # a pipe can be read once
        return False
    folder = expanded(out or RUNS / _name_in(suite), "--out")
    name = recall(folder, call)
    if name is None:
        return False
    if not quiet:
        print_report(read_screen(folder / "report" / TERMINAL), folder, full, f"{name}: nothing left to run. ")
    return True


def _name_in(suite: Path) -> str:
    """What a suite file is called by its own key `name`, as far as that is seen without reading YAML; or nothing."""
    try:
        found = re.search(
            r"^name:[ \t]*([A-Za-z0-9_.-]+)[ \t]*(?:#.*)?$", suite.read_text(encoding="utf-8"), re.MULTILINE
        )
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def shard_named(text: str | None) -> tuple[int, int]:
    """(i, n) of 'I/N'; all of it where nothing is given.

    Raises:
        UserError: It is no such text.
    """
    if text is None:
        return 0, 1
    from harness.engine.page_checks import MOST_SHARDS

    index, _, count = text.partition("/")
    if not (_SHARD.fullmatch(text) and int(index) < int(count)):
        raise UserError(f"--shard {text}: should be I/N with I from 0 to N - 1, such as 0/4.")
    if int(count) > MOST_SHARDS:
        raise UserError(f"--shard {text}: should be of at most {MOST_SHARDS:,} shards.")
    return int(index), int(count)
