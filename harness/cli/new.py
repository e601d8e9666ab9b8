"""A plugin to start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import console, registry_of


class NewKind(StrEnum):
    """Plugins that can be started from a template."""

    metric = "metric"
    attack = "attack"
    defense = "defense"
    dataset = "dataset"


@verb("Your own", 1)
def _new(
    kind: Annotated[NewKind, typer.Argument(help="metric, attack, defense or dataset.", metavar="KIND")],
    name: Annotated[str, typer.Argument(help="The name it gets in suites, such as my_attack.", metavar="NAME")],
    out: Annotated[Path, typer.Option(help="The folder to write into.", metavar="DIR")] = Path(),
    package: Annotated[
        bool, typer.Option("--package", help="Write an installable package with an entry point, not a lone file.")
    ] = False,
) -> None:
    """Write a plugin to start from: it works as it is, with its test and a suite that runs it.

    Nothing is overwritten. Example: robustiqa new attack demo
    """
    from harness.plugins.scaffold import create

    created = create(kind.value, name, out, registry_of(None), package=package)
    lines = [*(f"wrote {path}" for path in created.files), "", "Next:", *(f"  {line}" for line in created.commands)]
    console().print("\n".join(lines), soft_wrap=True)
