"""A table as it is printed, in whatever form: headers, blocks of lines, marks, and what is told under it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.layouts.cells import Cell
from harness.suite.layout_file import Intervals
from harness.wording import MISSING

BEST, SECOND = "best", "second"
"""Marks of an entry."""
NO_FIGURES = ("", "")


@dataclass(frozen=True)
class GridEntry:
    """What stands where a row and a column meet."""

    number: str = ""
    """A figure in plain digits, such as -1234.50; empty where there is none."""
    text: str = ""
    """What stands there in place of a figure."""
    ends: tuple[str, str] = NO_FIGURES
    """The interval, in the same digits."""
    spread: str = ""
    """What follows ±, in the same digits."""
    mark: str = ""
    note: str = ""
    """Letter of the footnote."""
    cell: Cell | None = None

    @property
    def printed(self) -> str:
        """The figure as people read it, with a real minus sign and thousands apart; or the text."""
        return for_people(self.number) if self.number else self.text or MISSING


@dataclass(frozen=True)
class GridColumn:
    """A column of figures."""

    header: tuple[str, ...]
    """From the top level to the lowest, all columns alike."""
    block: int


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    labels: tuple[str, ...]
    entries: tuple[GridEntry, ...]
    block: int
    heading: str = ""
    """What stands in a line of its own above it."""


@dataclass(frozen=True)
class GridPanel:
    """Lines under a common title, or all there are, under none."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Grid:
    """A table, ready for any form."""

    name: str
    caption: str
    protocol: str
    """Follows the caption where there is room."""
    stub: tuple[str, ...]
    """What stands over the columns of row labels."""
    columns: tuple[GridColumn, ...]
    panels: tuple[GridPanel, ...]
    footnotes: tuple[tuple[str, str], ...] = ()
    """(letter, text)."""
    reasons: tuple[tuple[str, str], ...] = ()
    """(letter, why the cells that have it are missing)."""
    notes: tuple[str, ...] = ()
    intervals: Intervals = "none"

    @property
    def long_caption(self) -> str:
        """The caption and the protocol line."""
        short = self.caption if self.caption.endswith((".", "?", "!")) else f"{self.caption}."
        return f"{short} {self.protocol}".strip()

    @property
    def told(self) -> list[tuple[str, str]]:
        """(letter or nothing, text) of everything that stands under the table."""
        return [*self.footnotes, *(("", text) for text in self.notes)]

    def headers(self) -> Iterator[list[tuple[str, int]]]:
        """Each level of headers as (text, columns that it is over)."""
        for level in range(len(self.columns[0].header)):
            spans: list[tuple[str, int]] = []
            before: tuple[object, ...] | None = None
            for column in self.columns:
                here = (column.block, *column.header[: level + 1])
                if here == before:
                    spans[-1] = (spans[-1][0], spans[-1][1] + 1)
                else:
                    spans.append((column.header[level], 1))
                before = here
            yield spans

    def names(self) -> list[str]:
        """Each column's headers in one line: 'SROCC ↑ / FGSM'."""
        return [" / ".join(part for part in column.header if part) for column in self.columns]


def plain_number(value: float, digits: int) -> str:
    """A figure in plain digits; never a negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def for_people(number: str) -> str:
    """Plain digits with a real minus sign and thousands apart: −1,234.50."""
    whole, dot, rest = number.partition(".")
    sign, whole = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(whole):,}{dot}{rest}"


def printed_cell(cell: Cell, digits: int, intervals: Intervals) -> GridEntry:
    """A cell with a value as it is printed."""
    if cell.text:
        return GridEntry(text=cell.text, cell=cell)
    ends, spread = NO_FIGURES, ""
    known = math.isfinite(cell.low) and math.isfinite(cell.high)
    if intervals in ("beside", "below") and known:
        ends = plain_number(cell.low, digits), plain_number(cell.high, digits)
    elif intervals == "deviation" and math.isfinite(cell.deviation):
        spread = plain_number(cell.deviation, digits)
    elif intervals == "halfwidth" and known:
        spread = plain_number((cell.high - cell.low) / 2, digits)
    return GridEntry(plain_number(cell.value, digits), ends=ends, spread=spread, cell=cell)


def starts(lines: Sequence[Line]) -> list[bool]:
    """Whether each line begins a block of which another is above it."""
    return [place > 0 and line.block != lines[place - 1].block for place, line in enumerate(lines)]
