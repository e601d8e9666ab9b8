"""Rows of figures that sections are made from: those of a report's tables, or made now where it has no such table."""

from __future__ import annotations

from harness.report.arrays import Evaluated
from harness.report.measure import srocc_rows
from harness.report.page.section import PageInput
from harness.report.rows import Row
from harness.report.shifts import shift_rows
from harness.report.table import has_opinions
from harness.report.triplets import overall_accuracy_of, two_afc_rows


def datasets_of(page: PageInput) -> dict[str, list[Evaluated]]:
    """Data set -> what was evaluated of it: itself, or each of its splits."""
    found: dict[str, list[Evaluated]] = {}
    for one in page.evaluated:
        found.setdefault(page.data.splits.get(one.name, one.name), []).append(one)
    return found


def rows_of(page: PageInput, table: str, dataset: str) -> list[Row]:
    """Rows of `srocc`, `shift` or `two_afc` of a data set, without transfers; over splits their means.

    Args:
        page: The page.
        table: Name of the table.
        dataset: The data set's own name.

    Returns:
        The rows; none where the data set has no such figures, or has several splits and the report not that table.
    """
    for made in page.tables:
        if made.name == table and made.dataset == dataset:
            found = [{str(key): value for key, value in row.items()} for row in made.frame.to_dict("records")]
            break
    else:
        evaluated = datasets_of(page)[dataset]
        found = _made(page, table, evaluated[0]) if len(evaluated) == 1 else []
    kept = [row for row in found if row["threat"] != "transfer"]
    return [row for row in kept if overall_accuracy_of(row)] if table == "two_afc" else kept


def _made(page: PageInput, table: str, one: Evaluated) -> list[Row]:
    directions = page.data.directions_of(one.facts)
    pairs = one.facts.kind == "pairs"
    if table == "shift":
        return list(shift_rows(one, directions))
    if table == "srocc" and pairs and has_opinions(one):
        return list(srocc_rows(one, directions))
    if table == "two_afc" and not pairs:
        return list(two_afc_rows(one, directions[0]))
    return []
