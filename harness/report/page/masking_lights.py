"""Verdicts on gradient masking as traffic lights, each with the figure that decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.report.headline import Headline
from harness.report.layout import scorer_of
from harness.report.masking import CLAIMS, FAIL, INCONCLUSIVE, NOT_MEASURED, PASS, verdicts_of
from harness.report.page.flags import LIGHTS, words
from harness.report.page.section import PageInput, Section
from harness.report.page.tables_html import as_printed, scrolled
from harness.report.rows import Row
from harness.wording import for_html, joined

_SIGNS = {"good": "✓", "warn": "?", "bad": "✗", "none": "–"}
_LIGHT_OF = {PASS: "good", INCONCLUSIVE: "warn", FAIL: "bad", NOT_MEASURED: "none"}


def masking_lights(page: PageInput) -> Section | None:
    """A line for each metric of each data set: the light, then each claim with its figure."""
    if not page.data.verdicts:
        return None
    parts: list[str] = []
    notes: dict[str, list[str]] = {}
    for one, headline in zip(page.evaluated, page.headlines, strict=True):
        rows = list(verdicts_of(page.data, one))
        if any(row["outcome"] != NOT_MEASURED for row in rows):
            parts.append(_table(headline, rows))
            notes.setdefault(_not_measured(rows), []).append(headline.dataset)
    if not parts:
        return None
    told = (
        "<p>A metric may look robust because gradients mislead attacks on it. Each column is an order between "
        "attacks, or a trait of gradients, that holds unless they do. A red light says that figures of the metric "
        "may be too good, a yellow one that there are too few images to tell, a green one that nothing speaks "
        "against the attacks, a grey one that nothing was measured. The number is the figure that decided: of "
        "differences, in σ of clean scores; of "
        'shares of images, from 0 to 1. The <a href="#tables">table of verdicts</a> has what each is compared with.</p>'
    )
    told += "".join(parts)
    for note, datasets in notes.items():
        whose = f" on {joined(datasets)}" if len(notes) > 1 else ""
        told += f'<p class="notes">Not measured{for_html(whose)}: {for_html(note)}.</p>' if note else ""
    return Section("masking", "Masking", told)


def _table(headline: Headline, rows: Sequence[Row]) -> str:
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        lines.setdefault(scorer_of(row), {})[row["verdict"]] = row
    known = {row["verdict"] for row in rows if row["outcome"] != NOT_MEASURED}
    claims = [claim for claim in CLAIMS if claim.name in known]
    heads = "".join(f'<th scope="col" title="{for_html(claim.text)}">{for_html(claim.short)}</th>' for claim in claims)
    body = ""
    for one in headline.rows:
        if one.label not in lines:
            continue
        cells = "".join(_cell(lines[one.label], claim.name) for claim in claims)
        light, why = LIGHTS[one.masking.verdict], for_html(words(one.masking))
        verdict = f'<td class="light {light}">{_mark(light, one.masking.verdict)}</td>'
        body += f'<tr><th scope="row">{for_html(one.label)}</th>{verdict}{cells}<td class="why">{why}</td></tr>'
    title = for_html(f"{headline.dataset}: verdicts on gradient masking")
    first, last = '<th scope="col">metric</th><th scope="col">verdict</th>', '<th scope="col">why</th>'
    table = f"<caption>{title}</caption><thead><tr>{first}{heads}{last}</tr></thead><tbody>{body}</tbody>"
    return scrolled(title, f'<table class="lights">{table}</table>')


def _not_measured(rows: Sequence[Row]) -> str:
    """The claims that nothing here measures, and what would."""
    known = {row["verdict"] for row in rows if row["outcome"] != NOT_MEASURED}
    needs = {row["verdict"]: row["needs"] for row in rows if row["verdict"] not in known and row["needs"]}
    return "; ".join(f"{claim.text} would take {needs[claim.name]}" for claim in CLAIMS if claim.name in needs)


def _mark(light: str, word: str) -> str:
    return f'<span class="lamp" aria-hidden="true">{_SIGNS[light]}</span> {word}'


def _cell(line: Mapping[str, Row], claim: str) -> str:
    """One claim: its sign, and the figure that decided."""
    row = line.get(claim)
    if row is None or row["outcome"] == NOT_MEASURED:
        return f'<td class="light none"{_title(row)}>{_mark("none", "")}</td>'
    light = _LIGHT_OF[row["outcome"]]
    return f'<td class="light {light}"{_title(row)}>{_mark(light, as_printed(row["figure"], "share"))}</td>'


def _title(row: Row | None) -> str:
    """All that decided, in words."""
    if row is None:
        return ""
    if row["outcome"] == NOT_MEASURED:
        return f' title="{for_html("Not measured; would take " + str(row["needs"]))}"'
    ends = (
        ""
        if math.isnan(row["figure_low"])
        else f" [{as_printed(row['figure_low'], 'share')}, {as_printed(row['figure_high'], 'share')}]"
    )
    figure, least = as_printed(row["figure"], "share"), as_printed(row["least"], "share")
    told = f"{row['outcome']}: {figure}{ends}, least allowed {least}"
    beside = f"; beside {row['against']}" if row["against"] else ""
    return f' title="{for_html(told + beside)}"'
