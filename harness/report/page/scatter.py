"""Clean against worst: how good a metric is beside how much of it an attack leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.colours import attack_colour, direction_mark
from harness.report.headline import Ball, Headline
from harness.report.page.chart import (
    Chart,
    Variant,
    choice_state,
    choice_text,
    choices,
    sample_text,
    section_html,
)
from harness.report.page.dumbbells import Span, attack_entries, rank_text, spans, tick_text
from harness.report.page.flags import FLAG, flag_of
from harness.report.page.section import PageInput, Section
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
from harness.wording import number, short_names, with_interval

_WIDTH = 480.0
_LEFT, _RIGHT = 52.0, 468.0
_TALL = 340.0
_NAME = 12.0
_MOST_NAMES = 12
"""Beside their points; more metrics have numbers there, and their names below."""


def scatter_section(page: PageInput) -> Section | None:
    """Clean against worst of every data set with labels."""
    heads = whole_headlines(page.headlines, page.data.splits)
    charts = [chart for one in heads if (chart := scatter_chart(one)) is not None]
    if not charts:
        return None
    return Section("clean-worst", "Clean against worst", section_html(charts))


def scatter_chart(headline: Headline) -> Chart | None:
    """The figure of a data set, by budget and direction; None where nothing was attacked or there are no labels."""
    if not headline.statistic:
        return None
    made = [
        (ball, way, shown, [one for one in spans(headline, ball, way) if one.start.known and one.end.known])
        for ball, way, shown in choices(headline)
    ]
    points = [one for *_, found in made for one in found]
    if not points:
        return None
    across = axis_over(_reach(points), _LEFT, _RIGHT)
    up = axis_over([v for one in points for v in (one.end.value, one.end.low, one.end.high)], _TALL, 0.0)
    variants = tuple(
        Variant(
            (_picture(headline, ball, way, found, across, up),),
            choice_state(headline, ball, way),
            shown,
            choice_text(ball, way),
        )
        for ball, way, shown, found in made
    )
    ranks = "Descriptive: nothing is ranked." if headline.descriptive else "Numbers behind names are ranks."
    firm = "Bars are 95 % intervals, grey strokes"
    if headline.splits > 1:
        firm, ranks = f"Means over {headline.splits} splits, without intervals and ranks; grey strokes are", ""
    caption = (
        "Right: better without an attack. Up: more left under the worst attack. On the dashed diagonal an attack takes "
        f"nothing. {firm} the range that the honest controls alone leave. {ranks}"
    ).strip()
    return Chart(headline.dataset, "clean_worst", caption, variants)


def _reach(points: Sequence[Span]) -> list[float]:
    """Clean figures and as much of their intervals as leaves points apart; bars that are longer end at the frame."""
    values = [one.start.value for one in points]
    room = max(0.1, 0.4 * (max(values) - min(values)))
    low, high = min(values) - room, max(values) + room
    ends = [end for one in points for end in (one.start.low, one.start.high) if not math.isnan(end)]
    return [*values, *(min(max(end, low), high) for end in ends)]


def _picture(headline: Headline, ball: Ball, direction: str, found: Sequence[Span], across: Axis, up: Axis) -> Picture:
    what = headline.statistic
    title = f"{headline.dataset}: {what}, clean against worst"
    parts, top = heading(title, [choice_text(ball, direction), sample_text(headline)], _WIDTH)
    up = Axis(up.low, up.high, top + 24 + _TALL, top + 24, up.ticks)
    parts += _scales(across, up, what)
    low, high = max(across.low, up.low), min(across.high, up.high)
    if low < high:
        ends = ((across.at(low), up.at(low)), (across.at(high), up.at(high)))
        parts.append(Stroke(ends, "muted", 1.2, (5, 4)))
    for one in found:
        parts.append(_point(one, across, up))
    parts += _names(found, across, up)
    names = short_names(sorted({one.attack for one in found}))
    entries = attack_entries(found, names)
    entries.append(("nothing lost", [Stroke(((0, 0), (26, 0)), "muted", 1.2, (5, 4))]))
    if any(not math.isnan(one.band[0]) for one in found):
        entries.append(("honest controls alone", [Stroke(((13, -8), (13, 8)), "band", 7)]))
    if len(found) > _MOST_NAMES:
        numbered = ((str(place), one) for place, one in enumerate(found, 1))
        entries += [(_name(one), [Words(24, 4, place, 12, "end", bold=True)]) for place, one in numbered]
    below, end = legend(entries, up.start + 38, _WIDTH)
    told = "; ".join(_in_words(one) for one in found)
    return Picture(
        _WIDTH, end, title, f"At {choice_text(ball, direction)}, {sample_text(headline)}. {told}.", (*parts, *below)
    )


def _scales(across: Axis, up: Axis, what: str) -> list[Piece]:
    parts: list[Piece] = []
    for tick in across.ticks:
        parts.append(Stroke(((across.at(tick), up.start), (across.at(tick), up.end)), "line", 1))
        parts.append(Words(across.at(tick), up.start + 15, tick_text(tick, across), 11, "middle", "muted"))
    for tick in up.ticks:
        parts.append(Stroke(((across.start, up.at(tick)), (across.end, up.at(tick))), "line", 1))
        parts.append(Words(across.start - 6, up.at(tick) + 4, tick_text(tick, up), 11, "end", "muted"))
    parts.append(Words((across.start + across.end) / 2, up.start + 31, f"clean {what} (right is better)", 12, "middle"))
    parts.append(Words(0, up.end - 12, f"{what} under the worst attack (up is better)", 12))
    return parts


def _point(span: Span, across: Axis, up: Axis) -> Bundle:
    x, y = across.at(span.start.value), up.at(span.end.value)
    colour = attack_colour(span.attack)
    parts: list[Piece] = []
    low, high = span.band
    if not math.isnan(low + high):
        ends = [up.at(up.within(one)) for one in (low, high)]
        parts.append(Stroke(((x, max(ends[0], ends[1] + 2)), (x, ends[1])), "band", 7))
    for reading, bar in (
        (span.start, [(across.at(across.within(v)), y) for v in (span.start.low, span.start.high)]),
        (span.end, [(x, up.at(v)) for v in (span.end.low, span.end.high)]),
    ):
        if not math.isnan(reading.low + reading.high):
            parts.append(Stroke(tuple(bar), colour, 1, opacity=0.6))
    parts.append(Spot(x, y, direction_mark(span.direction), colour, 5.5))
    return Bundle(tuple(parts), _in_words(span), {"metric": span.row.label})


def _names(found: Sequence[Span], across: Axis, up: Axis) -> list[Piece]:
    """The names beside their points, where they lie over no other; with a line to the point where that is away."""
    parts: list[Piece] = []
    points = [(across.at(one.start.value), up.at(one.end.value)) for one in found]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    for one, (x, y) in sorted(zip(found, points, strict=True), key=lambda pair: pair[1][1]):
        text = str(found.index(one) + 1) if len(found) > _MOST_NAMES else _name(one)
        box = _free(x, y, text_width(text, _NAME), taken, (across.start, up.end, across.end, up.start))
        taken.append(box)
        left, top, right, low = box
        if not top - 8 <= y <= low + 8:
            near = (min(max(x, left), right), top if y < top else low)
            parts.append(Stroke(((x, y), near), "muted", 0.8))
        parts.append(Words(left, low - 3, text, _NAME))
    return parts


def _name(one: Span) -> str:
    """A metric with its rank, and the flag of masking."""
    parts = (fitted(one.row.label, 190, _NAME), rank_text(one.rank), FLAG if flag_of(one.row) else "")
    return " ".join(part for part in parts if part)


Box = tuple[float, float, float, float]
"""Left, upper, right and lower end."""


def _free(x: float, y: float, wide: float, taken: Sequence[Box], frame: Box) -> Box:
    """The place for a name that is nearest to its point and lies over nothing; the first one where there is none."""
    boxes: list[Box] = []
    for down in sorted(range(-180, 190, 9), key=abs):
        for left in (x - 9 - wide, x + 9):
            boxes.append((left, y + down - 13, left + wide, y + down + 2))
    inside = [
        box for box in boxes if box[0] >= frame[0] and box[2] <= frame[2] and box[1] >= frame[1] and box[3] <= frame[3]
    ]
    free = (box for box in inside if not any(_meet(box, other) for other in taken))
    return next(free, (inside or boxes)[0])


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _in_words(span: Span) -> str:
    start, end = span.start, span.end
    return (
        f"{span.row.label}: clean {with_interval(start.value, start.low, start.high)}, "
        f"{span.attack} {span.direction} {with_interval(end.value, end.low, end.high)}, "
        f"lost {number(start.value - end.value)}"
    )
