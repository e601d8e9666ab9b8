"""The tables of several splits as one: means, and standard deviations over the splits beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.report.layout import Layout, attack_of, budget_of, scorer_of, stated
from harness.report.rows import Row
from harness.report.table import Table
from harness.suite.cell_names import CLEAN
from harness.wording import MISSING, number

BY_SPLIT = ("verdicts", "adequacy", "frontier")
"""Tables whose rows say what was found, which has no mean: they stay as they are, one for each split."""
DEVIATION = "_sd"
"""What the standard deviation over splits adds to the name of a figure's column."""

_PARTS = ("_low", "_high", "_bias", "_draw_sd", "_worst")
_NAMED_LATER = ("attacked", "kind", "subset", "name", "against")
"""Columns that tell rows apart and stand among the figures."""
_IN_FRONT = ("metric", "defense", "threat", "source", "attack", "control", "norm", "eps", "direction")
_STATES = ("failed", "missing")
_ABBREVIATED = ("srocc", "plcc", "krocc", "rmse")


def over_splits(tables: Sequence[Table], splits: Mapping[str, str]) -> list[Table]:
    """The tables of one name, those of the splits of one data set put together.

    Args:
        tables: One for each data set, or split of one.
        splits: Name of a data set in one split -> the data set's own; empty without splits.
    """
    if not splits or not tables or tables[0].name in BY_SPLIT:
        return list(tables)
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(splits.get(table.dataset, table.dataset), []).append(table)
    counts = {name: sum(one == name for one in splits.values()) for name in groups}
    return [_together(name, found, counts[name]) if counts[name] else found[0] for name, found in groups.items()]


def _together(dataset: str, tables: Sequence[Table], count: int) -> Table:
    first = tables[0]
    parts = [table.frame.assign(dataset=dataset, split=i) for i, table in enumerate(tables)]
    rows = pd.concat(parts, ignore_index=True)
    keys = _keys(first.frame)
    means = _means(rows, keys, count)
    layout = _layout(means, keys)
    missing = f" {count - len(tables)} of the {count} splits have no such table." if len(tables) < count else ""
    protocol = first.protocol.removeprefix("Protocol: ")
    return replace(
        first,
        dataset=dataset,
        title=f"{first.title.replace(first.dataset, dataset, 1)}, over {len(tables)} splits",
        frame=means,
        full=layout,
        compact=layout,
        protocol=f"Protocol: {len(tables)} splits by reference, each metric with the weights of the split that is "
        f"evaluated; of the first split, and of the others alike: {protocol}",
        notes=(
            f"Mean ± standard deviation (n − 1) over {len(tables)} splits, whose test images overlap: how much a "
            f"figure depends on split and training, and no interval.{missing} Each split, with its intervals, is in "
            f"tables/{first.name}_by_split.csv.",
            *first.notes,
        ),
        by_split=rows,
    )


def _keys(frame: pd.DataFrame) -> list[str]:
    """The columns that tell the rows of one split apart."""
    before = list(frame.columns[: list(frame.columns).index("state")])
    named = [name for name in before if name not in ("dataset", "broken")]
    return [*named, *(name for name in _NAMED_LATER if name in frame and name not in named)]


def _means(rows: pd.DataFrame, keys: Sequence[str], count: int) -> pd.DataFrame:
    """A row for each that the splits have, in the order of the first; nan where a split has no figure."""
    figures = [
        name for name in rows.columns if rows[name].dtype == float and name not in keys and not name.endswith(_PARTS)
    ]
    found = []
    for at, own in rows.groupby(list(keys), sort=False, dropna=False):
        row: Row = {"dataset": own["dataset"].iloc[0], **dict(zip(keys, at, strict=True))}
        row["broken"] = next((text for text in own["broken"] if text), "")
        states = {*own["state"], *(["missing"] if len(own) < count else [])}
        row["state"] = next((state for state in _STATES if state in states), "ok")
        row |= {name: own[name].iloc[0] for name in ("labels", "images", "references", "clusters", "draws")}
        row |= {"interval": "none", "splits": len(own)}
        for name in figures:
            values = own[name].to_numpy(float) if row["state"] == "ok" else np.array([math.nan])
            row[name] = float(np.mean(values))
            row[f"{name}{DEVIATION}"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            if f"{name}_low" in own:
                row[f"{name}_low"] = row[f"{name}_high"] = math.nan
        found.append(row)
    return pd.DataFrame(found)


def _layout(means: pd.DataFrame, keys: Sequence[str]) -> Layout:
    """A line for each row: whose it is, and each figure that has an interval in a single split."""
    names = [name for name in means.columns if f"{name}_low" in means and means[name].notna().any()]
    others = [name for name in keys if name not in _IN_FRONT and means[name].nunique() > 1]
    lines = []
    for found in means.to_dict("records"):
        row: Row = {str(name): value for name, value in found.items()}
        attacked = row["attack"] not in ("", CLEAN)
        budget = MISSING if not attacked or math.isnan(row["eps"]) else budget_of(row)
        labels = (scorer_of(row), attack_of(row) or MISSING, row["direction"] or MISSING, budget)
        figures = (stated(row, lambda row, name=name: _figure(row, name)) for name in names)  # type: ignore[misc]
        lines.append((*labels, *(str(row[name]) for name in others), *figures))
    header = ("metric", "attack", "direction", "ε", *others, *map(_heading, names))
    return Layout(header, tuple(dict.fromkeys(lines)), 4 + len(others))


def _heading(name: str) -> str:
    """'clean SROCC' of 'clean_srocc'."""
    return " ".join(word.upper() if word.startswith(_ABBREVIATED) else word for word in name.split("_"))


def _figure(row: Row, name: str) -> str:
    """'.84 ± .02'."""
    value, deviation = row[name], row[f"{name}{DEVIATION}"]
    return number(value) if math.isnan(deviation) else f"{number(value)} ± {number(deviation)}"
