"""A grid as Markdown: one line of headers, bold and underlined marks, footnotes as superscripts."""

from __future__ import annotations

from harness.report.layouts.grid import BEST, SECOND, Grid, GridEntry, Line, for_people
from harness.wording import for_markdown


def write(grid: Grid) -> str:
    """The table with its caption above and all that is told of it below."""
    heads = [*(for_markdown(text) or " " for text in grid.stub), *(for_markdown(name) or " " for name in grid.names())]
    lines = [f"**{for_markdown(grid.caption)}**", "", _row(heads)]
    lines.append("|" + "---|" * len(grid.stub) + "---:|" * len(grid.columns))
    for panel in grid.panels:
        if panel.title:
            lines.append(_row([f"*{for_markdown(panel.title)}*", *[" "] * (len(heads) - 1)]))
        for line in panel.lines:
            if line.heading:
                lines.append(_row([f"*{for_markdown(line.heading)}*", *[" "] * (len(heads) - 1)]))
            lines.append(_row([*_labels(grid, line), *(_entry(entry) for entry in line.entries)]))
    lines.append("")
    for letter, text in grid.told:
        lines += [f"{f'<sup>{letter}</sup> ' if letter else ''}{for_markdown(text)}", ""]
    return "\n".join([*lines, for_markdown(grid.protocol), ""])


def _labels(grid: Grid, line: Line) -> list[str]:
    return [for_markdown(text) or " " for text in (*line.labels, *[""] * len(grid.stub))][: len(grid.stub)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _entry(entry: GridEntry) -> str:
    text = entry.printed if entry.number else for_markdown(entry.printed)
    text = {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(entry.mark, text)
    if entry.ends[0]:
        text += f" \\[{for_people(entry.ends[0])}, {for_people(entry.ends[1])}\\]"
    text += f" ± {for_people(entry.spread)}" if entry.spread else ""
    return text + (f"<sup>{entry.note}</sup>" if entry.note else "")
