"""Beside running: `doctor` and `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of


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
