"""A minus B: what one metric keeps beyond another, paired under each attack and within each distortion type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from harness.report.headline import Headline
from harness.report.page.chart import Chart, Variant, choice_text, sample_text, section_html
from harness.report.page.dumbbells import scale_below
from harness.report.page.paired import Apart, Pairs, differences_of
from harness.report.page.section import PageInput, Section
from harness.report.page.svg import Axis, Bundle, Picture, Piece, Spot, Stroke, Words, axis_over, fitted, heading
from harness.report.page.variants import radius_key
from harness.wording import for_html, with_interval

_WIDTH = 480.0
_NAMES, _START, _END = 0.0, 192.0, 356.0
_ROW = 20.0


def difference_section(page: PageInput) -> Section | None:
    """A minus B of every data set that has labels and two metrics attacked."""
    charts, data = [], {}
    for one, headline in zip(page.evaluated, page.headlines, strict=True):
        pairs = differences_of(one, headline)
        if pairs is not None:
            charts.append(difference_chart(headline, pairs))
            data[one.name] = _data(pairs, _axis(pairs))
    if not charts:
        return None
    intro = "Which of two metrics keeps more under the same attack on the same images. Choose the two to compare."
    return Section("difference", "A minus B", section_html(charts, intro), data)


def _axis(pairs: Pairs) -> Axis:
    """From as far below 0 as above it: all figures, and all but the widest of their intervals."""
    values = [abs(one.value) for one in pairs.found.values() if not math.isnan(one.value)]
    ends = [abs(end) for one in pairs.found.values() for end in (one.low, one.high) if not math.isnan(end)]
    reach = max([*values, float(np.quantile(ends, 0.95)) if ends else 0.0, 0.05])
    return axis_over([-reach, reach], _START, _END, 6)


def difference_chart(headline: Headline, pairs: Pairs) -> Chart:
    """The figure of a data set, of the first two metrics; a script puts others in their place."""
    choice = pairs.choices[0]
    picture = _picture(headline, pairs, _axis(pairs))
    says = choice_text(*choice)
    caption = (
        f"{headline.statistic} of A less that of B, on the same images, with 95 % intervals paired over "
        f"{headline.noun}s; an interval that leaves out 0 is filled. Right of 0, A keeps more. "
        + ("Descriptive: too few units to claim anything. " if headline.descriptive else "")
        + "Types with few images have none of their own."
    )
    if len(pairs.choices) < len(headline.budgets) * len(headline.directions) or len(pairs.typed) < len(pairs.attacks):
        caption += " So many metrics are compared at the budget that is told of first alone; tables have the others."
    variant = Variant((picture,), {}, True, says)
    return Chart(headline.dataset, "difference", caption, (variant,), controls=_selects(pairs))


def _selects(pairs: Pairs) -> str:
    """What chooses A, B and the attack of the types; without a script the first two are shown."""

    def select(key: str, label: str, options: Sequence[str], chosen: str) -> str:
        items = "".join(f"<option{' selected' if name == chosen else ''}>{for_html(name)}</option>" for name in options)
        return f'<label>{label} <select data-key="{key}">{items}</select></label>'

    typed = select("attack", "types under", pairs.typed, _type_attack(pairs)) if pairs.types else ""
    first, second = pairs.metrics[:2]
    both = select("a", "A", pairs.metrics, first) + select("b", "B", pairs.metrics, second)
    return f'<div class="against">{both}{typed}</div>'


def _type_attack(pairs: Pairs) -> str:
    """The attack that types are shown under at first."""
    return pairs.typed[min(1, len(pairs.typed) - 1)]


def _picture(headline: Headline, pairs: Pairs, axis: Axis) -> Picture:
    """The first two metrics; a script puts others in their place."""
    choice = pairs.choices[0]
    a, b = pairs.metrics[:2]
    title = f"{headline.dataset}: {headline.statistic} of A minus B"
    parts, top = heading(title, [], _WIDTH)
    lines = {"a": f"A: {a}", "b": f"B: {b}", "choice": choice_text(*choice), "": sample_text(headline)}
    for name, text in lines.items():
        top += 16
        colour = "ink" if name in ("a", "b") else "muted"
        parts.append(Words(0, top - 4, fitted(text, _WIDTH, 12), 12, colour=colour, name=name))
    rows = [(name, name, "") for name in pairs.attacks]
    under = _type_attack(pairs)
    typed = [(kind, under, kind) for kind in pairs.types]
    start = top + 24
    bottom = start + _ROW * len(rows) + (34 + _ROW * len(typed) if typed else 0)
    parts += scale_below(axis, start - 4, bottom, "")
    parts.append(Words(axis.start - 40, bottom + 30, "← B keeps more", 12))
    parts.append(Words(axis.end + 40, bottom + 30, "A keeps more →", 12, "end"))
    zero = axis.at(0)
    parts.append(Stroke(((zero, start - 4), (zero, bottom)), "muted", 1.2))
    parts.append(Words(_NAMES, start - 10, "all images, under", 11, colour="muted"))
    told = []
    y = start
    for label, attack, kind in rows:
        y += _ROW
        one = pairs.of(choice, 0, 1, attack, kind)
        parts.append(_row(label, one, axis, y - 8, f"0:{attack}"))
        told.append(f"{label} {with_interval(*one, 2, True)}")
    if typed:
        y += 34
        text = f"by type, under {fitted(under, 220, 11)}"
        parts.append(Words(_NAMES, y - 10, text, 11, colour="muted", name="under"))
        for label, attack, kind in typed:
            y += _ROW
            one = pairs.of(choice, 0, 1, attack, kind)
            parts.append(_row(label, one, axis, y - 8, f"1:{kind}"))
            told.append(f"type {label} {with_interval(*one, 2, True)}")
    description = f"{a} minus {b} at {choice_text(*choice)}, {sample_text(headline)}: {'; '.join(told)}."
    return Picture(_WIDTH, bottom + 36, title, description, tuple(parts))


def _row(label: str, one: Apart, axis: Axis, y: float, key: str) -> Bundle:
    told = not math.isnan(one.low + one.high)
    apart = told and (one.low > 0 or one.high < 0)
    low, high = (axis.at(axis.within(end)) for end in ((one.low, one.high) if told else (0.0, 0.0)))
    x = axis.at(axis.within(one.value)) if not math.isnan(one.value) else axis.at(0)
    parts: list[Piece] = [Words(_NAMES, y + 4, fitted(label, _START - 4, 11), 11.5)]
    parts.append(Stroke(((low, y), (high, y)), "ink", 1.5))
    parts.append(Spot(x, y, "o", "ink", 4.2, hollow=not apart))
    figure = "" if math.isnan(one.value) else with_interval(one.value, one.low, one.high, 2, True)
    parts.append(Words(_WIDTH, y + 4, figure, 11, "end"))
    return Bundle(tuple(parts), "", {"row": key})


def _data(pairs: Pairs, axis: Axis) -> dict[str, Any]:
    """What the script needs: figures in 1/100,000, A before B; of each choice first every attack, then every type."""

    def whole(one: Apart) -> list[int | None]:
        return [None if math.isnan(value) else round(100_000 * value) for value in one]

    found: dict[str, dict[str, Any]] = {}
    for choice in pairs.choices:
        ball, direction = choice
        own: dict[str, Any] = {}
        for a, b in combinations(range(len(pairs.metrics)), 2):
            every = [whole(pairs.of(choice, a, b, attack)) for attack in pairs.attacks]
            typed = [
                [whole(pairs.of(choice, a, b, attack, kind)) for kind in pairs.types]
                if (choice, a, b, attack, pairs.types[0]) in pairs.found
                else None
                for attack in (pairs.typed if pairs.types else ())
            ]
            own[f"{a},{b}"] = [every, typed]
        key = "+".join((ball.norm, radius_key(*ball), direction))
        found[key] = {"says": choice_text(ball, direction), "pairs": own}
    return {
        "metrics": pairs.metrics,
        "attacks": pairs.attacks,
        "types": pairs.types,
        "typed": pairs.typed,
        "axis": [axis.low, axis.high, axis.start, axis.end],
        "choices": found,
    }
