"""A grid as CSV: figures as plain numbers, their intervals in columns of their own, and why others are missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from harness.report.layouts.grid import Grid, GridEntry
from harness.wording import for_csv


def write(grid: Grid) -> str:
    """One line of headers and a line a row; a missing figure is empty, and the last column says why."""
    ends = any(entry.ends[0] for entry in _entries(grid))
    spread = any(entry.spread for entry in _entries(grid))
    parts = ["", *([" low", " high"] if ends else []), *([" ±"] if spread else [])]
    titled = any(panel.title for panel in grid.panels)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [*(["panel"] if titled else []), *grid.stub, *(name + part for name in grid.names() for part in parts)]
    writer.writerow([*map(for_csv, heads), "missing"])
    why = dict(grid.reasons)
    for panel in grid.panels:
        for line in panel.lines:
            labels = [*([panel.title] if titled else []), *line.labels]
            cells = [cell for entry in line.entries for cell in _cells(entry, ends, spread)]
            letters = dict.fromkeys(entry.note for entry in line.entries if entry.note)
            reasons = "; ".join(why[letter] for letter in letters)
            writer.writerow([*map(for_csv, labels), *cells, for_csv(reasons)])
    return text.getvalue()


def _entries(grid: Grid) -> Iterator[GridEntry]:
    return (entry for panel in grid.panels for line in panel.lines for entry in line.entries)


def _cells(entry: GridEntry, ends: bool, spread: bool) -> list[str]:
    value = entry.number or for_csv(entry.text)
    return [value, *(entry.ends if ends else ()), *([entry.spread] if spread else [])]
