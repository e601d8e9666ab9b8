"""The attacked images that a run kept, scored once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, check_device, console, print_json, registry_of, runs_here

_EXAMPLES_SHOWN = 20
_NOT_KEPT = "—"


@verb("Upkeep", 3)
def _rescore(
    folder: Annotated[
        Path, typer.Argument(callback=runs_here, help="A run folder whose suite has save_examples.", metavar="RUN")
    ],
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Score the attacked images that a run kept once more, as 8-bit PNG and as floats; exit 1 if any disagrees.

    Example: robustiqa rescore results/runs/quickstart
    """
    from dataclasses import asdict

    from harness.engine.rescore import AGREES_WITHIN, rescore
    from harness.flow import default_device, reopen

    registry = registry_of(plugin)
    check_device(device)
    rows = list(rescore(*reopen(folder, registry), registry, device or default_device()))
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
            pairs = (row.clean, row.attacked, row.attacked_8bit)
            scores = (significant(pair[1]) if pair else _NOT_KEPT for pair in pairs)
            table.add_row(row.cell, row.item, *scores, row.complaint or "agrees")
        console().print(table)
        more = f" ({_EXAMPLES_SHOWN} shown)" if not wrong and len(rows) > _EXAMPLES_SHOWN else ""
        console().print(
            f"{len(rows) - len(wrong)} of {len(rows)} stored examples{more} score again what was recorded, within "
            f"{AGREES_WITHIN:g} of the score."
        )
        rounded = sum(row.attacked is None for row in rows)
        if rounded:
            console().print(
                f"{_NOT_KEPT}: of {rounded} the attacked image is kept in 8 bits alone: what it was scored before "
                "rounding cannot be had again. 'exact: true' in the suite, or --set exact=true, keeps it."
            )
    if wrong:
        raise typer.Exit(1)
