"""Cells into a grid, as a layout says."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import get_args

from harness.errors import UserError
from harness.plugins.weights.locate import trained
from harness.report.layouts.bare_names import Labels, labels_of, relabelled, respelt, stand_for
from harness.report.layouts.beside import panels_beside, published_of, renamed
from harness.report.layouts.board import MIRRORED, Board
from harness.report.layouts.cells import STATISTICS, Cell
from harness.report.layouts.grid import NO_FIGURES, Grid, GridColumn, GridEntry, GridPanel, Line
from harness.report.layouts.places import headers, places_of, text_of
from harness.report.layouts.published import NOT_THERE, PUBLISHED, published_cells, published_tables
from harness.report.layouts.speed import SPEEDS
from harness.report.rows import CONTROL
from harness.rng import Norm
from harness.statistics.directions import TRIPLETS
from harness.suite.keys import DIRECTIONS
from harness.suite.layout_file import EVERY, LayoutSpec
from harness.suite.layout_names import ALL_BUDGETS, DIMENSIONS, NO_TRAINING, comparable
from harness.suite.model import Suite, Use
from harness.suite.strict_yaml import LocatedError, YamlPath
from harness.wording import base_name, budget_text, did_you_mean, joined

_NEARLY = 0.75
"""How alike (`difflib`) two statistics are of which one is the other misspelt."""
_OF_TRIPLETS = (*TRIPLETS.values(), "worse_up", "better_down")
"""Directions of attacks on pairs of images."""
_OF_OTHER_TABLES = ("training_minutes", *SPEEDS)
"""Statistics that a run need not have."""
HERE = "Here"
"""Title of the panel of a run's own figures, where there are others."""
_INTERVALS = {
    "beside": "In brackets: 95 % intervals.",
    "below": "In brackets: 95 % intervals.",
    "deviation": "After ±: the standard deviation.",
    "halfwidth": "After ±: half of the 95 % interval.",
}


def arrange(spec: LayoutSpec, cells: Sequence[Cell], *, despite_protocol: bool = False) -> Grid:
    """Lay cells out.

    Args:
        spec: The layout.
        cells: Cells of one run or of several, or published ones alone.
        despite_protocol: Whether runs of different protocol may stand in one table, which then says so.

    Raises:
        UserError: No cell of the layout is there, several cells fit one place, a registered name could be several
            labels, or runs disagree in protocol.
    """
    alone = bool(cells) and all(cell.run == PUBLISHED for cell in cells)
    cells = renamed(spec, cells) if alone else cells
    standing = {} if alone else stand_for(spec, labels_of(cells))
    spec = respelt(spec, standing)
    published = [] if alone else relabelled(published_of(spec, cells), standing)
    rows, columns = (list(places_of(spec, blocks, cells)) for blocks in (spec.rows, spec.columns))
    board = Board(spec, cells, rows, columns, {cell.at.get("metric", "") for cell in published})
    board.refuse_nothing()
    differing = board.differing_runs()
    if differing and not despite_protocol:
        raise spec.error(f"{differing}. Lay them out apart, or have them in one table with --despite-protocol.")
    taken = board.taken()
    lines = board.lines(taken)
    panels, notes = (
        [GridPanel("", lines)],
        [*spec.notes, *(() if alone else spec.run_notes), *_said(spec, board, lines)],
    )
    if published:
        more, said = panels_beside(spec, board, taken, published)
        panels = [GridPanel(HERE, panels[0].lines), *more] if more else panels
        notes += said
    if any(entry.note == NOT_THERE for panel in panels for line in panel.lines for entry in line.entries):
        notes.append(f"A dash without a letter: {NOT_THERE}{', or none to compare with' if len(panels) > 1 else ''}.")
    letters: dict[str, str] = {}
    panels = [_lettered(panel, letters) for panel in panels]
    width = max(len(line.labels) for panel in panels for line in panel.lines)
    panels = [_widened(panel, width) for panel in panels]
    heads = zip(headers(spec, columns), columns, strict=True)
    return Grid(
        name=spec.name,
        caption=spec.caption,
        protocol=_protocol([found.cell for line in taken for found in line if found.cell]),
        stub=(*spec.stub, *[""] * width)[:width],
        columns=tuple(GridColumn(header, place.block) for header, place in heads),
        panels=tuple(panels),
        footnotes=tuple((letter, f"{why}: {_where(panels, letter, board)}.") for why, letter in letters.items()),
        reasons=tuple((letter, why) for why, letter in letters.items()),
        notes=(*notes, *([f"Take care: {differing}."] if differing else [])),
        intervals=spec.intervals,
    )


def _widened(panel: GridPanel, width: int) -> GridPanel:
    """The panel with as many label columns in each line; a label of fewer texts leaves the others empty."""
    lines = (
        dataclasses.replace(line, labels=(*line.labels, *[""] * (width - len(line.labels)))) for line in panel.lines
    )
    return dataclasses.replace(panel, lines=tuple(lines))


def check_names(spec: LayoutSpec, cells: Sequence[Cell], known: Mapping[str, Collection[str]]) -> None:
    """Refuse names of a layout that neither the cells have nor anybody knows: they are misspelt.

    Args:
        spec: The layout.
        cells: What there is to lay out; empty before anything was run.
        known: Dimension -> names that may be missing without being misspelt; other dimensions are not looked at.

    Raises:
        LocatedError: Every such name, with the closest that there is.
    """
    wrong: list[tuple[str, YamlPath]] = []
    misspelt: set[str] = set()
    published = published_of(spec, cells)
    any_radius = "l2" in {*spec.values_of("norm"), *(cell.at.get("norm") for cell in cells)}
    for dimension, names in known.items():
        there = list(dict.fromkeys(cell.at[dimension] for cell in (*cells, *published) if dimension in cell.at))
        for value, keys in spec.values_of(dimension).items():
            if value != EVERY and not _known(dimension, value, [*there, *names], any_radius):
                hint = did_you_mean(value, list(dict.fromkeys([*there, *names])))
                where = "in the run, and none of that name anywhere" if cells else "of that name anywhere"
                wrong.append((f"no {dimension} '{value}' {where}.{hint}", keys))
                misspelt.add(dimension)
    everywhere = {
        name: {
            comparable(name, one)
            for one in (*known.get(name, ()), *(cell.at[name] for cell in (*cells, *published) if name in cell.at))
        }
        for name in DIMENSIONS
    }
    wrong += _nowhere(spec, everywhere, misspelt)
    if wrong:
        raise spec.errors(wrong)


def _nowhere(
    spec: LayoutSpec, known: Mapping[str, Collection[str]], misspelt: Collection[str]
) -> Iterator[tuple[str, YamlPath]]:
    """Names under `best`, `digits` and `labels` that are neither in rows nor in columns, and where they stand.

    Args:
        spec: The layout.
        known: Dimension -> names that are right.
        misspelt: Dimensions of which rows and columns have a misspelt name, which is told of: others are not to blame.
    """
    named: list[tuple[str, Sequence[str], str, YamlPath]] = []
    if (statistics := spec.statistics) is not None:
        own = {"best": [*spec.best.targets], "digits": [name for name in spec.digits if name != "default"]}
        named += [("statistic", statistics, name, (key, name)) for key, names in own.items() for name in names]
    for dimension, labels in spec.labels.items():
        used = list(dict.fromkeys(comparable(dimension, value) for value in spec.values_of(dimension)))
        if EVERY not in used:
            named += [(dimension, used, value, ("labels", dimension)) for value in labels]
    for dimension, asked, name, keys in named:
        if name in asked:
            continue
        if not {name, base_name(name)} & set(known[dimension]):
            yield f"no {dimension} '{name}' in this layout.{did_you_mean(name, asked)}", keys
        elif dimension not in misspelt:
            yield f"no {dimension} '{name}' in this layout, which has {joined(list(asked))}.", keys


def _known(dimension: str, value: str, names: Collection[str], any_radius: bool) -> bool:
    """Whether a value may stand in a layout although nothing of it was computed."""
    if value in names:
        return True
    if dimension == "budget":
        return comparable(dimension, value) in {comparable(dimension, one) for one in names} or _is_radius(
            value, any_radius
        )
    if dimension == "training" and value in _trainings_of_the_paper():
        return True
    # Of the undefended metrics of a contrast, each may be LABEL@DEFENSE; names with colons are those of libraries.
    own = value.partition("@")[0] if dimension == "against" else value
    return bool({own, base_name(own)} & set(names)) or ":" in base_name(own)


def _is_radius(value: str, any_radius: bool) -> bool:
    """Whether a budget is a radius that somebody would take: so many 255ths, or in l2 any number."""
    over, _, under = value.partition("/")
    try:
        return float(over) > 0 and (under == "255" or (any_radius and not under))
    except ValueError:
        return False


def _trainings_of_the_paper() -> set[str]:
    """Trainings of published tables, where there are any: a layout of the paper's may lay them out beside a run."""
    try:
        return {cell.at.get("training", "") for table in published_tables() for cell in published_cells(table)}
    except UserError:
        return set()


def known_names(names: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
    """What `check_names` takes: registered names by dimension, and all that there are of other dimensions."""
    return {
        **names,
        "against": names.get("metric", ()),
        "training": [NO_TRAINING, *trained(), *names.get("training", ())],
        "direction": [*DIRECTIONS, *_OF_TRIPLETS, CONTROL],
        "norm": get_args(Norm),
        "budget": [ALL_BUDGETS, *names.get("budget", ())],
        "threat": ["none", "oblivious", "adaptive", "transfer"],
        "statistic": [*STATISTICS, *_OF_OTHER_TABLES],
    }


def check_layouts(suite: Suite, names: Mapping[str, Collection[str]]) -> None:
    """Refuse names of a suite's layouts that are misspelt, before anything is run.

    Args:
        suite: The suite.
        names: Dimension -> registered names.

    Raises:
        LocatedError: Every such name, with the closest that there is.
    """
    if not suite.layouts:
        return
    used: dict[str, Sequence[Use]] = {
        "dataset": suite.datasets,
        "metric": suite.metrics,
        "attack": suite.attacks,
    }
    made = _labels_made(used)
    own = {name: [*names.get(name, ()), *(use.label for use in uses)] for name, uses in used.items()}
    defenses = [use.label for use in suite.defenses]
    trainings = [name for use in suite.defenses if use.trained for name in (use.trained.name, use.trained.label)]
    chains = ["+".join(one.label for one in use.purifiers) for use in suite.defenses]
    radii = [budget_text(norm, eps) for norm, eps in suite.budgets]
    own |= {
        "budget": radii,
        "defense": [*names.get("defense", ()), *defenses, *chains],
        "training": [*defenses, *trainings],
    }
    wrong: list[str] = []
    for spec in suite.layouts:
        known = known_names(own)
        # A table of one's own may bring others, which shows when it is made; what is nearly a known one is misspelt.
        near = {name for name in spec.statistics or () if get_close_matches(name, known["statistic"], 1, _NEARLY)}
        known["statistic"] = [*known["statistic"], *({*(spec.statistics or ())} - near)]
        try:
            check_names(spec, (), known)
            stand_for(spec, made)
        except LocatedError as error:
            wrong += error.lines
    if wrong:
        raise LocatedError(wrong)


def _labels_made(uses: Mapping[str, Sequence[Use]]) -> Labels:
    """What a suite calls its plugins."""
    return {
        dimension: {name: [use.label for use in own if use.name == name] for name in {use.name for use in own}}
        for dimension, own in uses.items()
    }


def _said(spec: LayoutSpec, board: Board, lines: Sequence[Line]) -> Iterator[str]:
    """What marks mean, and intervals where any is printed."""
    if spec.best.targets:
        second = "; underlined: the second best" if spec.best.second else ""
        yield f"Bold: the best of each {spec.best.per}, as printed{second}."
        sizes = [row.block for row in board.rows]
        if spec.best.per == "block" and any(sizes.count(block) == 1 for block in sizes):
            yield "A block of one row has no best."
    if any(entry.spread or entry.ends != NO_FIGURES for line in lines for entry in line.entries):
        yield _INTERVALS[spec.intervals]
    if spec.triangle:
        yield "Only the lower triangle is shown; the rest is its mirror image with the other sign."


def _lettered(panel: GridPanel, letters: dict[str, str]) -> GridPanel:
    """A panel whose missing cells have the letter of their reason; dashes that are everybody's have none."""

    def lettered(entry: GridEntry) -> GridEntry:
        if not entry.note or entry.note in (MIRRORED, NOT_THERE):
            return dataclasses.replace(entry, note="")
        return dataclasses.replace(entry, note=letters.setdefault(entry.note, _letter(len(letters))))

    lines = [dataclasses.replace(line, entries=tuple(lettered(one) for one in line.entries)) for line in panel.lines]
    return GridPanel(panel.title, tuple(lines))


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


def _where(panels: Sequence[GridPanel], letter: str, board: Board) -> str:
    """The cells with a footnote, rows that have it in the same columns together: 'base LPIPS: FGSM, C&W'."""
    columns = [text_of(board.spec, column) for column in board.columns]
    told: dict[str, list[str]] = {}
    lines = sum(len(panel.lines) for panel in panels)
    for panel in panels:
        for line in panel.lines:
            has = [name for name, entry in zip(columns, line.entries, strict=True) if entry.note == letter]
            if has:
                row = ", ".join(part for part in line.labels if part)
                row = f"{row} ({panel.title})" if panel.title not in ("", HERE) else row
                told.setdefault("" if len(has) == len(columns) else f": {', '.join(has)}", []).append(row)
    return "; ".join(
        f"{'every row' if len(rows) == lines > 1 else joined(rows)}{which}" for which, rows in told.items()
    )


def _protocol(cells: Sequence[Cell]) -> str:
    """The parts of the protocol lines of all cells, each once."""
    lines = list(dict.fromkeys(cell.protocol for cell in cells if cell.protocol))
    if len(lines) < 2:
        return "".join(lines)
    start = "Protocol: "
    parts = dict.fromkeys(part for line in lines for part in line.removeprefix(start).removesuffix(".").split("; "))
    return f"{start if lines[0].startswith(start) else ''}{'; '.join(parts)}."
