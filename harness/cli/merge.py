"""Runs of colleagues as one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, registry_of, runs_here
from harness.errors import UserError
from harness.files import umask
from harness.wording import counted, tell

if TYPE_CHECKING:
    from harness.engine.merging import MergedRun, Merging
    from harness.report.reading import RunResult
    from harness.suite.joined import Joined


@verb("Look", 10)
def _merge(
    runs: Annotated[
        list[Path],
        typer.Argument(callback=runs_here, help="Two run folders or bundles, or more.", metavar="RUN..."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The new run folder.", metavar="RUN")],
    name: Annotated[str | None, typer.Option(help="Of the merged suite; that of the first run if left out.")] = None,
    first_wins: Annotated[
        bool, typer.Option("--first-wins", help="Where runs contradict each other, take the first of them.")
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Join runs into one by what their cells are: what is the same counts once, what contradicts is refused.

    Metrics, attacks, budgets and data of all suites are joined to one, with which 'run' goes on.
    Example: robustiqa merge mine.zip hers.zip -o results/runs/both
    """
    from harness.report.reading import open_folder, report_run
    from harness.report.render import file_name

    if len(runs) < 2:
        raise UserError("Nothing to merge: give two run folders or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"-o {out}: there already. Name a folder that is to be made; the runs are left as they are.")
    if name is not None and file_name(name) != name:
        raise UserError(f"--name {name}: letters, digits, dots, dashes and underscores only. Choose another.")
    registry = registry_of(plugin)
    opened = [open_folder(run, registry) for run in runs]
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
    try:
        joined, merging = _put_together([str(run) for run in runs], opened, aside, out, name, first_wins)
        if out.is_dir():
            out.rmdir()
        aside.chmod(0o777 & ~umask())
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    result = report_run(out, registry)
    for line in joined.told:
        tell(f"note: {line}")
    plan = result.plan
    say = console()
    shared = f", of which {counted(merging.shared, 'slice')} came from several" if merging.shared else ""
    say.print(f"{out}: {len(plan.cells)} cells of {len(runs)} runs{shared}.", soft_wrap=True)
    left = "" if result.finished else f" Not finished: robustiqa run {out / 'suite.yaml'} --out {out} goes on."
    say.print(f"Report: {result.folder.report / 'index.html'}.{left}", soft_wrap=True)


def _put_together(
    names: Sequence[str], opened: Sequence[RunResult], target: Path, out: Path, name: str | None, first_wins: bool
) -> tuple[Joined, Merging]:
    """Write the merged run into a folder that is not there for anybody yet."""
    from harness.engine.compaction import compact
    from harness.engine.merging import merge_files, merge_gallery, merged_provenance, write_pages
    from harness.engine.run_folder import RunFolder
    from harness.suite.joined import RunPlan, join

    documents = [_document(one.folder.path, out) for one in opened]
    parts = [RunPlan(*these) for these in zip(names, (one.plan for one in opened), documents, strict=True)]
    joined = join(parts, name)
    sources = [_source(*these) for these in zip(names, opened, strict=True)]
    labels = {cell.id: cell.label for cell in joined.plan.cells}
    labels |= {fact.id: f"{fact.split.label} / {fact.scorer.label}" for fact in joined.plan.facts}
    merging = merge_files(sources, target, lambda identity: labels.get(identity, ""), first_wins=first_wins)
    of_merge = [
        {"run": one.plan.suite.name, "planned": one.planned.digest, "slices": merging.taken[source.name]}
        for one, source in zip(opened, sources, strict=True)
    ]
    pages = merged_provenance(sources, of_merge)
    if merging.conflicts:
        count = counted(len(merging.conflicts), "place")
        pages["notices"] = [
            *pages.get("notices", []),
            f"MERGED: {count} of the runs contradicted each other (other versions or processors round otherwise); "
            f"those of '{opened[0].plan.suite.name}', the first, were taken.",
        ]
        joined.told.append(f"{count} contradicted each other, the first of {counted(len(names), 'run')} counts.")
    _write(joined, opened, sources, pages, target)
    write_pages(pages, target)
    merge_gallery(sources, RunFolder(target))
    compact(RunFolder(target), joined.plan)
    return joined, merging


def _write(
    joined: Joined, opened: Sequence[RunResult], sources: Sequence[MergedRun], pages: dict[str, Any], target: Path
) -> None:
    """Write suite and plan, and what to cite for them."""
    import yaml

    from harness.engine import seal
    from harness.engine.folder_files import ALL_SEALED, digest
    from harness.engine.merging import stored_cited
    from harness.engine.plan_file import plan_content
    from harness.files import PLAN, SUITE
    from harness.report.planned import facts_together, written_plan
    from harness.suite.cited import cited_in, cited_together, page_of

    text = yaml.safe_dump(joined.document, sort_keys=False)
    planned = written_plan(joined.plan, facts_together([one.planned.facts for one in opened]))
    sealed = all(one.folder.all_sealed for one in opened)
    (target / SUITE).write_bytes(seal.sealed_text(text, SUITE, ALL_SEALED if sealed else ""))
    (target / PLAN).write_bytes(plan_content(joined.document["name"], text, planned))
    kept = [cited_in([page], str(page["planned"]), ()) for page in stored_cited(sources)]
    whole = [one for one in kept if one is not None]
    if len(whole) == len(opened):
        found = cited_together(whole, f"run {joined.document['name']}")
        pages["cited"] = [page_of(found, digest(planned.encode()))]


def _source(name: str, opened: RunResult) -> MergedRun:
    """A run's whole files; damaged ones are told of and left out."""
    from harness.engine.checking import check_folder
    from harness.engine.merging import MergedRun
    from harness.files import PLAN, SUITE

    checked = check_folder(opened.folder, opened.plan)
    for damaged, why in checked.damaged_results.items():
        tell(f"note: {name}: {damaged} is damaged and left out: {why}")
    mine = (one for one in checked.whole if one not in (SUITE, PLAN) and not one.startswith("report/"))
    return MergedRun(name, opened.folder, list(mine))


def _document(folder: Path, out: Path) -> Mapping[str, Any]:
    """The suite of a run folder as plain values, with paths that lead somewhere from it leading there from another."""
    import yaml

    from harness.files import SUITE
    from harness.suite.places import led_from

    return led_from(yaml.safe_load((folder / SUITE).read_text(encoding="utf-8")), folder, out)
