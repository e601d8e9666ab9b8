"""The command line's application, which the modules beside this one add their commands to."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="robustiqa",
    help="Measure how robust full-reference image-quality metrics are to adversarial attack.",
    epilog="First steps:  robustiqa run suites/quickstart.yaml   |   robustiqa list   |   robustiqa show pgd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from harness.engine.provenance import own_version

        print(own_version())
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how robust full-reference image-quality metrics are to adversarial attack."""
