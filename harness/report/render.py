"""Tables to the terminal, Markdown, CSV and one HTML page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.files import TERMINAL, csv_of, write_whole
from harness.report.arrays import Evaluated, lay_out
from harness.report.build import NOT_MADE
from harness.report.data import RunData
from harness.report.first_screen import first_screen
from harness.report.headline import Headline, headlines
from harness.report.layout import Layout
from harness.report.summary import sentences
from harness.report.table import Table
from harness.suite.tables import table_names
from harness.wording import for_markdown, html_environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_OLDER = "terminal.txt"
"""What an older version kept of what it printed."""
_BY_SPLIT = "_by_split"
"""What follows a table's name in the file that has the rows of each split."""


@dataclass(frozen=True)
class PrintForms:
    """What a report is written as besides, for whoever sets it in print.

    Attributes:
        latex: Tables as ``tables/<name>.tex``, and ``report.tex`` that takes them all in.
        formats: Formats of figures, ``figures/<name>_<size>.<format>``.
        size: "column" or "page".
    """

    latex: bool = False
    formats: tuple[str, ...] = ()
    size: str = "page"


def write_report(
    data: RunData,
    tables: Sequence[Table],
    folder: Path,
    forms: PrintForms | None = None,
    evaluated: Sequence[Evaluated] | None = None,
) -> None:
    """Write ``tables/<name>.csv`` and ``.md``, ``figures/<data set>.png``, ``index.html`` and ``terminal.json``.

    A frontier has a picture of its own, ``figures/<data set>_frontier.png``. Verdicts are also in
    ``tables/verdicts.json``.

    Every file is written under a temporary name and renamed, so that a reader never sees half of one. Figures are drawn
    again only if a table has changed.

    Args:
        data: The run.
        tables: Its tables.
        folder: Where to write; made if need be.
        forms: What is written for print besides. What an earlier call wrote for print is removed where it is no longer
            what the tables say.
        evaluated: The data sets of the run, where they are laid out already.
    """
    from harness.report.figures import draw_figures, frontier_name

    pages: dict[Path, bytes] = {}
    for name in dict.fromkeys(table.name for table in tables):
        mine = [table for table in tables if table.name == name]
        pages[folder / "tables" / f"{name}.csv"] = csv_text(mine).encode()
        if any(table.by_split is not None for table in mine):
            pages[folder / "tables" / f"{name}{_BY_SPLIT}.csv"] = by_split_text(mine).encode()
        pages[folder / "tables" / f"{name}.md"] = "\n".join(markdown(table) for table in mine).encode()
        if name == "verdicts":
            pages[folder / "tables" / f"{name}.json"] = json_text(mine).encode()
    frontiers = [frontier_name(table.dataset) for table in tables if table.name == "frontier"]
    names = dict.fromkeys(data.splits.get(name, name) for name in data.datasets)
    drawn = {name: folder / "figures" / f"{file_name(name)}.png" for name in (*names, *frontiers)}
    same = all(path.is_file() and path.read_bytes() == page for path, page in pages.items())
    if same and all(path.is_file() for path in drawn.values()):
        figures = {dataset: path.read_bytes() for dataset, path in drawn.items() if path.is_file()}
    else:
        figures = draw_figures(tables)
        # Tables come last: those that stand say that the figures beside them are of today.
        for path, page in ({drawn[dataset]: png for dataset, png in figures.items()} | pages).items():
            write_whole(path, page)
    printed = dict(_for_print(data, tables, folder, forms or PrintForms()))
    for path, page in printed.items():
        write_whole(path, page)
    if not same:
        for path in set(_print_files(folder)) - set(printed):
            path.unlink()
    heads = headlines(data, lay_out(data) if evaluated is None else evaluated)
    write_whole(folder / "index.html", html(data, tables, figures, heads).encode())
    (folder / _OLDER).unlink(missing_ok=True)
    write_whole(folder / TERMINAL, first_screen(data, tables, heads).text().encode())
    for name in {*table_names(), NOT_MADE} - {table.name for table in tables}:  # of a report that had it
        for suffix in (".csv", f"{_BY_SPLIT}.csv", ".md"):
            (folder / "tables" / f"{name}{suffix}").unlink(missing_ok=True)


def _for_print(data: RunData, tables: Sequence[Table], folder: Path, forms: PrintForms) -> Iterator[tuple[Path, bytes]]:
    """What is to be written for print."""
    from harness.engine.drawing import figure_width, printed_forms
    from harness.report.figures import figures_of
    from harness.report.latex import PREAMBLE, latex, latex_page

    pictures: dict[str, str] = {}
    if forms.formats:
        for name, figure in figures_of(tables, figure_width(forms.size)).items():
            pages = printed_forms(figure, folder / "figures" / f"{file_name(name)}_{forms.size}", forms.formats)
            yield from pages.items()
            readable = [path for path in pages if path.suffix in (".pdf", ".png")]
            pictures |= {f"figures/{path.name}": _title(figure, name) for path in readable[:1]}
    if forms.latex:
        names = list(dict.fromkeys(table.name for table in tables))
        for name in names:
            fragments = [latex(table) for table in tables if table.name == name]
            yield folder / "tables" / f"{name}.tex", "\n".join([PREAMBLE, *fragments]).encode()
        inputs = [f"tables/{name}.tex" for name in names]
        page = latex_page(data.name, inputs, pictures)
        yield folder / "report.tex", page.encode()


def _title(figure: Figure, name: str) -> str:
    """What stands over a figure, in one line; its name where nothing does."""
    return f"{' '.join(figure.get_suptitle().split()) or name}."


def _print_files(folder: Path) -> Iterator[Path]:
    """What earlier calls wrote for print."""
    from harness.engine.drawing import FIGURE_FORMATS, FIGURE_WIDTHS

    yield from (folder / "tables").glob("*.tex")
    yield from folder.glob("report.tex")
    for size in FIGURE_WIDTHS:
        for form in FIGURE_FORMATS:
            yield from (folder / "figures").glob(f"*_{size}.{form}")


def csv_text(tables: Sequence[Table]) -> str:
    """Every figure of the tables of one name as CSV, all data sets one under the other."""
    return _csv([table.frame for table in tables])


def by_split_text(tables: Sequence[Table]) -> str:
    """Every figure of each split as CSV, all data sets one under the other."""
    return _csv([table.by_split for table in tables if table.by_split is not None])


def _csv(frames: Sequence[pd.DataFrame]) -> str:
    return csv_of(pd.concat(frames, ignore_index=True))


def json_text(tables: Sequence[Table]) -> str:
    """Every row of the tables of one name as a JSON list of objects; what has no value is null."""
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return str(frame.to_json(orient="records", indent=1, force_ascii=False)) + "\n"


def markdown(table: Table) -> str:
    """One table as Markdown, with its explanation above and its protocol line below."""
    layout = table.full
    lines = [f"## {for_markdown(table.title)}", "", for_markdown(table.explanation), ""]
    lines.append(_markdown_row(layout.header))
    lines.append("|" + "---|" * layout.labels + "---:|" * (len(layout.header) - layout.labels))
    lines += [_markdown_row(row) for row in layout.rows]
    told = [note for note in (layout.note, *table.notes) if note]
    lines += ["", *(f"{for_markdown(note)}\n" for note in told), for_markdown(table.protocol), ""]
    return "\n".join(lines)


def html(data: RunData, tables: Sequence[Table], figures: dict[str, bytes], heads: Sequence[Headline]) -> str:
    """The whole report as one page that needs no other file."""
    source = resources.files("harness.report").joinpath("templates", "report.html").read_text(encoding="utf-8")
    return (
        html_environment()
        .from_string(source)
        .render(
            data=data,
            tables=[table for table in tables if table.name != "failures"],
            failures=data.failures,
            failed=next((table for table in tables if table.name == "failures"), None),
            figures={name: (base64.b64encode(png).decode(), _png_width(png)) for name, png in figures.items()},
            summary=sentences(heads),
            starts=_starts,
            file_name=file_name,
        )
    )


def file_name(name: str) -> str:
    """A name with everything but letters, digits, dots, dashes and underscores replaced."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _png_width(png: bytes) -> int:
    """Width in pixels, from the header."""
    return int.from_bytes(png[16:20], "big")


def _starts(layout: Layout) -> list[bool]:
    """Whether each row is the first of a new scorer."""
    before = [None, *(row[0] for row in layout.rows)]
    return [row[0] != previous for row, previous in zip(layout.rows, before, strict=False)]


def _markdown_row(cells: Sequence[str]) -> str:
    clean = (for_markdown(cell.replace("\n[", " [").replace("\n", "; ")) for cell in cells)
    return "| " + " | ".join(clean) + " |"
