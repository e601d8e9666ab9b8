"""Pictures of the page as PNG, PDF and SVG files: the same marks at the same places.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.engine.drawing import encoded
from harness.report.colours import LIGHT
from harness.report.page.svg import MARGIN, OUTLINES, Bundle, Picture, Piece, Spot, Stroke, Words, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 96
_PRINT_DPI = 300


def encoded_picture(picture: Picture, form: str, inches: float | None = None) -> bytes:
    """A picture as a file's bytes; the same picture gives the same bytes, without a date or a random name.

    Args:
        picture: What is drawn.
        form: "png", "pdf" or "svg".
        inches: At most so wide; never wider than it is drawn on a screen.
    """
    if form == "svg":
        return (svg_of(picture) + "\n").encode()
    return encoded(figure_of(picture, inches), form, _PRINT_DPI)


def figure_of(picture: Picture, inches: float | None = None) -> Figure:
    """A picture as a figure of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = picture.width + 2 * MARGIN, picture.height + 2 * MARGIN
    wide = width / PIXELS_PER_INCH
    scale = min(1.0, inches / wide) if inches else 1.0
    figure = Figure(figsize=(wide * scale, height / PIXELS_PER_INCH * scale))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-MARGIN, picture.width + MARGIN)
    axes.set_ylim(picture.height + MARGIN, -MARGIN)
    axes.axis("off")
    points = 72 / PIXELS_PER_INCH * scale
    for order, part in enumerate(marks_of(picture.parts)):
        _draw(axes, part, points, order)
    return figure


def marks_of(parts: tuple[Piece, ...]) -> list[Stroke | Spot | Words]:
    """The marks of a picture without their groups, from back to front."""
    found: list[Stroke | Spot | Words] = []
    for part in parts:
        found += marks_of(part.parts) if isinstance(part, Bundle) else [part]
    return found


def _draw(axes: Axes, part: Stroke | Spot | Words, points: float, order: int) -> None:
    """Draw one mark.

    Args:
        axes: Of pixels.
        part: The mark.
        points: Of print in one pixel.
        order: What is larger lies in front.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Polygon

    look: dict[str, Any]
    colour = LIGHT[part.colour]
    if isinstance(part, Words):
        axes.text(
            part.x,
            part.y,
            part.text,
            fontsize=part.size * points,
            ha={"start": "left", "middle": "center", "end": "right"}[part.anchor],
            va="baseline",
            color=colour,
            weight="bold" if part.bold else "normal",
            zorder=order,
        )
    elif isinstance(part, Stroke) and part.closed:
        axes.add_patch(Polygon(part.points, facecolor=colour, edgecolor="none", alpha=part.opacity, zorder=order))
    elif isinstance(part, Stroke):
        x, y = zip(*part.points, strict=True)
        look = {"color": colour, "linewidth": part.width * points, "alpha": part.opacity, "zorder": order}
        if part.dash:
            look["dashes"] = [max(0.1, length / part.width) for length in part.dash]
        axes.add_line(Line2D(x, y, **look))
    else:
        look = {
            "facecolor": LIGHT["ground"] if part.hollow else colour,
            "edgecolor": colour,
            "linewidth": (1.6 if part.hollow else 0.8) * points,
            "alpha": part.opacity,
            "zorder": order,
        }
        if part.shape in OUTLINES:
            corners = [(part.x + part.size * x, part.y + part.size * y) for x, y in OUTLINES[part.shape]]
            axes.add_patch(Polygon(corners, **look))
        else:
            axes.add_patch(Circle((part.x, part.y), part.size, **look))
