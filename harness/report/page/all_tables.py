"""Every table of a report, folded: one number per cell, from the frames that the CSV files are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.report.layout import scorer_of, usual_of
from harness.report.page.columns import DETAIL_ENDS, FILES_ALONE, INTERVAL_ENDS, Heading, described
from harness.report.page.flags import FLAG, flag_note, flags
from harness.report.page.protocol import protocol_id
from harness.report.page.section import PageInput, Section, id_text
from harness.report.page.tables_html import as_printed, scrolled
from harness.report.rows import Row
from harness.report.table import Table
from harness.suite.cell_names import CLEAN
from harness.wording import FAILED, MISSING, attack_text, budget_text, for_html

MOST_BYTES = 4_000_000
"""What all tables together may take; beyond it the longest have the usual budget alone, or only their files."""
LEAST_BYTES = 1_000_000
"""What they have where the rest of a page is large."""

_SCORER = ("metric", "defense", "threat", "source", "broken")
_ATTACK = ("attack", "control", "norm")
_PLAIN = ("dataset", "labels", "interval", "labels_kind")
"""What is said once for a table, in its protocol, and has no column."""
_IF_SEVERAL = ("state", "images", "references", "clusters", "draws")
"""Columns that stand only where their values differ."""


class _Part(NamedTuple):
    """One column as it is shown."""

    name: str
    column: Heading
    cells: Sequence[str]
    number: bool

    @property
    def kind(self) -> str:
        """Empty for what is shown at first, "ci" for how firm a figure is, "more" for what few look for."""
        return "more" if self.name.endswith(DETAIL_ENDS) else "ci" if self.name.endswith(INTERVAL_ENDS) else ""


def tables_section(page: PageInput, room: int) -> Section | None:
    """Every table, folded; failures and what could not be made are among them.

    Args:
        page: What it is made from.
        room: Bytes that the page has for it.
    """
    if not page.tables:
        return None
    made = [(table, _details(page, table, table.frame, "")) for table in page.tables]
    made = _within(page, made, min(max(room, LEAST_BYTES), MOST_BYTES))
    told = (
        "<p>Every figure of this report, one number per cell. Open a table, sort it by a click on a head, filter its "
        "rows by words, switch intervals on, and copy it as CSV, Markdown or LaTeX. An arrow says which way is better "
        "for the metric; a head says its unit and meaning when it is pointed at or in focus.</p>"
    )
    return Section("tables", "Every table", told + flag_note(page) + "".join(html for _, html in made))


def _within(page: PageInput, made: list[tuple[Table, str]], most: int) -> list[tuple[Table, str]]:
    """The tables with the longest cut until all of them keep to so many bytes: to the usual budget, then to nothing."""
    for cut, note in ((_at_usual, "Of its rows those of the usual budget"), (_nothing, "None of its rows")):
        for place in sorted(range(len(made)), key=lambda i: -len(made[i][1])):
            if sum(len(html.encode()) for _, html in made) <= most:
                return made
            table = made[place][0]
            link = f'<a href="tables/{table.name}.csv">tables/{table.name}.csv</a>'
            frame = cut(table.frame)
            told = f"{note} are on this page, which has to stay small: {len(table.frame)} rows are in {link}."
            made[place] = table, _details(page, table, frame, told)
    return made


def _at_usual(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without a budget, and of each norm those at the usual one."""
    if "eps" not in frame or "norm" not in frame:
        return frame
    attacked = frame["eps"].notna() & ~frame["attack"].isin(("", CLEAN))
    kept = ~attacked
    for norm, own in frame[attacked].groupby("norm"):
        kept |= attacked & (frame["norm"] == norm) & (frame["eps"] == usual_of(own["eps"]))
    return frame[kept]


def _nothing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[:0]


def table_id(table: Table) -> str:
    """Id of a table in the page and in the address: ``table-srocc-mini``."""
    return "-".join(id_text(part) for part in ("table", table.name, table.dataset) if part)


def _details(page: PageInput, table: Table, frame: pd.DataFrame, cut: str) -> str:
    """One table, folded. Its rows stand in ``noscript``: shown without a script, and with one parsed when opened."""
    name, parts = table_id(table), _parts(table, frame, flags(page))
    title = for_html(table.title)
    notes = [for_html(note) for note in (table.full.note, *table.notes) if note and note not in page.data.notices]
    links = f'<a href="#{protocol_id(table.dataset)}">Protocol</a>' if table.protocol else ""
    links += f' <a href="tables/{table.name}.csv">tables/{table.name}.csv</a>'
    body = f"<noscript>{scrolled(title, _table(title, parts))}</noscript>" if len(frame) else ""
    return (
        f'<details class="table" id="{name}"><summary>{title} <small>{len(frame)} rows</small></summary>'
        f"<p>{for_html(table.explanation)}</p>{f'<p>{cut}</p>' if cut else ''}{_style(name, parts)}{body}"
        f'<div class="notes">{"".join(f"<p>{note}</p>" for note in notes)}<p>{links}</p></div></details>'
    )


def _style(name: str, parts: Sequence[_Part]) -> str:
    """Which columns are text and which hidden at first: by their places, so that no cell has to say it."""
    rules = {
        f"#{name} :is(th,td)": [i for i, part in enumerate(parts) if not part.number],
        f"#{name}:not(.ci) :is(th,td)": [i for i, part in enumerate(parts) if part.kind == "ci"],
        f"#{name}:not(.more) :is(th,td)": [i for i, part in enumerate(parts) if part.kind == "more"],
    }
    looks = ("text-align:left", "display:none", "display:none")
    text = ""
    for (start, places), look in zip(rules.items(), looks, strict=True):
        if places:
            text += ",".join(f"{start}:nth-child({i + 1})" for i in places) + f"{{{look}}}"
    return f"<style>{text}</style>" if text else ""


def _table(title: str, parts: Sequence[_Part]) -> str:
    heads = "".join(map(_head, parts))
    rows = (
        f"<tr><th scope=row>{row[0]}{''.join(f'<td>{cell}' for cell in row[1:])}"
        for row in zip(*(part.cells for part in parts), strict=True)
    )
    return f"<table><caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _head(part: _Part) -> str:
    column, kind = part.column, "number" if part.number else "text"
    told = {"column": part.name, "way": column.way, "kind": part.kind, "type": kind}
    carried = "".join(f' data-{name}="{for_html(value)}"' for name, value in told.items() if value)
    title = for_html(f"{column.title} {column.arrow}".strip())
    return f'<th scope="col"{carried} title="{for_html(column.told)}">{title}</th>'


def _parts(table: Table, frame: pd.DataFrame, flagged: Mapping[tuple[str, str], str]) -> list[_Part]:
    """The columns of a table: whose the row is, then figures, without those that say nothing."""
    rows = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    found: list[_Part] = []
    if set(_SCORER) <= set(frame):
        found.append(_part(table, "metric", [_scorer(row, flagged) for row in rows], escaped=True))
    if {"attack", "norm"} <= set(frame):
        found.append(_part(table, "attack", [attack_text(row["attack"], row["norm"]) or MISSING for row in rows]))
    if "direction" in frame:
        found.append(_part(table, "direction", [row["direction"] or MISSING for row in rows]))
    if {"eps", "norm"} <= set(frame):
        found.append(_part(table, "eps", [_radius(row) for row in rows], number=True))
    taken = {*_ATTACK, *_PLAIN, *(part.name for part in found), *(_SCORER if set(_SCORER) <= set(frame) else ())}
    for name in (str(column) for column in frame.columns if str(column) not in taken):
        if (
            name.endswith(FILES_ALONE)
            or (name in _IF_SEVERAL and frame[name].nunique(dropna=False) < 2)
            or _empty(frame[name])
        ):
            continue
        number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        column = described(table.name, name)
        cells = [_cell(row, name, column) for row in rows] if number else [_text(row[name]) for row in rows]
        found.append(_part(table, name, cells, number=number))
    said = [part for part in found if part.name not in ("attack", "direction", "eps") or {*part.cells} - {MISSING}]
    return said if len(frame) else []


def _part(table: Table, name: str, cells: Sequence[str], number: bool = False, escaped: bool = False) -> _Part:
    return _Part(name, described(table.name, name), cells if escaped else [for_html(c) for c in cells], number)


def _scorer(row: Row, flagged: Mapping[tuple[str, str], str]) -> str:
    name = scorer_of(row)
    return for_html(f"{name} {FLAG}" if (row["dataset"], name) in flagged else name)


def _radius(row: Mapping[str, Any]) -> str:
    unattacked = row.get("attack") in ("", CLEAN) or math.isnan(row["eps"])
    return MISSING if unattacked else budget_text(row["norm"], row["eps"])


def _empty(values: pd.Series[Any]) -> bool:
    return bool((values.isna() | (values == "")).all())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return MISSING if value is None or value == "" or (isinstance(value, float) and math.isnan(value)) else str(value)


def _cell(row: Mapping[str, Any], name: str, column: Heading) -> str:
    """A number as it is shown; where there is none, why not, or nothing where the row has no such figure."""
    value = float(row[name])
    if math.isnan(value):
        return {"failed": FAILED, "missing": MISSING}.get(row.get("state", ""), "")
    return as_printed(value, column.unit)
