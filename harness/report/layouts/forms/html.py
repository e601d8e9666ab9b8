"""A grid as HTML that needs no other file; the page's own style draws it."""

from __future__ import annotations

from importlib import resources

from harness.report.layouts.grid import Grid, for_people, starts
from harness.wording import html_environment


def write(grid: Grid) -> str:
    """The table as one element, `figure`, with its caption and all that is told of it."""
    source = resources.files("harness.report").joinpath("templates", "layout.html").read_text(encoding="utf-8")
    page = html_environment().from_string(source)
    return page.render(grid=grid, headers=list(grid.headers()), starts=starts, for_people=for_people)
