"""A run's records as one table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, registry_of, runs_here, writing
from harness.errors import UserError
from harness.wording import tell


@verb("Look", 9)
def _export(
    folder: Annotated[
        Path, typer.Argument(callback=runs_here, help="A run folder, or a bundle of one.", metavar="RUN")
    ],
    to: Annotated[Literal["parquet", "csv"], typer.Option("--to", help="What is written.")] = "parquet",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The file; <name of the suite>.<form> if left out.", metavar="FILE"),
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Write every record of a run as one tidy table, and beside it a dictionary of its columns with units.

    Example: robustiqa export results/runs/quickstart --to csv -o quickstart.csv
    """
    from harness.files import write_whole
    from harness.report.reading import open_folder
    from harness.report.render import file_name
    from harness.report.tidy import exported

    result = open_folder(folder, registry_of(plugin))
    data = result.data
    target = out or Path(f"{file_name(data.name)}.{to}")
    if target.is_dir():
        raise UserError(f"-o {target}: a folder, and a file is to be written. Give its name.")
    beside = target.with_name(f"{target.stem}.columns.csv")
    made = exported(data, to)
    with writing(target):
        write_whole(target, made.table)
        write_whole(beside, made.dictionary)
    for notice in data.notices:
        if notice.partition(":")[0].isupper():  # not finished, damaged, unchecked
            tell(f"note: {notice}")
    console().print(f"{target}: {made.rows:,} rows; what each column is: {beside}", soft_wrap=True)
