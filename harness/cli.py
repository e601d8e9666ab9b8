"""The command line. It imports torch and plugins only in the commands that need them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.registry import Kind, Plugin, Registry
    from harness.store import FailureRecord

app = typer.Typer(
    name="robustiqa",
    help="Measure how robust full-reference image-quality metrics are to adversarial attack.",
    epilog="First steps:  robustiqa run suites/quickstart.yaml   |   robustiqa list   |   robustiqa show pgd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers plugins; may be repeated.", metavar="FILE.py"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else there.")]
SuiteFile = Annotated[Path, typer.Argument(help="A suite file, such as suites/quickstart.yaml.", metavar="SUITE")]
Limit = Annotated[int | None, typer.Option(min=1, help="Evaluate the first n samples of each split only.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The suite's seed.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value, such as attacks.pgd.steps=20; may be repeated.", metavar="KEY=VALUE"),
]
Only = Annotated[
    str | None,
    typer.Option(help="Only these metrics and attacks: two shell patterns on labels.", metavar="METRIC/ATTACK"),
]


_FAILURES_SHOWN = 10


class What(StrEnum):
    """Things that can be listed."""

    metrics = "metrics"
    attacks = "attacks"
    defenses = "defenses"
    datasets = "datasets"
    recipes = "recipes"
    suites = "suites"
    plugins = "plugins"


class ExecutorName(StrEnum):
    """Where blocks run."""

    serial = "serial"
    processes = "processes"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; exit code 0 all done, 1 some cells failed, 2 bad usage or input, 130 interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of typer's
        if show is None:
            raise
        show()
        code = int(getattr(error, "exit_code", 2))
    if code == 130:  # typer may also return it for a KeyboardInterrupt of its own accord
        _complain("interrupted. What was finished is kept; run the same command again to go on.")
    sys.exit(code or 0)


def _complain(message: str) -> None:
    lines = message.splitlines()
    more = f"{len(lines)} problems:\n" if len(lines) > 1 else ""
    print(f"error: {more}{message}", file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        from harness import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how robust full-reference image-quality metrics are to adversarial attack."""


@app.command("list")
def list_(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List metrics, attacks, defenses, data sets, recipes, suites or plugins from elsewhere.

    Example: robustiqa list attacks
    """
    registry = _registry(plugin)
    found = {kind.value: _listed(kind, registry) for kind in ([what] if what else What)}
    if as_json:
        _print_json(found)
        return
    from rich.table import Table

    console = _console()
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for row in rows:
            table.add_row(f"[bold]{row['name']}[/]", row["from"])
        if not rows:
            table.add_row("(none)")
        console.print(table)


def _listed(what: What, registry: Registry) -> list[dict[str, str]]:
    if what is What.suites:
        return [
            {"name": str(path), "from": "this folder"}
            for path in sorted(Path("suites").rglob("*.yaml"))
            if path.parent.name != "train"
        ]
    kinds: dict[What, list[Kind]] = {
        What.metrics: ["metrics"],
        What.attacks: ["attacks"],
        What.defenses: ["purifiers"],
        What.datasets: ["datasets"],
        What.recipes: ["recipes"],
        What.plugins: ["metrics", "attacks", "purifiers", "datasets", "recipes"],
    }
    rows = []
    for kind in kinds[what]:
        for name in registry.names(kind):
            source = registry.source(kind, name)
            if what is not What.plugins or source.origin != source.module:
                label = f"{name} ({kind})" if what is What.plugins else name
                rows.append({"name": label, "from": source.origin})
    if what is What.defenses:
        rows.insert(0, {"name": "base", "from": "no defense"})
    return rows


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin's name.")], plugin: PluginFiles = None, as_json: AsJson = False
) -> None:
    """Show what a plugin is and its parameters.

    Example: robustiqa show pgd
    """
    from harness.registry import KINDS, PluginError, did_you_mean

    registry = _registry(plugin)
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if not kinds:
        known = [n for kind in KINDS for n in registry.names(kind)]
        raise PluginError(f"nothing is registered as '{name}'.{did_you_mean(name, known)}")
    pages = [_page(kind, registry.get(kind, name)) for kind in kinds]
    if as_json:
        _print_json(pages)
        return
    from rich.markup import escape
    from rich.table import Table

    console = _console()
    for page in pages:
        console.print(f"[bold]{name}[/] ({page['kind']}) from {escape(page['from'])}\n")
        console.print(escape(page["description"]) + "\n")
        table = Table(title="parameters", title_justify="left")
        for column in ("parameter", "type", "default"):
            table.add_column(column)
        for parameter in page["parameters"]:
            table.add_row(*(escape(str(parameter[c])) for c in ("name", "type", "default")))
        console.print(table if page["parameters"] else "no parameters")
        for key, value in page["properties"].items():
            console.print(f"{key}: {escape(str(value))}")


_PROPERTIES = (
    *("higher_is_better", "differentiable", "exact_gradient", "minimum_size", "needs_weights"),
    *("needs_gradient", "norms", "control", "fits", "gradient", "randomised", "kind", "labels", "splits"),
)


def _page(kind: Kind, plugin: Plugin[Any]) -> dict[str, Any]:
    import inspect

    def plain(value: Any) -> Any:
        if value is inspect.Parameter.empty:
            return "(must be given)"
        if isinstance(value, frozenset | set):
            return sorted(value)
        return value

    return {
        "name": plugin.name,
        "kind": kind,
        "from": plugin.origin,
        "description": inspect.getdoc(plugin.cls) or "",
        "parameters": [
            {"name": p.name, "type": _type_text(p.annotation), "default": plain(p.default)} for p in plugin.parameters()
        ],
        "properties": {k: plain(getattr(plugin.cls, k)) for k in _PROPERTIES if hasattr(plugin.cls, k)},
    }


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


@app.command()
def validate(
    suite: SuiteFile,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Check a suite and say everything that is wrong with it, before anything is loaded.

    Example: robustiqa validate suites/quickstart.yaml
    """
    from harness.compose import Overrides
    from harness.located import LocatedError
    from harness.suite import load_suite

    try:
        found = load_suite(suite, _registry(plugin), Overrides(tuple(sets or ()), only, limit, seed))
    except LocatedError as error:
        if as_json:
            _print_json({"suite": str(suite), "valid": False, "errors": error.lines})
            raise typer.Exit(2) from None
        raise
    if as_json:
        _print_json({"suite": str(suite), "valid": True, "errors": []})
        return
    _console().print(
        f"{suite}: valid. {len(found.datasets)} data set(s), {len(found.metrics)} metric(s), "
        f"{len(found.defenses)} defense(s), {len(found.attacks)} attack(s), {len(found.budgets)} budget(s)."
    )


@app.command()
def plan(
    suite: SuiteFile,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say what running a suite would do: cells, and what is done already.

    Example: robustiqa plan suites/quickstart.yaml
    """
    from harness.compose import Overrides
    from harness.plan import make_plan
    from harness.results import label_of
    from harness.run import RUNS, pending_jobs
    from harness.store import RunFolder
    from harness.suite import load_suite

    registry = _registry(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    made = make_plan(found, registry)
    store = RunFolder(out or RUNS / found.name)
    facts, fits, blocks = pending_jobs(made, store)
    rows = [
        {
            "cell": label_of(c),
            "id": c.id,
            "slices": made.slices[c.split.key],
            "done": len([i for i in store.slices(c.id) if i < made.slices[c.split.key]]),
        }
        for c in made.cells
    ]
    if as_json:
        pending = {"calibrations": len(facts), "fits": len(fits), "blocks": len(blocks)}
        _print_json({"suite": found.name, "folder": str(store.path), "pending": pending, "cells": rows})
        return
    from rich.table import Table

    table = Table("cell", "slices done", title=f"{found.name}: {len(rows)} cells", title_justify="left")
    for row in rows:
        table.add_row(str(row["cell"]), f"{row['done']} of {row['slices']}")
    _console().print(table)
    _console().print(f"To run: {len(facts)} calibrations, {len(fits)} fits, {len(blocks)} blocks into {store.path}.")


@app.command()
def run(
    suite: SuiteFile,
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> if left out.")] = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="Default: processes on a CPU, serial on a GPU.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core if left out.")] = None,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do every N-th block from the I-th on (0/4 ... 3/4), for job arrays."),
    ] = None,
    plugin: PluginFiles = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Run a suite, resume it, or extend it; ends with the tables and writes the report.

    The same command again goes on where it stopped; a metric, an attack or a budget added to the suite runs only what
    is new. Example: robustiqa run suites/quickstart.yaml --limit 16
    """
    from harness.compose import Overrides
    from harness.progress import ConsoleProgress, SilentProgress
    from harness.report import print_tables
    from harness.run import Options, run_suite
    from harness.suite import load_suite

    registry = _registry(plugin)
    found = load_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
    _check_device(device)
    console = _console()
    options = Options(out, executor.value if executor else None, workers, device, _shard(shard))
    with SilentProgress() if quiet else ConsoleProgress(_console(stderr=True)) as progress:
        result = run_suite(found, registry, options, progress)
    if not quiet:
        print_tables(result.tables, console)
        did = f"{result.blocks} blocks run ({result.cells} slices of cells)" if result.jobs else "nothing left to run"
        console.print(f"\n{found.name}: {did}. Report: {result.folder.report / 'index.html'}", soft_wrap=True)
    _end(result.failures)


def _end(failures: Sequence[FailureRecord]) -> None:
    """Say what failed, one line for each thing that went wrong however many cells it took down, and exit by it."""
    if not failures:
        return
    groups: dict[tuple[str, str], int] = {}
    for failure in failures:
        groups[failure.sample, failure.message] = groups.get((failure.sample, failure.message), 0) + 1
    for (sample, message), count in list(groups.items())[:_FAILURES_SHOWN]:
        where = f"{sample}: " if sample else ""
        print(f"failed: {where}{message} [{count} cell(s)]", file=sys.stderr)
    if len(groups) > _FAILURES_SHOWN:
        print(f"... and {len(groups) - _FAILURES_SHOWN} more; the report lists them all.", file=sys.stderr)
    print("What was finished is kept; mend the cause and run the same command again.", file=sys.stderr)
    raise typer.Exit(2 if any(failure.bad_input for failure in failures) else 1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, such as results/runs/quickstart.", metavar="RUN")],
    plugin: PluginFiles = None,
) -> None:
    """Make the tables and the page of a run again from its records, running nothing.

    Example: robustiqa report results/runs/quickstart
    """
    from harness.report import print_tables
    from harness.run import report_run

    _, tables, failures = report_run(folder, _registry(plugin))
    print_tables(tables, _console())
    _console().print(f"\nReport: {folder / 'report' / 'index.html'}", soft_wrap=True)
    _end(failures)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A run folder; it may be running.", metavar="RUN")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a run is, from its folder alone; safe while it runs.

    Example: robustiqa status results/runs/quickstart
    """
    from harness.run import run_status

    found = run_status(folder, _registry(plugin))
    if as_json:
        _print_json(found)
        return
    from rich.table import Table

    table = Table("attacked", "blocks done", title=f"{found['name']} in {folder}", title_justify="left")
    for row in found["sources"]:
        table.add_row(row["source"], f"{row['done']} of {row['blocks']}")
    _console().print(table)
    state = "finished" if found["done"] == found["blocks"] else "not finished: run the same suite again to go on"
    _console().print(f"{found['done']} of {found['blocks']} blocks, {found['failures']} failures; {state}.")


@app.command("compare")
def compare_(
    run_a: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(help="Another; differences are B minus A.", metavar="RUN_B")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs where both measured the same condition on the same images, with paired intervals.

    Example: robustiqa compare results/runs/before results/runs/after
    """
    from harness.compare import compare
    from harness.run import read_run

    registry = _registry(plugin)
    frame = compare(read_run(run_a, registry), read_run(run_b, registry))
    if as_json:
        _print_json(json.loads(frame.to_json(orient="records")))
        return
    if frame.empty:
        raise UserError(
            f"{run_a} and {run_b}: no condition was measured on the same images in both. Compare other runs."
        )
    from rich.table import Table

    from harness.report.words import budget_text, number, scorer_text, with_interval

    header = (
        "data set",
        "metric",
        "attack",
        "budget",
        "n",
        "SROCC A",
        "SROCC B",
        "change [95 %]",
        "quality change [95 %]",
    )
    table = Table(*header, title=f"{run_b} minus {run_a}", title_justify="left")
    for row in frame.to_dict("records"):
        direction = {1: " up", -1: " down"}.get(row["sign"], "")
        table.add_row(
            row["dataset"],
            scorer_text(row["metric"], row["defense"], row["threat"], row["source"]),
            row["attack"] + direction,
            budget_text(row["norm"], row["eps"]) if row["norm"] else "",
            str(row["images"]),
            number(row["srocc_a"]),
            number(row["srocc_b"]),
            *(
                with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3, True)
                for name in ("srocc_change", "quality_change")
            ),
        )
    _console().print(table)
    _console().print("Paired bootstrap over references, the same resamples for both runs; images that both runs have.")


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

    registry = _registry(plugin)
    findings = list(probe_metric(metric, registry) if metric else examine(registry))
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(show_header=False, box=None, padding=(0, 2))
        style = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for finding in findings:
            table.add_row(f"[{style[finding.verdict]}]{finding.verdict}[/]", finding.subject, escape(finding.detail))
        _console().print(table)
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
    _console().print(
        f"validation SROCC {result.validation_srocc:.3f} at step {result.best_step}.{warning}\n"
        f"Weights: {result.weights} (sha256 {result.sha256[:12]}...), listed in the manifest beside them.",
        soft_wrap=True,
    )


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard {text}: should be I/N with I from 0 to N - 1, such as 0/4.")
    return int(index), int(count)


def _check_device(device: str | None) -> None:
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {device}: not to be had ({str(error).splitlines()[0]}). Leave it out, or take cpu."
        ) from None


def _registry(files: Sequence[Path] | None) -> Registry:
    from harness.registry import Registry

    return Registry(files or ())


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=max(console.width, 110))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))
