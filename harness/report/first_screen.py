"""What is printed of a report: the answer on one screen, and every table besides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from harness.report.build import NOT_MADE
from harness.report.data import UNFINISHED, RunData
from harness.report.headline import EVERY_DIRECTION, NOT_JUDGED, SUSPECT, UNDECIDED, Headline, HeadlineRow, Reading
from harness.report.layout import Layout
from harness.report.screen import BULLET, Columns, Paragraph, Screen, Stretch
from harness.report.split_headlines import whole_headlines
from harness.report.summary import sentences, told_of
from harness.report.table import ASSUMPTION, PROTOCOL_LINE, Table, protocol_parts
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.wording import BROKEN, FAILED, MISSING, budget_text, counted, joined, number, with_interval

MOST_ROWS = 8
"""Scorers of a data set that the first table shows."""
MOST_LINES = 24
"""Lines that the first table has at most, of names that fit in `_NAME` columns each."""
_NAME = 17
_AROUND = 4
"""Lines of the first table beside its data sets: what it is, its head with a rule, and what is left out."""
_MIXED = "mixed"
_WAYS = {"up": "up", "down": "down", "rejected_up": "up", "preferred_down": "down"}
"""Direction -> column; what raises some images and lowers others is mixed."""
_UNSEEN = "bias from "
"""How a part of a protocol begins that says nothing of the first screen."""
_FLAGS = {
    UNDECIDED: f"{UNDECIDED} = too few images to tell",
    SUSPECT: f"{SUSPECT} = gradients mislead attacks, so figures may be too good",
    NOT_JUDGED: f"{MISSING} = no verdict could be measured",
}


def first_screen(data: RunData, tables: Sequence[Table], heads: Sequence[Headline]) -> Screen:
    """All that a report prints.

    Args:
        data: The run.
        tables: Its tables.
        heads: Its headlines, one for each data set, or split of one.
    """
    heads = whole_headlines(heads, data.splits)
    told = sentences(heads)
    said = [Paragraph("\nIn short", "bold"), *(Paragraph(f"{BULLET}{sentence}") for sentence in told)] if told else []
    said += [Paragraph(f"\n{notice}") for notice in data.notices if notice.startswith(UNFINISHED)]
    below = [*_legend(heads), *_notes(data, tables, heads)]
    protocol = [part for part in _united([head.protocol for head in heads]) if not part.startswith(_UNSEEN)]
    lines = [Paragraph(f"\n{' '.join(below)}", "dim")] if below else []
    lines += [Paragraph(f"{'' if below else chr(10)}{PROTOCOL_LINE}{'; '.join(protocol)}.", "dim")] if protocol else []
    return Screen([*_first_table(heads), *said, *lines], list(_every_table(tables, protocol)))


def _first_table(heads: Sequence[Headline]) -> Iterator[Paragraph | Columns]:
    """The data set that is told of, and of the others as many as there is room for."""
    shown: list[Headline] = []
    for head in sorted(heads, key=lambda one: one is not told_of(heads)):
        # Between two data sets stands an empty line.
        if not shown or sum(map(_lines, (*shown, head))) + len(shown) + _AROUND <= MOST_LINES:
            shown.append(head)
    alike = [[head for head in shown if bool(head.statistic) == labelled and head.rows] for labelled in (True, False)]
    for group in alike:
        if group:
            yield Paragraph(_heading(group), "bold")
            yield _grid(group)
    hidden = [row for head in shown for row in head.rows[MOST_ROWS:]]
    noun = "metric" if all(row.defense == "base" for row in hidden) else "scorer"
    left = [counted(n, f"more {what}") for n, what in ((len(hidden), noun), (len(heads) - len(shown), "data set")) if n]
    if left:
        yield Paragraph(f"... and {joined(left)}: --full prints all.")


def _lines(head: Headline) -> int:
    return 1 + sum(math.ceil(len(row.label) / _NAME) for row in head.rows[:MOST_ROWS])


def _heading(group: Sequence[Headline]) -> str:
    balls = {head.first for head in group if head.first is not None}
    if not balls:
        return "\nWithout an attack"
    at = f" at ε {budget_text(*balls.pop())}" if len(balls) == 1 else ""
    if not group[0].statistic:
        return f"\nHow far attacks push scores, in σ of clean scores{at}, smallest first"
    ranked = not any(head.descriptive or head.splits > 1 for head in group)
    return f"\nWhat the worst attack leaves{at}, {'most robust' if ranked else 'highest'} first"


def _grid(group: Sequence[Headline]) -> Columns:
    """The rows of some data sets that are judged alike: by labels, or by shifts where there are none."""
    labelled = bool(group[0].statistic)
    arrow = "↑" if labelled else "↓"
    columns: dict[str, Callable[[Headline, HeadlineRow], str]] = {}
    if labelled:
        columns["clean ↑"] = lambda head, row: _value(row.clean, row.state)
    for name in ("up", "down", _MIXED):
        if any(_ways(head, name) for head in group):
            columns[f"{name} {arrow}"] = lambda head, row, name=name: _worst(head, row, name)  # type: ignore[misc]
    if any(_excess(head, row).known for head in group for row in head.rows):
        columns["excess, σ ↓"] = _beyond
    if any(head.first for head in group):
        columns["masking"] = lambda head, row: MISSING if row.masking.verdict == NOT_JUDGED else row.masking.verdict
    parts = []
    for head in group:
        rows = head.rows[:MOST_ROWS]
        cells = [(row.label, *(column(head, row) for column in columns.values())) for row in rows]
        parts.append(Stretch(_title(head, group), cells, [True] * len(rows)))
    return Columns(("metric", *columns), 1, parts)


def _title(head: Headline, group: Sequence[Headline]) -> str:
    """'mini: SROCC with proxy quality (not human opinions), 96 images of 8 photographs'."""
    what = f"{head.statistic} with {head.labels}" if head.statistic else head.labels
    apart = head.first is not None and len({one.first for one in group}) > 1
    at = f", ε {budget_text(*head.first)}" if apart and head.first else ""
    units = f"{counted(head.images, head.kind)} of {counted(head.clusters, head.noun)}"
    splits = f", means over {head.splits} splits" if head.splits > 1 else ""
    return f"{head.dataset}: {what}, {units}{at}{splits}{' (descriptive)' if head.descriptive else ''}"


def _ways(head: Headline, column: str) -> list[str]:
    """The directions of a data set that stand in a column."""
    return [way for way in head.directions if _WAYS.get(way, _MIXED) == column]


def _worst(head: Headline, row: HeadlineRow, column: str) -> str:
    """The figure of a column: of several directions the worst."""
    found = [row.at[head.first, way] for way in _ways(head, column)] if head.first else []
    if any(one.state == "failed" for one in found):
        return FAILED
    if not head.statistic:
        shifts = [one.shift.value for one in found if one.shift.known]
        return f"{number(max(shifts), 2, True)}σ" if shifts else MISSING
    known = [one.left for one in found if one.left.known]
    return _value(min(known, key=lambda one: one.value), "ok") if known else MISSING


def _value(reading: Reading, state: str) -> str:
    return number(reading.value) if reading.known else FAILED if state == "failed" else MISSING


def _excess(head: Headline, row: HeadlineRow) -> Reading:
    return row.at[head.first, EVERY_DIRECTION].excess if head.first else Reading()


def _beyond(head: Headline, row: HeadlineRow) -> str:
    """The excess over the control with its interval; failed where it may be larger under an attack that failed."""
    failed = head.first is not None and row.at[head.first, EVERY_DIRECTION].state == "failed"
    return FAILED if failed else _with_interval(_excess(head, row))


def _with_interval(reading: Reading) -> str:
    if math.isnan(reading.low):
        return number(reading.value, 2, True) if reading.known else MISSING
    return with_interval(reading.value, reading.low, reading.high, 2, True)


def _legend(heads: Sequence[Headline]) -> Iterator[str]:
    """How the first table is read."""
    attacked = [head for head in heads if head.first is not None]
    if not attacked:
        return
    mixed = list(dict.fromkeys(way for head in attacked for way in _ways(head, _MIXED)))
    has = [name for name in ("up", "down") if any(_ways(head, name) for head in attacked)]
    says = {"up": "quality raised", "down": "quality lowered"}
    told = [f"{name}: {says[name]}" for name in has]
    told += [f"{_MIXED}: some raised, some lowered ({joined(mixed)})"] if mixed else []
    yield f"Under the worst attack each: {'; '.join(told)}. ↑ more is better, ↓ less. Rows by {_order(attacked)}."
    rows = [row for head in attacked for row in head.rows]
    if any(_excess(head, row).known for head in attacked for row in head.rows):
        yield (
            "Excess: the most that an attack pushes scores beyond an honest control in the same ball (restoring the "
            "reference, random noise), in σ of clean scores [95 % interval]."
        )
    flags = [_FLAGS[flag] for flag in _FLAGS if any(row.masking.verdict == flag for row in rows)]
    yield f"Masking: {', '.join(flags)}." if flags else "Masking: nothing speaks for it."


def _order(heads: Sequence[Headline]) -> str:
    """What rows are sorted by."""
    by = ["the lowest figure under attack"] if any(head.statistic for head in heads) else []
    return joined(by + (["the largest push, smallest first"] if not all(head.statistic for head in heads) else []))


def _notes(data: RunData, tables: Sequence[Table], heads: Sequence[Headline]) -> Iterator[str]:
    """What must be known of the figures."""
    if any(head.first and head.statistic for head in heads):
        yield ASSUMPTION
    for noun in dict.fromkeys(head.noun for head in heads if head.descriptive):
        of = [head.dataset for head in heads if head.descriptive and head.noun == noun]
        where = f" of {joined(of)}" if len(of) < len(heads) else ""
        yield f"Fewer than {DESCRIPTIVE_BELOW} {noun}s{where}: intervals are descriptive, and nothing is ranked."
    for rules in dict.fromkeys(row.broken for head in heads for row in head.rows if row.broken):
        yield f"{BROKEN} broke its contract when probed ({rules}), so its figures may not mean what they say."
    suspects = dict.fromkeys(
        f"{row.label} (“{joined(list(row.masking.claims))}”)"
        for head in heads
        for row in head.rows
        if row.masking.verdict == SUSPECT
    )
    if suspects:
        yield f"Gradients may mislead attacks on {'; '.join(suspects)}."
    yield from (notice for notice in data.notices if not notice.startswith(UNFINISHED))
    if data.failures:
        yield f"{counted(len(data.failures), 'failure')}: --full and the page list them."
    yield from (f"{table.title}." for table in tables if table.name == NOT_MADE)


def _united(protocols: Sequence[str]) -> list[str]:
    """The parts of protocol lines, each once."""
    return list(dict.fromkeys(part for one in protocols for part in protocol_parts(one)))


def _every_table(tables: Sequence[Table], protocol: Sequence[str]) -> Iterator[Paragraph | Columns]:
    """The compact form of every table; of its protocol what is not among the parts said above for all tables."""
    said = set(protocol)
    for table in tables:
        yield Paragraph(f"\n{table.title}", "bold")
        layout = table.compact
        if not layout.rows:
            yield Paragraph(layout.note)
            continue
        yield Paragraph(table.explanation)
        yield _block(layout, each=table.name == "failures")
        yield from (Paragraph(line, "dim") for line in (layout.note, *table.notes) if line)
        more = [part for part in _united([table.protocol]) if part not in said]
        said |= {part for part in more if (" = " in part and ":" not in part) or part.startswith(_UNSEEN)}
        if table.protocol:
            yield Paragraph(f"{PROTOCOL_LINE}as above{'; ' if more else ''}{'; '.join(more)}.", "dim")


def _block(layout: Layout, each: bool) -> Columns:
    """A table as it is printed; names of scorers stand where they begin."""
    before = [None, *(row[0] for row in layout.rows)]
    starts = [each or row[0] != previous for row, previous in zip(layout.rows, before, strict=False)]
    return Columns(layout.header, layout.labels, [Stretch("", layout.rows, starts)])
