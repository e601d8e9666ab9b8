"""Beside running: `new`, `doctor` and `train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of


class NewKind(StrEnum):
    """Plugins that can be started from a template."""

    metric = "metric"
    attack = "attack"
    defense = "defense"
    dataset = "dataset"


@app.command()
def new(
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
    from harness.scaffold import create

    created = create(kind.value, name, out, registry_of(None), package=package)
    lines = [*(f"wrote {path}" for path in created.files), "", "Next:", *(f"  {line}" for line in created.commands)]
    console().print("\n".join(lines), soft_wrap=True, markup=False)


@app.command()
def doctor(
    metric: Annotated[
        str | None, typer.Option(help="Probe one metric's contract instead: gradients, batches, flat pairs, ...")
    ] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Examine the installation: versions, devices, folders, name collisions, plugins, weights, data sets.

    Example: robustiqa doctor --metric birqa-tiny
    """
    from dataclasses import asdict

    from harness.doctor import examine, probe_metric

    registry = registry_of(plugin)
    findings = list(probe_metric(metric, registry) if metric else examine(registry))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(show_header=False, box=None, padding=(0, 2))
        style = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for finding in findings:
            table.add_row(f"[{style[finding.verdict]}]{finding.verdict}[/]", finding.subject, escape(finding.detail))
        console().print(table)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, such as suites/train/birqa_tiny_mini.yaml.")],
    out: Annotated[Path | None, typer.Option(help="The training's run folder.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Train a metric by a recipe; writes a weight file and its entry in the manifest. Resumes after a kill.

    Example: robustiqa train suites/train/birqa_tiny_mini.yaml
    """
    from harness.training import train as train_

    result = train_(recipe, out, plugins=plugin or ())
    warning = " COLLAPSED: its predictions hardly vary; do not use it." if result.collapsed else ""
    console().print(
        f"validation SROCC {result.validation_srocc:.3f} at step {result.best_step}.{warning}\n"
        f"Weights: {result.weights} (sha256 {result.sha256[:12]}...), listed in the manifest beside them.",
        soft_wrap=True,
    )
