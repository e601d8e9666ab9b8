"""Records to tables: those that a run asked for, and its failures."""

from __future__ import annotations

import importlib

import pandas as pd

from harness.report.arrays import lay_out
from harness.report.data import RunData
from harness.report.layout import Layout
from harness.report.over_splits import over_splits
from harness.report.table import Maker, Table
from harness.suite.tables import TableSource, table_sources
from harness.wording import few


def build_tables(data: RunData) -> list[Table]:
    """The tables a run asked for (those made by default when it asked for none), and its failures as a last table.

    Raises:
        ValueError: A table is asked for that does not exist.
    """
    known = {source.name: source for source in table_sources()}
    unknown = sorted(set(data.tables) - set(known))
    if unknown:
        raise ValueError(f"unknown table {', '.join(unknown)}; tables are {', '.join(known)}")
    evaluated = lay_out(data)
    tables = []
    for name in data.tables or [source.name for source in known.values() if source.default]:
        maker = _maker(known[name])
        made = (maker(data, one) for one in evaluated)
        tables += over_splits([table for table in made if table is not None and len(table.frame)], data.splits)
    return tables + ([_failures(data)] if data.failures else [])


def _maker(source: TableSource) -> Maker:
    """The function under `@table`, its module imported now."""
    for value in vars(importlib.import_module(source.module)).values():
        if getattr(value, "table_name", None) == source.name:
            maker: Maker = value
            return maker
    raise LookupError(f"{source.module}: nothing is under @table('{source.name}')")


def _failures(data: RunData) -> Table:
    """What went wrong, a row for each cause however many cells it took down; the frame has every cell."""
    frame = pd.DataFrame([(f.cell, f.sample, f.message) for f in data.failures], columns=["cell", "sample", "message"])
    rows = tuple(
        (str(message), few(part["sample"]), few(part["cell"])) for message, part in frame.groupby("message", sort=False)
    )
    layout = Layout(("message", "samples", "cells"), rows, 3)
    return Table(
        "failures",
        "",
        f"Failures: {len(frame)}",
        "Cells that could not be finished; the tables print “failed” for them instead of figures from partial data.",
        frame,
        layout,
        layout,
        "",
    )
