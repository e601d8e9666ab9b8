"""A picture as a PDF whose letters are outlines: without a font it is small and quickly made, as a page needs it.

Files that `harness.report.page.on_paper` writes have fonts, and so text that can be searched.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from harness.engine.glyphs import drawable
from harness.report.colours import LIGHT
from harness.report.page.on_paper import PIXELS_PER_INCH, marks_of
from harness.report.page.svg import OUTLINES, Picture, Point, Spot, Stroke, Words
from harness.wording import for_plot

_MARGIN = 6.0
_ROUND = 0.5523
"""Of a quarter of a circle: how far its control points lie from its ends, in radii."""
_EM = 100
"""Units of matplotlib's outlines in the size of a letter."""
_FONT = "DejaVu Sans"


def outlined_pdf(picture: Picture) -> bytes:
    """The picture as a PDF of one page; the same picture gives the same bytes, and no date is in them."""
    scale = 72 / PIXELS_PER_INCH
    width, height = (scale * (length + 2 * _MARGIN) for length in (picture.width, picture.height))
    marks = marks_of(picture.parts)
    start = f"{_n(scale)} 0 0 {_n(-scale)} {_n(scale * _MARGIN)} {_n(height - scale * _MARGIN)} cm 1 j"
    shapes = [line for mark in marks if not isinstance(mark, Words) for line in _drawn(mark)]
    letters = _letters([mark for mark in marks if isinstance(mark, Words)])
    drawn = zlib.compress("\n".join([start, *shapes, *letters]).encode("ascii"), 9)
    shades = {mark.opacity for mark in marks if not isinstance(mark, Words) and mark.opacity < 1}
    states = " ".join(f"/{_state(shade)} << /ca {_n(shade)} /CA {_n(shade)} >>" for shade in sorted(shades))
    title = ("\ufeff" + picture.title).encode("utf-16-be").hex()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_n(width)} {_n(height)}] /Contents 4 0 R "
        f"/Resources << /ExtGState << {states} >> >> >>".encode(),
        f"<< /Length {len(drawn)} /Filter /FlateDecode >>\nstream\n".encode() + drawn + b"\nendstream",
        f"<< /Title <{title}> >>".encode(),
    ]
    return _file(objects)


def _file(objects: Iterable[bytes]) -> bytes:
    """Objects as a file, the first its root and the last what is known of it."""
    text, places = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n".encode() + one + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    count = len(places) + 1
    end = f"trailer\n<< /Size {count} /Root 1 0 R /Info {count - 1} 0 R >>\nstartxref\n{len(text)}\n%%EOF\n"
    return text + f"xref\n0 {count}\n0000000000 65535 f \n{table}{end}".encode()


def _drawn(mark: Stroke | Spot) -> Iterator[str]:
    """What draws a mark."""
    yield "q"
    if mark.opacity < 1:
        yield f"/{_state(mark.opacity)} gs"
    if isinstance(mark, Stroke):
        yield from [_colour(mark.colour, "rg" if mark.closed else "RG"), f"{_n(mark.width)} w"]
        if mark.dash:
            yield f"[{' '.join(map(_n, mark.dash))}] 0 d"
        yield _path(mark.points) + (" h f" if mark.closed else " S")
    else:
        yield from [_colour("ground" if mark.hollow else mark.colour, "rg"), _colour(mark.colour, "RG")]
        yield f"{'1.6' if mark.hollow else '0.8'} w"
        corners = [(mark.x + mark.size * x, mark.y + mark.size * y) for x, y in OUTLINES.get(mark.shape, ())]
        yield (_path(corners) + " h" if corners else _circle(mark)) + " B"
    yield "Q"


def _state(opacity: float) -> str:
    return f"a{round(1000 * opacity)}"


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{_n(x)} {_n(y)} {'l' if place else 'm'}" for place, (x, y) in enumerate(points))


def _circle(spot: Spot) -> str:
    x, y, r, c = spot.x, spot.y, spot.size, spot.size * _ROUND
    curves = (
        (x + r, y + c, x + c, y + r, x, y + r),
        (x - c, y + r, x - r, y + c, x - r, y),
        (x - r, y - c, x - c, y - r, x, y - r),
        (x + c, y - r, x + r, y - c, x + r, y),
    )
    return f"{_n(x + r)} {_n(y)} m " + " ".join(f"{' '.join(map(_n, curve))} c" for curve in curves) + " h"


def _letters(lines: Iterable[Words]) -> Iterator[str]:
    """Lines of text, each letter where the one before it ends; all of one letter together, since that packs well."""
    placed: dict[str, list[tuple[str, str, float, float]]] = {}
    for words in lines:
        text, families = drawable(for_plot(words.text))
        glyphs = [_glyph(letter, words.bold, tuple(families)) for letter in text]
        size = words.size / _EM
        whole = size * sum(advance for _, advance in glyphs)
        x = words.x - {"start": 0.0, "middle": whole / 2, "end": whole}[words.anchor]
        for outline, advance in glyphs:
            placed.setdefault(outline, []).append((_colour(words.colour, "rg"), _n(size), x, words.y))
            x += size * advance
    for outline, places in placed.items():
        for colour, scale, left, base in sorted(places) if outline else ():
            yield f"q {colour} {scale} 0 0 -{scale} {left:.1f} {base:.1f} cm {outline} f Q"


@functools.lru_cache(maxsize=1024)
def _glyph(letter: str, bold: bool, families: tuple[str, ...]) -> tuple[str, float]:
    """A letter's outline, and how far the next one stands from it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    look, outlines = FontProperties(family=[_FONT, *families], weight="bold" if bold else "normal"), TextToPath()
    vertices, codes = outlines.get_text_path(look, letter)
    alone, after = (_last_stroke(*outlines.get_text_path(look, text)) for text in ("|", f"{letter}|"))
    return _outline(list(vertices), list(codes)), after - alone


def _last_stroke(vertices: Any, codes: Any) -> float:
    """Where the bar at the end of a text begins: a rectangle of four corners."""
    drawn = [float(x) for (x, _), code in zip(vertices, codes, strict=True) if code in (1, 2)]
    return min(drawn[-4:])


def _outline(vertices: list[Point], codes: list[int]) -> str:
    """Operators of an outline: TrueType's curves have one control point, those of PDF two."""
    parts, at, place = [], (0.0, 0.0), 0
    while place < len(codes):
        code, (x, y) = codes[place], vertices[place]
        if code == 3:
            end = vertices[place + 1]
            first, second = (tuple(p + 2 / 3 * (c - p) for p, c in zip(one, (x, y), strict=True)) for one in (at, end))
            parts.append(f"{' '.join(map(_tenth, (*first, *second, *end)))} c")
            at, place = end, place + 2
            continue
        if code == 4:
            end = vertices[place + 2]
            parts.append(f"{' '.join(map(_tenth, (x, y, *vertices[place + 1], *end)))} c")
            at, place = end, place + 3
            continue
        parts.append("h" if code == 79 else f"{_tenth(x)} {_tenth(y)} {'m' if code == 1 else 'l'}")
        at, place = (x, y), place + 1
    return " ".join(parts)


def _colour(name: str, operator: str) -> str:
    value = LIGHT[name].lstrip("#")
    return " ".join(_n(int(value[i : i + 2], 16) / 255) for i in (0, 2, 4)) + f" {operator}"


def _tenth(value: float) -> str:
    """A place within a letter: a tenth is a thousandth of its size."""
    return _n(round(value, 1))


def _n(value: float) -> str:
    """A number without an exponent and without zeros at its end."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
