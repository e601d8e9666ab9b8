"""A job array for the scheduler Slurm."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

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

_GRACE_S = 300
"""Seconds before the end of its time at which Slurm says so to a job."""
_TIME = re.compile(r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_NAME = re.compile(r"[\w.+][\w.+-]*(,[\w.+][\w.+-]*)*")

_SCRIPT = """#!/bin/bash
# {name}: written by robustiqa slurm; change what your site asks for (partition, account, modules) and keep the rest.
#
#   bash {script}            submits everything: facts, then fits, then {shards} shards of the blocks
#   bash {script} status     says how far all of it is
#
# Submitted again, it does what is left: after a time limit, a node that failed, or more in the suite.
#SBATCH --job-name=robustiqa-{name}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --output={logs}/%x-%A_%a.txt
#SBATCH --signal=B:TERM@{grace}
#SBATCH --requeue{more}
set -eu
cd {folder}
run=({run})

submitted() {{  # prints the job's number; a federation adds its cluster's name to it
  local job
  job=$(sbatch --parsable "$@")
  echo "${{job%%;*}}"
}}

case "${{1:-submit}}" in
submit)
  mkdir -p {logs}
  facts=$(submitted {script} facts)
  fits=$(submitted --dependency=afterany:"$facts" {script} fits)
  blocks=$(submitted --dependency=afterany:"$fits" --array=0-{last} {script} blocks)
  echo "submitted: facts $facts, fits $fits, blocks $blocks; bash {script} status says how far they are"
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
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each job.")] = 0,
    partition: Annotated[str | None, typer.Option(help="Of the cluster; its own default if left out.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Device = None,
    plugin: PluginFiles = None,
) -> None:
    """Write a script that runs a suite as a job array of Slurm, on a file system that all of its nodes share.

    Facts and fits are computed once, then the shards share the blocks by what they cost. Example: robustiqa slurm
    suites/quickstart.yaml --shards 8
    """
    from harness.files import RUNS, shown, write_whole
    from harness.suite.compose import Overrides

    _check(shards, time, partition)
    registry = registry_of(plugin)
    found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    if not suite.is_file():
        raise UserError(f"{suite}: a job of the array reads the suite again. Write it to a file.")
    place, path = out or RUNS / found.name, script or Path(f"{found.name}.slurm.sh")
    device = device or ("cuda" if gpus else "cpu")
    program = [sys.executable, "-m", "harness"]
    options = {"--out": place, "--device": device, "--only": only, "--limit": limit, "--seed": seed}
    run = [*program, "run", suite.absolute(), *_given(options), "--quiet"]
    run += [part for value in sets or () for part in ("--set", value)]
    run += [part for file in plugin or () for part in ("--plugin", file.absolute())]
    run += ["--workers", cpus] if device == "cpu" else []
    extras = [f"--gpus-per-task={gpus}"] if gpus else []
    extras += [f"--partition={partition}"] if partition else []
    text = _SCRIPT.format(
        name=found.name,
        script=shlex.quote(str(path.absolute())),
        shards=shards,
        last=shards - 1,
        cpus=cpus,
        time=time,
        grace=_GRACE_S,
        logs=shlex.quote(f"{found.name}.slurm"),
        more="".join(f"\n#SBATCH {extra}" for extra in extras),
        folder=shlex.quote(str(Path.cwd())),
        run=_quoted(run),
        status=_quoted([*program, "status", place]),
    )
    try:
        write_whole(path, text.encode())
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--script {path}: cannot be written ({reason}). Choose another place.") from error
    console().print(f"{shown(path)}: written. Submit everything: bash {shown(path)}", soft_wrap=True)


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
