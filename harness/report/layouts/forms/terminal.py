"""A grid for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.layouts.grid import BEST, SECOND, Grid, GridEntry, for_people
from harness.wording import rich_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def print_grid(grid: Grid, console: Console) -> None:
    """Print a table, with all that is told of it; names are printed as they are, whatever they hold."""
    from rich import box
    from rich.table import Table

    console.print()
    console.print(rich_text(grid.caption, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    for text in grid.stub:
        table.add_column(rich_text(text), overflow="fold")
    for header in zip(*(_first_of_span(level) for level in grid.headers()), strict=True):
        table.add_column(rich_text("\n".join(header)), justify="right", overflow="fold")
    for panel in grid.panels:
        if panel.title:
            table.add_section()
            table.add_row(rich_text(panel.title, style="italic"))
        for place, line in enumerate(panel.lines):
            if place and line.block != panel.lines[place - 1].block:
                table.add_section()
            if line.heading:
                table.add_row(rich_text(line.heading, style="italic"))
            table.add_row(*map(rich_text, line.labels), *map(_entry, line.entries))
    console.print(table)
    for letter, text in grid.told:
        console.print(rich_text(f"{letter} {text}".strip(), style="dim"))
    console.print(rich_text(grid.protocol, style="dim"))


def _first_of_span(level: list[tuple[str, int]]) -> list[str]:
    """A level of headers over the columns, each text over the first of its columns alone."""
    return [text if place == 0 else "" for text, span in level for place in range(span)]


def _entry(entry: GridEntry) -> Text:
    text = rich_text(entry.printed, style={BEST: "bold", SECOND: "underline"}.get(entry.mark, ""))
    if entry.ends[0]:
        text.append(f" [{for_people(entry.ends[0])}, {for_people(entry.ends[1])}]", style="not bold not underline")
    if entry.spread:
        text.append(f" ± {for_people(entry.spread)}", style="not bold not underline")
    text.append(f" {entry.note}" if entry.note else "", style="dim")
    return text
