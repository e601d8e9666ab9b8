"""Laid-out tables as files: one of each form for every layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.files import write_whole
from harness.report.data import RunData
from harness.report.layouts.arrange import arrange, check_names, known_names
from harness.report.layouts.cells import cells_of
from harness.report.layouts.forms import FORMS, write
from harness.report.layouts.grid import Grid
from harness.suite.layout_file import LayoutSpec

SUITE_FOLDER = "layouts"
"""Where a report has those of its suite."""
OWN_FOLDER = "own_layouts"
"""Where those go that are asked for by themselves; a report made again leaves them alone."""


def statistics_of(specs: Sequence[LayoutSpec]) -> list[str] | None:
    """The statistics that layouts name; None where one asks for all."""
    named = [spec.statistics for spec in specs]
    return None if None in named else list(dict.fromkeys(name for own in named for name in own or ()))


def lay_out_run(
    specs: Sequence[LayoutSpec], data: RunData, run: str, names: Mapping[str, Collection[str]]
) -> tuple[list[Grid], list[UserError]]:
    """The layouts of a suite over its own run, and why others cannot be filled from it.

    Args:
        specs: The layouts.
        data: The run.
        run: Its folder.
        names: Dimension -> registered names, for names of layouts that the run has not.
    """
    cells = cells_of(data, run, statistics_of(specs)) if specs else []
    grids, errors = list[Grid](), list[UserError]()
    for spec in specs:
        try:
            check_names(spec, cells, known_names(names))
            grids.append(arrange(spec, cells))
        except UserError as error:
            errors.append(error)
    return grids, errors


def write_grids(grids: Sequence[Grid], folder: Path, forms: Collection[str] = tuple(FORMS)) -> list[Path]:
    """Write ``NAME.FORM`` for every table and form, each whole or not at all.

    Args:
        grids: The tables.
        folder: Where to write; made if need be.
        forms: Names of `FORMS`.
    """
    pages = {folder / f"{grid.name}.{form}": write(grid, form).encode() for grid in grids for form in forms}
    for path, page in pages.items():
        write_whole(path, page)
    return list(pages)


def clear_others(kept: Collection[Path], folder: Path) -> None:
    """Remove the tables of layouts that a suite had before."""
    for form in FORMS:
        for path in sorted(folder.glob(f"*.{form}")):
            if path not in kept:
                path.unlink(missing_ok=True)
