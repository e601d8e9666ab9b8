"""Strength against budget: of each metric what every attack leaves, and how far it moves scores, as budgets grow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.report.arrays import HONEST, OVER_ALL, Evaluated
from harness.report.colours import CONTROL_COLOUR, AttackLook, direction_mark, grouped, looks
from harness.report.headline import Headline
from harness.report.layout import scorer_of
from harness.report.measure import srocc_rows
from harness.report.page.chart import Chart, Variant, sample_text, section_html, usual_direction
from harness.report.page.dumbbells import tick_text
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
    heading,
    legend,
    wrapped,
)
from harness.report.rows import CONTROL, Row
from harness.report.shifts import shift_rows
from harness.report.triplets import overall_accuracy_of, two_afc_rows
from harness.wording import attack_text, base_name, budget_text, number, with_interval

_WIDTH, _LEGEND_WIDTH = 300.0, 480.0
_LEFT, _RIGHT = 40.0, 278.0
_TALL, _LOW = 170.0, 110.0
"""Pixels of the panel of what is left, and of that of shifts."""
_CONTROL_DASHES = ((3.0, 3.0), (1.5, 2.5), (7.0, 3.0))


class CurvePoint(NamedTuple):
    """A figure at one budget."""

    eps: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One attack in one direction against one scorer, in one norm: places by budget, the clean one at 0 first."""

    scorer: str
    attack: str
    control: bool
    norm: str
    direction: str
    measure: str
    """"left" or "shift"."""
    places: tuple[CurvePoint, ...]

    @property
    def is_line(self) -> bool:
        """Whether it has more than two points to draw a line through."""
        return len(self.places) > 2


def curves(one: Evaluated, headline: Headline) -> list[Curve]:
    """Every curve of a data set, from the rows of its tables."""
    directions = headline.directions
    found: _Found = {}
    for row in _left_rows(one, headline):
        name = "srocc" if headline.statistic == "SROCC" else "accuracy"
        _add(found, row, "left", name, CurvePoint(0.0, *(row[f"clean_{name}{end}"] for end in ("", "_low", "_high"))))
    for row in shift_rows(one, directions, honest=True):
        if not row["control"]:  # which have no way of their own: the honest reference has
            _add(found, row, "shift", "shift_over_sigma", CurvePoint(0.0, 0.0, 0.0, 0.0))
    return [Curve(*key, tuple(sorted(places))) for key, places in found.items()]


_Found = dict[tuple[str, str, bool, str, str, str], list[CurvePoint]]
"""(scorer, attack, control, norm, direction, measure) -> places."""


def _left_rows(one: Evaluated, headline: Headline) -> Iterable[Row]:
    if headline.statistic == "SROCC":
        return srocc_rows(one, headline.directions, honest=True)
    if headline.statistic:
        return (row for row in two_afc_rows(one, headline.directions[0], honest=True) if _overall(row))
    return ()


def _overall(row: Row) -> bool:
    return overall_accuracy_of(row) and row["attacked"] != ""


def _add(found: _Found, row: Row, measure: str, name: str, start: CurvePoint) -> None:
    """Put a row's figure to its curve, which begins at the clean one."""
    if row["state"] != "ok" or row["attack"] in ("", *OVER_ALL) or row["threat"] == "transfer":
        return
    if math.isnan(row[name]):
        return
    direction = CONTROL if row["control"] else row["direction"]
    key = (scorer_of(row), str(row["attack"]), bool(row["control"]), str(row["norm"]), str(direction), measure)
    place = CurvePoint(row["eps"], row[name], row[f"{name}_low"], row[f"{name}_high"])
    found.setdefault(key, [] if math.isnan(start.value) else [start]).append(place)


def strength_section(page: PageInput) -> Section | None:
    """Strength against budget of every data set."""
    charts = []
    for one, headline in zip(page.evaluated, page.headlines, strict=True):
        chart = strength_chart(one, headline) if headline.directions else None
        if chart is not None:
            charts.append(chart)
    return Section("strength", "Strength against budget", section_html(charts)) if charts else None


def strength_chart(one: Evaluated, headline: Headline) -> Chart | None:
    """The figure of a data set: a panel for every scorer, by norm and direction; None where nothing was attacked."""
    known = curves(one, headline)
    attacks = grouped([curve.attack for curve in known if not curve.control and curve.attack != HONEST])
    if not attacks:
        return None
    styles = looks(attacks)
    controls = list(dict.fromkeys(curve.attack for curve in known if curve.control))
    scorers = [row.label for row in headline.rows]
    axes = {measure: _up(known, measure) for measure in ("left", "shift")}
    first = headline.first.norm if headline.first else ""
    usual = usual_direction(headline.directions)
    variants = []
    for norm in dict.fromkeys(ball.norm for ball in headline.budgets):
        for direction in headline.directions:
            mine = [curve for curve in known if curve.norm == norm and curve.direction in (direction, CONTROL)]
            if not any(not curve.control for curve in mine):
                continue
            pictures = [_key(headline, norm, direction, mine, styles, controls)]
            for scorer in scorers:
                own = [curve for curve in mine if curve.scorer == scorer]
                if own:
                    pictures.append(_panel(scorer, own, norm, headline, axes, styles, controls))
            wanted = {"norm": norm} | ({"direction": direction} if len(headline.directions) > 1 else {})
            shown = norm == first and direction == usual
            variants.append(Variant(tuple(pictures), wanted, shown, f"{norm}, {direction}"))
    if not variants:
        return None
    caption = (
        "One panel per metric; its upper part is what is left, its lower how far scores move the attack's way. Bands "
        "and bars are 95 % intervals. Variants of one attack have its colour, in shades and dashes. The honest "
        "reference is no attack: the image restored where quality is to be raised, noise where it is to be lowered."
    )
    return Chart(headline.dataset, "strength", caption, tuple(variants), columns=2)


def _up(known: Sequence[Curve], measure: str) -> Axis:
    own = [place for curve in known if curve.measure == measure for place in curve.places]
    values = [value for place in own for value in place[1:]]
    return axis_over([*values, 0.0] if measure == "shift" else values, 0.0, 1.0, 5 if measure == "left" else 4)


def _key(
    headline: Headline,
    norm: str,
    direction: str,
    mine: Sequence[Curve],
    styles: Mapping[str, AttackLook],
    controls: Sequence[str],
) -> Picture:
    """Title and legend over all panels."""
    what = f"{headline.statistic} and shift" if headline.statistic else "shift of scores"
    title = f"{headline.dataset}: {what} against budget"
    parts, top = heading(title, [f"{norm} budgets, {direction}", sample_text(headline)], _LEGEND_WIDTH)
    drawn = {curve.attack for curve in mine}
    entries: list[tuple[str, list[Piece]]] = []
    names = [attack for attack in styles if attack in drawn]
    for attack in names:
        look = styles[attack]
        alone = sum(base_name(attack) == base_name(other) for other in names) == 1
        text = base_name(attack) if alone else attack
        sample: list[Piece] = [Stroke(((0, 0), (26, 0)), look.colour, 2, look.dash, look.shade)]
        entries.append((text, [*sample, Spot(13, 0, direction_mark(direction), look.colour, 4, opacity=look.shade)]))
    for control in controls:
        if control in drawn:
            dash = _CONTROL_DASHES[controls.index(control) % len(_CONTROL_DASHES)]
            entries.append((f"{base_name(control)} (control)", [Stroke(((0, 0), (26, 0)), CONTROL_COLOUR, 1.2, dash)]))
    if HONEST in drawn:
        entries.append((HONEST, [Stroke(((0, 0), (26, 0)), "ink", 1.5, (5, 3))]))
    below, end = legend(entries, top, _LEGEND_WIDTH)
    return Picture(_LEGEND_WIDTH, end, title, "Legend of the panels below.", (*parts, *below))


def _panel(
    scorer: str,
    own: Sequence[Curve],
    norm: str,
    headline: Headline,
    axes: Mapping[str, Axis],
    styles: Mapping[str, AttackLook],
    controls: Sequence[str],
) -> Picture:
    parts: list[Piece] = []
    y = 0.0
    for line in wrapped(scorer, _WIDTH, 13.5):
        y += 16
        parts.append(Words(0, y, line, 13, bold=True))
    radii = sorted({place.eps for curve in own for place in curve.places if place.eps})
    across = Axis(0.0, radii[-1], _LEFT, _RIGHT, tuple(radii))
    measures = [name for name in ("left", "shift") if any(curve.measure == name for curve in own)]
    told = []
    top = y + 24
    for measure in measures:
        name = headline.statistic if measure == "left" else "shift/σ, attack's way"
        tall = _TALL if measure == "left" or len(measures) == 1 else _LOW
        scale = axes[measure]
        up = Axis(scale.low, scale.high, top + tall, top, scale.ticks)
        parts += _frame(across, up, name)
        for curve in (one for one in own if one.measure == measure):
            parts.append(_curve(curve, across, up, styles, controls, 0.12 if len(styles) < 4 else 0.06))
            told.append(_in_words(curve, name))
        top += tall + 26
    parts += _budgets(across, norm, top - 26)
    description = f"{scorer} on {headline.dataset}: {'; '.join(told)}."
    return Picture(_WIDTH, top + 14, f"{scorer}: strength against budget", description, tuple(parts), scorer)


def _frame(across: Axis, up: Axis, name: str) -> list[Piece]:
    parts: list[Piece] = [Words(0, up.end - 9, name, 11, colour="muted")]
    for tick in up.ticks:
        width = 1.5 if tick == 0 else 1
        parts.append(Stroke(((across.start, up.at(tick)), (across.end, up.at(tick))), "line", width))
        parts.append(Words(across.start - 5, up.at(tick) + 4, tick_text(tick, up), 10.5, "end", "muted"))
    return parts


def _budgets(across: Axis, norm: str, bottom: float) -> list[Piece]:
    """The budgets below the lowest panel, those left out that would lie over their neighbours."""
    parts: list[Piece] = [Words(across.start, bottom + 15, "clean", 10.5, "middle", "muted")]
    end = across.start + 18
    last = across.ticks[-1]
    for eps in across.ticks:
        text, x = budget_text(norm, eps), across.at(eps)
        half = len(text) * 3.0
        near_last = eps != last and x + half > across.at(last) - len(budget_text(norm, last)) * 3.0 - 3
        parts.append(Stroke(((x, bottom), (x, bottom + 4)), "muted", 1))
        if x - half > end and not near_last:
            parts.append(Words(x, bottom + 15, text, 10.5, "middle", "muted"))
            end = x + half + 3
    parts.append(Words((across.start + across.end) / 2, bottom + 29, f"budget ε ({norm})", 11, "middle"))
    return parts


def _curve(
    curve: Curve, across: Axis, up: Axis, styles: Mapping[str, AttackLook], controls: Sequence[str], band: float
) -> Bundle:
    if curve.attack == HONEST:
        look, width = AttackLook("ink", (5, 3), 1.0), 1.5
    elif curve.control:
        look, width = (
            AttackLook(CONTROL_COLOUR, _CONTROL_DASHES[controls.index(curve.attack) % len(_CONTROL_DASHES)], 1.0),
            1.2,
        )
    else:
        look, width = styles[curve.attack], 2.0
    plain = curve.control or curve.attack == HONEST
    parts: list[Piece] = []
    points = tuple((across.at(place.eps), up.at(place.value)) for place in curve.places)
    banded = [place for place in curve.places if not math.isnan(place.low + place.high)]
    if not plain and curve.is_line and len(banded) > 1:
        edge = [(across.at(one.eps), up.at(up.within(one.low))) for one in banded]
        edge += [(across.at(one.eps), up.at(up.within(one.high))) for one in reversed(banded)]
        parts.append(Stroke(tuple(edge), look.colour, opacity=band, closed=True))
    elif not plain:
        for one in banded:
            if one.eps:
                ends = tuple((across.at(one.eps), up.at(up.within(value))) for value in (one.low, one.high))
                parts.append(Stroke(ends, look.colour, 1, opacity=0.6))
    if curve.is_line:
        parts.append(Stroke(points, look.colour, width, look.dash, look.shade))
    for place, (x, y) in zip(curve.places, points, strict=True):
        if place.eps and not (plain and curve.is_line):
            shape = "|" if plain else direction_mark(curve.direction)
            parts.append(Spot(x, y, shape, look.colour, 3.6, opacity=look.shade))
    figures = ", ".join(
        f"{budget_text(curve.norm, place.eps)}: {with_interval(place.value, place.low, place.high)}"
        for place in curve.places
        if place.eps
    )
    title = f"{curve.attack} {curve.direction} at {figures}"
    return Bundle(tuple(parts), title, {"attack": attack_text(curve.attack, curve.norm), "measure": curve.measure})


def _in_words(curve: Curve, name: str) -> str:
    figures = ", ".join(
        f"{number(place.value)} at {budget_text(curve.norm, place.eps) if place.eps else 'clean'}"
        for place in curve.places
    )
    return f"{name} under {curve.attack} {curve.direction} {figures}"
