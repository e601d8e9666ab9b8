"""The table of ranks: which metrics cannot be told apart, and how firm their order is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout, figure_text, stated
from harness.report.ranking import (
    COMPARED,
    METRIC,
    WHOLE_ORDER,
    compared,
    lowest_conditions,
    rank_rows,
    unclaimed,
)
from harness.report.rows import Row
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.statistics.ranking import DESCRIPTIVE
from harness.suite.cell_names import CLEAN
from harness.wording import MISSING, UNDEFINED, budget_text, counted, joined, marked, number, p_text, with_interval

_LETTERS = "Metrics that share a letter may differ by chance alone; those that share none do not, at 5 %. "
_ADJUSTED = {
    "holm": "Holm: among all contrasts of a condition one false difference has a chance of 5 %",
    "bh": "Benjamini-Hochberg: of the differences found, 5 % are false in the mean",
}


@table(
    "ranks",
    place=24,
    explains="Which metrics cannot be told apart by their SROCC, clean and attacked at the usual budget: groups, "
    "paired differences with adjusted p-values, the smallest difference that the data could have shown, the paper's "
    "rule, and how firm the whole order is.",
)
def ranks_table(data: RunData, one: Evaluated) -> Table | None:
    """Ranks; for pairs with opinions, where there are two metrics or more."""
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(rank_rows(one, data.directions, data.contrasts, data.adjust))
    if not any(row["kind"] == COMPARED for row in rows):
        return None
    grouped = any(row["kind"] == METRIC and row["group"] for row in rows)
    return make_table(
        "ranks",
        one,
        data,
        f"Which metrics cannot be told apart, by SROCC with {labels_text(one)}",
        "Best first under each condition. "
        + (_LETTERS if grouped else "")
        + "A difference smaller than the smallest that could be shown is no sign of equality.",
        rows,
        _full(rows, grouped),
        _compact(rows, grouped, bool(data.contrasts)),
        data.directions,
        *_notes(data, one, rows),
        ASSUMPTION,
    )


def _notes(data: RunData, one: Evaluated, rows: Sequence[Row]) -> list[str]:
    most = max(row.get("contrasts", 0) for row in rows)
    whose = "declared by the suite" if data.contrasts else "of every two metrics without a defense"
    notes = [
        f"p: two-sided, of the paired difference's studentised interval, adjusted over the {counted(most, 'contrast')} "
        f"{whose}, in each condition those that it has ({_ADJUSTED[data.adjust]}); nothing is corrected for the number "
        "of conditions. "
        "Could be shown: the smallest true difference that would be found at an unadjusted 5 % with a chance of 80 %. "
        "Paper's rule: the 2.5 and 97.5 percentiles of the resampled difference leave out 0 and its median is at "
        "least .01.",
    ]
    if any(row["kind"] == COMPARED and row["verdict"] == DESCRIPTIVE for row in rows):
        noun = one.facts.cluster_noun
        notes.append(f"Nothing is told apart by fewer than {DESCRIPTIVE_BELOW} {noun}s with opinions.")
    if any(row["kind"] == WHOLE_ORDER for row in rows):
        notes.append(
            "Whole order: in what share of the resamples all metrics come in the order observed, and the mean over "
            "them of Kendall's τ with that order. Resamples of few references are too much alike and nothing is "
            "adjusted here, so it looks firmer than the verdicts, which count."
        )
    constant = dict.fromkeys(
        row["name"] for row in rows if row["kind"] == METRIC and row["state"] == "ok" and math.isnan(row["srocc"])
    )
    if constant:
        notes.append(f"{UNDEFINED}: one score for all images has no rank ({joined(list(constant))}).")
    if names := unclaimed(one, data.contrasts):
        notes.append(
            f"{MISSING} under attack: {joined(names)} was attacked without the attacker knowing of the defense, which "
            "claims nothing of robustness."
        )
    if left := [f"{a} − {b}" for a, b in data.contrasts if (a, b) not in compared(one, data.contrasts)]:
        notes.append(f"Not evaluated here, and so not compared: {joined(left)}.")
    return notes


_GROUP = 3
"""Place of the column of letters, which are there where every two metrics are compared."""


def _full(rows: Sequence[Row], grouped: bool) -> Layout:
    header = ("condition", "metric or difference", "SROCC [95 %]", "group", "p adjusted", "could be shown", "verdict")
    lines = ((*header, "paper's rule"), *map(_line, rows))
    first, *others = lines if grouped else (line[:_GROUP] + line[_GROUP + 1 :] for line in lines)
    return Layout(first, tuple(others), 2)


def _line(row: Row) -> tuple[str, ...]:
    condition = _condition(row)
    if row["kind"] == METRIC:
        text = stated(row, lambda row: figure_text(row, "srocc"))
        name = marked(row["name"], row["broken"])
        return condition, name, text, row["group"] or MISSING, MISSING, MISSING, _beaten(row), MISSING
    if row["kind"] == WHOLE_ORDER:
        return condition, "whole order", MISSING, MISSING, MISSING, MISSING, _firm(row), MISSING
    name = f"{row['name']} − {row['against']}"
    text = with_interval(row["difference"], row["difference_low"], row["difference_high"], 3, True)
    shown = number(row["smallest_shown"], 3)
    rule = "yes" if row["papers_rule"] else "no"
    p = MISSING if row["verdict"] == DESCRIPTIVE else p_text(row["p_adjusted"])
    return condition, name, text, MISSING, p, shown, row["verdict"], rule


def _compact(rows: Sequence[Row], grouped: bool, declared: bool) -> Layout:
    """The metrics clean and under the lowest of all attacks; differences where a suite declared them."""
    kept = {CLEAN, *lowest_conditions(rows)}
    lines = []
    for row in (row for row in rows if row["condition"] in kept):
        start = _line(row)[:4]
        if row["kind"] == METRIC:
            text = stated(row, lambda row: number(row["srocc"]))
            lines.append((*start[:2], text, start[3], _beaten(row)))
        elif row["kind"] == WHOLE_ORDER:
            lines.append((*start, _firm(row)))
        elif declared:
            p = "" if row["verdict"] == DESCRIPTIVE else f", p {p_text(row['p_adjusted'])}"
            lines.append((*start[:2], number(row["difference"], 2, True), MISSING, f"{row['verdict']}{p}"))
    note = "Differences, their p-values and every attack are on the page, and in tables/ranks.md and tables/ranks.csv."
    header = ("condition", "metric or difference" if declared else "metric", "SROCC", "group", "verdict")
    first, *others = (header, *lines) if grouped else (line[:_GROUP] + line[_GROUP + 1 :] for line in (header, *lines))
    return Layout(tuple(first), tuple(tuple(line) for line in others), 2, note)


def _beaten(row: Row) -> str:
    return f"beaten by {row['beaten_by']}" if row["beaten_by"] else MISSING


def _condition(row: Row) -> str:
    return CLEAN if row["attack"] == CLEAN else f"{row['condition']}, ε {budget_text(row['norm'], row['eps'])}"


def _firm(row: Row) -> str:
    if math.isnan(row["same_order"]):
        return MISSING
    return f"in {100 * row['same_order']:.0f} % of resamples, τ {number(row['mean_tau'])}"
