"""The page of a report: one HTML file that needs no other, put together from sections."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from harness.report.colours import LIGHT
from harness.report.page.all_tables import tables_section
from harness.report.page.cost import cost_section
from harness.report.page.difference import difference_section
from harness.report.page.gallery import gallery
from harness.report.page.heat_map import heat_map
from harness.report.page.masking_lights import masking_lights
from harness.report.page.opening import headline_section
from harness.report.page.protocol import protocol
from harness.report.page.scatter import scatter_section
from harness.report.page.section import PageInput, Section
from harness.report.page.strength import strength_section
from harness.report.page.switches import first_state, switches
from harness.wording import counted, html_environment

SectionMaker = Callable[[PageInput], Section | None]
"""Makes a section, or None where it does not apply."""

_BEFORE_TABLES: tuple[SectionMaker, ...] = (
    headline_section,
    scatter_section,
    heat_map,
    strength_section,
    difference_section,
    gallery,
    masking_lights,
    cost_section,
)
_LAST: tuple[SectionMaker, ...] = (protocol,)
"""In the order of the page."""
MOST_BYTES_IN_ALL = 7_600_000
"""What sections may take together; tables are cut for it. Scripts and what they read come to .2 MB."""
_STYLES = ("page.css", "charts.css", "gallery.css")
_SCRIPTS = ("page.js", "tables.js", "charts.js", "gallery.js")
"""In the order in which they run: the first makes what the others use."""


def page_html(page: PageInput) -> str:
    """The whole report as one page that needs no other file, no network and, for what is shown first, no script."""
    before, after = ([made for make in part if (made := make(page)) is not None] for part in (_BEFORE_TABLES, _LAST))
    room = MOST_BYTES_IN_ALL - sum(len(one.html.encode()) for one in (*before, *after))
    tables = tables_section(page, room)
    sections = [*before, *([tables] if tables else []), *after]
    data = {"page": {"state": first_state(page), "paper": LIGHT}} | {one.name: one.data for one in sections if one.data}
    source = resources.files(__name__).joinpath("page.html").read_text(encoding="utf-8")
    return (
        html_environment()
        .from_string(source)
        .render(
            title=page.data.name,
            data=page.data,
            failures=counted(len(page.data.failures), "cell") if page.data.failures else "",
            style="\n".join(map(_static, _STYLES)),
            scripts=map(_static, _SCRIPTS),
            switches=switches(page),
            sections=sections,
            json=inline_json(data),
        )
    )


def inline_json(value: Mapping[str, Any]) -> str:
    """JSON as it may stand within an element ``script``: nothing in it ends that or begins a comment.

    Raises:
        ValueError: A number is no number: JSON has none such.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _static(name: str) -> str:
    return resources.files(__name__).joinpath("static", name).read_text(encoding="utf-8")
