"""What changed between two runs."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of
from harness.errors import UserError
from harness.wording import tell


@verb("Look", 5)
def _compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(help="Another; differences are B minus A.", metavar="RUN_B")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs where both measured the same condition on the same images, with paired intervals.

    Example: robustiqa compare results/runs/before results/runs/after
    """
    from harness.engine.soundness import DAMAGED
    from harness.flow import open_folder
    from harness.report.compare import compare

    registry = registry_of(plugin)
    one, other = open_folder(run_a, registry).data, open_folder(run_b, registry).data
    for run, data in ((run_a, one), (run_b, other)):
        for notice in data.notices:
            if notice.startswith(DAMAGED):
                tell(f"note: {run}: {notice}")
    frame = compare(one, other)
    if as_json:
        print_json(json.loads(frame.to_json(orient="records")))
        return
    if frame.empty:
        raise UserError(
            f"{run_a} and {run_b}: no condition was measured on the same images in both. Compare other runs."
        )
    from rich.table import Table

    from harness.statistics.intervals import DESCRIPTIVE_BELOW
    from harness.wording import BROKEN, budget_text, marked, number, p_text, scorer_text, with_interval

    header = (
        "data set",
        "metric",
        "attack",
        "budget",
        "n",
        "SROCC A",
        "SROCC B",
        "change [95 %]",
        "could be shown",
        "paper's rule",
        "quality change [95 %]",
    )
    table = Table(*header, title=f"A = {run_a}, B = {run_b}", title_justify="left")
    for row in frame.to_dict("records"):

        def changed(name: str, row: dict[Hashable, Any] = row) -> str:
            text = with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3, True)
            return f"{text}\n{row[f'{name}_verdict']}, p {p_text(row[f'{name}_p_adjusted'])}"

        table.add_row(
            row["dataset"],
            marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"]),
            f"{row['attack']} {row['endpoint']}",
            budget_text(row["norm"], row["eps"]) if row["norm"] else "",
            str(row["images"]),
            number(row["srocc_a"]),
            number(row["srocc_b"]),
            changed("srocc_change"),
            number(row["srocc_change_smallest_shown"], 3),
            _rule(row["srocc_change"], row["srocc_change_papers_rule"]),
            changed("quality_change"),
        )
    console().print(table)
    for rules in dict.fromkeys(rules for rules in frame["broken"] if rules):
        console().print(f"{BROKEN} broke its contract when probed: {rules}.")
    console().print(
        "Changes are B minus A, with studentised intervals that leave out whole references (or what the data set calls "
        "independent), paired over the images that both runs have. p is adjusted (Holm) over the rows in which the "
        "runs differ: below 0.05 a change is more than chance. Could be shown: the smallest true change of SROCC that "
        "would be found at an unadjusted 5 % with a chance of 80 %. Paper's rule: the percentiles of the resampled "
        "change leave out 0 and its median is at least .01."
    )
    if (frame["clusters"] < DESCRIPTIVE_BELOW).any():
        few = f"Fewer than {DESCRIPTIVE_BELOW} independent references in some rows"
        console().print(f"{few}: their intervals are descriptive and claim no coverage.")
    for name, a, b in (("seed", one.seed, other.seed), ("limit", one.limit, other.limit)):
        if a != b:
            console().print(f"The runs differ in {name}: A {a or 'none'}, B {b or 'none'}.")


def _rule(change: float, kept: bool) -> str:
    from harness.wording import UNDEFINED

    return UNDEFINED if math.isnan(change) else "yes" if kept else "no"
