"""How the figures of a report were made: the protocol, once for each data set, and what was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.data import RunData
from harness.report.page.section import PageInput, Section, id_text
from harness.report.page.tables_html import words_table
from harness.report.table import Table, protocol_parts
from harness.wording import for_html, joined


def protocol(page: PageInput) -> Section:
    """The protocol of each data set, then data sets, weights and versions."""
    named = {table.dataset: [one for one in page.tables if one.dataset == table.dataset] for table in page.tables}
    parts = [
        f'<h3 id="{protocol_id(dataset)}">{for_html(dataset)}</h3><ul class="protocol">{"".join(_lines(tables))}</ul>'
        for dataset, tables in named.items()
        if dataset
    ]
    return Section("protocol", "Protocol", "".join(parts) + _setup(page.data))


def protocol_id(dataset: str) -> str:
    """Id of a data set's protocol in the page."""
    return f"protocol-{id_text(dataset)}"


def _lines(tables: Sequence[Table]) -> Iterator[str]:
    """What the tables of a data set say of how they were made, each once; with their names where not all say it."""
    told: dict[str, list[str]] = {}
    with_protocol = [table for table in tables if table.protocol]
    for table in with_protocol:
        for part in protocol_parts(table.protocol):
            told.setdefault(part, []).append(table.name)
    names = {table.name for table in with_protocol}
    for part, whose in sorted(told.items(), key=lambda one: {*one[1]} != names):
        own = "" if {*whose} == names else f"{joined(list(dict.fromkeys(whose)))}: "
        yield f"<li>{f'<em>{for_html(own)}</em>' if own else ''}{for_html(part)}</li>"


def _setup(data: RunData) -> str:
    """What was run."""
    header = ("data set", "split", "labels", "items in the split", "references in the split")
    sets = [
        (label, facts.split, "no labels" if facts.labels == "none" else facts.labels, facts.items, facts.references)
        for label, facts in data.datasets.items()
    ]
    html = words_table("Data sets", header, sets)
    if data.weights:
        html += words_table("Weights", ("metric", "weights"), list(data.weights.items()))
    return html
