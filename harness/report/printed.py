"""The paper's tables as frames of cells: one row per figure, and what it is the figure of.

Printed cells belong to the table that they are printed in. A cell of a run belongs to a table of the paper by what it
is the figure of: its data set, statistic, budget and so on (`cells_for`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.datasets.table_file import read_table
from harness.report.layouts.cells import Cell
from harness.report.layouts.published import PUBLISHED_FOLDER, published_cells, published_tables

FIGURES = ("value", "low", "high")
"""Columns of a frame of cells that hold its figure and the ends of its 95 % interval; nan for none."""


FACTS = {"labels": "labels", "limit": "limit", "evaluated": "split"}
"""Columns of a frame of cells of runs -> the fact of a cell that each holds; "" where it says nothing of it."""


@dataclass(frozen=True)
class PrintedTable:
    """One table or figure of the paper: its dimensions, and which cells of a run belong to it."""

    dimensions: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a cell of a run must be to stand in it, by dimension; "" where it may have none. Empty: no run has any."""
    trained_on_itself: bool = False
    """Whether metrics are trained on the data set they are tested on, if it is said what they are trained on."""


_OF_ALL = {"subset": ("all", "")}
_CLEAN = {**_OF_ALL, "attack": ("none",), "defense": ("none", "")}
_LINF_8 = {**_OF_ALL, "budget": ("8/255", "all", ""), "norm": ("linf", "")}
_UNPURIFIED = {"defense": ("none", ""), "threat": ("none", "adaptive", "")}
"""Who attacks weights that were trained as a defense attacks through them, so they are attacked adaptively."""
_WHITE_BOX = ("none", "fgsm", "cw", "autoattack", "facpa", "")
_EVERY_ATTACK = (*_WHITE_BOX, "zhang", "square", "parsimonious")
_CORRELATED = {"statistic": ("plcc", "srocc")}

PRINTED_TABLES: Mapping[str, PrintedTable] = {
    "table1": PrintedTable(("dataset", "statistic")),
    "table2": PrintedTable(
        ("metric", "training", "trained_on", "dataset", "statistic"),
        {
            **{**_CLEAN, **_CORRELATED, "dataset": ("live", "csiq", "tid2013")},
            "trained_on": ("kadid10k", "pipal"),
        },
    ),
    "table3": PrintedTable(
        ("metric", "training", "statistic", "attack"),
        {
            **{**_LINF_8, **_UNPURIFIED, "dataset": ("kadid10k",)},
            **{"statistic": ("srocc", "ir_score", "training_minutes"), "attack": _WHITE_BOX},
        },
    ),
    "table4": PrintedTable(("metric", "statistic"), {**_CLEAN, **_CORRELATED, "dataset": ("kadid10k",)}),
    "table5": PrintedTable(("feature",)),
    "table6": PrintedTable(
        ("metric", "training", "dataset", "statistic"),
        {**_CLEAN, **_CORRELATED, "dataset": ("live", "csiq", "tid2013", "pieapp", "pipal")},
        trained_on_itself=True,
    ),
    "table7": PrintedTable(
        ("metric", "training", "attack"),
        {**_LINF_8, **_UNPURIFIED, "dataset": ("bapps",), "statistic": ("accuracy",), "attack": _EVERY_ATTACK},
    ),
    "table8": PrintedTable(
        ("metric", "training", "against"), {**_CLEAN, "dataset": ("pipal",), "statistic": ("delta_srocc",)}
    ),
    "table9": PrintedTable(
        ("metric", "training", "defense", "attack"),
        {
            **{**_LINF_8, "dataset": ("bapps",), "statistic": ("accuracy",)},
            **{"threat": ("none", "oblivious", ""), "attack": _EVERY_ATTACK},
        },
    ),
    "figure3": PrintedTable(("metric", "statistic"), {**_CLEAN, "dataset": ("pdap_hdds",), "training": ("base", "")}),
    "figure6": PrintedTable(
        ("metric", "training", "budget"),
        {
            **{**_LINF_8, **_UNPURIFIED, "dataset": ("kadid10k",), "statistic": ("srocc",)},
            **{"attack": ("none", "fgsm"), "budget": ("2/255", "4/255", "8/255", "10/255", "")},
        },
    ),
}
"""Name in a formula -> the table or figure."""


def printed_cells(folder: Path = PUBLISHED_FOLDER) -> pd.DataFrame:
    """Every number printed in the paper's tables.

    Args:
        folder: `suites/paper/published`.

    Returns:
        One row per number: `table`, every dimension of `PRINTED_TABLES` ("" where it does not apply), `value`, `low`
        and `high`. Metrics keep the paper's names. Rows of Table 5, which has no numbers, have the value 1.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    rows: list[dict[str, object]] = []
    for name in PRINTED_TABLES.keys() & published_tables(folder).keys():
        rows += [{"table": name, **row} for row in map(_row, published_cells(name, folder)) if row["state"] == "ok"]
    features = read_table(folder / "table5_features.csv", ("feature", "description")).rows
    rows += [{"table": "table5", "feature": row.text("feature"), "value": 1.0} for row in features]
    return as_cells(rows)


def frame_of(cells: Sequence[Cell]) -> pd.DataFrame:
    """Cells of runs as a frame: as `printed_cells`, without `table`, and with `state` and the columns of `FACTS`."""
    return as_cells(
        [{**_row(cell), **{name: cell.facts.get(fact, "") for name, fact in FACTS.items()}} for cell in cells]
    )


def _row(cell: Cell) -> dict[str, object]:
    return {**cell.at, "value": cell.value, "low": cell.low, "high": cell.high, "state": cell.state}


def as_cells(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """A frame of cells, "" in every dimension that a row has not."""
    asked = [name for table in PRINTED_TABLES.values() for name in (*table.dimensions, *table.where)]
    brought = [name for row in rows for name in row]
    texts = [name for name in dict.fromkeys([*asked, *brought, "direction", "state"]) if name not in FIGURES]
    empty = {**dict.fromkeys(texts, ""), "state": "ok", **dict.fromkeys(FIGURES, float("nan"))}
    frame = pd.DataFrame([{**empty, **row} for row in rows], columns=[*texts, *FIGURES])
    return frame.astype(dict.fromkeys(texts, object) | dict.fromkeys(FIGURES, float))


def cells_for(name: str, cells: pd.DataFrame) -> pd.Series:
    """Which cells of a frame stand in a table of the paper.

    Args:
        name: A key of `PRINTED_TABLES`.
        cells: What `printed_cells` or `frame_of` returns.

    Returns:
        True or False for each row.
    """
    if "table" in cells:
        return cells["table"] == name
    table = PRINTED_TABLES[name]
    stands = pd.Series(bool(table.where), index=cells.index)
    for dimension, allowed in table.where.items():
        stands &= cells[dimension].isin(allowed)
    if table.trained_on_itself:
        stands &= cells["trained_on"].isin([""]) | (cells["trained_on"] == cells["dataset"])
    return stands
