"""What `robustiqa fps` measured as cells, to stand in a table beside the figures of runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.table_file import TableRow, read_table
from harness.report.layouts.cells import Cell
from harness.suite.layout_names import NO_ATTACK, NO_PURIFIER
from harness.suite.strict_yaml import LocatedError

SPEEDS = ("fps", "peak_memory", "parameters")
"""Statistics that it has: frames per second, MiB, and a count."""
_NOISE = "noise"
"""What a file says of images that are of no data set."""
_PROTOCOL = ("width", "height", "forwards", "device", "precision", "threads", "images")


def speed_cells(path: Path) -> list[Cell]:
    """The cells of a CSV that `robustiqa fps` wrote.

    They are of no training, since time does not depend on weights: each stands in the row of every training.

    Args:
        path: The file. Rows have `metric`, `fps`, `peak_memory`, `parameters` and how they were measured.

    Raises:
        DataError: It is no table, or a figure is no number.
        LocatedError: It lacks a column.
    """
    needed = ("metric", *SPEEDS, *_PROTOCOL)
    table = read_table(path, needed)
    if lacking := [name for name in needed if name not in table.columns]:
        raise LocatedError([f"{path}: the column {lacking[0]} is missing. Give the CSV that 'robustiqa fps' wrote."])
    return [cell for row in table.rows for cell in _cells(row, str(path))]


def _cells(row: TableRow, path: str) -> Iterator[Cell]:
    wide, tall, forwards, device, precision, threads, images = (row.text(name) for name in _PROTOCOL)
    how = f"{forwards} forwards of {wide} x {tall} on {device} in {precision}, {threads} threads, images of {images}"
    at = {"metric": row.text("metric"), "attack": NO_ATTACK, "defense": NO_PURIFIER}
    at |= {"dataset": images} if images != _NOISE else {}
    for statistic in SPEEDS:
        value, low, high = (_figure(row, name) for name in (statistic, f"{statistic}_low", f"{statistic}_high"))
        cell = Cell({**at, "statistic": statistic}, value, low, high, run=path, facts={"speed": how})
        state = ("missing", "not measured") if math.isnan(value) else ("ok", "")
        yield dataclasses.replace(cell, state=state[0], why=state[1], protocol=f"Protocol: speed of {how}.")


def _figure(row: TableRow, column: str) -> float:
    found = row.number(column)
    return math.nan if found is None else found
