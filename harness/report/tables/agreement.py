"""The table of the other figures of agreement with the opinions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from harness.report.agreement import FITTED, agreement_rows
from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    Layout,
    at_largest_budget,
    budget_of,
    direction_of,
    figure_text,
    for_terminal,
    scorer_of,
    stated,
)
from harness.report.rows import Row
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.statistics.logistic import CURVES
from harness.suite.cell_names import CLEAN
from harness.wording import MISSING, UNDEFINED, attack_text, joined, number

_FIGURES = {
    "KROCC": "krocc",
    "PLCC": "plcc",
    "PLCC, 4": "plcc4",
    "PLCC, 5": "plcc5",
    "RMSE, 4": "rmse4",
    "RMSE, 5": "rmse5",
}
"""Header -> figure; a number stands for the parameters of the map."""
NO_FIT = "no fit"


@table(
    "agreement",
    place=26,
    default=False,
    explains="KROCC, PLCC as it is and after a logistic map of 4 and of 5 parameters, and RMSE after each, clean and "
    "attacked. Made on request only.",
)
def agreement_table(data: RunData, one: Evaluated) -> Table | None:
    """Agreement beside SROCC; for pairs with opinions."""
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(agreement_rows(one, data.directions))
    clean = [row for row in rows if row["attack"] == CLEAN]
    attacked = [row for row in rows if row["attack"] != CLEAN and not row["control"]]
    told = sorted([*clean, *at_largest_budget(for_terminal(attacked))], key=_whose(rows))
    return make_table(
        "agreement",
        one,
        data,
        f"Agreement with {labels_text(one)}",
        "KROCC: of two images, how much likelier than not the metric has them in the right order. PLCC: how nearly "
        "quality and opinions lie on a line, as they are and after a logistic map of 4 or 5 parameters. RMSE: how far "
        "mapped quality is from the opinions, which lie in [0, 1].",
        rows,
        _layout(rows, lambda row, name: figure_text(row, name)),
        _layout(told, lambda row, name: number(row[name])),
        data.directions,
        *_notes(rows),
        ASSUMPTION,
    )


def _whose(rows: Sequence[Row]) -> Callable[[Row], int]:
    """The place of a row's scorer."""
    places = {name: i for i, name in enumerate(dict.fromkeys(scorer_of(row) for row in rows))}
    return lambda row: places[scorer_of(row)]


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [
        "Maps are fitted to the clean quality of the very images that are evaluated, one for each metric, and so "
        "flatter it a little. The same maps are put to attacked quality, because an attack comes after the map; "
        "refitted ones would undo a lift that all images have in common. Intervals take the maps as they are.",
    ]
    if any(row["attack"] != CLEAN for row in rows):
        notes.append(
            "Where attacks push quality beyond all that is clean, nothing was there to fit: the map of 4 parameters "
            f"levels off, and {UNDEFINED} stands where it sends all images to one value; that of 5 goes on along its "
            "line, which may run downhill, and then the sign of PLCC, 5 tells of the map and not of the metric."
        )
    failed = {
        f"{scorer_of(row)}, {count} parameters: {row[f'fit{count}']}"
        for row in rows
        for count in CURVES
        if row[f"fit{count}"] not in (FITTED, "")
    }
    return [*notes, *([f"{NO_FIT.capitalize()}: {joined(sorted(failed))}."] if failed else [])]


def _layout(rows: Sequence[Row], text: Callable[[Row, str], str]) -> Layout:
    def cell(row: Row, name: str) -> str:
        if name[-1].isdigit() and row[f"fit{name[-1]}"] not in (FITTED, ""):
            return NO_FIT
        return stated(row, lambda row: text(row, name))

    lines = []
    for row in rows:
        clean = row["attack"] == CLEAN
        attack = CLEAN if clean else attack_text(row["attack"], row["norm"])
        budget = MISSING if clean or math.isnan(row["eps"]) else budget_of(row)
        figures = [cell(row, name) for name in _FIGURES.values()]
        lines.append((scorer_of(row), attack, direction_of(row), budget, *figures))
    kept = [line for line in lines if set(line[4:]) != {MISSING}]
    return Layout(("metric", "attack", "direction", "ε", *_FIGURES), tuple(kept), 4)
