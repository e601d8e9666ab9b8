"""Every attack in one line: how far it moves quality, what it does to ranks, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.report.arrays import FURTHEST, LOWERING_CONTROL, LOWEST_SROCC, RAISING_CONTROL, Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    Layout,
    at_largest_budget,
    excess_text,
    figure_text,
    for_terminal,
    plain_text,
    scorer_of,
    stated,
)
from harness.report.measure import pair_accuracy_rows, srocc_rows
from harness.report.rows import CONTROL, Row
from harness.report.shifts import shift_rows
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.suite.cell_names import CLEAN
from harness.wording import MISSING, attack_text, budget_text, number, short_names

_CONTROL_OF = {"up": RAISING_CONTROL, "down": LOWERING_CONTROL}
"""Endpoint -> the control that its excess is over."""
_COSTS = {"milliseconds": "ms", "forwards": "forwards", "backwards": "backwards", "queries": "queries"}
_PARTS = ("", "_low", "_high", "_bias", "_draw_sd")

_Line = dict[str, Row]
"""The rows of one scorer, attack and budget by their direction."""
_Cell = Callable[[_Line], str]


def attacks_rows(one: Evaluated, directions: Sequence[str]) -> Iterator[Row]:
    """One row per scorer, attack, budget and direction, after one for clean quality; transfers have their own table.

    Robust pair accuracy has no direction: it is that of both images attacked, the same in every row of an attack.
    Controls have none. Without opinions, ranks and pairs are nan.
    """
    rated = has_opinions(one)
    ranks = {_place(row): row for row in srocc_rows(one, directions)} if rated else {}
    pairs = {_place(row)[:-1]: row for row in pair_accuracy_rows(one) if row["attacked"] == "both"} if rated else {}
    before = None
    for row in shift_rows(one, directions):
        if row["threat"] == "transfer":
            continue
        place = _place(row)
        clean = _figures(ranks.get(place, {}), "clean_srocc", "clean_srocc")
        if scorer_of(row) != before:
            before = scorer_of(row)
            own = next((pair for other, pair in pairs.items() if other[:4] == place[:4]), {})
            known = _figures(clean, "srocc", "clean_srocc") | _figures(own, "accuracy", "clean_accuracy")
            yield _clean(row) | clean | known
        pair = pairs.get(place[:-1], {})
        attacked = _figures(ranks.get(place, {}), "srocc", "srocc") | _figures(pair, "accuracy", "accuracy")
        yield row | clean | attacked | {"pair_state": pair.get("state", "")}
        # Ranks have their own worst, which follows the last attack at its budget.
        if row["attack"] == FURTHEST and (worst := ranks.get((*place[:4], LOWEST_SROCC, *place[5:]))):
            unknown = {name: np.nan for name, value in row.items() if isinstance(value, float) and name != "eps"}
            figures = _figures(worst, "srocc", "srocc") | _figures({}, "accuracy", "accuracy")
            yield row | unknown | {"attack": LOWEST_SROCC, "state": worst["state"], "pair_state": ""} | clean | figures


@table(
    "attacks",
    place=10,
    explains="Every attack in one line: shift, excess over the controls, SROCC, robust pair accuracy; time, forwards, "
    "backwards and queries per image. For data sets of pairs.",
)
def attacks_table(data: RunData, one: Evaluated) -> Table | None:
    """Strength and cost of every attack, for data sets of pairs that were attacked."""
    if one.facts.kind != "pairs":
        return None
    finished = {endpoint for scorer in one.scorers for _, endpoint in scorer.finished}
    directions = list(dict.fromkeys([*(way for way in _CONTROL_OF if way in finished), *data.directions]))
    rows = list(attacks_rows(one, directions))
    rated = has_opinions(one)
    ranked = data.directions if rated else ()
    against = "proxy quality" if one.facts.labels == "proxy" else "opinions"
    ranks = f" SROCC is with {labels_text(one)}, clean in the first line of each metric. Robust pair accuracy: of two "
    ranks += "images the better is lowered and the worse one raised; how often does the better keep the higher score?"
    return make_table(
        "attacks",
        one,
        data,
        "Every attack: strength and cost" + (f" (ranks and pairs against {against})" if rated else ""),
        "Mean movement of the score in standard deviations of its clean scores (σ), positive when it went the way of "
        "its column. Excess is what is left after subtracting an honest control inside the same budget: restoring the "
        "reference for up, random noise for down." + (ranks if rated else ""),
        rows,
        _layout(rows, _columns(directions, ranked), {}),
        _compact(at_largest_budget(for_terminal(rows)), _short_columns(directions, ranked)),
        directions,
        _note(data),
        ASSUMPTION if rated else "",
    )


def _note(data: RunData) -> str:
    """What the columns leave unsaid of the attacks that were run."""
    names = {facts.name for facts in data.attacks.values()}
    parts = {
        "benign": "Benign changes keep to no budget.",
        "facpa": "What facpa learnt beforehand is not in its costs.",
        "zhang": "Evaluations by zhang's second metric are not counted.",
        "autoattack": "Queries of autoattack's black-box part are among its forwards.",
    }
    told = [text for start, text in parts.items() if any(name.startswith(start) for name in names)]
    return " ".join(
        [
            "A control has no direction: under down its movement has the other sign. Costs are means per image and "
            "direction, of the attack without scoring its result; milliseconds are those of the machine that ran it. "
            "Queries are those of black-box attacks, each a forward too.",
            *told,
        ]
    )


def _place(row: Row) -> tuple[Any, ...]:
    """What rows of several tables that speak of the same have in common; the scorer first, the direction last."""
    names = ("metric", "defense", "threat", "source", "attack", "norm", "eps", "direction")
    return tuple(row[name] for name in names)


def _figures(row: Mapping[str, Any], name: str, source: str) -> Row:
    """A figure of another table's row, under another name; nan without the row."""
    return {name + part: row.get(source + part, np.nan) for part in _PARTS}


def _clean(row: Row) -> Row:
    """A row about unattacked images, from any row of the scorer."""
    start = {name: np.nan if isinstance(value, float) else value for name, value in row.items()}
    return start | {"attack": CLEAN, "control": False, "norm": "", "eps": 0.0, "direction": "", "pair_state": ""}


def _columns(directions: Sequence[str], ranked: Sequence[str]) -> dict[str, _Cell]:
    """Header -> what stands under it, for pages."""
    columns: dict[str, _Cell] = {}
    for way in (*_CONTROL_OF, "error"):
        if way in directions:
            columns[f"shift/σ {way}"] = partial(_shift, way)
            if way in _CONTROL_OF:
                columns[f"excess over {_CONTROL_OF[way]}"] = partial(_excess, way)
    columns |= {f"SROCC {way}": partial(_srocc, way) for way in ranked}
    if ranked:
        columns["robust pair accuracy"] = _pairs
    return columns | {short: partial(_cost, name) for name, short in _COSTS.items()}


def _short_columns(directions: Sequence[str], ranked: Sequence[str]) -> dict[str, _Cell]:
    """Likewise for the terminal: without intervals, of several directions of ranks the last."""
    ways = [way for way in (*_CONTROL_OF, "error") if way in directions]
    columns: dict[str, _Cell] = {f"σ {way}": partial(_short_shift, way) for way in ways}
    if ranked:
        columns[f"SROCC {ranked[-1]}"] = partial(_srocc, ranked[-1], text=plain_text)
        columns["pairs"] = partial(_pairs, text=plain_text)
    columns["ms"] = partial(_cost, "milliseconds")
    return columns | {"fwd/bwd/queries": _evaluations}


def _layout(rows: Sequence[Row], columns: Mapping[str, _Cell], short: Mapping[str, str]) -> Layout:
    """One line per scorer, attack and budget."""
    lines: dict[tuple[str, str, str], _Line] = {}
    for row in rows:
        attack = attack_text(short.get(row["attack"], row["attack"]), row["norm"])
        radius = MISSING if row["attack"] == CLEAN else budget_text(row["norm"], row["eps"])
        lines.setdefault((scorer_of(row), attack, radius), {})[row["direction"]] = row
    # An interval goes under its figure: beside it, eight of them are wider than a page.
    body = tuple((*key, *(cell(line).replace(" [", "\n[") for cell in columns.values())) for key, line in lines.items())
    return Layout(("metric", "attack", "ε", *columns), body, 3)


def _compact(rows: Sequence[Row], columns: Mapping[str, _Cell]) -> Layout:
    """For the terminal: each attack at its largest budget, which stands in the note."""
    whole = _layout(rows, columns, short_names(sorted({str(row["attack"]) for row in rows})))
    radii = dict.fromkeys(row[2] for row in whole.rows if row[2] != MISSING)
    note = f"Each attack at its largest budget ({', '.join(radii)}), the excess in brackets; the page has intervals."
    return Layout((*whole.header[:2], *columns), tuple((*row[:2], *row[3:]) for row in whole.rows), 2, note)


def _at(line: _Line, way: str) -> Row | None:
    """The row of a direction; a line of clean quality or of a control has one row for all."""
    return line.get("") or line.get(CONTROL) or line.get(way)


def _shift(way: str, line: _Line) -> str:
    row, name = _at(line, way), "shift_over_sigma"
    if row is None or _without_shift(row, way):
        return MISSING
    if row["control"] and way == "down":
        row = row | {name: -row[name], f"{name}_low": -row[f"{name}_high"], f"{name}_high": -row[f"{name}_low"]}
    return stated(row, lambda row: figure_text(row, name, signed=True))


def _short_shift(way: str, line: _Line) -> str:
    row = _at(line, way)
    if row is None or _without_shift(row, way):
        return MISSING
    turned = -1 if row["control"] and way == "down" else 1
    excess = row[f"excess_over_{_CONTROL_OF[way]}"] if way in _CONTROL_OF else math.nan
    beside = "" if math.isnan(excess) else f" ({number(excess, 1, True)})"
    return stated(row, lambda row: number(turned * row["shift_over_sigma"], 1, True) + beside)


def _without_shift(row: Row, way: str) -> bool:
    """Clean quality has not moved, ranks alone are of no one attack, and no one can say how far a control errs."""
    return row["attack"] in (CLEAN, LOWEST_SROCC) or (row["control"] and way not in _CONTROL_OF)


def _excess(way: str, line: _Line) -> str:
    row = _at(line, way)
    if row is None or row["attack"] == CLEAN or row["control"]:
        return MISSING
    return stated(row, lambda row: excess_text(row, _CONTROL_OF[way]))


def _srocc(way: str, line: _Line, text: Callable[..., str] = figure_text) -> str:
    row = _at(line, way)
    if row is None:
        return MISSING
    if row["attack"] == CLEAN:
        return text(row, "srocc", state=False)
    return stated(row, lambda row: text(row, "srocc"))


def _pairs(line: _Line, text: Callable[..., str] = figure_text) -> str:
    row = next(iter(line.values()))
    if row["attack"] == CLEAN:
        return text(row, "accuracy", state=False)
    return stated({"state": row["pair_state"] or "missing"}, lambda _: text(row, "accuracy"))


def _evaluations(line: _Line) -> str:
    told = [_cost(name, line) for name in list(_COSTS)[1:]]
    return "/".join(told) if told[0] != MISSING else MISSING


def _cost(name: str, line: _Line) -> str:
    """Mean over the endpoints that were run."""
    known = [row[name] for way, row in line.items() if way in (CONTROL, *_CONTROL_OF, "error")]
    known = [value for value in known if not math.isnan(value)]
    if not known:
        return MISSING
    value = float(np.mean(known))
    return number(value, 1) if name == "milliseconds" and value < 10 else f"{value:.0f}"
