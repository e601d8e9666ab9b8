"""A grid as HTML that needs no other file; the page's own style draws it."""

from __future__ import annotations

from importlib import resources

from harness.report.layouts.grid import Grid, for_people, starts


def write(grid: Grid) -> str:
    """The table as one element, `figure`, with its caption and all that is told of it."""
    import jinja2

    source = resources.files("harness.report").joinpath("templates", "layout.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(source)
    return page.render(grid=grid, headers=list(grid.headers()), starts=starts, for_people=for_people)
