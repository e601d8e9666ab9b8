"""A layout over the cells of runs: which cell stands where, why none does, and whether the runs agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.report.layouts.cells import NOT_RUN, Cell
from harness.report.layouts.grid import GridEntry, Line, printed_cell
from harness.report.layouts.marks import mark
from harness.report.layouts.places import GridPlace, may_stand, row_labels, text_of
from harness.suite.layout_file import EVERY, LayoutSpec
from harness.suite.layout_names import DIMENSIONS, comparable
from harness.wording import joined

NOT_ASKED = "not asked for by the suite"
ONLY_PUBLISHED = "published only, not computed here"
MIRRORED = "the mirror image of a cell below the diagonal"
_ABSENT = {
    "dataset": "no such data set in this run",
    "metric": "metric not in this run",
    "statistic": "not measured in this run",
}
_OF_SET = ("labels", "images", "split")
"""Facts that may differ between data sets."""


@dataclass(frozen=True)
class Found:
    """What stands in a place: a cell, or nothing and why."""

    cell: Cell | None
    why: str = ""


class Board:
    """Rows and columns over the cells that may stand in them.

    Args:
        spec: The layout.
        cells: What there is.
        rows: Its rows.
        columns: Its columns.
        only_published: Metrics that published numbers are of.
    """

    def __init__(
        self,
        spec: LayoutSpec,
        cells: Sequence[Cell],
        rows: Sequence[GridPlace],
        columns: Sequence[GridPlace],
        only_published: Collection[str] = (),
    ) -> None:
        self.spec, self.cells, self.rows, self.columns = spec, cells, rows, columns
        self._only_published = only_published
        self._by_statistic: dict[str, list[Cell]] = {}
        for cell in cells:
            self._by_statistic.setdefault(cell.at.get("statistic", ""), []).append(cell)

    def taken(self) -> list[list[Found]]:
        """What stands in each place.

        Raises:
            UserError: Several cells fit one place.
        """
        return [
            [
                Found(None, MIRRORED) if self._mirrored(i, j) else self._found(row, column)
                for j, column in enumerate(self.columns)
            ]
            for i, row in enumerate(self.rows)
        ]

    def lines(self, taken: Sequence[Sequence[Found]]) -> tuple[Line, ...]:
        """The lines of a panel, with the best marked and the reason of each missing cell as its note."""
        entries = [[self._entry(found) for found in line] for line in taken]
        marked = mark(self.spec.best, entries, self.rows, self.columns, self.statistic)
        return tuple(
            Line(row_labels(self.spec, row), tuple(line), row.block, row.title if row.varies and row.first else "")
            for row, line in zip(self.rows, marked, strict=True)
        )

    def statistic(self, row: GridPlace, column: GridPlace) -> str:
        """The statistic of a place."""
        return self._wanted(row, column).get("statistic", "")

    def refuse_nothing(self) -> None:
        """Refuse a layout of which no place has a cell, and say what of it is not there.

        Raises:
            UserError: So it is.
        """
        if self._fitting_somewhere():
            return
        absent = []
        for name in DIMENSIONS:
            there = list(dict.fromkeys(cell.at[name] for cell in self.cells if name in cell.at))
            asked = [value for value in self.spec.values_of(name) if value != EVERY]
            have = {comparable(name, value) for value in there}
            if asked and there and not have & {comparable(name, value) for value in asked}:
                absent.append(f"{name} {', '.join(asked)} (there: {', '.join(there[:8])})")
        if not self.cells:
            absent = [f"statistic {' or '.join(self.spec.statistics or ())}"]
        what = joined(absent) if absent else "these together"
        raise self.spec.error(f"all cells are missing: there is no {what} in the run. Change the layout or the run.")

    def differing_runs(self) -> str:
        """In what the runs that have a part in the table differ, in words; empty where they agree.

        Compared are protocol, weights, and the parameters behind labels; of each, only runs that say something of it.
        """
        used = self._fitting_somewhere()
        if len({cell.run for cell in used}) < 2:
            return ""
        parts: dict[str, dict[str, dict[str, None]]] = {}
        for cell in used:
            for name, value in _told_of(cell).items():
                parts.setdefault(name, {}).setdefault(cell.run, {})[value] = None
        told = [
            f"{name}: {' and '.join(f'{value} ({joined(runs)})' for value, runs in _by_value(of_run).items())}"
            for name, of_run in parts.items()
            if len({frozenset(values) for values in of_run.values()}) > 1
        ]
        told += _clashes(used)
        return f"the runs disagree in protocol ({'; '.join(told)})" if told else ""

    def _wanted(self, row: GridPlace, column: GridPlace) -> dict[str, str]:
        own = {name: value for name, value in column.at.items() if self.spec.where.get(name) != value}
        return {**self.spec.where, **row.at, **own}

    def _fitting(self, wanted: Mapping[str, str]) -> list[Cell]:
        statistic = wanted.get("statistic")
        among = self.cells if statistic is None else self._by_statistic.get(statistic, [])
        return [cell for cell in among if may_stand(cell, wanted)]

    def _fitting_somewhere(self) -> list[Cell]:
        """Every cell that fits a place, of whatever run, once."""
        places = [
            self._wanted(row, column)
            for i, row in enumerate(self.rows)
            for j, column in enumerate(self.columns)
            if not self._mirrored(i, j)
        ]
        return list({id(cell): cell for wanted in places for cell in self._fitting(wanted)}.values())

    def _mirrored(self, row: int, column: int) -> bool:
        return self.spec.triangle == "lower" and column >= row

    def _found(self, row: GridPlace, column: GridPlace) -> Found:
        wanted = self._wanted(row, column)
        fitting = self._fitting(wanted)
        if not fitting:
            return Found(None, self._why_none(wanted))
        if len({tuple(sorted(cell.at.items())) for cell in fitting}) > 1:
            raise self.spec.error(self._ambiguous(row, column, wanted, fitting))
        return Found(next((cell for cell in fitting if cell.state == "ok"), fitting[0]))

    def _ambiguous(self, row: GridPlace, column: GridPlace, wanted: Mapping[str, str], fitting: Sequence[Cell]) -> str:
        values = {name: list(dict.fromkeys(cell.at.get(name, "-") for cell in fitting)) for name in DIMENSIONS}
        several = {name: own for name, own in values.items() if len(own) > 1}
        several = {name: own for name, own in several.items() if name not in wanted} or several
        told = joined([f"{name} ({', '.join(own[:6])})" for name, own in several.items()])
        name = next(iter(several))
        where = f"{text_of(self.spec, row)} × {text_of(self.spec, column)}"
        cure = f"Fix it, as with 'where: {{{name}: {several[name][0]}}}'"
        return f"{len(fitting)} figures fit {where}: they differ in {told}. {cure}."

    def _why_none(self, wanted: Mapping[str, str]) -> str:
        """Why nothing fits: the first of some dimensions of which the run has not the value."""
        for name, why in _ABSENT.items():
            have = {comparable(name, cell.at[name]) for cell in self.cells if name in cell.at}
            if name in wanted and have and comparable(name, wanted[name]) not in have:
                return ONLY_PUBLISHED if name == "metric" and wanted[name] in self._only_published else why
        return NOT_ASKED

    def _entry(self, found: Found) -> GridEntry:
        cell = found.cell
        if cell is None:
            return GridEntry(note=found.why)
        if cell.state != "ok":
            return GridEntry(note=cell.why or NOT_RUN, cell=cell)
        return printed_cell(cell, self.spec.digits_of(cell.at.get("statistic", "")), self.spec.intervals)


def _told_of(cell: Cell) -> dict[str, str]:
    """What must be the same of a cell in every run: its facts, and what stands behind its labels."""
    dataset = cell.at.get("dataset", "the data set")
    facts = {f"{name} of {dataset}" if name in _OF_SET else name: value for name, value in cell.facts.items()}
    return facts | {f"{name} {cell.at[name]}": value for name, value in cell.made.items() if name in cell.at}


def _by_value(of_run: Mapping[str, Mapping[str, None]]) -> dict[str, list[str]]:
    """Run -> values, turned round: value -> runs that have it."""
    values = dict.fromkeys(value for own in of_run.values() for value in own)
    return {value: [run for run, own in of_run.items() if value in own] for value in values}


def _clashes(cells: Sequence[Cell]) -> list[str]:
    """Runs that have other values for cells of one identity."""
    known: dict[tuple[tuple[str, str], ...], Cell] = {}
    pairs: dict[tuple[str, str], None] = {}
    for cell in cells:
        first = known.setdefault(tuple(sorted(cell.at.items())), cell)
        if first.run != cell.run and first.state == cell.state == "ok" and first.value != cell.value:
            pairs[first.run, cell.run] = None
    return [f"{one} and {other} have other figures for the same cells" for one, other in pairs]
