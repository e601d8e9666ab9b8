"""A grid as Markdown: one line of headers, bold and underlined marks, footnotes as superscripts."""

from __future__ import annotations

import re

from harness.report.layouts.grid import BEST, SECOND, Grid, GridEntry, Line, for_people


def escape(text: str) -> str:
    """Text that Markdown prints as it is, in a table and outside of one."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&])", r"\\\1", " ".join(text.splitlines()))


def write(grid: Grid) -> str:
    """The table with its caption above and all that is told of it below."""
    heads = [*(escape(text) or " " for text in grid.stub), *(escape(name) or " " for name in grid.names())]
    lines = [f"**{escape(grid.caption)}**", "", _row(heads)]
    lines.append("|" + "---|" * len(grid.stub) + "---:|" * len(grid.columns))
    for panel in grid.panels:
        if panel.title:
            lines.append(_row([f"*{escape(panel.title)}*", *[" "] * (len(heads) - 1)]))
        for line in panel.lines:
            if line.heading:
                lines.append(_row([f"*{escape(line.heading)}*", *[" "] * (len(heads) - 1)]))
            lines.append(_row([*_labels(grid, line), *(_entry(entry) for entry in line.entries)]))
    lines.append("")
    for letter, text in grid.told:
        lines += [f"{f'<sup>{letter}</sup> ' if letter else ''}{escape(text)}", ""]
    return "\n".join([*lines, escape(grid.protocol), ""])


def _labels(grid: Grid, line: Line) -> list[str]:
    return [escape(text) or " " for text in (*line.labels, *[""] * len(grid.stub))][: len(grid.stub)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _entry(entry: GridEntry) -> str:
    text = entry.printed if entry.number else escape(entry.printed)
    text = {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(entry.mark, text)
    if entry.ends[0]:
        text += f" \\[{for_people(entry.ends[0])}, {for_people(entry.ends[1])}\\]"
    text += f" ± {for_people(entry.spread)}" if entry.spread else ""
    return text + (f"<sup>{entry.note}</sup>" if entry.note else "")
