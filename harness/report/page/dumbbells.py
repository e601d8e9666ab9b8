"""Dumbbells: of each metric a line from its clean figure to what its worst attack leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.report.colours import attack_colour, direction_mark, grouped
from harness.report.headline import SUSPECT, UNDECIDED, Ball, Headline, HeadlineRow, Reading
from harness.report.page.chart import Chart, Variant, choice_state, choice_text, choices, sample_text, section_html
from harness.report.page.flags import FLAG, flag_of
from harness.report.page.section import PageInput
from harness.report.page.svg import (
    Axis,
    Bundle,
    Picture,
    Piece,
    Spot,
    Stroke,
    Words,
    axis_over,
    fitted,
    heading,
    legend,
    text_width,
)
from harness.report.split_headlines import whole_headlines
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.wording import joined, number, short_names, with_interval

_WIDTH = 480.0
_LEFT, _RIGHT = 50.0, 468.0
"""Where the scale begins and ends; ranks stand left of it."""
_ROW = 44.0
_BESIDE = 5.0
"""Pixels that intervals lie above (clean) or below (attacked) the line between the two."""
_FLAGS = {SUSPECT: f"{FLAG} gradients suspect", UNDECIDED: f"{FLAG} masking open"}


class Span(NamedTuple):
    """What a dumbbell shows of one metric."""

    row: HeadlineRow
    start: Reading
    end: Reading
    attack: str
    direction: str
    band: tuple[float, float]
    rank: tuple[int, int] | None
    failed: bool


def spans(headline: Headline, ball: Ball, direction: str) -> list[Span]:
    """The dumbbells of one budget and direction: most left first, then those without a figure.

    Without labels they go from 0 to the mean shift along the attack, least moved first.
    """
    found = []
    for row in headline.rows:
        under = row.at.get((ball, direction))
        if under is None:
            continue
        failed = under.state == "failed"
        if headline.statistic:
            span = Span(row, row.clean, under.left, under.attack, under.direction, under.controls, under.rank, failed)
        else:
            nothing = (math.nan, math.nan)
            start = Reading(0.0, 0.0, 0.0)
            span = Span(row, start, under.shift, under.shift_attack, under.direction, nothing, None, failed)
        found.append(span)
    sign = -1 if headline.statistic else 1
    return sorted(
        found, key=lambda one: (one.row.threat == "oblivious", sign * one.end.value if one.end.known else math.inf)
    )


def dumbbells_html(page: PageInput) -> str:
    """The dumbbells of every data set, over splits their means; empty where nothing was attacked."""
    heads = whole_headlines(page.headlines, page.data.splits)
    return section_html([chart for one in heads if (chart := dumbbell_chart(one)) is not None])


def dumbbell_chart(headline: Headline) -> Chart | None:
    """The figure of a data set, for every budget and direction; None where nothing was attacked."""
    made = [(ball, way, shown, spans(headline, ball, way)) for ball, way, shown in choices(headline)]
    if not any(one.end.known for *_, found in made for one in found):
        return None
    reach = [value for *_, found in made for one in found for value in _extent(one)]
    axis = axis_over([*reach, 0.0] if not headline.statistic else reach, _LEFT, _RIGHT, 6)
    variants = tuple(
        Variant(
            (_picture(headline, ball, way, found, axis),),
            choice_state(headline, ball, way),
            shown,
            choice_text(ball, way),
        )
        for ball, way, shown, found in made
    )
    return Chart(headline.dataset, "headline", _caption(headline), variants)


def rank_text(rank: tuple[int, int] | None) -> str:
    """'1', '1–3', or nothing."""
    if rank is None:
        return ""
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def _extent(span: Span) -> list[float]:
    readings = (span.start, span.end) if span.end.known else (span.start,)
    return [*span.band, *(value for one in readings for value in (one.value, one.low, one.high))]


def _caption(headline: Headline) -> str:
    what = headline.statistic or "shift of scores in σ"
    sorted_by = "most left first" if headline.statistic else "least moved first"
    told = [
        f"Each line: {what}, {'clean' if headline.statistic else 'unattacked'} (ring) to the worst attack (filled), "
        f"{sorted_by}",
    ]
    if headline.splits > 1:
        told.append(f"means over {headline.splits} splits, which have no interval and no rank")
    else:
        told.append(
            "thin lines are 95 % intervals" + (", that of the clean figure above" if headline.statistic else "")
        )
    if headline.statistic:
        told.append("grey is the range of what the honest controls, restore and noise, leave inside the same budget")
    if headline.descriptive:
        noun = f"{headline.noun}s"
        told.append(f"descriptive: fewer than {DESCRIPTIVE_BELOW} {noun}, so nothing is ranked")
    elif headline.statistic:
        told.append("metrics in brackets cannot be told from the best (paired over independent units); ranks at left")
    return "; ".join(told) + "."


def _picture(headline: Headline, ball: Ball, direction: str, found: Sequence[Span], axis: Axis) -> Picture:
    what = headline.statistic or "shift of scores (σ)"
    title = f"{headline.dataset}: {what}, clean → worst attack" if headline.statistic else f"{headline.dataset}: {what}"
    lines = [choice_text(ball, direction), sample_text(headline)]
    if headline.descriptive:
        lines.append(f"Descriptive: fewer than {DESCRIPTIVE_BELOW} {headline.noun}s. Nothing is ranked.")
    parts, top = heading(title, lines, _WIDTH)
    bottom = top + _ROW * len(found)
    parts += scale_below(axis, top, bottom, f"{what} ({'right' if headline.statistic else 'left'} is better)")
    names = short_names(sorted({one.attack for one in found if one.attack}))
    for place, one in enumerate(found):
        parts.append(_dumbbell(one, axis, top + _ROW * place, names))
    parts += _bracket(found, top)
    entries = _legend(headline, found, names)
    below, end = legend(entries, bottom + 40, _WIDTH)
    told = "; ".join(_in_words(one) for one in found)
    description = f"At {choice_text(ball, direction)}, {sample_text(headline)}. {told}."
    return Picture(_WIDTH, end, title, description, (*parts, *below))


def scale_below(axis: Axis, top: float, bottom: float, name: str) -> list[Piece]:
    """Faint lines at the ticks of a horizontal axis, their values and its name below them."""
    parts: list[Piece] = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(Stroke(((x, top), (x, bottom)), "line", 1))
        parts.append(Words(x, bottom + 14, tick_text(tick, axis), 11, "middle", "muted"))
    if name:
        parts.append(Words((axis.start + axis.end) / 2, bottom + 30, name, 12, "middle"))
    return parts


def tick_text(tick: float, axis: Axis) -> str:
    """A tick's value with as many decimals as its axis's steps have."""
    step = axis.ticks[1] - axis.ticks[0] if len(axis.ticks) > 1 else 1.0
    digits = max(0, min(4, math.ceil(-math.log10(step) - 1e-9)))
    return number(tick, digits + (1 if round(step * 10**digits, 6) % 1 else 0))


def _dumbbell(span: Span, axis: Axis, top: float, names: dict[str, str]) -> Bundle:
    y = top + 30
    parts: list[Piece] = []
    low, high = span.band
    if not math.isnan(low) and not math.isnan(high):
        left, right = axis.at(low), max(axis.at(high), axis.at(low) + 2)
        parts.append(Stroke(((left, y - 8), (right, y - 8), (right, y + 8), (left, y + 8)), "band", closed=True))
    colour = attack_colour(span.attack) if span.attack else "muted"
    if span.end.known and span.start.known:
        parts.append(Stroke(((axis.at(span.start.value), y), (axis.at(span.end.value), y)), colour, 3, opacity=0.45))
    for reading, ink, beside in ((span.start, "ink", y - _BESIDE), (span.end, colour, y + _BESIDE)):
        if reading.known and not math.isnan(reading.low + reading.high):
            parts.append(Stroke(((axis.at(reading.low), beside), (axis.at(reading.high), beside)), ink, 1))
    if span.start.known:
        parts.append(Spot(axis.at(span.start.value), y, "o", "ink", 4.5, hollow=True))
    if span.end.known:
        parts.append(Spot(axis.at(span.end.value), y, direction_mark(span.direction), colour, 5.5))
    numbers = _numbers(span)
    wide = text_width(numbers, 12.5, bold=True)
    attack = names.get(span.attack, span.attack)
    flag = _FLAGS.get(span.row.masking.verdict, "")
    room = _RIGHT - _LEFT - wide - 14
    name = fitted(span.row.label, (room - 24 if flag else room) / 1.1, 13.5)
    parts.append(Words(_LEFT, top + 15, name, 13, bold=True))
    parts.append(Words(_RIGHT, top + 15, numbers, 12.5, "end", bold=True))
    room -= text_width(name, 13.5, bold=True) + 8
    if flag:
        left = _LEFT + text_width(name, 13.5, bold=True) + 8
        told = flag if text_width(flag, 11.5) <= room else flag[0]
        parts.append(Words(left, top + 15, told, 11, colour="ink"))
        room -= text_width(told, 11.5) + 8
    if attack and text_width(attack, 11.5) <= room:
        parts.append(Words(_RIGHT - wide - 8, top + 15, attack, 11, "end", "muted"))
    return Bundle(tuple(parts), _in_words(span), {"metric": span.row.label})


def _numbers(span: Span) -> str:
    if span.failed:
        return "failed"
    return f"{number(span.start.value)} → {number(span.end.value)}" if span.end.known else number(span.start.value)


def _bracket(found: Sequence[Span], top: float) -> list[Piece]:
    """Ranks, and brackets around those that share the first: one where they stand next to each other."""
    parts: list[Piece] = []
    firsts = [place for place, one in enumerate(found) if one.rank and one.rank[0] == 1]
    for place, one in enumerate(found):
        text = rank_text(one.rank)
        if text:
            parts.append(Words(34, top + _ROW * place + 34, text, 11, "end", "ink" if place in firsts else "muted"))
    starts = [place for place in firsts if place - 1 not in firsts] if len(firsts) > 1 else []
    for start in starts:
        end = next(place for place in range(start + 1, len(found) + 1) if place not in firsts)
        high, low = top + _ROW * start + 6, top + _ROW * end - 4
        parts.append(Stroke(((46, high), (40, high), (40, low), (46, low)), "ink", 1.5))
    return parts


def _legend(headline: Headline, found: Sequence[Span], names: dict[str, str]) -> list[tuple[str, list[Piece]]]:
    ring = Spot(13, 0, "o", "ink", 4.5, hollow=True)
    entries: list[tuple[str, list[Piece]]] = [("unattacked", [ring])]
    if headline.statistic and headline.splits > 1:
        entries = [("clean", [ring])]
    elif headline.statistic:
        entries = [("clean, interval above", [Stroke(((0, -_BESIDE), (26, -_BESIDE)), "ink", 1), ring])]
    entries += attack_entries(found, names, interval=headline.splits == 1)
    if any(not math.isnan(one.band[0]) for one in found):
        box = ((2.0, -7.0), (24.0, -7.0), (24.0, 7.0), (2.0, 7.0))
        entries.append(("honest controls alone", [Stroke(box, "band", closed=True)]))
    if sum(1 for one in found if one.rank and one.rank[0] == 1) > 1:
        line = ((16.0, -7.0), (11.0, -7.0), (11.0, 7.0), (16.0, 7.0))
        entries.append(("cannot be told from the best", [Stroke(line, "ink", 1.5)]))
    if any(flag_of(one.row) for one in found):
        entries.append(("gradients may mislead attacks", [Words(13, 4, FLAG, 12, "middle")]))
    return entries


def attack_entries(
    found: Sequence[Span], names: dict[str, str], *, interval: bool = False
) -> list[tuple[str, list[Piece]]]:
    """Entries of a legend for the attacks that are worst somewhere, each with the marks of its directions.

    Args:
        found: What is drawn.
        names: Attack -> what it is called.
        interval: Whether its sample has a line for the interval.
    """
    entries: list[tuple[str, list[Piece]]] = []
    known = [one for one in found if one.end.known and one.attack]
    for attack in grouped([one.attack for one in known]):
        ways = list(dict.fromkeys(one.direction for one in known if one.attack == attack))
        colour, told = attack_colour(attack), f"{names.get(attack, attack)} {joined(ways)}"
        middle = [13 + 7 * (2 * place - len(ways) + 1) for place in range(len(ways))]
        spots = [Spot(x, 0, direction_mark(way), colour, 5) for x, way in zip(middle, ways, strict=True)]
        line: list[Piece] = [Stroke(((0, _BESIDE), (26, _BESIDE)), colour, 1)] if interval else []
        entries.append((f"{told}, 95 % interval below" if interval else told, [*line, *spots]))
    return entries


def _in_words(span: Span) -> str:
    """A dumbbell as a sentence's part, with every figure it shows."""
    start, end = span.start, span.end
    told = [f"{span.row.label}: clean {with_interval(start.value, start.low, start.high)}"]
    if span.failed:
        told.append("failed under attack")
    elif end.known:
        told.append(f"{span.attack} {span.direction} {with_interval(end.value, end.low, end.high)}")
    else:
        told.append("not attacked")
    if not math.isnan(span.band[0]):
        told.append(f"controls alone {number(span.band[0])} to {number(span.band[1])}")
    if span.rank:
        told.append(f"rank {rank_text(span.rank)}")
    if flag_of(span.row):
        told.append(f"masking {span.row.masking.verdict}: {span.row.masking.decided}")
    return ", ".join(told)
