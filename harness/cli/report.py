"""The tables of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, end, registry_of


@verb("Look", 4)
def _report(
    folder: Annotated[Path, typer.Argument(help="A run folder, such as results/runs/quickstart.", metavar="RUN")],
    plugin: PluginFiles = None,
) -> None:
    """Make the tables and the page of a run again from its records, running nothing.

    Example: robustiqa report results/runs/quickstart
    """
    from harness.flow import report_run
    from harness.report.render import print_tables

    result = report_run(folder, registry_of(plugin))
    print_tables(result.tables, console())
    console().print(f"\nReport: {folder / 'report' / 'index.html'}", soft_wrap=True)
    end(result.failures)
