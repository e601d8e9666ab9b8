"""The curves of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, FigureForms, FigureSize, console, print_json
from harness.files import shown


@verb("Your own", 3)
def _curves(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders of trainings, such as results/runs/train-NAME; may run.", metavar="RUN"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; the folder curves in the first RUN by default.", metavar="DIR")
    ] = None,
    figures: FigureForms = None,
    size: FigureSize = "page",
    as_json: AsJson = False,
) -> None:
    """Draw how trainings went: losses, the std ratio, anchor hinge and bound (Figure 5), validations; also as CSV.

    The bound of Figure 5b is an identity on the training batch, which a collapsed model satisfies too: read the hinge
    with the std ratio beside it. Example: robustiqa curves results/runs/train-aat results/runs/train-mix --out curves

    For print, beside the PNGs: robustiqa curves results/runs/train-aat --figures pdf,svg --size column
    """
    from harness.engine.drawing import figure_width, formats_named
    from harness.training.curve_figures import draw_curves
    from harness.training.curves import read_curves, summary_of_curves, write_tables

    formats = formats_named(figures) if figures is not None else ()
    figure_width(size)
    found = read_curves(runs)
    folder = out if out is not None else runs[0] / "curves"
    written = [*draw_curves(found, folder, formats, size), *write_tables(found, folder)]
    summaries = [summary_of_curves(one) for one in found]
    if as_json:
        print_json({"runs": summaries, "files": [str(path) for path in written]})
        return
    _print(summaries)
    console().print(
        f"{', '.join(path.name for path in written)} in {shown(folder)}" if written else "Nothing was logged yet.",
        soft_wrap=True,
    )


def _print(summaries: list[dict[str, Any]]) -> None:
    from rich.table import Table

    columns = ("steps", "loss", "hinge", "std ratio", "lowest", "violated", "pair", "s", "")
    table = Table("run", *columns, box=None, padding=(0, 1), header_style="bold")
    for one in summaries:
        bound = f"{one['violated']} of {one['bounds']}" if one["bounds"] else "-"
        table.add_row(
            one["run"],
            str(one["steps"]),
            _ends(one, "loss"),
            _ends(one, "hinge"),
            _number(one["spread_last"]),
            _number(one["spread_lowest"]),
            bound,
            _number(one["pair"]),
            f"{one['seconds']:.0f}",
            "COLLAPSED" * one["collapsed"],
        )
    console().print(table)
    console().print(
        "Loss and hinge: means of the first and the last 20 steps. Violated: batches beyond their bound, which is an "
        "identity that a collapsed model satisfies too.",
        soft_wrap=True,
    )


def _ends(one: Mapping[str, Any], key: str) -> str:
    first, last = one[f"{key}_first"], one[f"{key}_last"]
    return "-" if math.isnan(first) else f"{first:.3g} -> {last:.3g}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
