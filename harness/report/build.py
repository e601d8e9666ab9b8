"""Records to tables: those that a run asked for, and its failures."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from harness.report.arrays import lay_out
from harness.report.attack_parameters import with_attack_parameters
from harness.report.data import RunData
from harness.report.layout import Layout
from harness.report.over_splits import over_splits
from harness.report.table import Maker, Table
from harness.suite.tables import TableSource, table_sources
from harness.wording import few, joined

NOT_MADE = "not_made"
"""The table of tables that were asked for in vain."""


def build_tables(data: RunData) -> list[Table]:
    """The tables a run asked for (those made by default when it asked for none), then what could not be made.

    That is the tables that were asked for by name and none of the data sets has, and the failures.

    Raises:
        ValueError: A table is asked for that does not exist.
    """
    known = {source.name: source for source in table_sources()}
    unknown = sorted(set(data.tables) - set(known))
    if unknown:
        raise ValueError(f"unknown table {', '.join(unknown)}; tables are {', '.join(known)}")
    evaluated = lay_out(data)
    tables = []
    usual = [source.name for source in known.values() if source.default]
    for name in data.tables or usual:
        maker = _maker(known[name])
        made = (maker(data, one) for one in evaluated)
        tables += over_splits([table for table in made if table is not None and len(table.frame)], data.splits)
    if list(data.tables) != usual and (tables or not data.failures):
        absent = [known[name] for name in data.tables if name not in {table.name for table in tables}]
        tables += [_not_made(absent)] if absent else []
    return [_with_parameters(table, data) for table in tables] + ([_failures(data)] if data.failures else [])


def _with_parameters(table: Table, data: RunData) -> Table:
    """A table with the parameters of its attacks in what is written as CSV."""
    by_split = None if table.by_split is None else with_attack_parameters(table.by_split, data.attacks)
    return replace(table, frame=with_attack_parameters(table.frame, data.attacks), by_split=by_split)


def _maker(source: TableSource) -> Maker:
    """The function under `@table`, its module imported now."""
    for value in vars(importlib.import_module(source.module)).values():
        if getattr(value, "table_name", None) == source.name:
            maker: Maker = value
            return maker
    raise LookupError(f"{source.module}: nothing is under @table('{source.name}')")


def _not_made(absent: Sequence[TableSource]) -> Table:
    """The tables that were asked for by name and that nothing here fills."""
    frame = pd.DataFrame([(source.name, source.explains) for source in absent], columns=["table", "shows"])
    layout = Layout(("table", "what it would show"), tuple(map(tuple, frame.to_numpy())), 2)
    return Table(
        NOT_MADE,
        "",
        f"Not made: {joined([source.name for source in absent])}",
        "Asked for, and nothing in the records fills it: no data set, attack, budget or direction here is of its kind, "
        "or too few images have opinions.",
        frame,
        layout,
        layout,
        "",
    )


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
