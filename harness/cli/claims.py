"""What a paper claims, computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here
from harness.errors import UserError
from harness.wording import did_you_mean, rich_text, tell

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_FILE = "suites/paper/claims.csv"
_PAPER = "paper's numbers"
_FIGURES = {_PAPER: ("found", "verdict"), "these runs": ("found_here", "verdict_here", "cells_here")}
"""Title of a column -> what of a claim stands in it."""


@verb("Look", 6)
def _claims(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            callback=runs_here, help="Run folders, whose figures are put into the same formulas.", metavar="RUN"
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help=f"The file of claims; {_FILE} of the checkout by default.", metavar="FILE.csv")
    ] = None,
    called: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            help="What stands for what, such as lpips-vgg=LPIPS or mini=kadid10k; may be repeated.",
            metavar="LABEL=NAME",
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(help="Direction of attacks in runs; mos_split, and up for the IR-Score, by default."),
    ] = None,
    fps: Annotated[
        Path | None,
        typer.Option(help="A CSV of `robustiqa fps`, for sentences about speed and size.", metavar="FILE.csv"),
    ] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Compute a paper's sentences about numbers again, from its printed tables and from runs that have the cells.

    Exit code 1 where a verdict is not the one that the file states. Example: robustiqa claims results/runs/mine
    """
    import pandas as pd

    from harness.report.claims import (
        as_the_paper_calls_them,
        check_called,
        claims_table,
        in_direction,
        not_the_papers,
        read_claims,
        usual_names,
    )
    from harness.report.layouts import known_names
    from harness.report.layouts.published import PUBLISHED_FOLDER
    from harness.report.printed import printed_cells

    directions = list(known_names({})["direction"])
    if direction is not None and direction not in directions:
        raise UserError(f"--direction {direction}: no such direction.{did_you_mean(direction, directions)}")
    names = _names(called or [])
    file = file if file is not None else PUBLISHED_FOLDER.parent / Path(_FILE).name
    printed, claims = printed_cells(), read_claims(file)
    ours, lesser = None, ""
    if runs or fps:
        cells = _cells_of(runs or [], fps, plugin)
        check_called(names, cells, printed)
        cells = in_direction(cells, direction or "")
        names = {**usual_names(PUBLISHED_FOLDER), **names}
        ours, lesser = as_the_paper_calls_them(cells, names), not_the_papers(cells, names)
    frame = claims_table(claims, printed, ours)
    astray = frame[frame["verdict"] != pd.Series([claim.verdict for claim in claims])]
    if lesser:
        frame = frame.drop(columns=["found", "verdict", "why"])
    if as_json:
        print_json({"claims": frame.to_dict("records"), "not_the_papers": lesser, "astray": list(astray["id"])})
    else:
        _print(frame, lesser)
    for row in astray.itertuples():
        tell(f"failed: {file}: claim '{row.id}' comes to '{row.verdict}', and the file says otherwise.")
    if len(astray):
        tell("Mend the formula, or the verdict and its why.")
        raise typer.Exit(1)


def _names(called: Sequence[str]) -> dict[str, str]:
    """LABEL=NAME of the command line."""
    pairs = [one.partition("=") for one in called]
    for text, (label, _, name) in zip(called, pairs, strict=True):
        if not (label and name):
            raise UserError(f"--as {text}: give LABEL=NAME, such as --as lpips-vgg=LPIPS.")
    return {label: name for label, _, name in pairs}


def _cells_of(runs: Sequence[Path], fps: Path | None, plugin: Sequence[Path] | None) -> pd.DataFrame:
    """The cells of all runs, and what `robustiqa fps` measured."""
    from harness.report.layouts.speed import speed_cells
    from harness.report.printed import frame_of
    from harness.report.reading import cells_of_folder

    registry = registry_of(plugin)
    cells = [cell for run in runs for cell in cells_of_folder(run, registry)]
    return frame_of([*cells, *(speed_cells(fps) if fps else [])])


def _print(frame: pd.DataFrame, lesser: str) -> None:
    from harness.report.claims import VERDICTS

    told = frame[frame["cells_here"].str.partition(" ")[0] != "0"] if "cells_here" in frame else frame
    screen = console()
    if len(told):
        screen.print(_table(told))
    if len(told) < len(frame):
        many = f"{len(frame) - len(told)} claims have no" if len(told) else "No claim has"
        screen.print(f"{many} cells in these runs; --json says of each what is missing.", soft_wrap=True)
    if not len(told):
        return
    if "cells_here" in frame:
        screen.print("A verdict on fewer cells than the paper prints is of these cells alone.", soft_wrap=True)
    for verdict, whose in (("verdict", "The paper's numbers"), ("verdict_here", "These runs")):
        if verdict in frame:
            counts = told[verdict].value_counts()
            said = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts)
            screen.print(f"{whose}: {said}.", soft_wrap=True)
    if lesser:
        screen.print(
            f"{lesser}: these verdicts are of these runs and say nothing of the paper's numbers, which are left out.",
            soft_wrap=True,
        )


def _table(frame: pd.DataFrame) -> Table:
    """Each claim over its sentence, and its numbers over the verdict; ids and numbers are never broken."""
    from rich.table import Table

    rows = frame.to_dict("records")
    table = Table(padding=(0, 1, 1, 1), box=None, header_style="bold")
    table.add_column("claim", min_width=max(len(row["id"]) for row in rows))
    figures = {title: own for title, own in _FIGURES.items() if own[0] in frame}
    for title, (found, *_) in figures.items():
        table.add_column(title, min_width=max(len(one) for row in rows for one in row[found].split(", ")))
    if list(figures) == [_PAPER]:
        table.add_column("why")
    for row in rows:
        claim = rich_text(f"{row['id']}\n").append(rich_text(f"{row['place']}\n", "dim"))
        cells = [claim.append(rich_text(f"“{row['quote']}”"))]
        for found, verdict, *cells_used in figures.values():
            numbers = row[found].replace(", ", "\n")
            used = "".join(f"\n{row[name]} cells" for name in cells_used)
            cells.append(rich_text(f"{numbers}\n{row[verdict]}{used}"))
        table.add_row(*cells, *([rich_text(row["why"])] if list(figures) == [_PAPER] else []))
    return table
