"""The paper's printed tables as cells: a frame with one row per figure, and what it is the figure of.

The files of `suites/paper/published/` have the paper's words in the paper's form. Here data sets, attacks, defenses and
statistics get the names that suites write; metrics keep the paper's. A frame of cells that a run brings has the same
columns but for `table`: it belongs to a table of the paper by what it is the figure of (`cells_for`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.datasets.table_file import TableRow, read_table
from harness.errors import DataError
from harness.files import shown

FIGURES = ("value", "low", "high")
"""Columns of a frame of cells that hold its figure and the ends of its 95 % interval; nan for none."""

_Names = Mapping[str, str]

_WORDS: Mapping[str, _Names] = {
    "dataset": {"KADID-10k": "kadid10k"},
    "trained_on": {"KADID-10k": "kadid10k"},
    "attack": {
        **{"C&W": "cw", "Zhang et al.": "zhang", "SquareAttack": "square", "FGSM": "fgsm", "AutoAttack": "autoattack"},
        **{"FACPA": "facpa", "Parsimonious": "parsimonious", "none": "none"},
    },
    "training": {"base": "base", "R": "r", "AT": "at", "AAT": "aat"},
    "statistic": {"SROCC": "srocc", "PLCC": "plcc", "IR-Score": "ir_score", "train_minutes": "training_minutes"},
}
"""Dimension -> a word of the paper's -> as suites write it; data sets are else written in small letters."""
_DEFENSES: Mapping[str, Mapping[str, str]] = {
    "base": {"training": "base", "defense": "none"},
    "AAT": {"training": "aat", "defense": "none"},
    "Random Flip": {"training": "base", "defense": "flip"},
    "Random Rotate": {"training": "base", "defense": "rotate"},
    "DiffPure": {"training": "base", "defense": "diffpure"},
}
"""A row of Table 9 -> how its metric was trained and purified."""
_AAT = "AAT-"


@dataclass(frozen=True)
class PrintedTable:
    """One table or figure of the paper: its dimensions, and which cells of a run belong to it."""

    dimensions: tuple[str, ...]
    file: str = ""
    """What holds its numbers; empty for figures, of which the paper prints none."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the file -> dimension."""
    values: Mapping[str, str] = field(default_factory=lambda: {"value": ""})
    """Column of the file that holds figures -> their statistic; empty where a column of its own says it."""
    halfwidth: str = ""
    """Column with half of the 95 % interval."""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a cell of a run must be to stand in it, by dimension; "" where it may have none. Empty: no run has any."""
    trained_on_itself: bool = False
    """Whether metrics are trained on the data set they are tested on, if it is said what they are trained on."""


_WHOLE = {"subset": ("all", "")}
_CLEAN = {**_WHOLE, "attack": ("none",), "defense": ("none", "")}
_LINF_8 = {**_WHOLE, "budget": ("8/255", "all", ""), "norm": ("linf", ""), "direction": ("up", "pair", "")}
_CORRELATED = {"statistic": ("plcc", "srocc")}
_CORRELATIONS = {"PLCC": "plcc", "SROCC": "srocc"}

PRINTED_TABLES: Mapping[str, PrintedTable] = {
    "table1": PrintedTable(
        ("dataset", "statistic"),
        "table1_datasets.csv",
        {"dataset": "dataset"},
        {"reference_images": "references", "distorted_images": "images"},
    ),
    "table2": PrintedTable(
        ("metric", "training", "trained_on", "dataset", "statistic"),
        "table2_cross_dataset.csv",
        {"method": "metric", "train_dataset": "trained_on", "test_dataset": "dataset", "statistic": "statistic"},
        where={
            **{**_CLEAN, **_CORRELATED, "dataset": ("live", "csiq", "tid2013"), "trained_on": ("kadid10k", "pipal")},
        },
    ),
    "table3": PrintedTable(
        ("metric", "training", "statistic", "attack"),
        "table3_kadid10k_robustness.csv",
        {"metric": "metric", "defense": "training", "statistic": "statistic", "attack": "attack"},
        where={
            **{**_LINF_8, "dataset": ("kadid10k",), "defense": ("none", ""), "threat": ("none", "")},
            "statistic": ("srocc", "ir_score", "training_minutes"),
        },
    ),
    "table4": PrintedTable(
        ("csram", "scgb", "rah", "statistic"),
        "table4_ablation.csv",
        {"CSRAM": "csram", "SCGB": "scgb", "RAH": "rah"},
        _CORRELATIONS,
        where={**_CLEAN, **_CORRELATED, "dataset": ("kadid10k",)},
    ),
    "table5": PrintedTable(("feature",), "table5_features.csv", {"feature": "feature"}, {}),
    "table6": PrintedTable(
        ("metric", "training", "dataset", "statistic"),
        "table6_full_reference.csv",
        {"method": "metric", "dataset": "dataset", "statistic": "statistic"},
        where={**_CLEAN, **_CORRELATED, "dataset": ("live", "csiq", "tid2013", "pieapp", "pipal")},
        trained_on_itself=True,
    ),
    "table7": PrintedTable(
        ("metric", "training", "attack"),
        "table7_bapps_2afc.csv",
        {"metric": "metric", "defense": "training", "attack": "attack"},
        {"accuracy": "accuracy"},
        where={
            **{**_LINF_8, "dataset": ("bapps",), "defense": ("none", ""), "threat": ("none", "")},
            "statistic": ("accuracy",),
        },
    ),
    "table8": PrintedTable(
        ("metric", "training", "against"),
        "table8_delta_srocc_pipal.csv",
        {"row_metric": "metric", "column_metric": "against"},
        {"delta_srocc": "delta_srocc"},
        "ci95_halfwidth",
        where={**_CLEAN, "dataset": ("pipal",), "statistic": ("delta_srocc",)},
    ),
    "table9": PrintedTable(
        ("metric", "training", "defense", "attack"),
        "table9_purification_bapps.csv",
        {"metric": "metric", "defense": "defense", "attack": "attack"},
        {"accuracy": "accuracy"},
        where={**_LINF_8, "dataset": ("bapps",), "statistic": ("accuracy",)},
    ),
    "figure3": PrintedTable(
        ("metric", "statistic"), where={**_CLEAN, "dataset": ("pdap_hdds",), "training": ("base",)}
    ),
    "figure6": PrintedTable(
        ("metric", "training", "budget"),
        where={
            **{**_LINF_8, "dataset": ("kadid10k",), "defense": ("none", ""), "statistic": ("srocc",)},
            **{"attack": ("none", "fgsm"), "budget": ("2/255", "4/255", "8/255", "10/255", "")},
        },
    ),
}
"""Name in a formula -> the table or figure."""


def printed_cells(folder: Path) -> pd.DataFrame:
    """Every number printed in the paper's tables.

    Args:
        folder: `suites/paper/published`.

    Returns:
        One row per number: `table`, every dimension that a table has ("" where it does not apply), `value`, `low` and
        `high`. Rows of Table 5, which has no numbers, have the value 1.

    Raises:
        DataError: A file is missing or lacks a column, or holds what is no number; names the file, and line.
    """
    rows = [row for name, table in PRINTED_TABLES.items() if table.file for row in _rows(name, table, folder)]
    return as_cells(rows)


def as_cells(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """A frame of cells, "" in every dimension that a row has not.

    Args:
        rows: One per cell.
        columns: Dimensions that there are in any case.
    """
    dimensions = [name for name in dict.fromkeys([*columns, *(k for row in rows for k in row)]) if name not in FIGURES]
    empty = {**dict.fromkeys(dimensions, ""), **dict.fromkeys(FIGURES, float("nan"))}
    frame = pd.DataFrame([{**empty, **row} for row in rows], columns=[*dimensions, *FIGURES])
    return frame.astype(dict.fromkeys(dimensions, object) | dict.fromkeys(FIGURES, float))


def cells_for(name: str, cells: pd.DataFrame) -> pd.Series:
    """Which cells of a frame stand in a table of the paper.

    Args:
        name: A key of `PRINTED_TABLES`.
        cells: What `printed_cells` returns, or the cells of runs.

    Returns:
        True or False for each row.
    """
    table = PRINTED_TABLES[name]
    if "table" in cells:
        return cells["table"] == name
    stands = pd.Series(bool(table.where) and set(table.dimensions) <= set(cells), index=cells.index)
    for dimension, allowed in table.where.items():
        stands &= cells[dimension].isin(allowed) if dimension in cells else "" in allowed
    if table.trained_on_itself and "trained_on" in cells:
        stands &= (cells["trained_on"] == cells["dataset"]) | (cells["trained_on"] == "")
    return stands


def _rows(name: str, table: PrintedTable, folder: Path) -> Iterator[dict[str, str | float]]:
    wanted = [column.lower() for column in (*table.columns, *table.values, table.halfwidth) if column]
    path = folder / table.file
    found = read_table(path, wanted)
    if lacking := sorted(set(wanted) - set(found.columns)):
        raise DataError(f"{shown(path)} lacks the column {', '.join(lacking)}. Restore the file.")
    for row in found.rows:
        at = _named(table, row)
        for column, statistic in table.values.items():
            value = row.number(column.lower())
            if value is not None:
                spread = row.number(table.halfwidth) if table.halfwidth else None
                width = float("nan") if spread is None else spread
                said = {"statistic": statistic} if statistic else {}
                yield {"table": name, **at, **said, "value": value, "low": value - width, "high": value + width}
        if not table.values:
            yield {"table": name, **at, "value": 1.0}


def _named(table: PrintedTable, row: TableRow) -> dict[str, str]:
    """What a row of a file is about, in the words of suites."""
    at = {dimension: row.text(column.lower()) for column, dimension in table.columns.items()}
    if at.get("defense"):
        if at["defense"] not in _DEFENSES:
            raise DataError(f"{row.where}: unknown defense '{at['defense']}'. Write one of {', '.join(_DEFENSES)}.")
        at |= _DEFENSES[at["defense"]]
    elif "metric" in at and "training" not in at:
        at["training"] = "aat" if at["metric"].startswith(_AAT) else "base"
        at["metric"] = at["metric"].removeprefix(_AAT)
    for dimension, text in at.items():
        named = text.lower() if dimension in ("dataset", "trained_on") else text
        at[dimension] = _WORDS.get(dimension, {}).get(text, named)
    return at
