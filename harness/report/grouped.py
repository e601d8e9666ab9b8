"""Rows of records by what they are of: texts as numbers, rows by key and by cell, and means over draws by item.

A column of texts is kept as numbers with a list of its texts (pandas calls it categorical), since the records of a run
repeat a few of them many times over.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.statistics.bootstrap import Floats, Ints


class CellKey(NamedTuple):
    """What the rows of one cell have in common."""

    metric: str
    defense: str
    threat: str
    source: str
    attack: str
    norm: str
    endpoint: str
    eps: float

    @property
    def who(self) -> tuple[str, str, str, str]:
        """The scorer."""
        return self.metric, self.defense, self.threat, self.source


def codes_of(column: pd.Series[Any]) -> tuple[Ints, list[Any]]:
    """Number of each row's value in the order in which values first appear, and the values; null is one of them."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = [*column.cat.categories.tolist(), np.nan]  # what has no text has the number -1
        codes, known = _numbered(column.cat.codes.to_numpy().astype(np.int64) % len(values), len(values))
        return codes, [values[place] for place in known.tolist()]
    codes, found = pd.factorize(column, use_na_sentinel=False)
    return codes.astype(np.int64), found.tolist()


def _numbered(numbers: Ints, below: int) -> tuple[Ints, Ints]:
    """Numbers from 0 on, counted in the order in which they first appear, and what each of these counts stands for."""
    if below > len(numbers):
        codes, known = pd.factorize(numbers)
        return codes.astype(np.int64), known
    first = np.full(below, len(numbers), np.int64)
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)  # what is written last stays
    known = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(numbers))]
    place = np.empty(below, np.int64)
    place[known] = np.arange(len(known))
    return place[numbers], known


def groups_of(frame: pd.DataFrame, keys: Sequence[str]) -> list[tuple[tuple[Any, ...], Ints]]:
    """Groups of equal keys in order of appearance, each with the positions of its rows in ascending order."""
    if not len(frame):
        return []
    whole = np.zeros(len(frame), np.int64)
    columns = [codes_of(frame[name]) for name in keys]
    for codes, values in columns:
        whole = _numbered(whole * len(values) + codes, (int(whole.max()) + 1) * len(values))[0]
    order = np.argsort(whole, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(whole))[:-1])
    return [(tuple(values[codes[rows[0]]] for codes, values in columns), rows) for rows in parts]


def as_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with its texts as texts."""
    kept = {name: column for name, column in frame.items() if isinstance(column.dtype, pd.CategoricalDtype)}
    return frame.astype({name: column.cat.categories.dtype for name, column in kept.items()}) if kept else frame


def mean_by_item(values: Floats, places: Ints, count: int) -> Floats:
    """Mean over draws of what is known, shape [count]; nan where nothing is.

    Args:
        values: Of some rows; nan is left out.
        places: Number of each row's item, below count; negative for rows that do not count.
        count: Number of items.
    """
    found = np.full(count, np.nan)
    here = places >= 0
    values, places = values[here], places[here]
    if len(places) and np.bincount(places).max() > 1:
        means = pd.Series(values).groupby(places).mean()
        found[means.index.to_numpy()] = means.to_numpy(dtype=np.float64)
    else:
        found[places] = values
    return found


class CellRows:
    """Records with the rows of each cell."""

    def __init__(self, records: pd.DataFrame) -> None:
        self._records = records
        self._columns: dict[str, Floats] = {}

    @functools.cached_property
    def cells(self) -> Mapping[CellKey, Ints]:
        """Cell -> positions of its rows, in order of appearance."""
        found = groups_of(self._records, list(CellKey._fields))
        return {CellKey._make((*map(str, key[:-1]), float(key[-1]))): rows for key, rows in found}

    def column(self, name: str) -> Floats | None:
        """A column of numbers; None where there is none of that name."""
        if name not in self._columns and name in self._records:
            self._columns[name] = self._records[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return self._columns.get(name)

    def numbers(self, name: str) -> Floats:
        """A column of numbers that all records have."""
        found = self.column(name)
        if found is None:
            raise KeyError(name)
        return found

    @functools.cached_property
    def _items(self) -> tuple[Ints, list[Any]]:
        return codes_of(self._records["item"])

    def places(self, items: Sequence[str]) -> Ints:
        """Of each row the place of its item among these, -1 for an item that is none of them."""
        codes, names = self._items
        known = {name: place for place, name in enumerate(items)}
        return np.array([known.get(str(name), -1) for name in names], dtype=np.int64)[codes]
