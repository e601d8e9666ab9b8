r"""A grid as LaTeX: booktabs rules, figures in siunitx columns, headers over several columns.

pandas' ``Styler.to_latex`` has neither rules under the headers that span columns nor lines between panels, and escapes
ASCII alone; so this is a writer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.layouts.grid import BEST, SECOND, Grid, GridEntry, Line, for_people, starts
from harness.wording import MISSING, for_latex

PACKAGES = ("booktabs", "siunitx", "graphicx", "amssymb")
_SETUP = "text-series-to-math = true, propagate-math-font = true, group-separator = {,}, group-minimum-digits = 4"
_MANY = 7
"""Columns of figures that have the usual room between them; more are set closer."""


def write(grid: Grid) -> str:
    r"""A ``table`` to be ``\input``, with a short caption for the list of tables and a long one with the protocol."""
    kinds = [_Kind(own) for own in _columns(grid)]
    stubs = [_stub_kind([line.labels[i] for line in _lines(grid)]) for i in range(len(grid.stub))]
    width = len(stubs) + len(kinds)
    return "\n".join(
        [
            f"% Needs \\usepackage{{{','.join(PACKAGES)}}}.",
            r"\begin{table}[htbp]",
            r"\centering",
            r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",  # the caption stands above
            rf"\caption[{for_latex(grid.caption)}]{{{for_latex(grid.long_caption)}}}",
            rf"\label{{tab:{grid.name}}}",
            *([r"\setlength{\tabcolsep}{4pt}"] if len(kinds) > _MANY else []),
            rf"\sisetup{{{_SETUP}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join(stubs)}{''.join(f' {kind.column}' for kind in kinds)}}}",
            r"\toprule",
            *_heads(grid),
            r"\midrule",
            *_body(grid, kinds, width),
            r"\bottomrule",
            r"\end{tabular}}",
            *_told(grid),
            r"\end{table}",
            "",
        ]
    )


def standalone(grid: Grid) -> str:
    """A document of the table alone."""
    head = [r"\documentclass{article}", r"\usepackage[margin=2cm]{geometry}"]
    packages = [rf"\usepackage{{{name}}}" for name in PACKAGES]
    return "\n".join([*head, *packages, r"\pagestyle{empty}", r"\begin{document}", write(grid), r"\end{document}", ""])


class _Kind:
    """How a column of entries is set: as numbers on their decimal points, or as text."""

    def __init__(self, entries: Sequence[GridEntry]) -> None:
        numbers = [entry.number for entry in entries if entry.number]
        self.numeric = bool(numbers) and not any(entry.ends[0] or entry.spread for entry in entries)
        self.integers = max((len(number.lstrip("-").partition(".")[0]) for number in numbers), default=1)
        self.decimals = max((len(number.partition(".")[2]) for number in numbers), default=0)
        self.signed = any(number.startswith("-") for number in numbers)
        self.empty = not numbers

    @property
    def column(self) -> str:
        """Its letter in the preamble of the tabular."""
        if not self.numeric:
            return "c" if self.empty else "r"
        return f"S[table-format={'-' if self.signed else ''}{self.integers}.{self.decimals}]"


def _stub_kind(labels: Sequence[str]) -> str:
    return "c" if all(len(text) <= 1 for text in labels) else "l"


def _lines(grid: Grid) -> Iterator[Line]:
    return (line for panel in grid.panels for line in panel.lines)


def _columns(grid: Grid) -> Iterator[list[GridEntry]]:
    return ([line.entries[place] for line in _lines(grid)] for place in range(len(grid.columns)))


def _heads(grid: Grid) -> Iterator[str]:
    """The levels of headers, with a rule under each where any of its level is over several columns."""
    levels = list(grid.headers())
    for level, spans in enumerate(levels):
        lowest = level == len(levels) - 1
        names = [f"{{{for_latex(text)}}}" if lowest and text else "" for text in grid.stub]
        cells, rules, place = [], [], len(grid.stub) + 1
        ruled = any(text and span > 1 for text, span in spans)
        for text, span in spans:
            over = text and ruled
            cells.append(rf"\multicolumn{{{span}}}{{c}}{{{for_latex(text)}}}" if span > 1 else f"{{{for_latex(text)}}}")
            rules += [rf"\cmidrule(lr){{{place}-{place + span - 1}}}"] if over else []
            place += span
        yield " & ".join([*names, *cells]) + r" \\"
        if rules:
            yield " ".join(rules)


def _body(grid: Grid, kinds: Sequence[_Kind], width: int) -> Iterator[str]:
    for number, panel in enumerate(grid.panels):
        if number:
            yield r"\midrule"
        if panel.title:
            yield rf"\multicolumn{{{width}}}{{l}}{{\itshape {for_latex(panel.title)}}} \\"
        for line, begins in zip(panel.lines, starts(panel.lines), strict=True):
            if begins:
                yield r"\midrule"
            if line.heading:
                yield rf"\multicolumn{{{width}}}{{l}}{{\itshape {for_latex(line.heading)}}} \\"
            cells = [_entry(grid, entry, kind) for entry, kind in zip(line.entries, kinds, strict=True)]
            yield " & ".join([*map(for_latex, line.labels), *cells]) + r" \\"


def _entry(grid: Grid, entry: GridEntry, kind: _Kind) -> str:
    note = rf"\textsuperscript{{{entry.note}}}" if entry.note else ""
    if not entry.number:
        text = for_latex(entry.text or MISSING)
        return f"{{{text}{note}}}"
    if kind.numeric and entry.mark != SECOND:
        return rf"\bfseries {entry.number}" if entry.mark == BEST else entry.number
    text = _figure(entry.number)
    text = {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}.get(entry.mark, text)
    if kind.numeric:
        return f"{{{_room(entry.number, kind)}{text}}}"
    ends = f"{{[}}{', '.join(map(_figure, entry.ends))}{{]}}" if entry.ends[0] else ""
    if ends and grid.intervals == "below":
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\\[-2pt]{{\scriptsize {ends}}}\end{{tabular}}"
    return " ".join([text, *([ends] if ends else []), *([rf"$\pm$ {_figure(entry.spread)}"] if entry.spread else [])])


def _figure(number: str) -> str:
    """A figure outside of a siunitx column."""
    return for_latex(for_people(number)).replace(",", "{,}")


def _room(number: str, kind: _Kind) -> str:
    """The room of a sign and of digits that a number has not and its column has, so that points stay in line."""
    missing = "0" * (kind.integers - len(number.lstrip("-").partition(".")[0]))
    sign = "$-$" if kind.signed and not number.startswith("-") else ""
    return rf"\phantom{{{sign}{missing}}}" if sign or missing else ""


def _told(grid: Grid) -> Iterator[str]:
    if not grid.told:
        return
    yield r"\par\smallskip"
    yield r"\begin{minipage}{\linewidth}\footnotesize\raggedright"
    for letter, text in grid.told:
        yield (rf"\textsuperscript{{{letter}}} " if letter else "") + for_latex(text) + r"\par"
    yield r"\end{minipage}"
