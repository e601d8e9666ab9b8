"""Which entries of a table are the best and the second best, compared as they are printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal

from harness.report.layouts.grid import BEST, SECOND, GridEntry
from harness.report.layouts.places import GridPlace
from harness.suite.layout_file import Best, Target


def mark(
    best: Best,
    entries: Sequence[Sequence[GridEntry]],
    rows: Sequence[GridPlace],
    columns: Sequence[GridPlace],
    statistic: Callable[[GridPlace, GridPlace], str],
) -> list[list[GridEntry]]:
    """The entries with the best and, if asked for, the second best marked; ties all.

    Args:
        best: What is the best of each statistic, and of which entries.
        entries: By row and column.
        rows: The rows.
        columns: The columns.
        statistic: The statistic of a row and a column.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[int, int]]] = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            name = statistic(row, column)
            if name in best.targets and entries[i][j].number:
                of: dict[str, tuple[int, ...]] = {"block": (row.block, j), "column": (j,), "row": (i, column.block)}
                groups.setdefault((name, of[best.per]), []).append((i, j))
    marked = [list(line) for line in entries]
    for (name, _), places in groups.items():
        ranks = {(i, j): _rank(best.targets[name], entries[i][j].number) for i, j in places}
        levels = sorted(set(ranks.values()))
        marks = dict(zip(levels, [BEST, SECOND] if best.second else [BEST], strict=False))
        for (i, j), rank in ranks.items() if len(places) > 1 else ():
            marked[i][j] = dataclasses.replace(marked[i][j], mark=marks.get(rank, ""))
    return marked


def _rank(target: Target, number: str) -> Decimal:
    """The smaller, the better."""
    value = Decimal(number)
    return {"higher": -value, "lower": value, "closest": abs(value - Decimal(str(target.to)))}[target.way]
