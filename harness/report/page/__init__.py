"""The page of a report: one HTML file that needs no other, put together from sections."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from harness.report.page.section import PageInput, Section
from harness.report.page.switches import first_state, switches
from harness.wording import html_environment

Maker = Callable[[PageInput], Section | None]
"""Makes a section, or None where it does not apply."""

_SECTIONS: tuple[Maker, ...] = ()
"""In the order of the page."""
_STYLES = ("page.css",)
_SCRIPTS = ("page.js",)
"""In the order in which they run: the first makes what the others use."""


def page_html(page: PageInput) -> str:
    """The whole report as one page that needs no other file, no network and, for what is shown first, no script."""
    sections = [made for make in _SECTIONS if (made := make(page)) is not None]
    data = {"page": {"state": first_state(page)}} | {one.name: one.data for one in sections if one.data}
    source = resources.files(__name__).joinpath("page.html").read_text(encoding="utf-8")
    return (
        html_environment()
        .from_string(source)
        .render(
            title=page.data.name,
            data=page.data,
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
