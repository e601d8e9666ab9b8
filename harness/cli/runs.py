"""What a run folder holds: `report`, `status` and `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app
from harness.cli.common import AsJson, PluginFiles, check_device, console, end, print_json, registry_of
from harness.errors import UserError

_EXAMPLES_SHOWN = 20


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, such as results/runs/quickstart.", metavar="RUN")],
    plugin: PluginFiles = None,
) -> None:
    """Make the tables and the page of a run again from its records, running nothing.

    Example: robustiqa report results/runs/quickstart
    """
    from harness.flow import report_run
    from harness.report.render import print_tables

    result = report_run(folder, registry_of(plugin))
    print_tables(result.tables, console())
    console().print(f"\nReport: {folder / 'report' / 'index.html'}", soft_wrap=True)
    end(result.failures)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A run folder; it may be running.", metavar="RUN")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a run is, from its folder alone; safe while it runs.

    Example: robustiqa status results/runs/quickstart
    """
    from harness.flow import run_status

    found = run_status(folder, registry_of(plugin))
    if as_json:
        print_json(found)
        return
    from rich.table import Table

    table = Table("attacked", "blocks done", title=f"{found['name']} in {folder}", title_justify="left")
    for row in found["sources"]:
        table.add_row(row["source"], f"{row['done']} of {row['blocks']}")
    console().print(table)
    state = (
        "finished"
        if found["done"] == found["blocks"]
        else "not finished; if nobody is at it, run the same suite again to go on"
    )
    console().print(f"{found['done']} of {found['blocks']} blocks, {found['failures']} failures; {state}.")


@app.command()
def rescore(
    folder: Annotated[Path, typer.Argument(help="A run folder whose suite has save_examples.", metavar="RUN")],
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Score the attacked images that a run kept once more, as floats and as 8-bit PNG; exit 1 if any disagrees.

    Example: robustiqa rescore results/runs/quickstart
    """
    from dataclasses import asdict

    from harness.engine.rescore import AGREES_WITHIN
    from harness.engine.rescore import rescore as rescore_
    from harness.flow import default_device, reopen

    registry = registry_of(plugin)
    check_device(device)
    rows = list(rescore_(*reopen(folder, registry), registry, device or default_device()))
    wrong = [row for row in rows if row.complaint]
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        from rich.table import Table

        from harness.wording import significant

        table = Table(
            "cell", "item", "clean", "attacked", "attacked, 8-bit", "", title=str(folder), title_justify="left"
        )
        for row in wrong or rows[:_EXAMPLES_SHOWN]:
            scores = (significant(now) for _, now in (row.clean, row.attacked, row.attacked_8bit))
            table.add_row(row.cell, row.item, *scores, row.complaint or "agrees")
        console().print(table)
        more = f" ({_EXAMPLES_SHOWN} shown)" if not wrong and len(rows) > _EXAMPLES_SHOWN else ""
        console().print(
            f"{len(rows) - len(wrong)} of {len(rows)} stored examples{more} score again what was recorded, within "
            f"{AGREES_WITHIN:g} of the score."
        )
    if wrong:
        raise typer.Exit(1)


@app.command("compare")
def compare_(
    run_a: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(help="Another; differences are B minus A.", metavar="RUN_B")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs where both measured the same condition on the same images, with paired intervals.

    Example: robustiqa compare results/runs/before results/runs/after
    """
    from harness.flow import open_folder
    from harness.report.compare import compare

    registry = registry_of(plugin)
    one, other = open_folder(run_a, registry).data, open_folder(run_b, registry).data
    frame = compare(one, other)
    if as_json:
        print_json(json.loads(frame.to_json(orient="records")))
        return
    if frame.empty:
        raise UserError(
            f"{run_a} and {run_b}: no condition was measured on the same images in both. Compare other runs."
        )
    from rich.table import Table

    from harness.statistics.bootstrap import DESCRIPTIVE_BELOW
    from harness.wording import BROKEN, budget_text, marked, number, scorer_text, with_interval

    header = (
        "data set",
        "metric",
        "attack",
        "budget",
        "n",
        "SROCC A",
        "SROCC B",
        "change [95 %]",
        "quality change [95 %]",
    )
    table = Table(*header, title=f"A = {run_a}, B = {run_b}", title_justify="left")
    for row in frame.to_dict("records"):
        table.add_row(
            row["dataset"],
            marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"]),
            f"{row['attack']} {row['endpoint']}",
            budget_text(row["norm"], row["eps"]) if row["norm"] else "",
            str(row["images"]),
            number(row["srocc_a"]),
            number(row["srocc_b"]),
            *(
                with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3, True)
                for name in ("srocc_change", "quality_change")
            ),
        )
    console().print(table)
    for rules in dict.fromkeys(rules for rules in frame["broken"] if rules):
        console().print(f"{BROKEN} broke its contract when probed: {rules}.", markup=False)
    console().print(
        "Changes are B minus A. Paired bootstrap over references, the same resamples for both runs; images that both "
        "runs have."
    )
    if (frame["references"] < DESCRIPTIVE_BELOW).any():
        few = f"Fewer than {DESCRIPTIVE_BELOW} references in some rows"
        console().print(f"{few}: their intervals are descriptive and claim no coverage.")
    for name, a, b in (("seed", one.seed, other.seed), ("limit", one.limit, other.limit)):
        if a != b:
            console().print(f"The runs differ in {name}: A {a or 'none'}, B {b or 'none'}.")
