"""Tables as a layout has them, of one run or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, registry_of, runs_here, shipped_too
from harness.errors import UserError


@verb("Look", 6)
def _tables(
    layout: Annotated[
        Path,
        typer.Option(
            callback=shipped_too, help="A YAML file of layouts; docs/tables.md has the keys.", metavar="FILE.yaml"
        ),
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            callback=runs_here,
            help="Run folders that feed the tables; none for the published numbers alone.",
            metavar="RUN",
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(help="md, csv, html, tex or standalone.tex; may be repeated. All if left out.", metavar="FORM"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; `report/own_layouts` of the first run if left out.")
    ] = None,
    fps: Annotated[
        Path | None,
        typer.Option(help="A CSV of `robustiqa fps`: statistics fps, peak_memory, parameters.", metavar="FILE.csv"),
    ] = None,
    despite_protocol: Annotated[
        bool, typer.Option("--despite-protocol", help="Have runs of different protocol in one table, which says so.")
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Lay out tables as a file says: rows, columns, groups, the best marked; as Markdown, CSV, HTML and LaTeX.

    Example: robustiqa tables results/runs/quickstart --layout docs/examples/layout.yaml
    """
    from harness.report.layouts.arrange import arrange, check_names, known_names
    from harness.report.layouts.cells import cells_of
    from harness.report.layouts.files import OWN_FOLDER, statistics_of, write_grids
    from harness.report.layouts.forms import FORMS, check_form
    from harness.report.layouts.forms.terminal import print_grid
    from harness.report.layouts.published import published_cells
    from harness.report.layouts.speed import speed_cells
    from harness.report.reading import names_known, open_folder
    from harness.suite.layout_file import read_layouts

    folder = out or (runs[0] / "report" / OWN_FOLDER if runs else None)
    if form and folder is None:
        raise UserError("--form: nothing is written without a run. Give --out.")
    forms = [check_form(one) for one in form or FORMS]
    specs = read_layouts(layout)
    registry = registry_of(plugin)
    wanted = statistics_of(specs)
    opened = [open_folder(run, registry) for run in runs or ()]
    cells = [cell for one in opened for cell in cells_of(one.data, str(one.folder.path), wanted)]
    cells += speed_cells(fps) if fps else []
    grids = []
    for spec in specs:
        check_names(spec, cells, known_names(names_known(registry, opened)))
        if runs or fps:
            grids.append(arrange(spec, cells, despite_protocol=despite_protocol))
        elif spec.published:
            grids.append(arrange(spec, published_cells(spec.published.table)))
        else:
            raise UserError(f"{layout}: '{spec.name}' has no published numbers to lay out. Give a run folder.")
    screen = console()
    for grid in grids:
        print_grid(grid, screen)
    if folder is None:
        return
    try:
        written = write_grids(grids, folder, forms)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror}). Give --out.") from error
    screen.print(f"\nWritten: {', '.join(str(path) for path in written)}", soft_wrap=True)
