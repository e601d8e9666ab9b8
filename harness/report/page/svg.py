"""A small kit for pictures: marks on a canvas, axes, and their text as SVG that follows the page's colours."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.report.colours import LIGHT
from harness.wording import for_html, visible

Point = tuple[float, float]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MARGIN = 8.0
"""Pixels around a picture in a file of its own."""
_LETTER = 0.55
"""Mean width of a letter over its size."""


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Pixel of the low end.
        end: Pixel of the high end; above a vertical axis's start it is the smaller number.
        ticks: Values that are written beside it.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def value(self, pixel: float) -> float:
        """Value at a pixel."""
        return self.low + (pixel - self.start) / (self.end - self.start) * (self.high - self.low)

    def within(self, value: float) -> float:
        """The nearest value that the axis has."""
        return min(max(value, self.low), self.high)


def axis_over(values: Iterable[float], start: float, end: float, count: int = 5) -> Axis:
    """An axis from a round number to a round number that holds all values; nan is left out."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / max(1, count - 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(place * step, 10) for place in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Stroke:
    """A line through points; with `closed`, an area without an edge."""

    points: tuple[Point, ...]
    colour: str = "ink"
    width: float = 1.5
    dash: tuple[float, ...] = ()
    opacity: float = 1.0
    closed: bool = False


@dataclass(frozen=True)
class Spot:
    """A mark at a place: "o", "^", "v", "D", "s", "X", "P" or "|"."""

    x: float
    y: float
    shape: str = "o"
    colour: str = "ink"
    size: float = 4.5
    hollow: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Words:
    """One line of text; y is its base line."""

    x: float
    y: float
    text: str
    size: float = 12.0
    anchor: str = "start"
    colour: str = "ink"
    bold: bool = False
    name: str = ""
    """What a script finds it by."""


@dataclass(frozen=True)
class Bundle:
    """Marks that belong together.

    Attributes:
        parts: The marks.
        title: What they show, in words: seen where the pointer rests.
        data: Name -> value of attributes ``data-NAME``.
    """

    parts: tuple[Piece, ...]
    title: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


Piece = Stroke | Spot | Words | Bundle


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        width: In pixels.
        height: In pixels.
        title: What it is, in a few words.
        description: What it shows, in words that stand for it where it cannot be seen.
        parts: What is drawn, from back to front.
        metric: Whose panel it is, for scripts; empty for no one's.
    """

    width: float
    height: float
    title: str
    description: str
    parts: tuple[Piece, ...]
    metric: str = ""


def text_width(text: str, size: float, bold: bool = False) -> float:
    """About how many pixels a text is wide."""
    return len(text) * size * _LETTER * (1.06 if bold else 1.0)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text in lines of at most so many pixels."""
    return textwrap.wrap(text, max(10, int(width / (_LETTER * size)))) or [""]


def fitted(text: str, width: float, size: float) -> str:
    """A text of at most so many pixels, its middle left out where it is longer."""
    most = max(8, int(width / (_LETTER * size)))
    if len(text) <= most:
        return text
    ahead = (most - 1) * 3 // 5
    return f"{text[:ahead]}…{text[len(text) - (most - 1 - ahead) :]}"


def heading(title: str, lines: Sequence[str], width: float) -> tuple[list[Piece], float]:
    """A title with lines under it at the top of a picture, and the pixel below them."""
    parts: list[Piece] = []
    y = 0.0
    for text in wrapped(title, width, 15.5):
        y += 19
        parts.append(Words(0, y, text, 15, bold=True))
    for line in lines:
        for text in wrapped(line, width, 12.4):
            y += 16
            parts.append(Words(0, y, text, 12, colour="muted"))
    return parts, y + 6


def legend(
    entries: Sequence[tuple[str, Sequence[Piece]]], top: float, width: float, size: float = 12
) -> tuple[list[Piece], float]:
    """Entries side by side in as many lines as they take, and the pixel below them.

    Args:
        entries: (text, marks of a sample 26 wide and about 14 tall, drawn around (13, 0)).
        top: Upper end.
        width: Of the picture.
        size: Of letters.
    """
    parts: list[Piece] = []
    x, y = 0.0, top + 12
    for text, sample in entries:
        told = fitted(text, width - 36, size)
        wide = 32 + text_width(told, size) + 14
        if x and x + wide - 14 > width:
            x, y = 0.0, y + 19
        parts += [moved(part, x, y - 4) for part in sample]
        parts.append(Words(x + 32, y, told, size))
        x += wide
    return parts, y + 8 if entries else top


def moved(part: Piece, right: float, down: float) -> Piece:
    """A mark at another place."""
    if isinstance(part, Stroke):
        return replace(part, points=tuple((x + right, y + down) for x, y in part.points))
    if isinstance(part, Bundle):
        return replace(part, parts=tuple(moved(one, right, down) for one in part.parts))
    return replace(part, x=part.x + right, y=part.y + down)


def composed(pictures: Sequence[Picture], columns: int, gap: float = 18) -> Picture:
    """Several pictures as one: the first over the whole width, the others in so many columns below it."""
    first, rest = pictures[0], pictures[1:]
    parts = list(first.parts)
    top, wide = first.height + gap / 2, first.width
    for start in range(0, len(rest), columns):
        strip = rest[start : start + columns]
        for place, one in enumerate(strip):
            left = place * (one.width + gap)
            parts += [moved(part, left, top) for part in one.parts]
            wide = max(wide, left + one.width)
        top += max(one.height for one in strip) + gap
    return Picture(wide, top, first.title, first.description, tuple(parts))


def svg_of(picture: Picture, name: str = "") -> str:
    """A picture as SVG, with its description for those who cannot see it.

    Args:
        picture: What is drawn.
        name: Its id in a page, whose colours it takes then; without one it is a file of its own, in the light ones.
    """
    inline = bool(name)
    edge = 0.0 if inline else MARGIN
    width, height = picture.width + 2 * edge, picture.height + 2 * edge
    head = f'viewBox="{_number(-edge)} {_number(-edge)} {_number(width)} {_number(height)}" role="img"'
    ids = (f' id="{name}-t"', f' id="{name}-d"') if inline else ("", "")
    ground = ""
    if inline:
        head += f' font-family="{FONT}" aria-labelledby="{name}-t {name}-d"'
        head += f' data-panel="{_text(picture.metric)}"' if picture.metric else ""
    else:
        head += f' xmlns="http://www.w3.org/2000/svg" font-family="{FONT}"'
        head += f' width="{_number(width)}" height="{_number(height)}"'
        place = f'x="{_number(-edge)}" y="{_number(-edge)}"'
        ground = f'<rect {place} width="100%" height="100%" fill="{_paint("ground", inline=False)}"/>'
    body = "".join(_elements(picture.parts, inline))
    return (
        f"<svg {head}><title{ids[0]}>{_text(picture.title)}</title><desc{ids[1]}>{_text(picture.description)}</desc>"
        f"{ground}{body}</svg>"
    )


def _elements(parts: Iterable[Piece], inline: bool) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Bundle):
            data = "".join(f' data-{name}="{_text(value)}"' for name, value in part.data.items())
            title = f"<title>{_text(part.title)}</title>" if part.title else ""
            yield f"<g{data}>{title}{''.join(_elements(part.parts, inline))}</g>"
        elif isinstance(part, Stroke):
            yield _line(part, inline)
        elif isinstance(part, Spot):
            yield _spot(part, inline)
        else:
            yield _words(part, inline)


def _line(line: Stroke, inline: bool) -> str:
    path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in line.points) + ("Z" if line.closed else "")
    if line.closed:
        look = f'fill="{_paint(line.colour, inline)}"'
        return f'<path d="{path}" {look}{_opacity("fill-opacity", line.opacity)}/>'
    dash = f' stroke-dasharray="{" ".join(map(_number, line.dash))}"' if line.dash else ""
    look = f'fill="none" stroke="{_paint(line.colour, inline)}" stroke-width="{_number(line.width)}"'
    return f'<path d="{path}" {look}{dash}{_opacity("stroke-opacity", line.opacity)}/>'


OUTLINES: Mapping[str, tuple[Point, ...]] = {
    "^": ((0, -1.15), (1.05, 0.8), (-1.05, 0.8)),
    "v": ((0, 1.15), (1.05, -0.8), (-1.05, -0.8)),
    "D": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "s": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "|": ((-0.3, -1.3), (0.3, -1.3), (0.3, 1.3), (-0.3, 1.3)),
    "X": (
        *((-1.1, -0.6), (-0.6, -1.1), (0, -0.5), (0.6, -1.1), (1.1, -0.6), (0.5, 0)),
        *((1.1, 0.6), (0.6, 1.1), (0, 0.5), (-0.6, 1.1), (-1.1, 0.6), (-0.5, 0)),
    ),
    "P": (
        *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
        *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ),
}
"""Corners of marks around (0, 0), in their sizes; of all but the circle."""


def _spot(spot: Spot, inline: bool) -> str:
    paint = _paint(spot.colour, inline)
    inside = _paint("ground", inline) if spot.hollow else paint
    look = f'fill="{inside}" stroke="{paint}" stroke-width="{1.6 if spot.hollow else 0.8}"'
    look += _opacity("opacity", spot.opacity)
    if spot.shape not in OUTLINES:
        return f'<circle cx="{_number(spot.x)}" cy="{_number(spot.y)}" r="{_number(spot.size)}" {look}/>'
    corners = ((spot.x + spot.size * x, spot.y + spot.size * y) for x, y in OUTLINES[spot.shape])
    path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in corners) + "Z"
    at = f'data-x="{_number(spot.x)}" data-y="{_number(spot.y)}"'
    return f'<path d="{path}" {at} {look}/>'


def _words(words: Words, inline: bool) -> str:
    anchor = "" if words.anchor == "start" else f' text-anchor="{words.anchor}"'
    bold = ' font-weight="600"' if words.bold else ""
    name = f' data-name="{_text(words.name)}"' if words.name else ""
    place = f'x="{_number(words.x)}" y="{_number(words.y)}" font-size="{_number(words.size)}"'
    return f'<text {place}{anchor}{bold}{name} fill="{_paint(words.colour, inline)}">{_text(words.text)}</text>'


def _opacity(name: str, value: float) -> str:
    return "" if value == 1 else f' {name}="{_number(value)}"'


def _paint(colour: str, inline: bool) -> str:
    return f"var(--{colour})" if inline else LIGHT[colour]


def _text(text: str) -> str:
    return for_html(visible(text))


def _number(value: float) -> str:
    """A number with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
