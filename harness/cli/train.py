"""Training a metric by a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, check_device, console, say_what_is_executed, shipped_too

if TYPE_CHECKING:
    from harness.training import Preview


@verb("Your own", 2)
def _train(
    recipe: Annotated[
        Path,
        typer.Argument(
            callback=shipped_too,
            help="A recipe file, such as suites/train/birqa_tiny_mini.yaml.",
            metavar="RECIPE",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The training's run folder; results/runs/train-NAME by default.", metavar="DIR")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value, such as steps=500; may be repeated.", metavar="KEY=VALUE"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, on how many images, and train nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1.")] = "cpu",
    plugin: PluginFiles = None,
) -> None:
    """Train a metric by a recipe; writes a weight file and its entry in the manifest. Resumes after a kill.

    Examples:
    robustiqa train suites/train/birqa_tiny_mini.yaml

    robustiqa train suites/train/human_rated/birqa_tiny.yaml --dry-run

    robustiqa train suites/train/paper/birqa_kadid10k.yaml --device cuda --set seeds=1

    robustiqa train suites/train/paper/lpips_alex_heads_tid2013.yaml --set metric.weights=lpips.safetensors
    """
    from harness.training import preview, train

    check_device(device)
    say_what_is_executed(plugin)
    if dry_run:
        _print_preview(preview(recipe, out, plugins=plugin or (), sets=sets or ()))
        return
    result = train(recipe, out, plugins=plugin or (), sets=sets or (), device=device)
    if len(result.summary["members"]) > 1:
        _print_members(result.summary)
    say = console().print
    say(_outcome(result.summary), soft_wrap=True)
    say(
        f"Weights: {result.weights} (sha256 {result.sha256[:12]}...), listed in the manifest beside them.",
        soft_wrap=True,
    )


def _print_preview(found: Preview) -> None:
    """Members, steps and images of a recipe file."""
    from rich.table import Table

    table = Table("member", "seed", "train", "val", "test", "passes", box=None, padding=(0, 2), header_style="bold")
    for member in found.members:
        splits = member["splits"]
        count = next(value for key, value in splits["train"].items() if key in ("pairs", "triplets"))
        passes = f"{found.steps * found.batch / count:.1f}"
        table.add_row(
            member["name"], str(member["seed"]), *(_size(splits.get(p)) for p in ("train", "val", "test")), passes
        )
    console().print(table)
    first = found.members[0]
    start = f"weights of sha256 {first['started_from'][:12]}..." if first["started_from"] else "untrained"
    trained, everything = (first["parameters"][key] for key in ("trained", "all"))
    console().print(
        f"\nSizes are items of references.\n{len(found.members)} member(s) of at most {found.steps} steps, "
        f"{found.batch} items a batch; {start}; {trained:,} of {everything:,} parameters trained.\n"
        f"Run folder: {found.run}. Weights: {found.weights}.",
        soft_wrap=True,
    )


def _size(split: dict[str, Any] | None) -> str:
    """'75 of 5': items and references."""
    if split is None:
        return "-"
    kind = "pairs" if "pairs" in split else "triplets"
    return f"{split[kind]} of {split['references']}"


def _print_members(summary: Mapping[str, Any]) -> None:
    """Validation and test figures of every member, with mean and standard deviation."""
    from rich.table import Table

    from harness.training.measures import WORDS

    measure, tests = summary["measure"], summary.get("test", {})
    columns = [f"val {WORDS[measure]}", *(f"test {WORDS[key]}" for key in tests)]
    table = Table("member", "step", *columns, "", box=None, padding=(0, 2), header_style="bold")
    for member in summary["members"]:
        figures = [member["validation"][measure], *(member["test"][key] for key in tests)]
        notes = ["COLLAPSED"] * member["collapsed"] + ["stopped early"] * member["stopped_early"]
        table.add_row(member["name"], str(member["step"]), *(f"{f:.4f}" for f in figures), ", ".join(notes))
    spreads = [summary["validation"], *tests.values()]
    table.add_row("mean +- sd", "", *(f"{s['mean']:.4f} +- {s['sd']:.4f}" for s in spreads), "")
    console().print(table)


def _outcome(summary: Mapping[str, Any]) -> str:
    """The line that ends a training."""
    from harness.training.measures import WORDS

    members = summary["members"]
    collapsed = [member["name"] for member in members if member["collapsed"]]
    who = "" if len(members) == 1 else f" ({', '.join(collapsed)})"
    warning = f" COLLAPSED{who}: its predictions hardly vary; do not use it." if collapsed else ""
    if summary["joined"]:
        return f"{len(members)} folds in one weight file of the metric 'folds'.{warning}"
    best = next(member for member in members if member["name"] == summary["chosen"])
    name = f"{best['name']}: " if len(members) > 1 else ""
    words = WORDS[summary["measure"]]
    found = f"{name}validation {words} {best['validation'][summary['measure']]:.3f} at step {best['step']}"
    test = "".join(f", test {WORDS[key]} {best['test'][key]:.3f}" for key in summary.get("test", {}))
    early = "; stopped early" if best["stopped_early"] else ""
    return f"{found}{test}{early}.{warning}"
