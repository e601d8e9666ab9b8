"""The tables of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import (
    FigureForms,
    FigureSize,
    Full,
    PluginFiles,
    console,
    end,
    print_report,
    registry_of,
    runs_here,
)


@verb("Look", 4)
def _report(
    folder: Annotated[
        Path, typer.Argument(callback=runs_here, help="A run folder, such as results/runs/quickstart.", metavar="RUN")
    ],
    latex: Annotated[
        bool, typer.Option("--latex", help="Also write every table as LaTeX, and report.tex, which takes them all in.")
    ] = False,
    figures: FigureForms = None,
    size: FigureSize = "page",
    full: Full = False,
    plugin: PluginFiles = None,
) -> None:
    """Make the tables and the page of a run again from its records, running nothing.

    Examples:
    robustiqa report results/runs/quickstart

    robustiqa report results/runs/quickstart --latex --figures pdf,svg --size column
    """
    from harness.engine.drawing import figure_width, formats_named
    from harness.report.reading import report_run
    from harness.report.render import PrintForms

    forms = PrintForms(latex, formats_named(figures) if figures is not None else (), size)
    figure_width(size)
    result = report_run(folder, registry_of(plugin), forms)
    print_report(result.screen, result.folder.path, full)
    if latex or forms.formats:
        told = ["tables/*.tex and report.tex"] * latex + [f"figures/*_{size}.{form}" for form in forms.formats]
        console().print(f"For print, beside it: {', '.join(told)}", soft_wrap=True)
    end(result.failures)
