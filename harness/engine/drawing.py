"""How every picture looks and is written: one palette, two widths of print, three formats, the same bytes each time.

matplotlib is imported only when a figure is made.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.glyphs import drawable
from harness.errors import UserError
from harness.files import write_whole
from harness.wording import did_you_mean, for_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

PALETTE = ("#1149c6", "#ca5c11", "#65b4a5", "#620043", "#9d79ff", "#11765d", "#f8ac36", "#514015")
"""Colours in the order in which a picture takes them.

Their lightness is a ladder of steps of 8 (CIELAB L* 20 to 76; the first four keep 16), so that they differ in grey; the
hues were chosen on it for the largest least difference to readers without red, green or blue cones.
"""
INK = "#222222"
GREYS = ("#444444", "#767676", "#9a9a9a", "#bbbbbb")
"""Controls, guides and what stands behind."""
GUIDE = GREYS[2]
ALARM = GREYS[0]
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))

FIGURE_WIDTHS = {"column": 3.35, "page": 6.9}
"""Size -> width in inches: of one column and of the text of a page in two columns."""
FIGURE_FORMATS = ("png", "pdf", "svg")
_SCREEN_DPI, _PRINT_DPI = 130, 300
_REPRODUCIBLE: Any = {
    "pdf.fonttype": 42,  # TrueType, embedded: publishers refuse type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "robustiqa",
}
_WITHOUT_A_DATE: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
_SMALLEST = 6
_LETTER = 0.56
"""Mean width of a letter over its size in points."""


def formats_named(text: str) -> tuple[str, ...]:
    """Formats as the command line gives them, such as ``pdf,svg``.

    Raises:
        UserError: One is none.
    """
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for one in found:
        if one not in FIGURE_FORMATS:
            raise UserError(f"--figures {text}: '{one}' is no format of figures.{did_you_mean(one, FIGURE_FORMATS)}")
    if not found:
        raise UserError(f"--figures {text!r}: names no format. Take {', '.join(FIGURE_FORMATS)}, such as pdf,svg.")
    return found


def figure_width(size: str) -> float:
    """Inches of a size of figures.

    Raises:
        UserError: There is no such size.
    """
    if size not in FIGURE_WIDTHS:
        known = ", ".join(f"{name} ({wide} in)" for name, wide in FIGURE_WIDTHS.items())
        raise UserError(f"--size {size}: no size of figures. Take {known}.")
    return FIGURE_WIDTHS[size]


def new_figure(wide: float, tall: float) -> Figure:
    """An empty figure of so many inches, laid out when it is written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, tall), layout="constrained", dpi=_SCREEN_DPI)
    FigureCanvasAgg(figure)
    return figure


def side_by_side(wide: float, least: float, most: int) -> int:
    """How many panels of at least so many inches stand side by side."""
    return max(1, min(most, int(wide / least)))


def lines_within(text: str, wide: float, points: float) -> str:
    """A text broken so that every line fits into so many inches; breaks that it has stay."""
    letters = max(12, int(72 * wide / (_LETTER * points)))
    return "\n".join(textwrap.fill(line, letters, break_long_words=False) for line in text.splitlines())


def plain_axes(axes: Axes, points: float = 8) -> None:
    """A faint grid, and no frame to the right and on top."""
    axes.tick_params(labelsize=points)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def title_above(figure: Figure, title: str, points: float = 10) -> None:
    """A title over all panels, in as many lines as it takes."""
    figure.suptitle(lines_within(title, figure.get_size_inches()[0], points), fontsize=points)


def legend_below(
    figure: Figure, known: Mapping[str, Any] | None = None, most: int = 4, points: float = 8, note: str = ""
) -> None:
    """A legend under the panels, in as many columns as its longest line leaves room for.

    Args:
        figure: What is drawn.
        known: Text -> what stands for it; by default everything that the panels label, each text once.
        most: Columns.
        points: Size of letters.
        note: Stands small above it.
    """
    if known is None:
        known = labelled(figure)
    if not known:
        return
    longest = max(map(len, known)) * _LETTER * points / 72 + 0.5
    columns = max(1, min(most, len(known), int(figure.get_size_inches()[0] / longest)))
    figure.legend(
        list(known.values()),
        list(map(legend_name, known)),
        loc="outside lower center",
        ncols=columns,
        fontsize=points,
        frameon=False,
        title=lines_within(note, figure.get_size_inches()[0], _SMALLEST) or None,
        title_fontproperties={"size": _SMALLEST},
    )


def legend_name(text: str) -> str:
    """A name as legends list it: matplotlib leaves out those that begin with an underscore."""
    return f" {text}" if text.startswith("_") else text


def labelled(figure: Figure) -> dict[str, Any]:
    """Text -> what stands for it, of everything that a figure's panels label."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, texts = axes.get_legend_handles_labels()
        found |= dict(zip(texts, handles, strict=True))
    return found


def encoded(figure: Figure, form: str = "png", dpi: int = _SCREEN_DPI) -> bytes:
    """A figure as a file's bytes, fonts embedded: neither dates nor random names are among them.

    Args:
        figure: What is drawn.
        form: One of `FIGURE_FORMATS`.
        dpi: Dots per inch of a PNG.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    _take_names_literally(figure)
    with mpl.rc_context(_REPRODUCIBLE):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=_WITHOUT_A_DATE[form])
    return buffer.getvalue()


def _take_names_literally(figure: Figure) -> None:
    """Draw names as they are written, dollar signs too, in fonts that have their letters.

    Labels of ticks that matplotlib makes itself are formulas and stay so.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    axes = [axis for part in figure.axes for axis in (part.xaxis, part.yaxis)]
    made = [axis for axis in axes if not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)]
    formulas = {id(label) for axis in made for label in axis.get_ticklabels(which="both")}
    literal: list[Formatter] = []
    for axis in axes:
        formatter = axis.get_major_formatter()
        # Panels that share an axis share its formatter, which is changed for all of them at once.
        if isinstance(formatter, FixedFormatter | FuncFormatter) and formatter not in literal:
            axis.set_major_formatter(own := FuncFormatter(_as_written(formatter)))
            literal.append(own)
        axis.get_ticklabels()  # makes those that are not there yet
    for text in figure.findobj(Text):
        if id(text) not in formulas:
            written, families = drawable(for_plot(text.get_text()))
            text.set_text(written)
            text.set_parse_math(False)
            text.set_usetex(False)
            if families:
                text.set_fontfamily([*text.get_fontfamily(), *families])


def _as_written(formatter: Formatter) -> Callable[[float, int | None], str]:
    """The labels of an axis as they can be drawn; a picture is measured often before it is drawn."""
    drawn = functools.cache(lambda text: drawable(for_plot(text)).text)
    return lambda value, place: drawn(formatter(value, place))


def printed_forms(figure: Figure, stem: Path, formats: Sequence[str]) -> dict[Path, bytes]:
    """What ``STEM.FORMAT`` is to hold for each format."""
    return {stem.with_name(f"{stem.name}.{form}"): encoded(figure, form, _PRINT_DPI) for form in formats}


def save(figure: Figure, stem: Path, formats: Sequence[str], size: str | None = None) -> list[Path]:
    """Write a figure as ``STEM.FORMAT`` for each format.

    Args:
        figure: What is drawn; letters keep their size whatever its width becomes.
        stem: Path without the suffix.
        formats: Some of `FIGURE_FORMATS`.
        size: One of `FIGURE_WIDTHS`, which the figure is brought to, its height by the root of as much; None leaves it
            as it is.

    Raises:
        UserError: There is no such size, or the file cannot be written.
    """
    if size is not None:
        wide, (old, tall) = figure_width(size), figure.get_size_inches()
        figure.set_size_inches(wide, tall * (wide / old) ** 0.5)
    pages = printed_forms(figure, stem, formats)
    for path, page in pages.items():
        try:
            write_whole(path, page)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}). Choose another place.") from error
    return list(pages)
