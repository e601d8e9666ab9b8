"""The table of correlations by distortion type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout, at_largest_budget, figure_text, scorer_of, stated
from harness.report.measure import ALL_TYPES, LEAST_IMAGES, LEAST_REFERENCES, rated_types, small_types, type_rows
from harness.report.rows import Row
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.suite.cell_names import CLEAN
from harness.wording import MISSING, attack_text, budget_text, joined, short_names

_WHERE = "on the page, and in tables/per_type.md and tables/per_type.csv beside it"


@table(
    "per_type",
    place=70,
    explains="Correlation with the opinions within each distortion type and over all, clean and attacked; for data "
    "sets with at least two types of 8 rated images or more.",
)
def per_type_table(data: RunData, one: Evaluated) -> Table | None:
    """SROCC by distortion type, for a data set with at least two types that have enough rated images."""
    if one.facts.kind != "pairs" or not has_opinions(one) or len(rated_types(one)) < 2:
        return None
    names = data.group_names.get(one.name, {})
    rows = [row | {"type_name": _type(row, names)} for row in type_rows(one, data.directions)]
    full = _by_type(rows)
    types, scorers = len(rated_types(one)), len(one.scorers)
    counted = f"{types} types and {scorers} scorer{'s' if scorers > 1 else ''}"
    return make_table(
        "per_type",
        one,
        data,
        f"SROCC with {labels_text(one)} by distortion type",
        "Does the metric rank images of one distortion type, which differ only in content and strength? Read along a "
        "row, clean against attacked, or compare metrics within a type.",
        rows,
        full,
        Layout(full.header, (), full.labels, f"{counted}: {_WHERE}."),
        data.directions,
        *_notes(data, one, names),
    )


def _notes(data: RunData, one: Evaluated, names: Mapping[str, str]) -> list[str]:
    proxy = one.facts.labels == "proxy"
    notes = [
        "Types are not compared with each other: where "
        + ("proxy labels" if proxy else "opinions")
        + " of a type span little, the same errors give a lower SROCC. All types together may be ranked worse than "
        "each of them, because a metric must also weigh types against each other. Nothing is corrected for the number "
        "of types.",
    ]
    if "mos_split" in data.directions and any(scorer.settings for scorer in one.scorers):
        notes.append(
            "mos_split goes by the mean of the whole split: images of a type on one side of it are all pushed the same "
            "way, which may keep their order."
        )
    counts = {name: len({one.codes[item] for item in items}) for name, items in rated_types(one).items()}
    few = [names.get(name, name) for name, count in counts.items() if count < DESCRIPTIVE_BELOW]
    if few and one.clusters >= DESCRIPTIVE_BELOW:
        which = "every type" if len(few) == len(counts) else joined(few)
        notes.append(
            f"Fewer than {DESCRIPTIVE_BELOW} {one.facts.cluster_noun}s within {which}: intervals there are descriptive "
            "and claim no coverage."
        )
    if small := [names.get(name, name) for name in small_types(one)]:
        notes.append(
            f"Only within “all types”, having fewer than {LEAST_IMAGES} images or {LEAST_REFERENCES} references: "
            f"{joined(small)}."
        )
    return [*notes, ASSUMPTION]


def _by_type(rows: Sequence[Row]) -> Layout:
    """One line per scorer and type; the conditions, each attack at its largest budget, are the columns."""
    rows = at_largest_budget(rows)
    short = short_names(sorted({str(row["attack"]) for row in rows}))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, bool] = {}
    for row in rows:
        column, text = _condition(row, short), stated(row, lambda row: figure_text(row, "srocc"))
        key = (scorer_of(row), row["type_name"], str(row["images"]), str(row["references"]))
        lines.setdefault(key, {})[column] = text
        columns[column] = columns.get(column, False) or text != MISSING
    shown = [column for column, told in columns.items() if told]
    return Layout(
        ("metric", "type", "images", "references", *shown),
        tuple((*key, *(cells.get(column, MISSING) for column in shown)) for key, cells in lines.items()),
        2,
        "Each attack and control at its largest budget. The CSV has every budget, PLCC, and the change of SROCC from "
        "clean with its paired interval.",
    )


def _type(row: Row, names: Mapping[str, str]) -> str:
    return "all types" if row["type"] == ALL_TYPES else names.get(row["type"], row["type"])


def _condition(row: Row, short: Mapping[str, str]) -> str:
    if row["attack"] == CLEAN:
        return "clean"
    attack = attack_text(short[row["attack"]], row["norm"])
    return f"{attack}\n{row['direction']}, ε {budget_text(row['norm'], row['eps'])}"
