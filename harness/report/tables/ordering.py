"""The table of tests that need no opinions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    by_budget,
    figure_text,
    for_terminal,
    plain_text,
)
from harness.report.measure import ordering_rows, pairs_of_levels
from harness.report.rows import Row
from harness.report.table import Table, labels_text, make_table, table
from harness.wording import MISSING, counted, joined, number

_ORACLE = "oracle: L, clean, with the {labels} in place of a metric, over the same pairs."


@table(
    "ordering",
    place=50,
    explains="Tests without opinions: stronger distortion scores lower (L), distorted scores below pristine (D).",
)
def ordering_table(data: RunData, one: Evaluated) -> Table | None:
    """The tests L and D; for pairs."""
    if one.facts.kind != "pairs":
        return None
    rows = list(ordering_rows(one))
    names = {"L": "L: levels in order", "D": "D: below pristine"}
    labels: dict[str, Callable[[Row], str]] = {"test": lambda row: names[row["test"]]}
    rated = any(not math.isnan(row["oracle_share"]) for row in rows)
    if rated:
        labels["oracle"] = lambda row: MISSING if row["test"] == "D" else number(row["oracle_share"], 3)
    full = by_budget(
        rows,
        labels,
        ("clean", lambda row: figure_text(row, "clean_share", state=False)),
        lambda row: figure_text(row, "share"),
    )
    compact = by_budget(
        for_terminal(rows),
        labels,
        ("clean", lambda row: plain_text(row, "clean_share", state=False)),
        lambda row: number(row["share"]),
        compact=True,
    )
    return make_table(
        "ordering",
        one,
        data,
        "Tests that need no opinions: order of distortion levels (L), distorted below pristine (D)",
        "What should hold without asking people: more of the same distortion scores lower (L), and a distorted image "
        "below its pristine reference (D). 1 is always right, 0.5 a coin.",
        rows,
        full,
        compact,
        (),
        " ".join((*_tests(one), "An equal score counts half, clean and attacked.")),
        *([_ORACLE.format(labels=labels_text(one))] if rated else []),
        *_left_out(data, one),
    )


def _tests(one: Evaluated) -> Iterator[str]:
    if pairs_of_levels(one)[0].size:
        yield (
            "L: share of pairs of one reference and one distortion where the weaker level scores higher; attacked, the "
            "weaker is lowered and the stronger raised."
        )
    yield "D: share of distorted images below the reference against itself; attacked, the distorted one is raised."


def _left_out(data: RunData, one: Evaluated) -> Iterator[str]:
    """Groups that are not in L, images that are not in D, and what is not known of them."""
    present = {group for group, level in zip(one.groups, one.levels, strict=True) if not math.isnan(level)}
    names = data.group_names.get(one.name, {})
    reasons = [f"{names.get(group, group)} ({why})" for group, why in one.not_strength.items() if group in present]
    if reasons:
        yield f"Not in L, because levels there are no strength of distortion: {joined(reasons)}."
    identical = int((one.identical == 1).sum())
    if identical:
        yield f"Not in D: {counted(identical, 'image')} equal to the reference in every pixel."
    if np.isnan(one.identical).any():
        yield "Whether some images equal their reference is not known of records this old: D leaves out none of those."
