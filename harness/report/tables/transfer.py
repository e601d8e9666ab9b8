"""The transfer matrix: attacked on one metric, scored by every other."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.arrays import FURTHEST, Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout, at_largest_budget, attack_of, budget_of, direction_of, figure_text, stated
from harness.report.rows import CONTROL, Row
from harness.report.shifts import shift_rows
from harness.report.table import Table, make_table, table
from harness.wording import MISSING, attack_text, budget_text, number, short_names

_WIDEST = 7
"""Judging metrics that the terminal has room for."""
_WHERE = "on the page, and in tables/transfer.md and tables/transfer.csv beside it"


@table(
    "transfer",
    place=80,
    explains="Attacked on one metric, scored by another: how far quality moved, for every pair asked for.",
)
def transfer_table(data: RunData, one: Evaluated) -> Table | None:
    """Mean shift of every metric under attacks on every other that was asked for; the direct attacks beside them."""
    if not any(scorer.threat == "transfer" for scorer in one.scorers):
        return None
    directions = data.directions_of(one.facts)
    rows = [
        row
        for row in shift_rows(one, directions)
        if row["threat"] in ("none", "transfer") and row["defense"] == "base"
        if row["direction"] != CONTROL and row["attack"] != FURTHEST
    ]
    if not rows:
        return None
    sources = list(dict.fromkeys(scorer.source for scorer in one.scorers if scorer.threat == "transfer"))
    rows = sorted((row for row in rows if row["source"] in sources), key=lambda row: sources.index(row["source"]))
    judges = list(
        dict.fromkeys(scorer.metric for scorer in one.scorers if scorer.metric in {r["metric"] for r in rows})
    )
    return make_table(
        "transfer",
        one,
        data,
        "Transfer: attacked on one metric (rows), scored by another (columns)",
        "Mean movement of each metric's score in standard deviations of its own clean scores, positive when it went "
        "the way the attack pushed. On the attacked metric itself stands the direct attack; a transfer above the "
        "column's own direct attack says that the direct one is too weak.",
        rows,
        _full(rows, judges),
        _compact(rows, judges),
        directions,
        "Which images are raised goes, in self_split, by the judging metric." if "self_split" in directions else "",
    )


def _full(rows: Sequence[Row], judges: Sequence[str]) -> Layout:
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (row["source"], attack_of(row), direction_of(row), budget_of(row))
        text = stated(row, lambda row: figure_text(row, "shift_over_sigma", signed=True))
        lines.setdefault(key, {})[row["metric"]] = text
    body = tuple((*key, *(cells.get(name, MISSING) for name in judges)) for key, cells in lines.items())
    return Layout(("attacked", "attack", "direction", "ε", *judges), body, 4)


def _compact(rows: Sequence[Row], judges: Sequence[str]) -> Layout:
    """Each attack at its largest budget."""
    header = ("attacked", "attack", "direction", *judges)
    if len(judges) > _WIDEST:
        return Layout(header, (), 3, f"{len(judges)} metrics: {_WHERE}.")
    rows = at_largest_budget(rows)
    short = short_names(sorted({str(row["attack"]) for row in rows}))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (row["source"], attack_text(short[row["attack"]], row["norm"]), direction_of(row))
        text = stated(row, lambda row: number(row["shift_over_sigma"], 1, True))
        lines.setdefault(key, {})[row["metric"]] = text
    radii = dict.fromkeys(budget_text(row["norm"], row["eps"]) for row in rows)
    body = tuple((*key, *(cells.get(name, MISSING) for name in judges)) for key, cells in lines.items())
    return Layout(header, body, 3, f"Each attack at its largest budget ({', '.join(radii)}); all budgets are {_WHERE}.")
