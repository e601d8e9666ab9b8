"""Rows of figures as lines of text: which cells stand in a line, and how each is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.arrays import OVER_ALL
from harness.report.rows import Row
from harness.wording import (
    FAILED,
    MISSING,
    attack_text,
    budget_text,
    for_html,
    marked,
    number,
    scorer_text,
    short_names,
    with_interval,
)
from harness.wording import usual_of as usual_of


@dataclass(frozen=True)
class Layout:
    """A table as people read it: the first `labels` columns name a row, the others hold figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    note: str = ""
    """What only this form of the table needs explained."""


def by_budget(
    rows: Sequence[Row],
    labels: dict[str, Callable[[Row], str]],
    clean: tuple[str, Callable[[Row], str]] | None,
    cell: Callable[[Row], str],
    compact: bool = False,
) -> Layout:
    """One line per scorer, attack and further label; the budgets are the columns."""
    budgets = sorted({(row["norm"], row["eps"]) for row in rows if row["attack"]})
    columns = list(dict.fromkeys(budget_text(*one) for one in sorted(budgets, key=lambda one: (one[1], one[0]))))
    short = short_names(sorted({str(row["attack"]) for row in rows})) if compact else {}
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    cleans: dict[tuple[str, ...], str] = {}
    for row in rows:
        attack = attack_text(short.get(str(row["attack"]), str(row["attack"])), row["norm"]) or MISSING
        key = (scorer_of(row), attack, *(label(row) for label in labels.values()))
        cells = lines.setdefault(key, {})
        if row["attack"]:
            cells[budget_text(row["norm"], row["eps"])] = stated(row, cell)
        if clean:
            cleans[key] = clean[1](row)
    budgets_named = (f"ε {column}" for column in columns)
    header = ("metric", "attack", *labels, *([clean[0]] if clean else []), *budgets_named)
    body = tuple(
        (*key, *([cleans[key]] if clean else []), *(cells.get(column, MISSING) for column in columns))
        for key, cells in lines.items()
        if any(text != MISSING for text in cells.values()) or not columns or key[1] == MISSING
    )
    return Layout(header, body, 2 + len(labels))


def for_terminal(rows: Sequence[Row]) -> list[Row]:
    """The rows for the terminal: without transfers, which have their own table, and without what is over two attacks.

    That is seen at a glance, and needs no row of its own.
    """
    attacks = {row["attack"] for row in rows if row["attack"] and not row["control"]} - set(OVER_ALL)
    kept = [row for row in rows if row["attack"] not in OVER_ALL or len(attacks) > 2]
    return [row for row in kept if row["threat"] != "transfer"]


def at_largest_budget(rows: Sequence[Row], name: str = "attack") -> list[Row]:
    """The rows of the largest radius of each attack and norm; `name` is the column that tells attacks apart."""
    radii: dict[tuple[str, str], float] = {}
    for row in rows:
        radii[row[name], row["norm"]] = max(row["eps"], radii.get((row[name], row["norm"]), 0.0))
    return [row for row in rows if row["eps"] == radii[row[name], row["norm"]]]


def stated(row: Row, cell: Callable[[Row], str]) -> str:
    """What a row has in place of a figure when it failed or was not run; otherwise its cell."""
    return {"failed": FAILED, "missing": MISSING}.get(row["state"]) or cell(row)


def figure_text(row: Row, name: str, signed: bool = False, state: bool = True, beside: str = "") -> str:
    """A figure with its interval; under it the spread over draws, the worst of them, and what is to stand beside it."""
    if math.isnan(row[name]) and not state:
        return FAILED if row["state"] == "failed" else MISSING
    text = with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 2, signed)
    spread = row[f"{name}_draw_sd"]
    second = [beside] if beside else []
    second += [] if math.isnan(spread) else [f"draw sd {number(spread, 3)}"]
    worst = row.get(f"{name}_worst", math.nan)
    second += [] if math.isnan(worst) else [f"worst of {row['draws']} {number(worst, 2, signed)}"]
    return "\n".join([text, ", ".join(second)] if second else [text])


def plain_text(row: Row, name: str, state: bool = True) -> str:
    """A figure alone."""
    if math.isnan(row[name]) and not state:
        return FAILED if row["state"] == "failed" else MISSING
    return number(row[name])


def excess_text(row: Row, control: str) -> str:
    """What an attack does beyond a control, with its interval."""
    name = f"excess_over_{control}"
    if math.isnan(row[name]):
        return FAILED if row[f"{control}_state"] == "failed" and not row["control"] else MISSING
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 2, True)


def scorer_of(row: Row) -> str:
    """The scorer's name, marked where its metric broke its contract."""
    return marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"])


def attack_of(row: Row) -> str:
    """The attack's name and norm."""
    return attack_text(row["attack"], row["norm"])


def direction_of(row: Row) -> str:
    """The direction, or a dash."""
    return row["direction"] or MISSING


def budget_of(row: Row) -> str:
    """The radius."""
    return budget_text(row["norm"], row["eps"])


def as_html(layout: Layout) -> str:
    """A table as plain HTML, for notebooks."""
    head = "".join(_html_cell("th", name) for name in layout.header)
    body = "".join(f"<tr>{''.join(_html_cell('td', text) for text in row)}</tr>" for row in layout.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{for_html(layout.note)}</p>"


def _html_cell(tag: str, text: str) -> str:
    lines = for_html(text).replace("\n", "<br>")
    return f"<{tag}>{lines}</{tag}>"
