"""The paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, refuse_file, registry_of


@verb("Run", 9)
def _paper(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tables and figures, such as table3; all if left out.", metavar="NAME")
    ] = None,
    mini: Annotated[bool, typer.Option("--mini", help="Make them in small, offline, in minutes.")] = False,
    out: Annotated[Path, typer.Option(help="With --mini: where to write.", metavar="DIR")] = Path(
        "results/runs/paper_mini"
    ),
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the BiRQA paper's tables and figures with what each still needs here, or make all of them in small.

    Examples: robustiqa paper table3   |   robustiqa paper --mini
    """
    from harness.cli.paper_parts.items import items_named
    from harness.cli.paper_parts.missing import need_of
    from harness.cli.paper_parts.small import make_small, write_page
    from harness.engine.memory import keep_freed_memory
    from harness.engine.progress import ConsoleProgress

    items = items_named(names or ())
    registry = registry_of(plugin)
    screen = console()
    if mini:
        refuse_file(out)
        keep_freed_memory()
        told = console(stderr=True)
        with ConsoleProgress(told) as progress:
            made = make_small(items, out, registry, progress, lambda line: told.print(line, soft_wrap=True))
        page = write_page(made, out)
        failed = [one.item.name for one in made if one.failed]
        screen.print(f"{len(made) - len(failed)} of {len(made)} made. Page: {page}", soft_wrap=True)
        if failed:
            raise typer.Exit(1)
        return
    needs = {item.name: need_of(item, registry) for item in items}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "data": n.data,
                    "fetch": n.published,
                    "train": n.trained,
                    "by_hand": n.by_hand,
                    "other": n.other,
                    "hours": n.hours,
                }
                for name, n in needs.items()
            ]
        )
        return
    from rich.table import Table

    table = Table("", "what", "suites/paper", "missing here", "hours", box=None, padding=(0, 1), header_style="bold")
    table.columns[3].overflow = "fold"
    for item in items:
        need = needs[item.name]
        hours = "" if not item.suites else "?" if need.hours is None else f"{need.hours:.1f}"
        table.add_row(item.name, item.title, "\n".join(item.suites) or item.instead, need.told, hours)
    screen.print(table)
    screen.print(
        "Hours: of one worker, as earlier runs here measured; ? where it cannot be told yet "
        "(`robustiqa plan SUITE --time`). docs/paper.md has what to type, in order; --mini makes all of it in small.",
        soft_wrap=True,
    )
