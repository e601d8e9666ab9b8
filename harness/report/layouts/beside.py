"""Published numbers beside those of a run: where they may stand at all, in which row, and the differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from harness.report.layouts.board import Board, Found
from harness.report.layouts.cells import Cell
from harness.report.layouts.grid import Entry, Line, Panel, plain
from harness.report.layouts.published import Name, names, published_cells, published_tables
from harness.suite.layout_file import LayoutSpec

_NO_NAME = Name("", "no metric here is known to compute the same")


def renamed(spec: LayoutSpec, cells: Sequence[Cell], datasets: Mapping[str, str] | None = None) -> list[Cell]:
    """Published cells with the names that a layout has for their metrics.

    Args:
        spec: The layout.
        cells: Published cells.
        datasets: Registered name -> label of a data set.
    """
    asked = {**spec.values_of("metric"), **spec.values_of("against")}
    to = {name: one.here for name, one in names().items() if one.here}
    to |= {published: own for own, published in (spec.published.rows if spec.published else {}).items()}
    to = {published: own for published, own in to.items() if published not in asked}
    known = datasets or {}
    found = []
    for cell in cells:
        at = {name: to.get(value, value) if name in ("metric", "against") else value for name, value in cell.at.items()}
        if "dataset" in at:
            at["dataset"] = known.get(at["dataset"], at["dataset"])
        made = {**cell.made, "published": cell.at.get("metric", "")}
        found.append(dataclasses.replace(cell, at=at, made=made))
    return found


def published_of(spec: LayoutSpec, cells: Sequence[Cell]) -> list[Cell]:
    """The published cells that a layout names, as `renamed`.

    Raises:
        LocatedError: There are no such numbers.
    """
    if spec.published is None:
        return []
    known = published_tables()
    if spec.published.table not in known:
        raise spec.error(f"no published table '{spec.published.table}'. Known: {', '.join(known)}.", "published")
    labels = {cell.made["dataset"]: cell.at["dataset"] for cell in cells if "dataset" in cell.made}
    return renamed(spec, published_cells(spec.published.table), labels)


def panels_beside(
    spec: LayoutSpec, board: Board, taken: Sequence[Sequence[Found]], published: Sequence[Cell]
) -> tuple[list[Panel], list[str]]:
    """The panel of published numbers and that of differences, or none and why; and what is to be said of them."""
    title = published_tables()[spec.published.table]["title"] if spec.published else ""
    used = [found.cell for line in taken for found in line if found.cell]
    reasons = list(dict.fromkeys(_why_not(cell, published) for cell in used if cell.state == "ok"))
    if reasons := [reason for reason in reasons if reason]:
        return [], [f"The numbers of the paper's {title} do not stand beside these: {'; '.join(reasons)}."]
    others = Board(spec, published, board.rows, board.columns)
    theirs = others.taken()
    differing = [
        Line(line.labels, tuple(map(_difference, (found.cell for found in own), line.entries)), line.block)
        for own, line in zip(taken, others.lines(theirs), strict=True)
    ]
    said = f"Published: {title} of the paper; differences are between figures as computed here and as printed there."
    return [Panel(f"Published ({title})", others.lines(theirs)), Panel("Here − published", tuple(differing))], [said]


def _why_not(cell: Cell, published: Sequence[Cell]) -> str:
    """Why published numbers may not stand beside a cell; empty where they may."""
    sets = {own.at["dataset"] for own in published if "dataset" in own.at}
    label = cell.at.get("dataset")
    if label is None:
        return ""
    if cell.facts.get("labels") == "proxy":
        return f"labels of {label} are proxies"
    if label not in sets:
        return f"{label} is not the paper's data set"
    if cell.facts.get("limit", "none") != "none":
        return f"{label} is limited to {cell.facts['limit']} samples"
    if cell.facts.get("split") == "train":
        return f"{label} is evaluated on its split train"
    return ""


def _difference(here: Cell | None, entry: Entry) -> Entry:
    """A figure of here less the published one, or a dash and why there is none."""
    there = entry.cell
    if here is None or here.state != "ok" or there is None or there.state != "ok" or not entry.number:
        return Entry()
    if reason := _no_neighbour(here, there):
        return Entry(note=f"no difference: {reason}")
    digits = len(entry.number.partition(".")[2])
    return Entry(plain(here.value - there.value, digits))


def _no_neighbour(here: Cell, there: Cell) -> str:
    """Why two figures are not of the same thing; empty where they are."""
    for name, value in _compared(here, there):
        if here.made.get(name, value) != value:
            return f"{name} {here.at.get(name, '')} is {here.made[name]} here, not {value}"
    published = there.made.get("published", "")
    known = names().get(published, _NO_NAME)
    if published and here.made.get("metric", here.at.get("metric")) != known.here:
        return f"{published}: {known.why or f'it is {known.here} here'}"
    return ""


def _compared(here: Cell, there: Cell) -> Iterator[tuple[str, str]]:
    """The plugins of a published cell, which have their default parameters there."""
    for name in ("attack", "defense"):
        value = there.at.get(name, "none")
        if value != "none" and name in here.made:
            yield name, value
