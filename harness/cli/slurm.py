"""A job array for the scheduler Slurm."""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import (
    Device,
    Limit,
    Only,
    PluginFiles,
    Seed,
    Sets,
    SuitePath,
    checked_suite,
    console,
    registry_of,
)
from harness.errors import UserError
from harness.wording import counted, tell

if TYPE_CHECKING:
    from harness.plugins.registry import Registry
    from harness.suite.plan import Plan

_GRACE_S = 300
"""Seconds before the end of its time at which Slurm says so to a job."""
_TIME = re.compile(r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_NAME = re.compile(r"[\w.+][\w.+-]*(,[\w.+][\w.+-]*)*")

_MEM = re.compile(r"[0-9]+[KMGT]?", re.IGNORECASE)
_ACCOUNT = re.compile(r"[\w.][\w.-]*")
_TIMES = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_MARGIN, _COMMAND_MIB = 1.25, 1024
"""Of memory: how much more than was measured is asked for, and what the command itself takes, its report included."""
_USUAL_MOST = 1000
"""Tasks of an array that Slurm allows where a site says nothing else."""

_SCRIPT = """#!/bin/bash
# {name}: written by robustiqa slurm; change what your site asks for (partition, account, modules) and keep the rest.
# {device}
#
#   bash {script}            submits everything: facts, then fits, then {shards} shards of the blocks
#   bash {script} status     says how far all of it is
#
# Submitted again, it does what is left: after a time limit, a node that failed, or more in the suite.
#SBATCH --job-name=robustiqa-{name}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --output={logs}/%x-%j.txt
#SBATCH --signal=B:TERM@{grace}
#SBATCH --requeue{more}
set -eu
cd {folder}
run=({run})

jobs=()
submit() {{  # STAGE OPTION...: the job's number is left in $job; a federation adds its cluster's name to it
  local stage=$1 said
  shift
  if said=$(sbatch --parsable "$@" {script} "$stage"); then
    job=${{said##*$'\\n'}}
    job=${{job%%;*}}
    jobs+=("$job")
    [[ $job =~ ^[0-9]+$ ]] && return
    echo "not submitted: sbatch said '$said' of the $stage, and no number; squeue shows what it did." >&2
    exit 1
  fi
  case ${{#jobs[@]}} in
  0) said="Nothing is submitted" ;;
  1) said="Facts ${{jobs[0]}} are submitted; 'scancel ${{jobs[0]}}' takes them back" ;;
  *) said="Facts ${{jobs[0]}} and fits ${{jobs[1]}} are submitted; 'scancel ${{jobs[*]}}' takes them back" ;;
  esac
  echo "not submitted: sbatch refused the $stage. $said." >&2
  exit 1
}}

case "${{1:-submit}}" in
submit)
  if ! command -v sbatch >/dev/null; then
    echo "not submitted: there is no sbatch here. Call this where jobs of the cluster are submitted from." >&2
    exit 1
  fi
  mkdir -p {logs}
  submit facts
  submit fits --dependency=afterany:"$job"
  submit blocks --dependency=afterany:"$job" --array=0-{last} --output={logs}/%x-%A_%a.txt
  told="facts ${{jobs[0]}}, fits ${{jobs[1]}}, blocks ${{jobs[2]}}"
  echo "submitted: $told; bash {script} status says how far they are"
  ;;
status) exec {status} ;;
blocks) exec "${{run[@]}}" --stage blocks --shard "$SLURM_ARRAY_TASK_ID/{shards}" ;;
*) exec "${{run[@]}}" --stage "$1" ;;
esac
"""


@verb("Run", 5)
def _slurm(
    suite: SuitePath,
    shards: Annotated[int, typer.Option(min=1, help="Jobs of the array, 10,000 at most.")] = 16,
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> if left out.")] = None,
    script: Annotated[Path | None, typer.Option(help="Where the script goes; <name>.slurm.sh if left out.")] = None,
    time: Annotated[
        str, typer.Option(metavar="HH:MM:SS", help="What each job may take, in any form that sbatch takes.")
    ] = "04:00:00",
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each job, which has as many workers on a CPU.")] = 1,
    mem: Annotated[
        str | None,
        typer.Option(metavar="8G", help="Memory of each job; if left out, what runs measured, as far as any did."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="1 gives each job a GPU; without it they run on CPUs.")] = 0,
    partition: Annotated[str | None, typer.Option(help="Of the cluster; its own default if left out.")] = None,
    account: Annotated[
        str | None, typer.Option(help="What jobs are charged to; the user's default if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="For a suite of more than 100,000 cells.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a script that differs.")] = False,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Device = None,
    plugin: PluginFiles = None,
) -> None:
    """Write a script that runs a suite as a job array of Slurm, on a file system that all of its nodes share.

    Facts and fits are computed once, then the shards share the blocks by what they cost. A script that was changed is
    not overwritten. Example: robustiqa slurm suites/quickstart.yaml --shards 8
    """
    from harness.engine.run_folder import RunFolder
    from harness.files import RUNS, shown
    from harness.suite.compose import Overrides
    from harness.suite.planning import MOST_UNASKED, make_plan, many_cells

    _check_job(mem, account, gpus)
    _check(shards, time, partition)
    registry = registry_of(plugin)
    found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    if not suite.is_file():
        raise UserError(f"{suite}: a job of the array reads the suite again. Write it to a file.")
    if many_cells(found) and not yes:
        raise UserError(f"{suite}: more than {MOST_UNASKED:,} cells. Say --yes where all of them are meant.")
    place, path = out or RUNS / found.name, script or Path(f"{found.name}.slurm.sh")
    device = device or ("cuda" if gpus else "cpu")
    program = [sys.executable, "-m", "harness"]
    options = {"--out": place, "--device": device, "--only": only, "--limit": limit, "--seed": seed}
    run = [*program, "run", suite.absolute(), *_given(options), "--quiet"]
    run += [part for value in sets or () for part in ("--set", value)]
    run += [part for file in plugin or () for part in ("--plugin", file.absolute())]
    run += ["--workers", cpus] if device == "cpu" else []
    run += ["--yes"] if yes else []
    extras = [f"--{name}={value}" for name, value in (("partition", partition), ("account", account)) if value]
    extras += [f"--gpus-per-task={gpus}"] if gpus else []
    plan = make_plan(found, registry, RunFolder(place).read_pixels)
    memory, why = (mem, "") if mem else _memory(plan, place, registry, device, cpus)
    extras += [f"--mem={memory}"] if memory else []
    text = _SCRIPT.format(
        name=found.name,
        script=shlex.quote(str(path.absolute())),
        shards=shards,
        last=shards - 1,
        cpus=cpus,
        time=time,
        grace=_GRACE_S,
        logs=shlex.quote(f"{found.name}.slurm"),
        device=_device_text(device, gpus),
        more="".join(f"\n#SBATCH {extra}" for extra in extras) + (f"\n# {why}" if why else ""),
        folder=shlex.quote(str(Path.cwd())),
        run=_quoted(run),
        status=_quoted([*program, "status", place]),
    )
    new = _write(path, text.encode(), force)
    blocks = len(plan.blocks({}))
    _note(shards, blocks, time)
    gpu = "a GPU" if gpus else f"no GPU (--device {device}; --gpus 1 gives each one)"
    takes = f"{memory} of memory" if memory else "the memory that the site gives unasked"
    lines = [
        f"{shown(path)}: {'written' if new else 'is there as it would be written'}: facts, fits, then "
        f"{counted(shards, 'shard')} of {counted(blocks, 'block')}.",
        f"Each job has {counted(cpus, 'core')}, {gpu}, {takes} and up to {_time_text(time)}.",
        f"Submit everything: bash {shown(path)}",
    ]
    console().print("\n".join(lines), soft_wrap=True)


def _check_job(mem: str | None, account: str | None, gpus: int) -> None:
    """Refuse what jobs have no use for, or what would be more than one word of a line for sbatch.

    Raises:
        UserError: It is such.
    """
    if gpus > 1:
        raise UserError(f"--gpus {gpus}: a job is one process, which uses one GPU. Say --gpus 1, and more --shards.")
    if mem is not None and not _MEM.fullmatch(mem):
        raise UserError(f"--mem {mem}: should be a number of MB, or one with K, M, G or T, such as 8G.")
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise UserError(f"--account {account}: should be the name of an account, in letters, digits and . _ - alone.")


def _device_text(device: str, gpus: int) -> str:
    if device == "cpu" and not gpus:
        return "Jobs run on CPUs (--device cpu); 'robustiqa slurm ... --gpus 1' writes one whose jobs have a GPU each."
    return f"Jobs run with --device {device}" + (", with a GPU each, in one process." if gpus else ".")


def _memory(plan: Plan, folder: Path, registry: Registry, device: str, workers: int) -> tuple[str | None, str]:
    """What to ask for memory by what runs measured, None where that is not all; and a comment for the script.

    Args:
        plan: What jobs do.
        folder: The run folder.
        registry: Where data sets come from.
        device: Where jobs run.
        workers: Of each job.
    """
    from harness.engine.costs import loads
    from harness.engine.footprint import memory_needs, sizes_of
    from harness.engine.forecast import read_recorded
    from harness.engine.machines.pages import Machine

    if device != "cpu":
        return None, "No --mem: what a process with a GPU takes of the node's own memory is not measured."
    work, recorded = loads(plan, plan.blocks({}), device), read_recorded(folder)
    of_jobs = Machine("", "", "cpu", 1.0, 1.0, 1.0, None, workers)  # speeds do not matter here
    needs = memory_needs(plan, work, recorded, of_jobs, sizes_of(plan, recorded, registry))
    if len(needs) == len(work):
        mib = needs[0].mib
        gib = math.ceil((workers * mib * _MARGIN + _COMMAND_MIB) / 1024)
        each = f"{counted(workers, 'worker')} of up to {mib:,.0f} MiB, as runs measured"
        return f"{gib}G", f"--mem: {each}, a quarter more, and 1 GiB for the command."
    most = f" (the others take up to {needs[0].mib:,.0f} MiB a worker)" if needs else ""
    unknown = f"of {len(work)} kinds of work {len(work) - len(needs)} were never measured{most}"
    cure = "Written again after a run of them, this asks for what workers take, a quarter more, and 1 GiB"
    return None, f"No --mem: {unknown}.\n# {cure}."


def _write(path: Path, content: bytes, force: bool) -> bool:
    """Write the script; whether it was not there as it is.

    Raises:
        UserError: Another one is there, or it cannot be written.
    """
    from harness.files import write_whole

    try:
        known = path.read_bytes() if path.is_file() else None
        if known == content:
            return False
        if known is not None and not force:
            raise UserError(
                f"--script {path}: is there, and differs from what would be written. It may be edited, so nothing is "
                "overwritten: give another name, delete it, or say --force."
            )
        write_whole(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--script {path}: cannot be written ({reason}). Choose another place.") from error
    return True


def _note(shards: int, blocks: int, time: str) -> None:
    """Say what may not be meant."""
    if shards > blocks:
        tell(
            f"note: --shards {shards}: there are {counted(blocks, 'block')}; more shards than that have nothing to do."
        )
    if shards > _USUAL_MOST:
        tell(
            f"note: --shards {shards}: many sites allow arrays of {_USUAL_MOST:,} tasks; "
            "'scontrol show config | grep MaxArraySize' says what yours does."
        )
    if "-" not in time and time.count(":") < 2 and _TIMES.fullmatch(time):
        tell(f"note: --time {time}: to Slurm that is {_time_text(time)}; hours are HH:MM:SS, such as 08:00:00.")


def _time_text(text: str) -> str:
    """'8 h 00 min', as Slurm reads a time."""
    from harness.engine.progress import duration

    found = _TIMES.fullmatch(text)
    if found is None:
        return text
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part]
    units = (3600, 60, 1) if days or len(parts) == 3 else (60, 1)
    return duration(int(days or 0) * 86_400 + sum(map(math.prod, zip(parts, units, strict=False))))


def _check(shards: int, time: str, partition: str | None) -> None:
    """Refuse what runs or sbatch would refuse, or what would be more than one word of its line.

    Raises:
        UserError: It is such.
    """
    from harness.engine.page_checks import MOST_SHARDS

    if shards > MOST_SHARDS:
        raise UserError(f"--shards {shards}: should be at most {MOST_SHARDS:,}.")
    if not _TIME.fullmatch(time):
        forms = "MINUTES, MM:SS, HH:MM:SS, DAYS-HH, DAYS-HH:MM, DAYS-HH:MM:SS or UNLIMITED"
        raise UserError(f"--time {time}: should be {forms}, such as 08:00:00.")
    if partition is not None and not _NAME.fullmatch(partition):
        raise UserError(
            f"--partition {partition}: should be the name of a partition, or several with commas between, in letters, "
            "digits and . _ + - alone."
        )


def _given(options: dict[str, object]) -> list[object]:
    return [part for name, value in options.items() if value is not None for part in (name, value)]


def _quoted(words: list[object]) -> str:
    return " ".join(shlex.quote(str(word)) for word in words)
