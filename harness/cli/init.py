"""A suite to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import console


@verb("Your own", 0)
def _init(
    name: Annotated[
        str, typer.Argument(help="A shipped suite, as `robustiqa list suites` names it.", metavar="[NAME]")
    ] = "quickstart",
    out: Annotated[Path, typer.Option(help="The folder to write into.", metavar="DIR")] = Path(),
) -> None:
    """Copy a suite that comes with robustiqa into this folder to edit it, with the files that it builds on.

    Nothing is overwritten. Example: robustiqa init quickstart
    """
    from harness.suite.shipped import copy_suite

    copies = copy_suite(name, out)
    lines = [*(f"wrote {file}" for file in copies), "", "Edit it, then:"]
    lines += [f"  robustiqa validate {copies[0]}", f"  robustiqa run {copies[0]}"]
    console().print("\n".join(lines), soft_wrap=True)
