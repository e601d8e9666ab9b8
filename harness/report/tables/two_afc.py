"""The table of agreement with a judge who chose between two patches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    by_budget,
    figure_text,
    plain_text,
)
from harness.report.rows import CONTROL, Row
from harness.report.table import Table, make_table, table
from harness.report.triplets import two_afc_rows
from harness.wording import MISSING, counted, number


@table(
    "two_afc",
    place=60,
    explains="Agreement with a judge who chose between two patches, hard and soft; for data sets of triplets.",
)
def two_afc_table(data: RunData, one: Evaluated) -> Table | None:
    """Hard and soft 2AFC accuracy; for triplets with judgements."""
    if one.facts.kind != "triplets" or np.isnan(one.judge).all():
        return None
    (direction,) = data.directions_of(one.facts)
    rows = list(two_afc_rows(one, direction))
    proxy = one.facts.labels == "proxy"
    judges, who = ("a proxy judge (not people)", "the proxy judge") if proxy else ("people", "people")
    labels: dict[str, Callable[[Row], str]] = {
        "patch attacked": lambda row: row["attacked"] or MISSING,
        "figure": lambda row: row["kind"] + ("" if row["subset"] == "all" else f", {row['subset']}"),
    }
    judged = one.judge[~np.isnan(one.judge)]
    ceiling = float(np.maximum(judged, 1 - judged).mean())
    full = by_budget(
        rows,
        labels,
        ("clean", lambda row: figure_text(row, "clean_accuracy", state=False)),
        lambda row: figure_text(row, "accuracy"),
    )
    told = ("", CONTROL, "both" if direction == "pair" else direction.replace("_", " "))
    short = [row for row in rows if row["subset"] == "all" and row["attacked"] in told]
    if ceiling == 1:  # the judges of every triplet agree, so soft is hard
        short = [row for row in short if row["kind"] == "hard"]
    compact = by_budget(
        short,
        {"figure": labels["figure"]},
        ("clean", lambda row: plain_text(row, "clean_accuracy", state=False)),
        lambda row: number(row["accuracy"]),
        compact=True,
    )
    left_out = rows[0]["undecided"] if rows else 0
    return make_table(
        "two_afc",
        one,
        data,
        f"2AFC: agreement with {judges}",
        f"Of two patches, does the metric prefer the one {who} preferred?"
        " Hard: share of triplets on the majority's side. Soft: mean share of judgements agreed with, "
        + (
            f"here at most {number(ceiling)}." if ceiling < 1 else "the same here, where no judges of a triplet differ."
        ),
        rows,
        full,
        compact,
        [direction],
        "An equal score counts half."
        + (f" Hard leaves out {counted(left_out, 'evenly split triplet')} (judge = 0.5)." if left_out else "")
        + (" “all” weighs triplets equally, “macro” subsets." if {row["subset"] for row in rows} != {"all"} else ""),
    )
