"""A leaderboard over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, refuse_file, registry_of, runs_here, writing
from harness.errors import UserError
from harness.wording import tell

if TYPE_CHECKING:
    from harness.report.entries import PublishedRun
    from harness.report.reading import RunResult

_ENTRIES = "entries"
_PAGE = "index.html"


@verb("Look", 11)
def _publish(
    out: Annotated[Path, typer.Option("-o", "--out", help="The leaderboard's folder.", metavar="DIR")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            callback=runs_here,
            help="Run folders or bundles; none to make the page of the entries again.",
            metavar="RUN",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="What stands over the page.")] = "Robustness of image-quality metrics",
    plugin: PluginFiles = None,
) -> None:
    """Make a static leaderboard: a page over many runs, and a small JSON entry for each metric and data set.

    Entries that are there are updated, and keep what people wrote into them (reviewed_by, paper, code, note).
    Example: robustiqa publish results/runs/quickstart hers.zip -o board
    """
    from harness.files import write_whole
    from harness.report.entries import entries_of, entry_in, entry_text
    from harness.report.leaderboard import leaderboard_page
    from harness.report.reading import open_folder

    refuse_file(out, "-o")
    registry = registry_of(plugin)
    published = [_published(run, open_folder(run, registry)) for run in runs or ()]
    there = {path.stem: path for path in sorted((out / _ENTRIES).glob("*.json"))}
    entries = {name: entry_in(path.read_text(encoding="utf-8"), str(path)) for name, path in there.items()}
    written: dict[str, dict[str, Any]] = {}
    for run in published:
        for entry in entries_of(run):
            written[entry["entry"]] = _updated(entry, entries.get(entry["entry"]))
    entries |= written
    if not entries:
        raise UserError(f"{out}: no entries are there, and no run was given. Give run folders.")
    with writing(out):
        for name, entry in written.items():
            write_whole(out / _ENTRIES / f"{name}.json", entry_text(entry).encode())
        write_whole(out / _PAGE, leaderboard_page(list(entries.values()), title).encode())
    admitted = sum(bool(entry["admissible"]) for entry in entries.values())
    counts = f"{len(entries)} entries, {len(written)} of them of these runs, {admitted} admissible"
    console().print(f"{out / _PAGE}: {counts}.", soft_wrap=True)


def _published(path: Path, result: RunResult) -> PublishedRun:
    """A run with what its admission depends on; every byte of it is looked at."""
    from harness.engine.checking import check_folder
    from harness.engine.done import done_slices, relevant_failures
    from harness.report.entries import PublishedRun

    plan, store = result.plan, result.folder
    checked = check_folder(store, plan)
    damaged = list(checked.damaged_results)
    for why in [f"{name} is damaged" for name in damaged[:1]] + ["some files carry no seal"] * bool(checked.unsealed):
        tell(f"note: {path}: {why}, so its entries are not admissible; 'robustiqa check {path}' says more.")
    done, failed = done_slices(plan, store), {failure.cell for failure in relevant_failures(plan, store)}
    left = {
        cell.who[:4]
        for cell in plan.cells
        if cell.id in failed or len(done[cell.id] & set(range(plan.slices_of(cell)))) < plan.slices_of(cell)
    }
    return PublishedRun(result.data, plan, left, not damaged and not checked.unsealed)


def _updated(entry: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """An entry with what people wrote; a reviewed one that changed is told of."""
    from harness.report.entries import changed_since, reviewed_entry

    if before and before.get("reviewed_by") and changed_since(entry, before):
        tell(f"note: {entry['entry']}: changed since {before['reviewed_by']} reviewed it; have it looked at again.")
    return reviewed_entry(entry, before)
