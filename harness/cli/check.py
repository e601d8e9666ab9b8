"""Whether the files of a run folder are what they were written as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here
from harness.errors import UserError
from harness.files import PLAN, SUITE

if TYPE_CHECKING:
    from harness.engine.checking import FolderChecked
    from harness.suite.plan import Plan

_SHOWN = 20


@verb("Run", 5)
def _check(
    folder: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder.", metavar="RUN")],
    seal: Annotated[
        bool, typer.Option("--seal", help="Seal the files that an older version wrote, where nothing is wrong.")
    ] = False,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a run folder, say which files are damaged, and what `run` would do about it.

    Exit code 1 where a file is damaged. Example: robustiqa check results/runs/quickstart
    """
    from harness.engine.bundle import run_folder_at
    from harness.engine.checking import check_folder, seal_folder
    from harness.engine.run_folder import RunFolder
    from harness.flow import pending_jobs
    from harness.report.reading import planned_in

    store = RunFolder(run_folder_at(folder))
    plan, why = None, ""
    try:
        plan = planned_in(folder, registry_of(plugin))[0].plan
    except UserError as error:
        if not (store.path / SUITE).is_file():
            raise
        why = str(error)
    checked = check_folder(store, plan)
    if seal:
        if plan is None:
            raise UserError(f"{store.path}: cannot be sealed, because its suite cannot be planned. {why}")
        seal_folder(store, plan, checked)
        checked = check_folder(store, plan)
    pending = {name: len(jobs) for name, jobs in pending_jobs(plan, store).items()} if plan is not None else None
    damaged = {name: {"reason": reason, "run": _outlook(name, plan)} for name, reason in checked.damaged.items()}
    if as_json:
        found = {"sealed": checked.sealed, "unsealed": checked.unsealed, "damaged": damaged, "strange": checked.strange}
        print_json({"folder": str(store.path), **found, "pending": pending, "not_planned": why})
    else:
        _print(folder, checked, damaged, pending, why)
    if damaged:
        raise typer.Exit(1)


def _outlook(name: str, plan: Plan | None) -> str:
    """What `run` does about a damaged file."""
    from harness.engine.done import asked_for
    from harness.engine.single_records import APPENDED, COMPACT

    part = name.split("/")[0]
    if part in (SUITE, PLAN, "provenance"):
        return "writes it anew"
    if part == "report":
        return "makes the report again"
    if part == "gallery":
        return "removes it: nothing can make it again, and nothing but the report's page misses it"
    if part == "failures":
        return "removes it and tries again"
    if part == "pixels":
        return "stops: nothing else says which images the records were made from"
    if name.startswith((APPENDED, COMPACT)):
        return "computes again what of it is nowhere else, and removes it"
    if plan is None:
        return "computes it again if it is of the suite"
    return "computes it again" if asked_for(plan)(name) else "leaves it: it is no part of the suite"


def _print(
    folder: Path, checked: FolderChecked, damaged: dict[str, dict[str, str]], pending: dict[str, int] | None, why: str
) -> None:
    def say(text: str) -> None:
        console().print(text, soft_wrap=True, markup=False)

    say(f"{folder}: {checked.sealed} files whole, {len(checked.unsealed)} without a seal, {len(damaged)} damaged.")
    for name, one in list(damaged.items())[:_SHOWN]:
        say(f"damaged: {name}: {one['reason']}; run {one['run']}.")
    if len(damaged) > _SHOWN:
        say(f"... and {len(damaged) - _SHOWN} more; --json lists them all.")
    if checked.unsealed:
        say("Files without a seal were written by an older version; nothing wrong is seen in them. --seal seals them.")
    if checked.strange:
        say(f"No part of a run, and left alone: {_some(checked.strange)}.")
    say(_to_run(pending, why))


def _some(names: Any) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _to_run(pending: dict[str, int] | None, why: str) -> str:
    if pending is None:
        return f"What run would do cannot be said: {why}"
    left = ", ".join(f"{count} {name}" for name, count in pending.items() if count)
    return f"Left to run: {left or 'nothing'}."
