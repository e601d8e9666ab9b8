"""Records of a run put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here
from harness.wording import bytes_text, counted


@verb("Run", 6)
def _compact(
    folder: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder.", metavar="RUN")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Put finished records together: one file for each data set, scorer and source, with the same rows.

    A run does so when it ends; this is for one that was stopped, or that an older version made. It may be killed at any
    moment, and read or run meanwhile. Example: robustiqa compact results/runs/quickstart
    """
    from harness.flow import compact_run

    found = compact_run(folder, registry_of(plugin))
    (files, size), (files_now, size_now) = found.before, found.after
    if as_json:
        page = {"files": files_now, "bytes": size_now, "files_before": files, "bytes_before": size}
        print_json({"folder": str(folder), **page})
    elif found.before == found.after:
        console().print(f"{folder}: compact already, {counted(files, 'file')} of records.", soft_wrap=True)
    else:
        was = f"{counted(files, 'file')}, {bytes_text(size)}"
        console().print(
            f"{folder}: {counted(files_now, 'file')} of records, {bytes_text(size_now)}, in place of {was}.",
            soft_wrap=True,
        )
