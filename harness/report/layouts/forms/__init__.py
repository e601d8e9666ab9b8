"""The forms that a grid is written in: Markdown, CSV, HTML, LaTeX as a fragment and as a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import UserError
from harness.report.layouts.forms import html, latex, markdown, values
from harness.report.layouts.grid import Grid

FORMS: Mapping[str, Callable[[Grid], str]] = {
    "md": markdown.write,
    "csv": values.write,
    "html": html.write,
    "tex": latex.write,
    "standalone.tex": latex.standalone,
}
"""What follows the dot in a file's name -> what writes it."""


def write(grid: Grid, form: str) -> str:
    """A grid in a form.

    Args:
        grid: The table.
        form: One of `FORMS`.

    Raises:
        UserError: There is no such form.
    """
    return FORMS[check_form(form)](grid)


def check_form(form: str) -> str:
    """A form, if there is such.

    Raises:
        UserError: There is none.
    """
    if form not in FORMS:
        raise UserError(f"unknown form '{form}'. Forms are {', '.join(FORMS)}.")
    return form
