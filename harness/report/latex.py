"""Tables of a report as LaTeX: escaped, with booktabs' rules, over as many pages as they take."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pandas as pd

from harness.report.table import Table

PREAMBLE = r"""% Fragments need: \usepackage{booktabs,longtable,array,amsmath}
"""
_STANDALONE = r"""\documentclass[10pt]{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[utf8]{{inputenc}}
\usepackage[margin=18mm]{{geometry}}
\usepackage{{booktabs,longtable,array,amsmath,graphicx}}
\begin{{document}}
\section*{{{title}}}
{body}
\end{{document}}
"""
_FITTED = r"width=\linewidth,height=.95\textheight,keepaspectratio"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_"},
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\textquotedbl{}",
    "\n": " ",
    "−": r"\ensuremath{-}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "•": r"\textbullet{}",
    "→": r"\ensuremath{\to}",
    "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "ℓ": r"\ensuremath{\ell}",
    "√": r"\ensuremath{\surd}",
    "∈": r"\ensuremath{\in}",
    "²": r"\ensuremath{^2}",
    "½": r"\ensuremath{\tfrac12}",
    "₂": r"\ensuremath{_2}",
    "₁": r"\ensuremath{_1}",
    **{letter: rf"\ensuremath{{\{unicodedata.name(letter).split()[-1].lower()}}}" for letter in "αβγδζηθμνξπρστφχψω"},
    **{letter: rf"\ensuremath{{\{unicodedata.name(letter).split()[-1].title()}}}" for letter in "ΓΔΘΞΠΣΦΨΩ"},
    "ε": r"\ensuremath{\varepsilon}",
    "λ": r"\ensuremath{\lambda}",
    "Λ": r"\ensuremath{\Lambda}",
}
_WITH_HAT = re.compile("(.)\u0302")
_LONG = 34
"""Letters from which on a column of words is broken into lines."""
_LINE = 118
"""Letters that a line of a table at this size has room for."""


def escaped_latex(text: str) -> str:
    """A text of any kind as LaTeX prints it, under any engine where it is of Latin letters and the signs of a report.

    Of other writing each letter is named by its number, which every engine prints.
    """
    parts = _WITH_HAT.split(text)  # letters with a circumflex on top stand at odd places
    return "".join(rf"\ensuremath{{\hat{{{part}}}}}" if i % 2 else _plain(part) for i, part in enumerate(parts))


def _plain(text: str) -> str:
    return "".join(_SPECIAL.get(letter) or _printable(letter) for letter in text)


def _printable(letter: str) -> str:
    if letter.isascii() or (letter.isalpha() and ord(letter) < 0x180):  # Latin-1 and Latin Extended-A: fonts in T1
        return letter if letter.isprintable() else " "
    return rf"\texttt{{U+{ord(letter):04X}}}"


def latex(table: Table) -> str:
    """One table as a `longtable`, a fragment for a document; its explanation, notes and protocol line stand under it.

    The compact form is taken: what the terminal shows, without intervals.
    """
    under = [table.explanation, table.compact.note, *table.notes, table.protocol]
    told = "\\par\n".join(escaped_latex(text) for text in under if text)
    notes = f"{{\\footnotesize\\noindent {told}\\par}}\n" if told else ""
    if not table.compact.rows:
        return f"\\paragraph{{{escaped_latex(table.title)}}}\n{notes}"
    return f"{{\\footnotesize\\setlength{{\\tabcolsep}}{{3.5pt}}\n{_grid(table)}}}\n{notes}"


def _grid(table: Table) -> str:
    layout = table.compact
    frame = pd.DataFrame([[escaped_latex(cell) for cell in row] for row in layout.rows])
    heads = [escaped_latex(name) for name in layout.header]
    styler = frame.style.hide(axis="index").format_index(lambda place: heads[int(str(place))], axis=1)
    return styler.to_latex(
        hrules=True,
        environment="longtable",
        column_format=_columns([layout.header, *layout.rows], layout.labels),
        caption=(escaped_latex(table.title), escaped_latex(table.title)),
        label=f"tab:{_key(table)}",
    )


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


def latex_page(title: str, inputs: Sequence[str], pictures: Sequence[str]) -> str:
    """A document of its own of table fragments and pictures, given by their paths relative to it.

    Args:
        title: Its heading.
        inputs: Files of fragments.
        pictures: Files of figures, in a format that the engine reads.
    """
    body = [rf"\input{{{name}}}" for name in inputs]
    body += [rf"\begin{{center}}\includegraphics[{_FITTED}]{{{name}}}\end{{center}}" for name in pictures]
    return _STANDALONE.format(title=escaped_latex(title), body="\n".join(body))
