"""How far a run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here


@verb("Run", 4)
def _status(
    folder: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder; it may be running.", metavar="RUN")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a run is, from its folder alone; safe while it runs.

    Example: robustiqa status results/runs/quickstart
    """
    from harness.report.reading import run_status

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
        "all of them are done"
        if found["done"] == found["blocks"]
        else "not finished; if nobody is at it, run the same suite again to go on"
    )
    counts = f"{found['done']} of {found['blocks']} blocks, {found['failures']} failures"
    damaged = f", {len(found['damaged'])} damaged files, which run computes again" if found["damaged"] else ""
    console().print(f"{counts}{damaged}; {state}.", soft_wrap=True)
    _print_shards(found["shards"])
    for name, reason in found["damaged"].items():
        console().print(f"damaged: {name}: {reason}", soft_wrap=True, markup=False)
    if found["unchecked"]:
        console().print(
            f"{found['unchecked']} files carry no seal, as an older version wrote them: read, but not checked. "
            f"robustiqa check {folder} --seal looks at them and seals them.",
            soft_wrap=True,
            markup=False,
        )


def _print_shards(rows: Sequence[Mapping[str, Any]]) -> None:
    """How far each shard of a job array is; those that are done in one line."""
    if not rows:
        return
    left = [row for row in rows if row["done"] < row["blocks"]]
    text = ", ".join(f"{row['shard']} ({row['done']} of {row['blocks']} blocks)" for row in left)
    more = f"; left: {text}" if left else ""
    console().print(f"shards: {len(rows) - len(left)} of {len(rows)} done{more}.", soft_wrap=True)
