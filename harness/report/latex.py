"""Tables of a report as LaTeX: escaped, with booktabs' rules, over as many pages as they take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.report.layout import Layout
from harness.report.table import Table
from harness.wording import for_latex

PREAMBLE = r"""% Fragments need: \usepackage{booktabs,longtable,array,amssymb}
"""
_STANDALONE = r"""\documentclass[10pt]{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[utf8]{{inputenc}}
\usepackage[margin=18mm]{{geometry}}
\usepackage{{booktabs,longtable,array,amssymb,graphicx}}
\begin{{document}}
\section*{{{title}}}
{body}
\end{{document}}
"""
_PICTURE = r"""\begin{{figure}}[htbp]
\centering
\includegraphics[width=\linewidth,height=.85\textheight,keepaspectratio]{{{file}}}
\caption{{{caption}}}
\end{{figure}}"""
_SET = r"\footnotesize\setlength{\tabcolsep}{3.5pt}\setlength{\LTcapwidth}{\linewidth}"
_LONG = 34
"""Letters from which on a column of words is broken into lines."""
_BODY = "\\endlastfoot\n"
_BREAKS = re.compile(r"(?<=[;,(])(?=[^\s\d])")
_LINE = 118
"""Letters that a line of a table at this size has room for."""


def latex(table: Table) -> str:
    """One table as a `longtable`, a fragment for a document; its explanation, notes and protocol line stand under it.

    The compact form is taken: what the terminal shows, without intervals.
    """
    under = [table.explanation, table.compact.note, *table.notes, table.protocol]
    told = "\\par\n".join(_breakable(text) for text in under if text)
    notes = f"{{\\footnotesize\\noindent {told}\\par}}\n" if told else ""
    if not table.compact.rows:
        return f"\\paragraph{{{for_latex(table.title)}}}\n{notes}"
    return f"{{{_SET}\n{_grid(table)}}}\n{notes}"


def _grid(table: Table) -> str:
    layout = table.compact
    frame = pd.DataFrame([[_breakable(cell) for cell in row] for row in _said_once(layout)])
    heads = [for_latex(name) for name in layout.header]
    styler = frame.style.hide(axis="index").format_index(lambda place: heads[int(str(place))], axis=1)
    text = styler.to_latex(
        hrules=True,
        environment="longtable",
        column_format=_columns([layout.header, *layout.rows], layout.labels),
        caption=(for_latex(table.title), for_latex(table.title)),
        label=f"tab:{_key(table)}",
    )
    return _spaced(text, layout)


def _said_once(layout: Layout) -> list[Sequence[str]]:
    """The rows, without what stands in the first column of labels of the row above: there a gap begins a new name."""
    if layout.labels < 2:
        return list(layout.rows)
    above = ["", *(row[0] for row in layout.rows)]
    return [row if row[0] != before else ("", *row[1:]) for before, row in zip(above, layout.rows, strict=False)]


def _spaced(text: str, layout: Layout) -> str:
    r"""A longtable with a gap where the name in the first column changes; its body is what follows ``\endlastfoot``."""
    if layout.labels < 2:
        return text
    head, mark, body = text.partition(_BODY)
    lines = body.splitlines(keepends=True)
    names = [row[0] for row in layout.rows]
    for place in reversed([place for place in range(1, len(names)) if names[place] != names[place - 1]]):
        lines.insert(place, "\\addlinespace\n")
    return head + mark + "".join(lines)


def _breakable(text: str) -> str:
    """A text escaped, in which a line may end after a semicolon, a comma or a bracket that no space follows."""
    return r"\allowbreak{}".join(map(for_latex, _BREAKS.split(text)))


def _columns(rows: Sequence[Sequence[str]], labels: int) -> str:
    """Words to the left, figures to the right; long words are broken in columns that share the line by their length."""
    lengths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(lengths) <= _LINE and max(lengths[:labels], default=0) <= _LONG:
        return "l" * labels + "r" * (len(lengths) - labels)
    kept = sum(length for place, length in enumerate(lengths) if place >= labels or length <= _LONG)
    long = {place: min(length, 4 * _LONG) for place, length in enumerate(lengths[:labels]) if length > _LONG}
    share = max(0.2, 0.9 - kept / _LINE) / max(1, sum(long.values()))
    kinds = ["lr"[place >= labels] for place in range(len(lengths))]
    for place, length in long.items():
        kinds[place] = rf">{{\raggedright\arraybackslash}}p{{{share * length:.2f}\linewidth}}"
    return "".join(kinds)


def _key(table: Table) -> str:
    """What a table is referred to by: letters, digits and dashes alone."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{table.dataset}-{table.name}").strip("-")


def latex_page(title: str, inputs: Sequence[str], pictures: Mapping[str, str]) -> str:
    """A document of its own of table fragments and pictures, given by their paths relative to it.

    Args:
        title: Its heading.
        inputs: Files of fragments.
        pictures: File of a figure, in a format that the engine reads -> its caption.
    """
    body = [rf"\input{{{name}}}" for name in inputs]
    body += [_PICTURE.format(file=name, caption=for_latex(caption)) for name, caption in pictures.items()]
    return _STANDALONE.format(title=for_latex(title), body="\n".join(body))
