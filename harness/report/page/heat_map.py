"""The heat map: what every metric is left with under every attack, as a table with a number and a tint in each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from harness.report.arrays import OVER_ALL
from harness.report.headline import Ball
from harness.report.layout import attack_of, scorer_of
from harness.report.page.figures_rows import datasets_of, rows_of
from harness.report.page.flags import FLAG, flag_note, flags
from harness.report.page.section import PageInput, Section
from harness.report.page.tables_html import TINTS, as_printed, scrolled, tint
from harness.report.page.variants import EXCESS, LEFT, WORST, attributes, chips, first_budget, radius_key
from harness.report.rows import Row
from harness.suite.cell_names import CLEAN
from harness.wording import FAILED, MISSING, budget_text, for_html, short_names

_MOST_EXCESS = 3.0
"""Standard deviations of clean scores that are tinted as much as can be."""
_EXCESS_COLUMN = "excess_over_own_control"


@dataclass(frozen=True)
class _Cell:
    state: str
    value: float
    low: float
    high: float
    direction: str
    """Of a cell that stands for the worst of several directions; empty otherwise."""

    @property
    def text(self) -> str:
        if math.isnan(self.value):
            return FAILED if self.state == "failed" else MISSING
        return as_printed(self.value, "share")

    @property
    def told(self) -> str:
        ends = "" if math.isnan(self.low) else f"[{as_printed(self.low, 'share')}, {as_printed(self.high, 'share')}]"
        return " ".join(part for part in (ends, self.direction) if part)


_Lines = dict[str, dict[str, _Cell]]
"""Metric -> attack -> its cell."""


@dataclass
class _Map:
    """One figure of one data set.

    Attributes:
        what: `LEFT` or `EXCESS`.
        title: What cells have, in words.
        clean: Metric -> the figure without an attack; empty for excesses.
        cells: Budget and direction -> lines. The direction is empty where there is but one.
        controls: Those of the columns that are no attacks.
    """

    what: str
    title: str
    clean: dict[str, float] = field(default_factory=dict)
    cells: dict[tuple[Ball, str], _Lines] = field(default_factory=dict)
    controls: set[str] = field(default_factory=set)


def heat_map(page: PageInput) -> Section | None:
    """A table for each data set, figure, budget and direction, of which those that are chosen are shown."""
    found = {dataset: [one for one in _maps(page, dataset) if one.cells] for dataset in datasets_of(page)}
    found = {dataset: maps for dataset, maps in found.items() if maps}
    if not found:
        return None
    told = (
        "<p>Each row is a metric, each column an attack; controls, which attack nothing, stand first. The darker a "
        "cell, the more of the clean figure is lost. A number leads to its curve.</p>"
    )
    if any(len(maps) > 1 for maps in found.values()):
        told += chips("show", {LEFT: "what is left", EXCESS: "excess over the control"}, LEFT, "Figure")
    heads = {dataset: f"<h3>{for_html(dataset)}</h3>" if len(found) > 1 else "" for dataset in found}
    html = "".join(heads[dataset] + _variants(page, dataset, maps) for dataset, maps in found.items())
    return Section("heat-map", "Heat map", told + html + flag_note(page))


def _maps(page: PageInput, dataset: str) -> list[_Map]:
    facts = page.data.facts_of(dataset)
    proxy = facts is not None and facts.labels == "proxy"
    found = []
    if rows := rows_of(page, "srocc", dataset):
        title = f"SROCC with {'proxy quality, not human opinions' if proxy else 'human opinions'}"
        found.append(_filled(_Map(LEFT, title), rows, "srocc", "clean_srocc"))
    elif rows := rows_of(page, "two_afc", dataset):
        title = f"2AFC accuracy, agreement with {'a proxy judge, not people' if proxy else 'people'}"
        found.append(_filled(_Map(LEFT, title), rows, "accuracy", "clean_accuracy"))
    rows = [row for row in rows_of(page, "shift", dataset) if not row["control"]]
    if any(not math.isnan(row[_EXCESS_COLUMN]) for row in rows):
        title = "Excess over the honest control, in σ of the clean scores"
        found.append(_filled(_Map(EXCESS, title), rows, _EXCESS_COLUMN, ""))
    return found


def _filled(found: _Map, rows: Sequence[Row], name: str, clean: str) -> _Map:
    """The map with its cells."""
    ways = list(
        dict.fromkeys(row["direction"] for row in rows if row["attack"] not in ("", CLEAN) and not row["control"])
    )
    worst: Callable[..., _Cell] = min if found.what == LEFT else max
    for row in rows:
        metric, attack = scorer_of(row), attack_of(row)
        if clean:
            found.clean[metric] = row[clean]
        if row["attack"] in ("", CLEAN):
            continue
        if row["control"]:
            found.controls.add(attack)
        low, high = (row.get(f"{name}{end}", math.nan) for end in ("_low", "_high"))
        cell = _Cell(row["state"], row[name], low, high, "" if row["control"] else row["direction"])
        for way in ([*ways, WORST] if row["control"] else [row["direction"], WORST]) if len(ways) > 1 else [""]:
            line = found.cells.setdefault((Ball(row["norm"], row["eps"]), way), {}).setdefault(metric, {})
            both = [one for one in (line.get(attack), cell) if one is not None]
            failed = [one for one in both if one.state == "failed"]
            known = [one for one in both if not math.isnan(one.value)]
            line[attack] = failed[0] if failed else worst(known, key=lambda one: one.value) if known else cell
    return found


def _variants(page: PageInput, dataset: str, maps: Sequence[_Map]) -> str:
    own = {one.dataset for one in page.headlines if page.data.splits.get(one.dataset, one.dataset) == dataset}
    order = {row.label: i for one in reversed(page.headlines) if one.dataset in own for i, row in enumerate(one.rows)}
    flagged = {name for where, name in flags(page) if where in own}
    html = []
    for found in maps:
        first = first_budget([budget for budget, _ in found.cells])
        for (budget, way), lines in found.cells.items():
            wanted = {"norm": budget[0], "eps": radius_key(*budget)}
            wanted |= {"direction": way} if way else {}
            wanted |= {"show": found.what} if len(maps) > 1 else {}
            at = f"{budget[0]} ε {budget_text(*budget)}, {'worst of all directions' if way == WORST else way}".rstrip(
                ", "
            )
            names = sorted(lines, key=lambda name: order.get(name, len(order)))
            table = _table(f"{dataset}: {found.title}; {at}", found, lines, names, flagged)
            seen = found is maps[0] and budget == first and way in ("", WORST)
            html.append(f"<div{attributes(seen, **wanted)}>{table}</div>")
    return f'<div class="variants">{"".join(html)}</div>'


def _table(title: str, found: _Map, lines: _Lines, names: Sequence[str], flagged: Set[str]) -> str:
    attacks = list(dict.fromkeys(attack for line in lines.values() for attack in line))
    attacks.sort(key=lambda name: (name not in found.controls, name in OVER_ALL))
    short = short_names(attacks)
    heads = '<th scope="col">metric</th>' + ('<th scope="col">clean</th>' if found.clean else "")
    for name in attacks:
        kind = ' class="control"' if name in found.controls else ""
        whole = for_html(name)
        heads += f'<th scope="col"{kind} data-attack="{whole}" title="{whole}">{for_html(short[name])}</th>'
    body = ""
    for name in names:
        clean = found.clean.get(name, math.nan)
        marked = for_html(f"{name} {FLAG}" if name in flagged else name)
        body += f'<tr data-metric="{for_html(name)}"><th scope="row">{marked}</th>'
        failed = math.isnan(clean) and any(cell.state == "failed" for cell in lines[name].values())
        body += f"<td>{FAILED if failed else as_printed(clean, 'share')}</td>" if found.clean else ""
        body += "".join(_cell(lines[name].get(attack), found, clean) for attack in attacks) + "</tr>"
    caption = for_html(title)
    return scrolled(
        caption,
        f'<table class="heat"><caption>{caption}{_legend(found)}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
    )


def _cell(cell: _Cell | None, found: _Map, clean: float) -> str:
    if cell is None:
        return f"<td>{MISSING}"
    if math.isnan(cell.value):
        return f"<td>{cell.text}"
    lost = (
        cell.value / _MOST_EXCESS if found.what == EXCESS else (clean - cell.value) / clean if clean > 0 else math.nan
    )
    told = f' title="{for_html(cell.told)}"' if cell.told else ""
    return f"<td class={tint(lost) or 't0'}{told}><button>{cell.text}</button>"


def _legend(found: _Map) -> str:
    """What the tints stand for."""
    ends = ("nothing", "all of it lost") if found.what == LEFT else ("nothing", f"{_MOST_EXCESS:.0f} σ or more")
    steps = "".join(f'<i class="t{step}"></i>' for step in range(0, TINTS + 1, 2))
    return f'<span class="tints">{ends[0]} <span aria-hidden="true">{steps}</span> {ends[1]}</span>'
