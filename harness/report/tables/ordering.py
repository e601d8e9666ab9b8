"""The table of tests that need no opinions."""

from __future__ import annotations

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    by_budget,
    figure_text,
    for_terminal,
    plain_text,
)
from harness.report.measure import has_levels, ordering_rows
from harness.report.table import Table, make_table, table
from harness.wording import number


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
    full = by_budget(
        rows,
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: figure_text(row, "clean_share", state=False)),
        lambda row: figure_text(row, "share"),
    )
    compact = by_budget(
        for_terminal(rows),
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: plain_text(row, "clean_share", state=False)),
        lambda row: number(row["share"]),
        compact=True,
    )
    tests = "L: share of pairs of one reference and one distortion where the weaker level scores higher; attacked, the "
    tests += "weaker is lowered and the stronger raised. " if has_levels(one) else "weaker is lowered. "
    return make_table(
        "ordering",
        one,
        data,
        "Tests that need no opinions: order of distortion levels (L), distorted below pristine (D)",
        "Whose order is certain without asking people: more of the same distortion is worse (L), and a distorted image "
        "is worse than its pristine reference (D). 1 is always right, 0.5 a coin.",
        rows,
        full,
        compact,
        (),
        f"{tests}D: share of distorted images below the reference against itself; attacked, the distorted one is "
        "raised. An equal score counts half, clean and attacked.",
    )
