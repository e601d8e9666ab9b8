"""Published numbers beside those of a run: where they may stand at all, in which row, and the differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import UserError
from harness.report.layouts.board import Board, Found
from harness.report.layouts.cells import Cell
from harness.report.layouts.grid import GridEntry, GridPanel, Line, plain_number
from harness.report.layouts.published import Name, metric_names, published_cells, unlike_the_papers
from harness.report.layouts.speed import SPEEDS
from harness.suite.layout_file import EVERY, LayoutSpec
from harness.suite.strict_yaml import YamlPath
from harness.wording import did_you_mean

_SPLITTING = ("split_seed", "folds", "fold")
"""Parameters of data sets that choose no images, but how these are split."""
_ROWS = ("published", "rows")
_NO_NAME = Name("", "no metric here is known to compute the same")


def renamed(spec: LayoutSpec, cells: Sequence[Cell], datasets: Mapping[str, str] | None = None) -> list[Cell]:
    """Published cells with the names that a layout has for their metrics.

    Args:
        spec: The layout.
        cells: Published cells.
        datasets: Registered name -> label of every data set of a run; None to leave the names.
    """
    asked = {**spec.values_of("metric"), **spec.values_of("against")}
    to = {name: one.here for name, one in metric_names().items() if one.here}
    to |= {published: own for own, published in (spec.published.rows if spec.published else {}).items()}
    to = {published: own for published, own in to.items() if published not in asked}
    found = []
    for cell in cells:
        at = {name: to.get(value, value) if name in ("metric", "against") else value for name, value in cell.at.items()}
        if datasets is not None and "dataset" in at:
            at["dataset"] = datasets.get(at["dataset"], f"{at['dataset']} (published)")
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
    try:
        found = published_cells(spec.published.table)
    except UserError as error:
        raise spec.error(str(error), "published") from None
    _check_rows(spec, list(dict.fromkeys(cell.at["metric"] for cell in found if "metric" in cell.at)))
    labels = {_set_of(cell.made["dataset"]): cell.at["dataset"] for cell in cells if "dataset" in cell.made}
    return renamed(spec, found, labels)


def _check_rows(spec: LayoutSpec, published: Sequence[str]) -> None:
    """Refuse names of `published: {rows: ...}` that neither the layout nor the published table has.

    Raises:
        LocatedError: Every such name, with the closest that there is.
    """
    own, wrong = list(spec.values_of("metric")), list[tuple[str, YamlPath]]()
    for metric, name in (spec.published.rows if spec.published else {}).items():
        if EVERY not in own and metric not in own:
            wrong.append((f"no metric '{metric}' in this layout.{did_you_mean(metric, own)}", (*_ROWS, metric)))
        if name not in published:
            hint = did_you_mean(name, published)
            wrong.append((f"the published table has no metric '{name}'.{hint}", (*_ROWS, metric)))
    if wrong:
        raise spec.errors(wrong)


def _set_of(made: str) -> str:
    """A data set without the parameters that say how it is split; others, such as subsets, make another set of it."""
    name, _, given = made.removesuffix(")").partition("(")
    return name if all(one.partition("=")[0] in _SPLITTING for one in given.split(", ") if one) else made


def panels_beside(
    spec: LayoutSpec, board: Board, taken: Sequence[Sequence[Found]], published: Sequence[Cell]
) -> tuple[list[GridPanel], list[str]]:
    """The panel of published numbers and that of differences, or none and why; and what is to be said of them."""
    title = published[0].made["table"]
    used = [found.cell for line in taken for found in line if found.cell]
    reasons = list(dict.fromkeys(_why_not(cell, published) for cell in used if _of_opinions(cell)))
    if reasons := [reason for reason in reasons if reason]:
        return [], [f"The numbers of the paper's {title} do not stand beside these: {'; '.join(reasons)}."]
    others, known = Board(spec, published, board.rows, board.columns), metric_names()
    theirs = others.lines(others.taken())
    differing = [
        Line(
            line.labels,
            tuple(_difference(found.cell, entry, known) for found, entry in zip(own, line.entries, strict=True)),
            line.block,
        )
        for own, line in zip(taken, theirs, strict=True)
    ]
    said = f"Published: {title} of the paper; differences are between figures as computed here and as printed there."
    return [GridPanel(f"Published ({title})", theirs), GridPanel("Here − published", tuple(differing))], [said]


def _of_opinions(cell: Cell) -> bool:
    """Whether a cell has a figure that depends on labels and images, as speed does not."""
    return cell.state == "ok" and cell.at.get("statistic") not in SPEEDS


def _why_not(cell: Cell, published: Sequence[Cell]) -> str:
    """Why published numbers may not stand beside a cell; empty where they may."""
    papers = {own.at["dataset"]: own.facts.get("split", "") for own in published if "dataset" in own.at}
    label = cell.at.get("dataset")
    if label is None:
        return ""
    if label not in papers:
        return f"{label} is not the paper's data set"
    labels, limit, split = (cell.facts.get(name, "") for name in ("labels", "limit", "split"))
    reason = unlike_the_papers(labels, limit, split, papers[label])
    return f"figures of {label} are {reason}" if reason else ""


def _difference(here: Cell | None, entry: GridEntry, known: Mapping[str, Name]) -> GridEntry:
    """A figure of here less the published one, or a dash and why there is none."""
    there = entry.cell
    if here is None or here.state != "ok" or there is None or there.state != "ok" or not entry.number:
        return GridEntry()
    if reason := _no_neighbour(here, there, known):
        return GridEntry(note=f"no difference: {reason}")
    digits = len(entry.number.partition(".")[2])
    return GridEntry(plain_number(here.value - there.value, digits))


def _no_neighbour(here: Cell, there: Cell, known: Mapping[str, Name]) -> str:
    """Why two figures are not of the same thing; empty where they are."""
    if "not_here" in there.made:
        return there.made["not_here"]
    for name, value in _compared(here, there):
        if here.made.get(name, value) != value:
            return f"{name} {here.at.get(name, '')} is {here.made[name]} here, not {value}"
    published = there.made["published"]
    known_as = known.get(published, _NO_NAME)
    if published and here.made.get("metric", here.at.get("metric")) != known_as.here:
        return f"{published}: {f'it is {known_as.here} here' if known_as.here else known_as.why}"
    return ""


def _compared(here: Cell, there: Cell) -> Iterator[tuple[str, str]]:
    """The plugins of a published cell, which have their default parameters there."""
    for name in ("attack", "defense"):
        value = there.at.get(name, "none")
        if value != "none" and name in here.made:
            yield name, value
