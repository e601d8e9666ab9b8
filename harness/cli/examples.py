"""The attacked images that a run keeps: those of its page, and those that its suite asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here
from harness.wording import MISSING, budget_text, significant

if TYPE_CHECKING:
    from harness.report.reading import RunResult

_KEPT_SHOWN = 60


@verb("Look", 5)
def _examples(
    folder: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder.", metavar="RUN")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the attacked images that a run keeps, with their scores and where they lie.

    Some are of the report's page: per metric the largest excess over the control, the median case, one where the attack
    failed. Others are there where the suite has `save_examples`. Example: robustiqa examples results/runs/quickstart
    """
    from harness.report.reading import open_folder

    result = open_folder(folder, registry_of(plugin))
    rows = [*_of_page(result), *_of_suite(result)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        console().print(
            f"{folder}: it keeps no attacked images. Run its suite again with 'save_examples: 4', or --set "
            "save_examples=4; a run that is finished with this version also keeps a few for its page.",
            soft_wrap=True,
            markup=False,
        )
        return
    from rich.table import Table

    title = f"{folder}: scores in each metric's own units, the attacked one of the image in 8 bits"
    heads = ("", "case", "metric", "attack", "budget", "image", "clean", "attacked", "excess")
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    for place, row in enumerate(rows[:_KEPT_SHOWN], 1):
        attack = f"{row['attack']} {row['direction']}".rstrip()
        budget = f"{'l2 ' if row['norm'] == 'l2' else ''}{budget_text(row['norm'], row['eps'])}"
        scores = (f"{row[name]:.4g}".replace("-", "−") for name in ("clean", "attacked_8bit"))
        excess = significant(row["excess"]) if "excess" in row else MISSING
        table.add_row(str(place), row["case"] or MISSING, row["metric"], attack, budget, row["item"], *scores, excess)
    console().print(table)
    for place, row in enumerate(rows[:_KEPT_SHOWN], 1):
        console().print(f"{place:>3} {row['folder']}", soft_wrap=True, markup=False)
    more = f", {_KEPT_SHOWN} shown; --json lists them all" if len(rows) > _KEPT_SHOWN else ""
    console().print(f"{len(rows)} attacked images in {folder}{more}.", soft_wrap=True, markup=False)


def _of_page(result: RunResult) -> Iterator[dict[str, Any]]:
    """The cases of the report's page."""
    from harness.engine.gallery_store import GALLERY, SHOWN

    for case in result.data.gallery.cases:
        about = case.about
        sign = 1 if about["higher_is_better"] else -1
        place = result.folder.path / GALLERY / about["folder"]
        told = (
            "case",
            "metric",
            "dataset",
            "attack",
            "direction",
            "norm",
            "eps",
            "item",
            "reference",
            "group",
            "control",
        )
        yield {
            "kind": "page",
            **{name: about[name] for name in told},
            **{name: sign * about[name] for name in ("clean", "attacked", "attacked_8bit")},
            "excess": about["excess"],
            "linf": about["linf"],
            "others": [_own_units(one) for one in about.get("others", ())],
            "size": about["size"],
            "crop": about["crop"],
            "folder": str(place.relative_to(result.folder.path)),
            "files": {name: str(place / f"{name}.png") for name in SHOWN},
        }


def _own_units(one: dict[str, Any]) -> dict[str, Any]:
    """What another metric says, in its own units."""
    sign = 1 if one["higher_is_better"] else -1
    return {"metric": one["metric"], **{name: sign * one[name] for name in ("clean", "attacked_8bit")}}


def _of_suite(result: RunResult) -> Iterator[dict[str, Any]]:
    """The images that the suite asked for."""
    for cell in result.plan.cells:
        sign = -1 if cell.scorer.metric.label in result.planned.facts.lower_is_better else 1
        for place in result.folder.example_folders(cell.id):
            about = result.folder.example_scores(place)
            yield {
                "kind": "example",
                "case": "",
                "metric": cell.scorer.label,
                "dataset": cell.split.dataset.label,
                "attack": cell.attack.label if cell.attack else "",
                "direction": cell.endpoint,
                "norm": cell.norm,
                "eps": cell.eps,
                "item": about["item"],
                **{name: sign * about[name] for name in ("clean", "attacked", "attacked_8bit")},
                "linf": about.get("linf"),
                "folder": str(place.relative_to(result.folder.path)),
                "files": {
                    path.stem: str(path) for path in sorted(place.glob("*")) if path.suffix in (".png", ".safetensors")
                },
            }
