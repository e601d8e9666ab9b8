"""What attacks cost: evaluations, gradients and time, per image and direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.report.arrays import OVER_ALL
from harness.report.layout import attack_of, scorer_of, usual_of
from harness.report.page.figures_rows import datasets_of, rows_of
from harness.report.page.section import PageInput, Section
from harness.report.page.tables_html import as_printed, scrolled, tint
from harness.report.rows import Row
from harness.wording import MISSING, budget_text, for_html

_COUNTS = ("forwards", "backwards", "queries")


def cost_section(page: PageInput) -> Section | None:
    """A table for each data set: milliseconds of each attack on each metric, and how often it asks the metric."""
    parts = [table for dataset in datasets_of(page) if (table := _table(page, dataset))]
    if not parts:
        return None
    told = (
        "<p>Milliseconds that an attack takes per image and direction on the machine that ran it, without scoring its "
        "result, at the usual budget. Below them what it asks of a metric: forwards, gradients (backwards), and, of "
        "black-box attacks, queries, each a forward too. Numbers are means over directions.</p>"
    )
    return Section("cost", "Cost", told + _hours(page) + "".join(parts))


def _hours(page: PageInput) -> str:
    """The time that all attacks took together, as recorded."""
    seconds = float(page.data.records["seconds"].sum())
    if not seconds > 0:
        return ""
    told = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    return f"<p>All attacks of this run together: {told} of one worker's time.</p>"


def _table(page: PageInput, dataset: str) -> str:
    rows = [row for row in rows_of(page, "shift", dataset) if row["state"] == "ok" and row["attack"] not in OVER_ALL]
    radii = {
        norm: usual_of(row["eps"] for row in rows if row["norm"] == norm) for norm in {row["norm"] for row in rows}
    }
    rows = [row for row in rows if row["eps"] == radii[row["norm"]]]
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(scorer_of(row), {}).setdefault(attack_of(row), []).append(row)
    attacks = list(dict.fromkeys(attack_of(row) for row in rows))
    if not attacks:
        return ""
    longest = max((_mean(line[name], "milliseconds") for line in found.values() for name in line), default=math.nan)
    heads = "".join(f'<th scope="col">{for_html(name)}</th>' for name in attacks)
    body = ""
    for metric, line in found.items():
        cells = "".join(_time(line.get(name, ()), longest) for name in attacks)
        body += f'<tr><th scope="row">{for_html(metric)}</th>{cells}</tr>'
    foot = ""
    for name in _COUNTS:
        cells = "".join(f"<td>{_counts(found, attack, name)}</td>" for attack in attacks)
        foot += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    at = ", ".join(f"{norm} ε {budget_text(norm, eps)}" for norm, eps in sorted(radii.items()))
    title = for_html(f"{dataset}: milliseconds per image and direction, {at}")
    return scrolled(
        title,
        f'<table class="cost"><caption>{title}</caption><thead><tr><th scope="col">metric</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody><tfoot>{foot}</tfoot></table>",
    )


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [row[name] for row in rows if not math.isnan(row[name])]
    return float(np.mean(values)) if values else math.nan


def _time(rows: Sequence[Row], longest: float) -> str:
    value = _mean(rows, "milliseconds")
    if math.isnan(value):
        return f"<td>{MISSING}</td>"
    return f'<td class="{tint(value / longest if longest > 0 else math.nan)}">{as_printed(value, "ms")}</td>'


def _counts(found: Mapping[str, Mapping[str, Sequence[Row]]], attack: str, name: str) -> str:
    """The count, or the least and the most where metrics differ."""
    values = {
        as_printed(_mean(line[attack], name), "count"): _mean(line[attack], name)
        for line in found.values()
        if attack in line
    }
    known = sorted((value, text) for text, value in values.items() if not math.isnan(value))
    if not known:
        return MISSING
    return known[0][1] if len(known) == 1 else f"{known[0][1]} to {known[-1][1]}"
